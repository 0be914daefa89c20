"""Keys in hints, palette, key bar and help are those that the user's config binds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

import samples
from app_harness import RN, VIT, FakeEngine, press, running, seen, settled
from clipmk.worker import protocol
from clipmk.worker.protocol import RequestError
from clipmk_tui.app import bindings as keys
from clipmk_tui.app.bindings import BINDING_IDS, PAIRS, keys_of
from clipmk_tui.app.palette import Commands
from clipmk_tui.app.screens.compare import CompareScreen
from clipmk_tui.app.screens.help import help_for
from clipmk_tui.app.screens.main import MainScreen
from clipmk_tui.app.widgets.lines import KeyBar


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLIPMK_CONFIG", str(tmp_path / "config.toml"))
    path = tmp_path / "fox" / "a.png"
    path.parent.mkdir()
    samples.picture().save(path)
    return path


def bound(
    config: Mapping[str, str],
    path: Path,
    *,
    engine: FakeEngine | None = None,
    size: tuple[int, int] = (160, 40),
    models: tuple[str, ...] = (VIT,),
) -> AbstractAsyncContextManager[tuple[Pilot[Any], MainScreen]]:
    """The app on an image with keys as the config file has them."""
    return running(engine or FakeEngine(), path, size=size, models=models, keys=config)


def bar(pilot: Pilot[Any]) -> str:
    return pilot.app.screen.query_one(KeyBar).render().plain


def palette(screen: MainScreen) -> dict[str, str]:
    return {command.name: command.help for command in Commands(screen).actions()}


async def test_by_default_hints_name_the_default_keys(image: Path) -> None:
    async with bound({}, image) as (pilot, screen):
        assert {"o", "c", "e", "v", "w", "s", "d", "a", "+", "t", "k"} <= set(palette(screen).values())
        assert ", . model" in bar(pilot)
        assert keys_of(screen, "main.again") == "ctrl+r"
        assert keys_of(screen.panes.concepts, "app.help") == "?"


async def test_the_palette_names_the_keys_of_the_config(image: Path) -> None:
    config = {"image.open": "ctrl+o, O", "main.settings": "?", "app.help": "h", "main.venn": "space"}
    async with bound(config, image) as (_, screen):
        assert {"ctrl+o", "c", "e", "space", "w", "?", "d", "a", "+", "t", "k"} <= set(palette(screen).values())


async def test_after_a_failure_the_hint_names_the_keys_of_the_config(image: Path) -> None:
    engine = FakeEngine()
    engine.failures[protocol.Explain] = RequestError("model", "it is broken")
    config = {"main.again": "R", "image.next": "j", "image.previous": "k", "models.next": "right"}
    async with bound(config, image, engine=engine) as (_, screen):
        note = str(screen.panes.concepts.query_one("#note", Static).content)
    assert note.splitlines()[-1] == "R tries again  ·  j k another image  ·  , → another model"


async def test_an_image_that_is_not_there_names_the_key_that_opens_another(image: Path) -> None:
    async with bound({"image.open": "L"}, image.with_name("gone.png")) as (pilot, screen):
        assert "; L opens another" in " ".join(seen(pilot.app).replace("│", " ").split())
        assert screen.state.item is None


async def test_the_key_bar_names_the_key_that_leaves_out(image: Path) -> None:
    async with bound({"concepts.leave_out": "d"}, image) as (pilot, _):
        await press(pilot, "d")
        assert "d leave out" in seen(pilot.app)


async def test_ctrl_c_names_the_keys_that_quit_and_give_up(image: Path) -> None:
    async with bound({"app.quit": "Q", "main.cancel": "backspace"}, image) as (pilot, _):
        await press(pilot, "ctrl+c")
        assert "Q quits, ⌫ cancels" in seen(pilot.app)


async def test_the_status_line_names_the_key_that_gives_up(image: Path) -> None:
    engine = FakeEngine()
    async with bound({"main.cancel": "u"}, image, engine=engine) as (pilot, screen):
        engine.gate.clear()
        await pilot.press("ctrl+r")
        await pilot.pause()
        assert re.search(r"· u\s", screen.status.render().plain + " ")
        engine.gate.set()


async def test_titles_of_panes_that_share_a_place_name_the_key_between_them(image: Path) -> None:
    async with bound({"main.pane_3": "P"}, image, size=(80, 24)) as (pilot, _):
        assert " predictions · [P] models ─" in seen(pilot.app)


async def test_what_a_comparison_needs_names_the_key_that_marks(image: Path) -> None:
    async with bound({"models.mark": "M"}, image) as (pilot, screen):
        screen.state.entries = ()  # else the embedded ones are compared
        await press(pilot, "c")
        assert "M in the models pane" in seen(pilot.app)


@pytest.mark.parametrize(
    ("config", "shown"),
    [
        ({"models.next": "m"}, ", m"),
        ({"models.previous": "m"}, "m ."),
        ({"models.previous": "m,M", "models.next": "k,K"}, "m k"),
    ],
)
async def test_the_key_bar_and_the_help_name_both_keys_between_models(
    config: dict[str, str], shown: str, image: Path
) -> None:
    async with bound(config, image) as (pilot, screen):
        assert f"  {shown} model  " in bar(pilot)
        assert (shown, "show another model") in help_for(screen).everywhere


async def test_the_keys_of_the_image_come_first_when_it_has_the_focus(image: Path) -> None:
    async with running(FakeEngine(), image) as (pilot, screen):
        screen.panes.image.focus()
        await settled(pilot)
        assert bar(pilot).startswith("↑↓ move  n p image  o open  g overlay  z zoom  ")
        await press(pilot, "question_mark")
        assert "the lit ones" in seen(pilot.app).partition("Keys here")[2].partition("Keys everywhere")[0]


@pytest.mark.parametrize(
    ("config", "pressed", "hint"),
    [
        ({"help.close": "c", "help.page": "b"}, ("question_mark",), "↑↓ b scroll · c closes"),
        ({"help.close": "["}, ("question_mark",), "[ closes"),
        ({"settings.save": "ctrl+o", "settings.cancel": "ctrl+x"}, ("s",), "ctrl+o saves · ctrl+x cancels"),
        ({"write.kind_after": "ctrl+n", "write.cancel": "ctrl+x"}, ("w",), "↑ ctrl+n kind · enter writes · ctrl+x"),
        ({"venn.up": "k", "venn.down": "j", "venn.close": "x"}, ("v",), "k j scroll  x close"),
        ({"picker.down": "ctrl+n", "picker.cancel": "ctrl+x"}, ("o",), "↑ ctrl+n move  enter open  ctrl+x cancel"),
    ],
)
async def test_dialogs_name_the_keys_of_the_config(
    config: dict[str, str], pressed: tuple[str, ...], hint: str, image: Path
) -> None:
    async with bound(config, image) as (pilot, screen):
        for key in pressed:
            await pilot.press(key)
        for _ in range(3):
            await pilot.pause()
        assert pilot.app.screen is not screen
        assert hint in seen(pilot.app)


async def test_a_comparison_under_way_names_the_key_that_gives_up(image: Path) -> None:
    engine = FakeEngine()
    async with bound({"compare.back": "b"}, image, engine=engine, models=(VIT, RN)) as (pilot, _):
        engine.gate.clear()
        await pilot.press("c")
        for _ in range(3):
            await pilot.pause()
        assert isinstance(pilot.app.screen, CompareScreen)
        assert "b cancels" in seen(pilot.app)
        engine.gate.set()


async def test_an_action_that_nothing_binds_is_refused(image: Path) -> None:
    async with bound({}, image) as (_, screen):
        with pytest.raises(LookupError, match=r"main\.nothing"):
            keys_of(screen, "main.nothing")


def test_every_action_named_in_a_hint_exists() -> None:
    named = set(PAIRS) | set(PAIRS.values())
    for path in Path(keys.__file__).parent.rglob("*.py"):
        for call in re.findall(r"(?:keys_of|key)\(([^()]*)\)", path.read_text(encoding="utf-8")):
            named |= set(re.findall(r"[\"']([a-z]+\.[a-z_]+)[\"']", call))
    assert len(named) > 20
    assert named <= BINDING_IDS

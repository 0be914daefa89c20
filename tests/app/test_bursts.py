"""Keys that arrive faster than they are worked on: nothing happens twice, nothing is lost, nothing crashes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from textual import events

from app_harness import (
    MODELS,
    RN,
    VIT,
    FakeEngine,
    Host,
    burst,
    compare_screen,
    explained,
    press,
    running,
    seen,
    settled,
    until,
)
from clipmk.settings import preset
from clipmk.system.config import read_config
from clipmk.worker import protocol
from clipmk.worker.session import Session
from clipmk_tui.app.image_list import Item
from clipmk_tui.app.screens.classes import ClassesScreen
from clipmk_tui.app.screens.compare import CompareScreen
from clipmk_tui.app.screens.difference import DifferenceScreen
from clipmk_tui.app.screens.help import HelpScreen
from clipmk_tui.app.screens.picker import PickerScreen
from clipmk_tui.app.screens.settings import SettingsScreen
from clipmk_tui.app.screens.venn import VennScreen
from clipmk_tui.app.screens.write import WriteScreen

pytestmark = pytest.mark.usefixtures("clean")  # random keys reach the settings, which are kept

SCREENS = {
    "help": lambda: HelpScreen("image", "", [], []),
    "picker": lambda: PickerScreen([Item("a.png", None)]),
    "settings": lambda: SettingsScreen(Session(vocabulary="world", settings=preset("default"))),
    "venn": lambda: VennScreen(explained(VIT, "a.png")),
    "write": lambda: WriteScreen(explained(VIT, "a.png"), image="a.png"),
    "classes": lambda: ClassesScreen(Session(vocabulary="world", settings=preset("default")), folder="."),
    "compare": lambda: compare_screen(FakeEngine(), MODELS[:2]),
}


@pytest.mark.parametrize("key", ["escape", "enter"])
@pytest.mark.parametrize("name", SCREENS)
async def test_a_screen_closes_once_however_often_its_key_is_pressed(name: str, key: str, clean: None) -> None:
    app = Host(SCREENS[name])
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        burst(pilot, *[key] * 4)
        await settled(pilot)
        assert app.return_code is None
        assert len(app.answers) <= 1
        if key == "escape":
            assert app.answers == [None]


@pytest.mark.parametrize(
    ("key", "opened"), [("w", WriteScreen), ("s", SettingsScreen), ("o", PickerScreen), ("k", ClassesScreen)]
)
async def test_a_screen_opens_once_however_often_its_key_is_pressed(album: Path, key: str, opened: type) -> None:
    async with running(FakeEngine(), album, models=(VIT, RN)) as (pilot, screen):
        burst(pilot, key, key)
        await settled(pilot)
        assert sum(isinstance(above, opened) for above in pilot.app.screen_stack) == 1
        await press(pilot, "escape")
        assert pilot.app.screen is screen


@pytest.mark.parametrize(
    ("key", "opened"), [("c", CompareScreen), ("d", DifferenceScreen), ("v", VennScreen), ("question_mark", HelpScreen)]
)
async def test_a_key_that_closes_as_well_opens_one_screen_at_most(album: Path, key: str, opened: type) -> None:
    async with running(FakeEngine(), album, models=(VIT, RN)) as (pilot, screen):
        burst(pilot, *[key] * 5)
        await settled(pilot)
        assert sum(isinstance(above, opened) for above in pilot.app.screen_stack) <= 1
        if pilot.app.screen is not screen:
            await press(pilot, "escape")
        assert pilot.app.screen is screen


async def test_keys_of_one_burst_go_to_the_dialog_that_one_of_them_opens(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        burst(pilot, "o", *"c.png", "enter", "n")
        await settled(pilot)
        assert screen.state.place == (4, 4)
        burst(pilot, "p", "o", *"nothing like it", "escape", "p", "slash", *"xno", "enter", "w", "up", "escape", "z")
        await settled(pilot)
        assert screen.state.place == (2, 4)
        assert screen.panes.concepts.filter_text == "xno"
        assert screen.state.left_out == ()
        assert pilot.app.screen is screen
        assert screen.has_class("-zoomed")


async def test_pages_of_a_list_that_is_not_laid_out_are_not_turned(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        for keys in (("ctrl+p", "pagedown", "down", "pageup"), (*"im", "pagedown"), ("escape", "ctrl+p", "pagedown")):
            burst(pilot, *keys)
            await pilot.resize_terminal(*((80, 24) if pilot.app.size.width == 120 else (120, 40)))
        burst(pilot, "pagedown", "escape")
        burst(pilot, "s", "enter", "pagedown", "pageup", "escape", "escape")
        await settled(pilot)
        assert pilot.app.screen is screen
        for pane in (screen.panes.models.list, screen.panes.predictions, screen.panes.concepts.concept_tree):
            pane.focus()
            await pilot.resize_terminal(40, 10)
            burst(pilot, "pagedown", "pageup", "home", "end", "tab", "pageup")
            await pilot.resize_terminal(120, 40)
            burst(pilot, "pagedown", "pageup")
            await settled(pilot)
        assert pilot.app.return_code is None


async def test_keys_behind_the_one_that_quits_do_nothing(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, _):
        for key in ("down", "q", "down", "n", "o", "a", "enter", "ctrl+p"):
            pilot.app.post_message(events.Key(key, None))
        await until(lambda: pilot.app.return_code is not None)
    assert pilot.app.return_code == 0
    assert pilot.app.crash is None


async def test_a_setting_typed_and_saved_in_one_burst_is_kept(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album) as (pilot, _):
        burst(pilot, "s", "tab", "tab", "tab", "backspace", *"77", "ctrl+s")
        await settled(pilot)
        assert [session.settings.seed for session in engine.sessions] == [77]
        assert read_config().seed == 77


async def test_a_palette_that_is_opened_and_answered_in_one_burst_runs_the_command(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        burst(pilot, "ctrl+p", *"image c.png", "enter")
        await settled(pilot)
        assert pilot.app.screen is screen
        assert screen.state.place == (3, 4)


async def test_every_key_moves_the_cursor_of_the_predictions_by_one(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album) as (pilot, screen):
        screen.panes.predictions.focus()
        await settled(pilot)
        burst(pilot, "down", "down")
        await settled(pilot)
        assert screen.panes.predictions.highlighted == 2
        assert screen.state.target == "wolf"
        assert [r.target for r in engine.asked if isinstance(r, protocol.Explain)] == [None, "wolf"]


async def test_arrows_in_one_read_come_to_rest_on_the_last_class(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        screen.panes.predictions.focus()
        await settled(pilot)
        shown: list[str | None] = []
        screen.watch(screen.panes, "view", lambda view: shown.append(view.target), init=False)
        burst(pilot, "down", "down")
        await settled(pilot)
        assert shown in (["wolf"], ["cat", "wolf"])
        count = len(shown)
        await settled(pilot)
        assert len(shown) == count
        assert screen.panes.predictions.highlighted == 2


async def test_every_key_steps_by_one_image(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        burst(pilot, "n", "n", "n", "p")
        await settled(pilot)
        assert screen.state.place == (3, 4)
        assert screen.state.explanation is not None
        assert screen.state.item is not None
        assert screen.state.explanation.image.path == screen.state.item.path


async def test_leaving_out_twice_restores(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        assert "all seen concepts recover 62 %" in seen(pilot.app)
        burst(pilot, "x", "x", "down", "x")
        await settled(pilot)
        assert "all seen concepts recover" not in seen(pilot.app)  # one of them is left out
        assert screen.state.left_out == ("a bushy tail",)
        assert screen.state.reranked is not None


KEYS = ("n", "p", "o", "c", "v", "e", "w", "y", "s", "g", "z", "x", "r", "slash", "question_mark", "tab", "space")
KEYS += (
    "comma",
    "full_stop",
    "ctrl+r",
    "ctrl+l",
    "ctrl+p",
    "up",
    "down",
    "left",
    "right",
    "t",
    "k",
    "d",
    "u",
    "s",
    "pageup",
    "pagedown",
    "1",
    "2",
    "3",
    "4",
)
KEYS += ("enter",) * 4 + ("escape",) * 6


@pytest.mark.parametrize("seed", range(4))
async def test_random_bursts_and_sizes_do_no_harm(
    seed: int, album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = random.Random(seed)  # noqa: S311 - keys, not secrets
    async with running(FakeEngine(), album, models=(VIT, RN)) as (pilot, screen):
        for _ in range(12):
            burst(pilot, *rng.choices(KEYS, k=rng.choice((1, 2, 3, 5, 12))))
            if rng.random() < 0.4:
                await pilot.resize_terminal(*rng.choice(((60, 16), (80, 24), (120, 40), (200, 60), (90, 50), (40, 10))))
            await settled(pilot)
        assert pilot.app.return_code is None
        await pilot.resize_terminal(120, 40)
        while pilot.app.screen is not screen:
            await press(pilot, "escape")
        if screen.has_class("-zoomed"):
            await press(pilot, "z")
        await press(pilot, "ctrl+r")
        assert 'why "' in seen(screen)

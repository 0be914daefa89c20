"""The help and the settings of the app."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from textual.screen import Screen
from textual.widgets import Input, Select

from app_harness import LIMIT, FakeEngine, Host, burst, dialog_message, press, processed, running, seen, settled
from clipmk.errors import ClipmkError, UsageError, VocabularyError
from clipmk.settings import preset
from clipmk.system.config import read_config
from clipmk.worker import protocol
from clipmk.worker.session import Session
from clipmk_tui.app.screens.help import HelpScreen, help_for, help_texts
from clipmk_tui.app.screens.settings import Preferences, SettingsScreen, changed_keys, changed_session
from clipmk_tui.app.theme import DARK, LIGHT
from clipmk_tui.show.comparison import BEST
from clipmk_tui.show.signs import NEITHER, SIGN, WORD

pytestmark = pytest.mark.usefixtures("clean")

HOSTILE = "[red]x[/red]\x1b[31m\u202e" + "y" * 300


# Help.


PANES = help_texts()


def terms(text: str) -> dict[str, str]:
    """Sign -> meaning, as a help text lists them."""
    return dict(re.findall(r"^- `(.+?)` (.+)$", text, re.MULTILINE))


@pytest.mark.parametrize(
    ("pane", "size"), [*((pane, (80, 24)) for pane in PANES), ("concepts", (60, 16)), ("concepts", (200, 60))]
)
async def test_help_of_every_pane_can_be_read_to_the_end(pane: str, size: tuple[int, int]) -> None:
    app = Host(lambda: HelpScreen(pane, PANES[pane], [("x", "leave out")], [("ctrl+p", "the very last line")]))
    async with app.run_test(size=size) as pilot:
        await settled(pilot)
        text = seen(app)
        assert f"help: {pane}" in text
        for _ in range(12):
            await press(pilot, "space")
            page = seen(app)
            if page in text:
                break
            text += page
        assert "the very last line" in text
        words = " ".join(text.replace("│", " ").split())
        assert len(terms(PANES[pane])) >= 2
        for sign, meaning in terms(PANES[pane]).items():
            assert sign in words
            assert set(meaning.split()) <= set(words.split())
        assert all(len(line) <= size[0] for line in page.splitlines())


@pytest.mark.parametrize("key", ["escape", "question_mark", "q"])
async def test_help_is_left_by_every_key_that_means_it(key: str) -> None:
    app = Host(lambda: HelpScreen("image", "", [], []))
    async with app.run_test() as pilot:
        await settled(pilot)
        await press(pilot, "down", "up", key)
        assert app.answers == [None]
        assert not isinstance(app.screen, HelpScreen)


def test_every_pane_has_a_text() -> None:
    assert set(PANES) == {"image", "images", "models", "predictions", "concepts", "comparison", "difference"}


def test_every_sign_of_a_concept_is_explained_with_its_word() -> None:
    found = terms(PANES["concepts"])
    for kind, sign in SIGN.items():
        assert found[sign].startswith(WORD[kind])


def test_help_speaks_of_every_number_that_the_panes_show() -> None:
    assert {"strength", "AUC", "x chance", "p", "beats all 28", "infl.", "recover"} <= set(terms(PANES["concepts"]))
    assert {"strength", "AUC", "x chance", "p", "beats all 28", *list(SIGN.values())[:3], NEITHER, BEST} <= set(
        terms(PANES["comparison"])
    )


async def test_help_names_the_keys_as_they_are_bound_and_never_reads_markup() -> None:
    app = Host(lambda: HelpScreen("[red]pane[/red]", "", [("[b]", "a [bold]thing[/bold]"), (HOSTILE, HOSTILE)], []))
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        text = seen(app)
        for piece in ("[red]pane[/red]", "[b]", "a [bold]thing[/bold]", "\\x1b[31m\\u202e"):
            assert piece in text
        assert "\x1b" not in text


async def test_help_for_a_screen_tells_the_focused_panes_keys_apart() -> None:
    from textual.binding import Binding  # noqa: PLC0415
    from textual.widget import Widget  # noqa: PLC0415

    class Pane(Widget, can_focus=True):
        BINDINGS = [Binding("x", "leave_out", "leave out", id="tree.leave_out")]  # noqa: RUF012

    class Main(Screen[None]):
        BINDINGS = [Binding("w", "write", "write", id="main.write")]  # noqa: RUF012

        def compose(self) -> Any:
            yield Pane(id="concepts")

        def on_mount(self) -> None:
            self.query_one(Pane).focus()

    app = Host(Main)
    app.set_keymap({"tree.leave_out": "d,ctrl+x"})
    async with app.run_test() as pilot:
        await settled(pilot)
        made = help_for(app.screen)
        assert made.pane == "concepts"
        assert made.keys == (("d ^x", "leave out"),)
        assert ("w", "write") in made.everywhere


# Settings.

SESSION = Session(vocabulary="world", settings=preset("default", prediction_count=10))


SAVE = "clipmk.system.preferences.save"


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """What is saved, instead of a config file."""
    found: list[Mapping[str, Any]] = []
    monkeypatch.setattr(SAVE, found.append)
    return found


def _settings(**options: Any) -> Callable[[], SettingsScreen]:
    return lambda: SettingsScreen(SESSION, **options)


async def test_settings_fit_80x24_and_say_where_they_are_kept(tmp_path: Path) -> None:
    app = Host(_settings())
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        text = seen(app)
        for word in ("theme", "preset", "grounding", "seed", "start model", "vocabulary", "Save", "kept in"):
            assert word in text
        assert "config.toml" in "".join(text.replace("│", "").split())


async def test_theme_is_shown_at_once_and_restored_on_cancel(saved: list[Mapping[str, Any]]) -> None:
    app = Host(_settings())
    async with app.run_test() as pilot:
        await settled(pilot)
        app.screen.query_one("#theme", Select).value = LIGHT.name
        await settled(pilot)
        assert app.theme == LIGHT.name
        await press(pilot, "escape")
        assert app.theme == DARK.name
        assert (app.answers, saved) == ([None], [])


async def test_settings_are_written_to_the_config_file_and_given_back(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("# mine\n[settings]\npart_count = 7\n", encoding="utf-8")
    app = Host(_settings(models=["embedded/vit-s8", "embedded/rn-s"]))
    async with app.run_test() as pilot:
        await settled(pilot)
        app.screen.query_one("#theme", Select).value = LIGHT.name
        app.screen.query_one("#grounding", Select).value = "prompts"
        app.screen.query_one("#model", Select).value = "embedded/rn-s"
        app.screen.query_one("#seed", Input).value = "7"
        await press(pilot, "ctrl+s")
        (session,) = app.answers
    assert session == dataclasses.replace(
        SESSION, settings=dataclasses.replace(SESSION.settings, grounding="prompts", seed=7)
    )
    config = read_config()
    assert (config.theme, config.model, config.seed, config.preset) == (LIGHT.name, "embedded/rn-s", 7, None)
    assert dict(config.settings) == {"part_count": 7, "grounding": "prompts"}
    assert (tmp_path / "config.toml").read_text(encoding="utf-8").startswith("# mine\n")


async def test_settings_can_be_changed_by_keys_alone(saved: list[Mapping[str, Any]]) -> None:
    app = Host(_settings())
    async with app.run_test() as pilot:
        await settled(pilot)
        await press(pilot, "tab", "enter", "down", "enter")
        assert app.screen.query_one("#grounding", Select).value == "prompts"
        await press(pilot, "tab", "tab", "5", "enter")
        (session,) = app.answers
    assert session.settings == preset("paper", seed=5, prediction_count=10)
    assert saved == [{"preset": "paper", "settings.grounding": None, "seed": 5}]


async def test_escape_in_a_list_closes_the_list_and_not_the_dialog() -> None:
    app = Host(_settings())
    async with app.run_test() as pilot:
        await settled(pilot)
        await press(pilot, "enter", "escape")
        assert isinstance(app.screen, SettingsScreen)
        await press(pilot, "escape")
        assert app.answers == [None]


async def test_nothing_changed_writes_nothing(tmp_path: Path) -> None:
    app = Host(_settings())
    async with app.run_test() as pilot:
        await settled(pilot)
        await press(pilot, "ctrl+s")
        assert app.answers == [SESSION]
    assert not (tmp_path / "config.toml").exists()


async def test_failed_write_is_shown_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(changes: Mapping[str, Any]) -> None:
        raise ClipmkError("config '[red]x[/red]' cannot be written: no space left")

    monkeypatch.setattr(SAVE, fail)
    app = Host(_settings())
    async with app.run_test() as pilot:
        await settled(pilot)
        app.screen.query_one("#seed", Input).value = "9"
        await press(pilot, "ctrl+s")
        assert dialog_message(app) == "config '[red]x[/red]' cannot be written: no space left"
        assert app.screen.query_one("#seed", Input).value == "9"
        assert app.answers == []
        await press(pilot, "escape")
        assert app.answers == [None]


async def test_malformed_config_is_reported_with_its_line_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("themes = 3\n", encoding="utf-8")
    app = Host(_settings())
    async with app.run_test() as pilot:
        await settled(pilot)
        app.screen.query_one("#seed", Input).value = "9"
        await press(pilot, "ctrl+s")
        assert "line 1: themes is not a config key" in dialog_message(app)
    assert (tmp_path / "config.toml").read_text(encoding="utf-8") == "themes = 3\n"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("seed", "", "seed '' must be a whole number"), ("vocabulary", "wrld", "'wrld' is neither a name nor a file")],
)
async def test_impossible_value_is_reported_and_nothing_written(
    field: str, value: str, message: str, saved: list[Mapping[str, Any]]
) -> None:
    app = Host(_settings())
    async with app.run_test() as pilot:
        await settled(pilot)
        app.screen.query_one(f"#{field}", Input).value = value
        await press(pilot, "ctrl+s")
        assert message in dialog_message(app)
        assert (app.answers, saved) == ([], [])


async def test_writing_settings_does_not_hold_the_app_up(monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()
    monkeypatch.setattr(SAVE, lambda changes: free.wait(LIMIT))
    app = Host(_settings())
    async with app.run_test() as pilot:
        await settled(pilot)
        app.screen.query_one("#seed", Input).value = "9"
        burst(pilot, "ctrl+s", "escape", "ctrl+s")
        await processed(pilot)
        assert isinstance(app.screen, SettingsScreen)
        free.set()
        await settled(pilot)
        assert len(app.answers) == 1


async def test_model_names_are_never_markup() -> None:
    app = Host(_settings(models=[HOSTILE, "embedded/vit-s8"]))
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        app.screen.query_one("#model", Select).value = HOSTILE
        await settled(pilot)
        text = seen(app)
        assert "[red]x[/red]\\x1b[31m" in text
        assert "\x1b" not in text


BEFORE = Preferences(
    theme="a", preset="default", grounding="attend", seed="0", model="embedded/vit-s8", vocabulary="world"
)


def test_only_what_was_changed_is_written() -> None:
    assert changed_keys(BEFORE, BEFORE) == {}
    after = dataclasses.replace(BEFORE, theme="b", seed="3", grounding="prompts")
    assert changed_keys(BEFORE, after) == {"theme": "b", "seed": 3, "settings.grounding": "prompts"}
    assert changed_keys(after, BEFORE)["settings.grounding"] is None


def test_vocabulary_file_is_kept_with_its_whole_path(tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text('{"fox": ["ears"], "cat": ["whiskers"]}', encoding="utf-8")
    after = dataclasses.replace(BEFORE, vocabulary="own.json")
    assert changed_keys(BEFORE, after) == {"vocabulary": str(tmp_path / "own.json")}
    assert changed_keys(after, BEFORE) == {"vocabulary": "world"}
    assert changed_session(SESSION, after).vocabulary == "own.json"
    (tmp_path / "own.json").write_text("{}", encoding="utf-8")
    with pytest.raises(VocabularyError, match="is empty"):
        changed_session(SESSION, after)


def test_same_preset_keeps_the_sessions_other_settings() -> None:
    session = dataclasses.replace(SESSION, settings=preset("default", part_limit=3, prediction_count=10))
    after = changed_session(session, dataclasses.replace(BEFORE, seed="5"))
    assert after.settings == preset("default", part_limit=3, prediction_count=10, seed=5)
    with pytest.raises(UsageError, match="seed 'x' must be a whole number"):
        changed_session(session, dataclasses.replace(BEFORE, seed="x"))


# Themes and settings of the main screen.


async def test_a_theme_that_is_not_ours_has_our_colours_too(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        for theme in ("nord", "clipmk-light", "textual-light", "clipmk-dark"):
            pilot.app.theme = theme
            await settled(pilot)
            assert pilot.app.theme_variables["mutual"].startswith("#")
            assert 'why "fox"' in seen(screen)


async def test_themes_of_the_terminals_own_colours_draw_warnings_and_the_comparison(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        themes = [name for name in pilot.app.available_themes if "ansi" in name]
        assert themes
        for theme in themes:
            pilot.app.theme = theme
            await settled(pilot)
            assert "! " in seen(screen)
            await press(pilot, "c")
            await settled(pilot)
            await press(pilot, "escape")


async def test_a_theme_chosen_is_kept_and_one_only_tried_is_not(album: Path, tmp_path: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, _):
        await press(pilot, "s", "enter", "down", "enter")
        assert pilot.app.theme != "clipmk-dark"
        await press(pilot, "escape")
        assert pilot.app.theme == "clipmk-dark"
        assert not (tmp_path / "config.toml").exists()
        pilot.app.theme = "clipmk-light"
        await settled(pilot)
        assert (tmp_path / "config.toml").read_text().strip() == 'theme = "clipmk-light"'


async def test_other_settings_ask_everything_again_under_a_new_session(album: Path, tmp_path: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album) as (pilot, screen):
        asked = len(engine.asked)
        await press(pilot, "s", "tab", "enter", "down", "enter", "ctrl+s")
        assert pilot.app.screen is screen
        assert [session.settings.preset for session in engine.sessions] == ["paper"]
        assert screen.panes.questions.session.settings.grounding == "prompts"
        assert [type(r) for r in engine.asked[asked : asked + 2]] == [protocol.Load, protocol.Explain]
        assert 'preset = "paper"' in (tmp_path / "config.toml").read_text()
        assert 'why "fox"' in seen(screen)

"""How the app starts: what is refused before anything is drawn, and in what state the terminal is left."""

from __future__ import annotations

import contextlib
import os
import sys
import types
from pathlib import Path
from typing import Any, ClassVar

import pytest
from textual.app import App
from textual.binding import Binding, BindingType

from clipmk.errors import ImageError, ModelError, UsageError
from clipmk.system.config import DEFAULT_MODEL
from clipmk.vocabulary import vocabulary
from clipmk_tui.app import launch as launching
from clipmk_tui.app import start_options as starting
from clipmk_tui.app.launch import launch
from clipmk_tui.app.start_options import StartOptions, resolve_start_options
from clipmk_tui.app.theme import DARK, LIGHT
from command_line import Runner

pytestmark = pytest.mark.usefixtures("clean")

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX terminals")


def _config(text: str) -> None:
    Path("config.toml").write_text(text, encoding="utf-8")


# What the app begins with.


def test_no_option_means_the_demonstration_model_and_its_vocabulary() -> None:
    options = resolve_start_options((), {})
    assert (options.paths, options.models, options.theme, options.no_color) == ((), (DEFAULT_MODEL,), None, False)
    assert (options.session.vocabulary, options.session.classes, options.session.device) == ("world", None, "auto")
    assert options.session.settings.prediction_count == 10


def test_shortcuts_of_a_fast_start_agree_with_what_they_leave_out() -> None:
    assert vocabulary.default_vocabulary(DEFAULT_MODEL) == starting.DEFAULT_VOCABULARY


def test_flag_outranks_environment_outranks_config(monkeypatch: pytest.MonkeyPatch) -> None:
    _config('theme = "a"\ndevice = "cpu"\nseed = 3\nno_color = true\n[settings]\nprediction_count = 7\n')
    options = resolve_start_options((), {})
    assert (options.theme, options.session.device, options.session.settings.seed, options.no_color) == (
        "a",
        "cpu",
        3,
        True,
    )
    assert options.session.settings.prediction_count == 7
    for name, value in (("THEME", "b"), ("DEVICE", "mps"), ("SEED", "4"), ("TOP", "8"), ("NO_COLOR", "0")):
        monkeypatch.setenv(f"CLIPMK_{name}", value)
    options = resolve_start_options((), {})
    assert (options.theme, options.session.device, options.session.settings.seed, options.no_color) == (
        "b",
        "mps",
        4,
        False,
    )
    assert options.session.settings.prediction_count == 8
    options = resolve_start_options(
        (), {"theme": "c", "device": "cuda", "seed": 5, "no_color": True, "top": 9, "vocab": None}
    )
    assert (options.theme, options.session.device, options.session.settings.seed, options.no_color) == (
        "c",
        "cuda",
        5,
        True,
    )
    assert options.session.settings.prediction_count == 9


def test_graphics_are_chosen_by_environment_or_config(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_start_options((), {}).graphics == "auto"
    _config('graphics = "sixel"\n')
    assert resolve_start_options((), {}).graphics == "sixel"
    monkeypatch.setenv("CLIPMK_GRAPHICS", "half-blocks")
    assert resolve_start_options((), {}).graphics == "half-blocks"
    monkeypatch.setenv("CLIPMK_GRAPHICS", "sixels")
    with pytest.raises(UsageError, match="graphics 'sixels' does not exist; close: 'sixel'"):
        resolve_start_options((), {})


def test_first_model_starts_and_the_others_are_kept_in_order() -> None:
    options = resolve_start_options((), {"model": ["embedded/rn-s", "ViT-B-32:openai", "embedded/rn-s"]})
    assert options.models == ("embedded/rn-s", "ViT-B-32:openai")
    assert options.session.vocabulary == "world"


def test_start_model_without_a_vocabulary_needs_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'ViT-B-32:random' brings no vocabulary; choose one with --vocab"):
        resolve_start_options((), {"model": ["ViT-B-32:random"]})
    with pytest.raises(ModelError, match=r"ViT-B-31.*close: 'ViT-B-32'"):  # reported first: it is the cause
        resolve_start_options((), {"model": ["ViT-B-31:openai"]})
    (tmp_path / "own.json").write_text('{"fox": ["pointed ears"], "cat": ["whiskers"]}', encoding="utf-8")
    assert (
        resolve_start_options((), {"model": ["ViT-B-32:openai"], "vocab": "own.json"}).session.vocabulary == "own.json"
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"vocab": "wrld"}, "vocabulary 'wrld' is neither a name nor a file; close: 'world'"),
        ({"vocab": "gone.json"}, "vocabulary 'gone.json' does not exist"),
        ({"classes": "fox,,cat"}, "class 2 is blank"),
        ({"classes": "gone.txt"}, "class list 'gone.txt' does not exist"),
        ({"preset": "papr"}, "preset 'papr' does not exist; close: 'paper'"),
        ({"grounding": "magic"}, "grounding is 'magic'; it must be one of: prompts, attend"),
    ],
)
def test_what_does_not_exist_is_refused(clipmk: Runner, flags: dict[str, str], message: str) -> None:
    ran = clipmk("tui", *(word for name, value in flags.items() for word in (f"--{name}", value)))
    assert ran.status in {2, 3}
    assert ran.out == ""
    assert ran.err.startswith("clipmk: error: ")
    assert message in ran.err
    assert ran.err.count("\n") == 1


def test_malformed_config_is_refused_naming_the_line(clipmk: Runner) -> None:
    _config('theme = "a"\nthemes = "b"\n')
    for argv in ((), ("tui",)):
        ran = clipmk(*argv)
        assert ran.status == 2
        assert "line 2: themes is not a config key; close: 'theme'" in ran.err


def test_paths_are_kept_as_given_when_something_is_there(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    paths = ("a.png", "folder", "*.png", str(tmp_path))
    assert resolve_start_options(paths, {}).paths == paths


@pytest.mark.parametrize("path", ["b.png", "", "a\0b", "nowhere/b.png"])
def test_path_where_nothing_is_stops_the_app(path: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ImageError, match="does not exist"):
        resolve_start_options(("a.png", path), {})


def test_pattern_without_files_is_answered_without_a_guess(clipmk: Runner, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    for command in ("tui", "explain"):
        ran = clipmk(command, "*b.png")
        assert (ran.status, ran.err) == (3, "clipmk: error: no file matches the pattern '*b.png'\n")


def test_mistyped_path_is_answered_with_a_close_one_and_steers_no_terminal(clipmk: Runner, tmp_path: Path) -> None:
    (tmp_path / "fox_03.png").write_bytes(b"")
    assert clipmk("tui", "fox_3.png").err == "clipmk: error: image 'fox_3.png' does not exist; close: 'fox_03.png'\n"
    assert "\\x1b[31m" in clipmk("tui", "\x1b[31m").err


def test_standard_input_cannot_be_an_image() -> None:
    with pytest.raises(UsageError, match="reads its keys from standard input"):
        resolve_start_options(("-",), {})


# Where it is drawn.


class _Stream:
    closed = False

    def __init__(self, *, terminal: bool) -> None:
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize(("name", "words"), [("stdin", "standard input"), ("stderr", "standard error")])
def test_app_without_a_terminal_is_refused_with_a_way_out(
    name: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stream in ("stdin", "stderr"):
        monkeypatch.setattr(sys, stream, _Stream(terminal=stream != name))
    with pytest.raises(UsageError, match=f"{words} is not one; without one: clipmk explain IMAGE --json"):
        launching.require_terminal({"TERM": "xterm"})
    monkeypatch.setattr(sys, name, None)
    with pytest.raises(UsageError, match=words):
        launching.require_terminal({"TERM": "xterm"})


@posix
@pytest.mark.parametrize(
    ("environment", "message"),
    [({"TERM": "dumb"}, "TERM is 'dumb'"), ({}, "TERM is not set"), ({"TERM": ""}, "not set")],
)
def test_terminal_that_cannot_draw_is_refused_with_what_to_set(
    environment: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stream in ("stdin", "stderr"):
        monkeypatch.setattr(sys, stream, _Stream(terminal=True))
    with pytest.raises(UsageError, match=f"{message}, so no screen can be drawn; .*export TERM=xterm-256color"):
        launching.require_terminal(environment)
    launching.require_terminal({"TERM": "xterm-256color"})


def test_terminal_that_is_too_narrow_is_refused_with_the_least_width(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="needs at least 60 columns, and this terminal has 59"):
        launching.require_size(os.terminal_size((59, 40)))
    launching.require_size(os.terminal_size((60, 16)))
    monkeypatch.setenv("COLUMNS", "0")
    launching.require_size(os.terminal_size((0, 0)))  # as in some container shells
    assert os.environ["COLUMNS"] == "80"


def test_bare_command_is_the_app(clipmk: Runner) -> None:
    for argv in ((), ("tui",)):
        ran = clipmk(*argv)
        assert (ran.status, ran.out) == (2, "")
        assert "clipmk explain IMAGE --json" in ran.err


class _App(App[None]):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("q", "leave", "Quit", id="app.quit")]
    made: StartOptions | None = None

    def __init__(self, options: StartOptions, make_engine: Any) -> None:
        super().__init__()
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        type(self).made = options
        self.make_engine = make_engine


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """`clipmk_tui.app.app` and the engine, replaced; and a terminal for all that `launch` can see."""
    module = types.ModuleType("clipmk_tui.app.app")
    module.ClipmkApp = _App  # type: ignore[attr-defined]
    engines = types.ModuleType("clipmk_tui.app.engine.worker")
    engines.Engine = lambda session, *, server, log: server  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "clipmk_tui.app.app", module)
    monkeypatch.setattr("clipmk_tui.app.app", module, raising=False)
    monkeypatch.setitem(sys.modules, "clipmk_tui.app.engine.worker", engines)
    monkeypatch.setattr("clipmk_tui.app.engine.worker", engines, raising=False)
    monkeypatch.setattr("clipmk_tui.app.bindings.BINDING_IDS", frozenset({"app.quit"}))
    monkeypatch.setattr(launching, "require_terminal", lambda environment: None)
    monkeypatch.setattr(launching, "restored_terminal", contextlib.nullcontext)
    monkeypatch.setattr(launching, "run_app", lambda app: 0)
    return module


def test_keys_of_the_config_are_checked_before_anything_is_drawn(home: types.ModuleType) -> None:
    _config('[keys]\n"app.quit" = "Q, ctrl+x"\n')
    assert launch(resolve_start_options((), {})) == 0
    assert _App.made is not None
    assert _App.made.keys == {"app.quit": "Q,ctrl+x"}
    for line, message in (
        ('"app.quti" = "Q"', "action 'app.quti' does not exist; close: 'app.quit'"),
        ('"app.quit" = "f1"', "the key 'f1' of 'app.quit' does not survive"),
    ):
        _config(f"[keys]\n{line}\n")
        with pytest.raises(UsageError, match=message):
            launch(resolve_start_options((), {}))


def test_unknown_theme_is_refused_with_those_there_are(home: types.ModuleType) -> None:
    with pytest.raises(UsageError, match="theme 'clipmk-drak' does not exist; close: 'clipmk-dark'"):
        launch(resolve_start_options((), {"theme": "clipmk-drak"}))
    assert launch(resolve_start_options((), {"theme": "clipmk-light"})) == 0
    assert launch(resolve_start_options((), {"theme": "nord"})) == 0


def test_no_color_reaches_textual(home: types.ModuleType) -> None:
    assert "NO_COLOR" not in os.environ
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_COLOR", "")
        launch(resolve_start_options((), {"no_color": True}))
        assert os.environ["NO_COLOR"]


@pytest.mark.parametrize(
    ("variable", "options", "used"),
    [("", {}, True), ("0", {}, False), ("1", {}, True), ("", {"serve": False}, False), ("0", {"serve": True}, True)],
)
def test_a_running_server_is_used_unless_that_is_unwanted(
    home: types.ModuleType, monkeypatch: pytest.MonkeyPatch, variable: str, options: dict[str, bool], used: bool
) -> None:
    monkeypatch.setenv("CLIPMK_SERVE", variable)
    engines: list[Any] = []
    monkeypatch.setattr(launching, "run_app", lambda app: engines.append(app.make_engine()) or 0)
    assert launch(resolve_start_options((), options)) == 0
    assert engines == [Path(os.environ["CLIPMK_SOCKET"]) if used else None]

from __future__ import annotations

import importlib
import pkgutil
import re
import string
import sys
from typing import ClassVar

import pytest
from textual.app import App
from textual.binding import Binding, BindingType

from clipmk.errors import UsageError
from clipmk_tui.app import screens, widgets
from clipmk_tui.app.bindings import BINDING_IDS, KEY_BINDINGS, parse_keys, refuse_clashes

IDS = {"app.quit", "tree.leave_out", "image.overlay"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x", "x"),
        ("X", "X"),
        ("x, ctrl+x", "x,ctrl+x"),
        ("up,down, left ,right", "up,down,left,right"),
        ("esc, Enter, space, tab", "escape,enter,space,tab"),
        ("?", "question_mark"),
        ("question_mark", "question_mark"),
        ("/,slash,[", "slash,left_square_bracket"),
        ("-, minus,_,+", "minus,underscore,plus"),
        (",", "comma"),
        ("comma,.", "comma,full_stop"),
        (" ", "space"),
        ("é", "é"),
    ],
)
def test_keys_are_given_textuals_names(text: str, expected: str) -> None:
    assert parse_keys({"app.quit": text}, IDS) == {"app.quit": expected}


async def test_every_printable_character_is_named_as_textual_names_it_and_may_be_named_so() -> None:
    app = _Host()
    async with app.run_test() as pilot:
        for character in (c for c in string.printable if c.isprintable() and c not in ", "):
            (name,) = parse_keys({"app.quit": character}, IDS).values()
            assert parse_keys({"app.quit": name}, IDS) == {"app.quit": name}
            app.set_keymap({"app.quit": name})
            app.pressed = ""
            await pilot.press(character)
            assert app.pressed == "q", character


@pytest.mark.parametrize(
    "text", ["f1", "shift+tab", "ctrl+1", "ctrl+up", "alt+x", "pagedown", "home", "delete", "ctrl+X", "x,ctrl+f5"]
)
def test_key_that_does_not_survive_ssh_is_refused_with_those_that_do(text: str) -> None:
    key = text.rpartition(",")[2]
    message = rf"the key '{re.escape(key)}' of 'app.quit' does not survive .*; possible: one character.*escape.*up"
    with pytest.raises(UsageError, match=message):
        parse_keys({"app.quit": text}, IDS)


def test_key_that_terminals_send_as_another_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'ctrl\+m' of 'app.quit' never arrives: terminals send it as enter"):
        parse_keys({"app.quit": "ctrl+m"}, IDS)


def test_unknown_action_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"action 'tree.leaveout' does not exist; close: 'tree.leave_out'"):
        parse_keys({"tree.leaveout": "x"}, IDS)
    with pytest.raises(UsageError, match=r"known: app.quit, image.overlay, tree.leave_out"):
        parse_keys({"\x1b[31m": "x"}, IDS)


def test_action_without_a_key_is_refused() -> None:
    for text in ("", "  ", " , ,"):
        with pytest.raises(UsageError, match=r"'app.quit' has no key"):
            parse_keys({"app.quit": text}, IDS)


class _Host(App[None]):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("q", "quit", "Quit", id="app.quit")]
    pressed = ""

    def action_quit(self) -> None:  # type: ignore[override]
        self.pressed += "q"


def test_file_of_the_bindings_holds_those_of_every_class_and_no_others() -> None:
    bound = {holder.__name__: vars(holder)["BINDINGS"] for holder in _own_classes() if "BINDINGS" in vars(holder)}
    assert bound == KEY_BINDINGS
    assert all(binding.id for bindings in KEY_BINDINGS.values() for binding in bindings)


def test_every_key_of_the_app_can_be_changed_and_survives_ssh() -> None:
    assert {"app.quit", "image.overlay", "help.close", "settings.save", "write.save"} <= BINDING_IDS
    for holder in _own_classes():
        for binding in vars(holder).get("BINDINGS", ()):
            assert binding.id, (holder, binding)
            assert parse_keys({binding.id: binding.key}, BINDING_IDS)


def _own_classes() -> list[type]:
    importlib.import_module("clipmk_tui.app.app")
    for package in (screens, widgets):
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(found.name)
    modules = [module for name, module in sys.modules.items() if name.startswith("clipmk_tui.")]
    found = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    return [value for value in found if value.__module__.startswith("clipmk_tui.")]


async def test_textual_obeys_the_parsed_keys() -> None:
    app = _Host()
    app.set_keymap(parse_keys({"app.quit": "?, ctrl+x,comma"}, IDS))
    async with app.run_test() as pilot:
        await pilot.press("q", "question_mark", "ctrl+x", "comma")
        assert app.pressed == "qqq"


def test_a_key_that_two_actions_would_share_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"'p' would be the key of 'image.next' and of 'image.previous'"):
        refuse_clashes({"image.next": "p"})
    refuse_clashes({"image.next": "p", "image.previous": "P"})  # swapped on purpose
    refuse_clashes({"image.next": "p,j", "image.previous": "n"})


def test_no_two_actions_of_one_screen_or_pane_share_a_key_to_begin_with() -> None:
    for holder, bindings in KEY_BINDINGS.items():
        keys = [key for binding in bindings for key in binding.key.split(",")]
        assert len(keys) == len(set(keys)), holder

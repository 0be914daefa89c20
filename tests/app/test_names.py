"""Our widgets and screens define nothing that Textual defines for itself."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

from textual.app import App
from textual.dom import DOMNode
from textual.reactive import Reactive
from textual.screen import Screen

import clipmk_tui


def _ours(base: type) -> Iterator[type]:
    for found in base.__subclasses__():
        if found.__module__.startswith("clipmk_tui."):
            yield found
        yield from _ours(found)


def _theirs(cls: type, name: str) -> bool:
    return any(name in vars(base) for base in cls.__mro__ if base.__module__.startswith("textual."))


def test_no_private_name_of_textual_is_taken() -> None:
    for module in pkgutil.walk_packages(clipmk_tui.__path__, "clipmk_tui."):
        importlib.import_module(module.name)
    bare = (type("Bare", (App,), {"theme": Reactive("")}), type("Bare", (Screen,), {"focused": Reactive(None)}))
    made_by_textual = {name for cls in bare for name in vars(cls)}  # defaults of ours for some of theirs
    ours = set(_ours(DOMNode))
    assert len(ours) > 10
    taken = {
        f"{cls.__name__}.{name}"
        for cls in ours
        for name in vars(cls)
        if name.startswith("_") and not name.startswith("__") and name not in made_by_textual and _theirs(cls, name)
    }
    assert taken == set()

"""The command palette: actions, models, classes and images by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import ClassVar, NamedTuple

from rich.text import Text
from textual.command import CommandList, CommandPalette, DiscoveryHit, Hit, Hits, Provider

from clipmk.system.text import printable
from clipmk_tui.app.fuzzy import folded, matching, offsets, ranked
from clipmk_tui.app.key_hints import keys_of
from clipmk_tui.app.panes import Panes
from clipmk_tui.app.screens.dialog import ClosedOnce

_MOST = 200
"""Hits shown at most."""


class _Command(NamedTuple):
    name: str
    run: Callable[[], object]
    help: str


class Palette(CommandPalette, ClosedOnce[None]):  # the style sheet follows the first base
    """Textual's palette; closes once, however often enter is pressed, and turns no pages of a list not laid out."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether an action can be run now."""
        paging = action == "command_list" and parameters[0] in {"page_up", "page_down"}
        return not paging or bool(self.query_one(CommandList).size)


class Commands(Provider):
    """Everything that the state of the main screen knows by name."""

    _ACTIONS: ClassVar = (
        ("Open an image", "open", "image.open"),
        ("Compare the marked models", "compare", "main.compare"),
        ("Wrong predictions first", "wrong_first", "main.wrong_first"),
        ("Venn view of the concepts", "venn", "main.venn"),
        ("Write JSON, PNG or HTML", "write", "main.write"),
        ("Settings", "settings", "main.settings"),
        ("Difference of two models", "difference", "main.difference"),
        ("Ask for your own words", "ask", "main.ask"),
        ("Add a class", "classes(True)", "main.add_class"),
        ("Explain another class", "target", "main.target"),
        ("Classes and vocabulary", "classes", "main.classes"),
    )

    async def startup(self) -> None:
        """Collect all commands once: there may be 10,000 images."""
        self._commands = [*self.actions(), *self._named()]
        self._names = [command.name.lower() for command in self._commands]

    async def discover(self) -> Hits:
        """What can be typed, before anything is."""
        for command in self.actions():
            yield DiscoveryHit(command.name, command.run, text=command.name, help=command.help)

    async def search(self, query: str) -> Hits:
        """The best of everything whose name holds the typed characters in order."""
        wanted = folded(query)
        found = ranked(wanted, self._names, matching(wanted, self._names))
        for place, index in enumerate(found[:_MOST]):
            command = self._commands[index]
            name = Text(command.name)  # a str would be read as markup
            for at in offsets(wanted, command.name):
                name.stylize("bold underline", at, at + 1)
            yield Hit(1 / (1 + place), name, command.run, text=command.name, help=command.help)

    def actions(self) -> list[_Command]:
        """Actions with their keys, if the palette is above the main screen."""
        if not self.screen.query(Panes):
            return []
        return [
            _Command(name, partial(self.screen.run_action, action), keys_of(self.screen, key))
            for name, action, key in self._ACTIONS
        ]

    def _named(self) -> Iterator[_Command]:
        for panes in self.screen.query(Panes):
            state = panes.state
            for entry in state.entries:
                yield _Command(f"model {printable(entry.id)}", partial(panes.choose_model, entry.id), entry.source)
            for name in state.loaded[state.model].classes if state.model in state.loaded else ():
                yield _Command(f'why "{printable(name)}"?', partial(panes.choose_class, name), "class")
            for index, item in enumerate(state.items):
                name = printable(item.path.rpartition("/")[2])
                yield _Command(f"image {name}", partial(panes.choose_image, index), "image")

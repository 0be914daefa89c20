"""The command palette: actions, models, classes and images by name."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from rich.text import Text
from textual.binding import Binding
from textual.command import CommandList, CommandPalette, DiscoveryHit, Hit, Hits, Provider

from clipmk.system.text import printable
from clipmk_tui.app.bindings import keys_of
from clipmk_tui.app.fuzzy import folded, matching, offsets, ranked
from clipmk_tui.app.panes import Panes
from clipmk_tui.app.screens.dialog import ClosedOnce

_MOST = 200  # hits shown at most


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
        """Actions with their keys, if the palette is above the main screen or the table of images."""
        if not self.screen.query("Panes, RowTable"):
            return []
        bindings = [one for one in type(self.screen).BINDINGS if isinstance(one, Binding) and one.tooltip]
        run, keys = self.screen.run_action, partial(keys_of, self.screen)
        return [_Command(one.tooltip, partial(run, one.action), keys(one.id or "")) for one in bindings]

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

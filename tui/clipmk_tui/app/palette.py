"""The command palette: models, images, classes and presets by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from rich.text import Text
from textual.command import DiscoveryHit, Hit, Hits, Provider

from clipmk.system.text import printable
from clipmk_tui.app.keys import keys_of
from clipmk_tui.app.messages import ChooseClass, ChooseModel
from clipmk_tui.app.screens.main import MainScreen

if TYPE_CHECKING:
    from textual.fuzzy import Matcher

_MOST = 2_000
"""Names matched at most in one search, so that typing stays fluid over ten thousand images."""

_Command = tuple[str, Callable[[], object], str]


class Commander(Provider):
    """Whatever the desk knows by name."""

    async def discover(self) -> Hits:
        """What can be typed, before anything is."""
        for name, command, kind in self._keys():
            yield DiscoveryHit(name, command, text=name, help=kind)

    async def search(self, query: str) -> Hits:
        """Everything whose name holds the typed characters in order."""
        matcher = self.matcher(query)
        letters = query.casefold().replace(" ", "")
        tried = 0
        for name, command, kind in self._commands():
            if not _holds(name.casefold(), letters):
                continue
            tried += 1
            if tried > _MOST:
                break
            score = matcher.match(name)
            if score > 0:
                yield Hit(score, _marked(matcher, name), command, text=name, help=kind)

    def _commands(self) -> Iterator[_Command]:
        screen = self.screen
        if not isinstance(screen, MainScreen):
            return
        yield from self._keys()
        for entry in screen.desk.entries:
            yield f"model {printable(entry.id)}", partial(screen.post_message, ChooseModel(entry.id)), entry.source
        loaded = screen.asking.loaded.get(screen.desk.model)
        for name in loaded.classes if loaded is not None else ():
            yield f'why "{printable(name)}"?', partial(screen.post_message, ChooseClass(name)), "class"
        for index, item in enumerate(screen.desk.items):
            name = item.path.rpartition("/")[2]
            yield f"image {printable(name)}", partial(screen.go_to, index), "image"

    def _keys(self) -> Iterator[_Command]:
        screen = self.screen
        if isinstance(screen, MainScreen):
            key = partial(keys_of, screen)
            yield "Open an image", screen.action_open, key("image.open")
            yield "Compare the marked models", screen.action_compare, key("main.compare")
            yield "Wrong predictions first", screen.action_errors_first, key("main.wrong_first")
            yield "Venn view of the concepts", screen.action_venn, key("main.venn")
            yield "Write JSON, PNG or HTML", screen.action_write, key("main.write")
            yield "Settings", screen.action_settings, key("main.settings")


def _holds(name: str, letters: str) -> bool:
    """Whether all letters occur in the name, in order."""
    rest = iter(name)
    return all(letter in rest for letter in letters)


def _marked(matcher: Matcher, name: str) -> Text:
    """The name with the matched letters marked. As `Text`: the palette takes any str for markup."""
    text = Text(name)
    _, offsets = matcher.fuzzy_search.match(matcher.query, name)
    for offset in offsets:
        text.stylize("bold underline", offset, offset + 1)
    return text

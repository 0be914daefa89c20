"""The help screen: what the focused pane shows, what its signs mean, and every key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.geometry import Size
from textual.screen import ModalScreen, Screen
from textual.widget import Widget
from textual.widgets import Static

from clipmk.system.text import printable
from clipmk_tui.app.help_texts import GUIDES, Guide
from clipmk_tui.app.keys import PAIRS, keys_of
from clipmk_tui.show.signs import COLOUR, SIGN
from clipmk_tui.show.text import shown

Keys = Sequence[tuple[str, str]]
"""(keys as they are shown, what they do)."""

_SHOWN = {"up": "↑", "down": "↓", "left": "←", "right": "→", "escape": "esc", "comma": ",", "full_stop": "."}

_WIDEST = 14
"""Cells of the column of signs and keys at most."""

_INK = {sign: COLOUR[kind] for kind, sign in SIGN.items()}


class HelpScreen(ModalScreen[None]):
    """Help about one pane.

    Args:
        pane: "image", "models", "predictions", "concepts" or "comparison"; any other name has keys only.
        keys: of the pane.
        everywhere: keys that work in every pane.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q", "close", "close", id="help.close"),
        Binding("up", "scroll(-1)", "up", show=False, id="help.up"),
        Binding("down", "scroll(1)", "down", show=False, id="help.down"),
        Binding("space", "page", "next page", id="help.page"),
    ]

    DEFAULT_CSS = """
    HelpScreen { align: center middle; }
    HelpScreen > VerticalScroll {
      width: 84; max-width: 96%; height: auto; max-height: 94%; padding: 0 2; background: $surface;
      border: round $border; border-title-color: $border; border-title-style: bold; scrollbar-size-vertical: 1;
      scrollbar-background: $surface;
    }
    HelpScreen Static { width: 1fr; height: auto; }
    HelpScreen .head { text-style: bold; color: $primary; margin-top: 1; }
    HelpScreen .paragraph { margin-top: 1; }
    """

    def __init__(self, pane: str, keys: Keys, everywhere: Keys) -> None:
        super().__init__()
        self._pane = pane
        self._guide = GUIDES.get(pane, Guide(about=()))
        self._keys, self._everywhere = tuple(keys), tuple(everywhere)

    def compose(self) -> ComposeResult:
        """Paragraphs, signs, keys."""
        with VerticalScroll() as box:
            box.border_title = shown(f"help: {self._pane}")  # a str would be read as markup
            scroll = f"{keys_of(self, 'help.up', 'help.down')} {keys_of(self, 'help.page')}"
            box.border_subtitle = shown(f"{scroll} scroll · {keys_of(self, 'help.close')} closes")
            for paragraph in self._guide.about:
                yield Static(Content(paragraph), classes="paragraph")
            yield from self._table("What the signs and numbers mean", self._guide.terms)
            yield from self._table("Keys here", self._keys)
            yield from self._table("Keys everywhere", self._everywhere)
            yield Static(Content(""))

    def action_scroll(self, lines: int) -> None:
        """Move by lines."""
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)

    def action_page(self) -> None:
        """The next page; after the last, the first."""
        box = self.query_one(VerticalScroll)
        if box.scroll_offset.y >= box.max_scroll_y:
            box.scroll_home(animate=False)
        else:
            box.scroll_page_down(animate=False)

    def action_close(self) -> None:
        """Back to the pane."""
        self.dismiss()

    @staticmethod
    def _table(title: str, rows: Keys) -> ComposeResult:
        if rows:
            yield Static(Content(title), classes="head")
            yield _Table(rows)


class _Table(Widget):
    """Signs or keys and what they mean, the meanings wrapped in a column of their own."""

    DEFAULT_CSS = """
    _Table { width: 1fr; height: auto; }
    """

    def __init__(self, rows: Keys) -> None:
        super().__init__()
        self._rows = [(printable(sign), printable(meaning)) for sign, meaning in rows]
        self._first = min(_WIDEST, max(cell_len(sign) for sign, _ in rows)) + 2

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As many lines as it takes."""
        return len(self._lines(width))

    def render(self) -> Content:
        """All lines."""
        return Content("\n").join(self._lines(self.content_size.width))

    def _lines(self, width: int) -> list[Content]:
        room = max(10, width - self._first)
        lines: list[Content] = []
        for sign, meaning in self._rows:
            lead = Content.assemble((sign, f"bold {_INK.get(sign, '')}".strip()))
            wrapped = Content(meaning).wrap(room)
            if cell_len(sign) > self._first - 2:  # too long for its column: a line of its own
                lines.append(lead)
                lead = Content("")
            for line in wrapped:
                lines.append(lead + Content(" " * (self._first - lead.cell_length)) + line)
                lead = Content("")
        return lines


def help_for(screen: Screen[Any]) -> HelpScreen:
    """Help about the pane that has the focus, with its keys as they are bound now."""
    keys: dict[str, list[str]] = {}
    everywhere: dict[str, list[str]] = {}
    for active in screen.active_bindings.values():
        binding = active.binding
        if binding.id and binding.description and binding.id not in PAIRS.values():
            found = everywhere if active.node in {screen, screen.app} else keys
            name = _SHOWN.get(binding.key) or binding.key_display or screen.app.get_key_display(binding)
            if binding.id in PAIRS:
                name = keys_of(active.node, binding.id, PAIRS[binding.id])
            written = found.setdefault(binding.description, [])
            if name not in written:
                written.append(name)
    return HelpScreen(
        pane_of(screen),
        [(" ".join(names), description) for description, names in keys.items()],
        [(" ".join(names), description) for description, names in everywhere.items()],
    )


def pane_of(screen: Screen[Any]) -> str:
    """The name of the pane that has the focus; a screen without panes is one itself ("comparison")."""
    focused = screen.focused
    if focused is not None:
        for node in focused.ancestors_with_self:
            if node.id in GUIDES:
                return str(node.id)
    name = type(screen).__name__.removesuffix("Screen").lower()
    return {"compare": "comparison"}.get(name, name)

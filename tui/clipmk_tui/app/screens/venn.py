"""The Venn view: what the vision encoder sees, what the language encoder ties to the class, and what is both.

The picture is two overlapping outlines in characters.
"""

from collections.abc import Mapping
from itertools import chain
from typing import NamedTuple

from rich.cells import cell_len, chop_cells
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widget import Widget
from textual.widgets import Static

from clipmk.explanation import Explanation
from clipmk.system.text import printable, quoted
from clipmk_tui.app.bindings import KEY_BINDINGS, keys_of
from clipmk_tui.app.screens.dialog import Dialog
from clipmk_tui.show.comparison import strength_line
from clipmk_tui.show.signs import SIGN, WORD, Kind
from clipmk_tui.show.text import shown

_FRAME = 3
"""Rows of outline above the lists: two edges and the regions' names. As many are below, without the names."""


class Drawing(NamedTuple):
    """The outlines with their lists."""

    lines: tuple[Text, ...]
    hidden: int
    """Lines of the longest list below the last row: how much further it scrolls; negative: rows that are empty."""


def regions(explanation: Explanation) -> dict[Kind, tuple[str, ...]]:
    """The concepts of the three regions, strongest first; one left out is not mutual, only what else it is."""
    out = left_out(explanation)
    vision, language = explanation.vision_concepts, explanation.language_concepts
    return {
        "vision": tuple(concept.text for concept in vision if not concept.mutual),
        "mutual": tuple(text for text in explanation.mutual_concepts if text not in out),
        "language": tuple(concept.text for concept in language if not concept.mutual or concept.text in out),
    }


def left_out(explanation: Explanation) -> tuple[str, ...]:
    """The vision concepts that the explanation is looked at without."""
    return () if explanation.what_if is None else explanation.what_if.left_out


def draw(explanation: Explanation, colours: Mapping[Kind, str], *, width: int, height: int, offset: int = 0) -> Drawing:
    """Draw the diagram into lines of cells, at least 24 x 7, its lists scrolled by `offset` lines."""
    width, height = max(24, width), max(7, height)
    left, right = width * 32 // 100, width - 1 - width * 32 // 100
    canvas = _Canvas(width, height, colours)
    canvas.box(0, 0, right, height - 2, "vision")
    canvas.box(left, 1, width - 1, height - 1, "language")
    canvas.put(right, 1, "┼", "language")
    canvas.put(left, height - 2, "┼", "vision")
    canvas.put(2, 0, f" {SIGN['vision']} seen by the vision encoder ", "vision", most=right - 2, bold=True)
    tied = f" {SIGN['language']} tied to {quoted(explanation.class_name)} by the language encoder "
    canvas.put(left + 2, height - 1, tied, "language", most=width - left - 4, bold=True)
    room = height - 2 * _FRAME + 1
    hidden = -room
    spans = {"vision": (2, left - 1), "mutual": (left + 2, right - 1), "language": (right + 2, width - 2)}
    out = left_out(explanation)
    for kind, texts in regions(explanation).items():
        start, end = spans[kind]
        gone = sum(text in out for text in texts)
        count = f"{len(texts) - gone}{f', {gone} left out' if gone else ''}"
        canvas.put(start, 2, f"{SIGN[kind]} {WORD[kind]} ({count})", kind, most=end - start, bold=True)
        signs = (SIGN["left-out" if text in out else kind] for text in texts)
        found = (_entry(text, sign, end - start) for text, sign in zip(texts, signs, strict=True))
        entries = list(chain.from_iterable(found)) or ["  none"]
        below = len(entries) - offset - room
        visible = entries[offset : offset + room]
        if below > 0:
            visible[-1] = f"↓ {below + 1} more lines"
        for row, line in enumerate(visible):
            canvas.put(start, _FRAME + row, line, kind, most=end - start)
        hidden = max(hidden, below)
    rows = tuple(Text.assemble(*row, no_wrap=True) for row in canvas.rows)
    return Drawing(rows, hidden)


def _entry(text: str, sign: str, width: int) -> list[str]:
    """A concept in lines of `width` cells, the sign before the first."""
    lines = [""]
    for word in printable(text).split():
        for piece in chop_cells(word, max(2, width - 2)):
            joined = f"{lines[-1]} {piece}".strip()
            if cell_len(joined) <= width - 2:
                lines[-1] = joined
            else:
                lines.append(piece)
    return [f"{sign if index == 0 else ' '} {line}" for index, line in enumerate(lines)]


class _Canvas:
    """Characters by place, each with its style."""

    def __init__(self, width: int, height: int, colours: Mapping[Kind, str]) -> None:
        self.rows = [[(" ", "")] * width for _ in range(height)]
        self._colours = colours

    def put(self, x: int, y: int, text: str, kind: Kind, *, most: int | None = None, bold: bool = False) -> None:
        """Write from column x on, at most `most` cells; wide characters take two places."""
        shown = Text(text)
        if most is not None:
            shown.truncate(max(0, most), overflow="ellipsis")
        style = f"{'bold ' if bold else ''}{self._colours.get(kind, '')}".strip()
        places = [part for character in shown.plain for part in [character, *[""] * (cell_len(character) - 1)]]
        for column, part in enumerate(places[: len(self.rows[y]) - x], x):
            self.rows[y][column] = (part, style)

    def box(self, x0: int, y0: int, x1: int, y1: int, kind: Kind) -> None:
        """An outline with round corners, its edges at these places."""
        self.put(x0, y0, f"╭{'─' * (x1 - x0 - 1)}╮", kind)
        self.put(x0, y1, f"╰{'─' * (x1 - x0 - 1)}╯", kind)
        for y in range(y0 + 1, y1):
            self.put(x0, y, "│", kind)
            self.put(x1, y, "│", kind)


class VennPicture(Widget):
    """Two overlapping outlines, as large as the widget; only their lists scroll."""

    def __init__(self, explanation: Explanation) -> None:
        super().__init__(id="venn")
        self._explanation = explanation
        self._offset = 0

    def render(self) -> Text:
        """The drawing in the theme's colours."""
        return Text("\n").join(self._drawing().lines)

    def scroll_lists(self, lines: int) -> None:
        """Move the lists by so many lines, not beyond their ends."""
        self._offset = max(0, self._offset + min(lines, max(0, self._drawing().hidden)))
        self.refresh()

    def on_resize(self) -> None:
        """Where more lines fit, the lists still end at the bottom."""
        self._offset = max(0, self._offset + min(0, self._drawing().hidden))
        self.refresh()

    def _drawing(self) -> Drawing:
        colours = {kind: self.app.theme_variables[kind] for kind in SIGN}
        width, height = self.size
        return draw(self._explanation, colours, width=width, height=height, offset=self._offset)


class VennScreen(Dialog[None]):
    """One explanation as a Venn diagram; without what its what-if leaves out."""

    BINDINGS = KEY_BINDINGS["VennScreen"]

    def __init__(self, explanation: Explanation) -> None:
        super().__init__()
        self._explanation = explanation

    def compose(self) -> ComposeResult:
        """Title, diagram, numbers, keys."""
        made = self._explanation
        name = (made.image.path or "an image in memory").rpartition("/")[2]
        title = Text.assemble(shown(made.model.id, "bold"), "  ", shown(name), no_wrap=True)
        if out := left_out(made):
            title.append(f"  {len(out)} left out", "dim")
        title.overflow = "ellipsis"
        with Vertical(classes="dialog"):
            yield Static(title, markup=False)
            yield VennPicture(made)
            rest = made.mutual if made.what_if is None else made.what_if.mutual
            yield Static(Text(strength_line(rest)), id="numbers", markup=False)
            keys = f"{keys_of(self, 'venn.up', 'venn.down')} scroll  {keys_of(self, 'venn.close')} close"
            yield Static(Text(keys), id="keys", markup=False)

    def action_move(self, lines: int) -> None:
        """Scroll the lists."""
        self.query_one(VennPicture).scroll_lists(lines)

"""The mutual knowledge of an explanation as two overlapping outlines, in characters. Pure: records in, lines out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, chop_cells
from rich.text import Text

from clipmk.explanation import Explanation
from clipmk.system.text import printable, quoted
from clipmk_tui.show.signs import SIGN, WORD, Kind

_REGIONS: tuple[Kind, ...] = ("vision", "mutual", "language")
"""From left to right."""
_FRAME = 3
"""Rows of outline above the lists: two edges and the regions' names. As many are below, without the names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """The outlines with their lists."""

    lines: tuple[Text, ...]
    hidden: int
    """Lines of the longest list below the last row: how much further it scrolls."""


def regions(explanation: Explanation) -> dict[Kind, tuple[str, ...]]:
    """The concepts of the three regions, strongest first."""
    return {
        "vision": tuple(concept.text for concept in explanation.vision_concepts if not concept.mutual),
        "mutual": explanation.mutual_concepts,
        "language": tuple(concept.text for concept in explanation.language_concepts if not concept.mutual),
    }


def numbers(explanation: Explanation) -> str:
    """The strength of the shared knowledge, beside chance."""
    mutual, chance = explanation.mutual, explanation.mutual.chance
    return (
        f"mutual {mutual.count} (by chance {chance.count:.2f})   MI {mutual.mi_paper:.2f} ({chance.mi_paper:.2f})   "
        f"AUC {mutual.auc:.2f} ({chance.auc:.2f})   p = {mutual.p_value:.2g}"
    )


def draw(
    explanation: Explanation, *, width: int, height: int, offset: int = 0, colours: Mapping[Kind, str] | None = None
) -> Drawing:
    """Draw the diagram into `height` lines of `width` cells.

    Args:
        explanation: what to show.
        width: cells, at least 24.
        height: lines, at least 7.
        offset: lines by which the lists are scrolled.
        colours: styles of outlines and signs; None: the terminal's.
    """
    width, height = max(24, width), max(7, height)
    left, right = width * 32 // 100, width - 1 - width * 32 // 100
    canvas = _Canvas(width, height)
    canvas.box(0, 0, right, height - 2, "vision")
    canvas.box(left, 1, width - 1, height - 1, "language")
    canvas.put(right, 1, "┼", "language")
    canvas.put(left, height - 2, "┼", "vision")
    canvas.title(2, 0, right - 2, f"{SIGN['vision']} seen by the vision encoder", "vision")
    tied = f"{SIGN['language']} tied to {quoted(explanation.class_name)} by the language encoder"
    canvas.title(left + 2, height - 1, width - left - 4, tied, "language")
    room = height - 2 * _FRAME + 1
    hidden = 0
    spans = {"vision": (2, left - 1), "mutual": (left + 2, right - 1), "language": (right + 2, width - 2)}
    for kind, texts in regions(explanation).items():
        start, end = spans[kind]
        canvas.put(start, 2, f"{SIGN[kind]} {WORD[kind]} ({len(texts)})", kind, most=end - start, bold=True)
        entries = [line for text in texts for line in _entry(text, kind, end - start)] or ["  none"]
        hidden = max(hidden, len(entries) - offset - room)
        for row, line in enumerate(_window(entries, offset, room)):
            canvas.put(start, _FRAME + row, line, kind, most=end - start)
    return Drawing(lines=canvas.lines(colours or {}), hidden=max(0, hidden))


def _window(entries: list[str], offset: int, room: int) -> list[str]:
    """The visible lines; the last one says how many are hidden."""
    below = len(entries) - offset - room
    if below <= 0:
        return entries[offset:]
    return [*entries[offset : offset + room - 1], f"↓ {below + 1} more lines"]


def _entry(text: str, kind: Kind, width: int) -> list[str]:
    """A concept in lines of `width` cells, the sign before the first."""
    lines = [""]
    for word in printable(text).split():
        for piece in chop_cells(word, max(2, width - 2)):
            joined = f"{lines[-1]} {piece}".strip()
            if cell_len(joined) <= width - 2:
                lines[-1] = joined
            else:
                lines.append(piece)
    return [f"{SIGN[kind] if index == 0 else ' '} {line}" for index, line in enumerate(lines)]


class _Canvas:
    """Characters by place, each with the kind of concept that it belongs to."""

    def __init__(self, width: int, height: int) -> None:
        self._cells: list[list[tuple[str, Kind | None, bool]]] = [[(" ", None, False)] * width for _ in range(height)]

    def put(self, x: int, y: int, text: str, kind: Kind | None, *, most: int | None = None, bold: bool = False) -> None:
        """Write from column x on, at most `most` cells; wide characters take two places."""
        shown = Text(text)
        if most is not None:
            shown.truncate(max(0, most), overflow="ellipsis")
        for character in shown.plain:
            for part in [character, *[""] * (cell_len(character) - 1)]:
                if x < len(self._cells[y]):
                    self._cells[y][x] = (part, kind, bold)
                x += 1

    def box(self, x0: int, y0: int, x1: int, y1: int, kind: Kind) -> None:
        """An outline with round corners, its edges at these places."""
        self.put(x0, y0, f"╭{'─' * (x1 - x0 - 1)}╮", kind)
        self.put(x0, y1, f"╰{'─' * (x1 - x0 - 1)}╯", kind)
        for y in range(y0 + 1, y1):
            self.put(x0, y, "│", kind)
            self.put(x1, y, "│", kind)

    def title(self, x: int, y: int, most: int, text: str, kind: Kind) -> None:
        """Words in an edge."""
        self.put(x, y, f" {text} ", kind, most=most, bold=True)

    def lines(self, colours: Mapping[Kind, str]) -> tuple[Text, ...]:
        """The rows, styled."""
        return tuple(self._line(row, colours) for row in self._cells)

    def _line(self, row: Sequence[tuple[str, Kind | None, bool]], colours: Mapping[Kind, str]) -> Text:
        line = Text(no_wrap=True)
        for character, kind, bold in row:
            style = colours.get(kind, "") if kind is not None else ""
            line.append(character, f"bold {style}".strip() if bold else style)
        return line

"""The layout of picture and legend in the image pane, and the lines of the legend."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text
from textual.geometry import Region

from clipmk.output.palette import colour_of
from clipmk.system.text import printable
from clipmk_tui.show.half_blocks import fitted
from clipmk_tui.show.signs import SIGN

if TYPE_CHECKING:
    from clipmk.records import Part

_LEGEND_SHARE = 0.4
"""Of the pane's height at most."""

_LEGEND_CELLS = 150
"""Length of a usual legend."""

_BESIDE = 1.2
"""The legend is beside the picture where that makes the picture larger by this factor."""

_LONGEST = 40
"""Cells of a descriptor at most, where several share a line."""

_GAP = "  "


@dataclass(frozen=True, slots=True)
class Layout:
    """Depends only on the sizes of pane and picture, so that the picture does not move when its parts arrive.

    Both in cells within the pane's content.
    """

    picture: Region
    legend: Region


def laid_out(width: int, height: int, picture: tuple[int, int], *, legend: bool = True) -> Layout:
    """Place a picture of (width, height) pixels in a pane of that many cells, at least 1 x 1.

    The legend is below, or beside in a flat pane; below, it takes at most 40 % of the height.
    """
    reserved = min(int(height * _LEGEND_SHARE), -(-_LEGEND_CELLS // width)) if legend else 0
    columns, rows = fitted(*picture, columns=width, rows=height - reserved)
    top = (height - reserved - rows) // 2
    bottom = top + rows
    below = Layout(Region((width - columns) // 2, top, columns, rows), Region(0, bottom, width, height - bottom))
    side = max(16, min(28, width // 3))
    if not legend or width < 2 * side:
        return below
    columns, rows = fitted(*picture, columns=width - side - 1, rows=height)
    left = (width - side - 1 - columns) // 2
    edge = left + columns + 1
    beside = Layout(Region(left, (height - rows) // 2, columns, rows), Region(edge, 0, width - edge, height))
    return beside if columns * rows > _BESIDE * below.picture.width * below.picture.height else below


def legend_lines(
    parts: Sequence[Part], *, width: int, height: int, lit: Collection[int], blurred: Collection[int]
) -> list[Text]:
    """A coloured square, a number and a descriptor for each part, in at most `height` lines of `width` cells.

    Lit parts are highlighted; left-out ones have their sign instead of the square. One line per part if they fit, else
    several on a line, with shorter texts if necessary.
    """
    names = _names(parts)
    cap = width if len(parts) <= height else _cap(parts, names, width, height)
    entries = [_entry(part, names[part.id], cap, lit=lit, blurred=blurred) for part in parts]
    lines = entries if len(parts) <= height else _flowed(entries, width)
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines[:height]


def _cap(parts: Sequence[Part], names: dict[int, str], width: int, height: int) -> int:
    """The most cells per text with which all entries fit; 0: numbers only."""
    lengths = [(1 + len(str(part.id)), cell_len(printable(names[part.id]))) for part in parts]
    for cap in range(_LONGEST, 2, -1):
        lines, at = 1, -len(_GAP)
        for head, text in lengths:
            taken = min(width, head + 1 + min(cap, text))
            at += len(_GAP) + taken
            if at > width:
                lines, at = lines + 1, taken
        if lines <= height:
            return cap
    return 0


def _names(parts: Sequence[Part]) -> dict[int, str]:
    """Part id -> its first descriptor that is not the name of an earlier part, or its first one."""
    names: dict[int, str] = {}
    for part in parts:
        texts = [descriptor.text for descriptor in part.descriptors] or ["?"]
        names[part.id] = next((text for text in texts if text not in names.values()), texts[0])
    return names


def _entry(part: Part, name: str, cap: int, *, lit: Collection[int], blurred: Collection[int]) -> Text:
    square = Style(color="#{:02x}{:02x}{:02x}".format(*colour_of(part.id)))
    entry = Text(no_wrap=True, end="")
    entry.append(SIGN["left-out"] if part.id in blurred else "■", square)
    entry.append(str(part.id), Style(bold=True))
    if cap:
        text = Text(printable(name), Style(reverse=True) if part.id in lit else "")
        text.truncate(cap, overflow="ellipsis")
        entry.append(" ").append_text(text)
    elif part.id in lit:
        entry.stylize(Style(reverse=True), 1)
    return entry


def _flowed(entries: Sequence[Text], width: int) -> list[Text]:
    lines: list[Text] = []
    for entry in entries:
        if lines and lines[-1].cell_len + cell_len(_GAP) + entry.cell_len <= width:
            lines[-1].append(_GAP).append_text(entry)
        else:
            lines.append(entry.copy())
    return lines

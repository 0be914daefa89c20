"""The layout of picture and legend in the image pane, and the lines of the legend."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text
from textual.geometry import Region

from clipmk.output.palette import colour_of
from clipmk.system.text import printable
from clipmk_tui.show.half_blocks import fitted, number_style
from clipmk_tui.show.signs import SIGN

if TYPE_CHECKING:
    from clipmk.records import Part

_LEGEND_SHARE = 0.25  # of the pane's height at least, below the picture
_LEGEND_LINES = 10  # kept below the picture at most; a flat picture leaves more
_BESIDE = 1.2  # the legend is beside the picture where that makes the picture larger by this factor
_AROUND = 8  # cells of a line beside number and descriptor: sign, spaces, share
_WITHOUT_SHARE = 16  # narrower lines have no room for the share


@dataclass(frozen=True, slots=True)
class Layout:
    """Both in cells within the pane. They follow from its size and the picture's: nothing moves when parts arrive."""

    picture: Region
    legend: Region


def laid_out(width: int, height: int, picture: tuple[int, int], *, legend: bool = True) -> Layout:
    """Place a picture of (width, height) pixels in a pane of that many cells; its legend is below, or beside it."""
    reserved = min(int(height * _LEGEND_SHARE), _LEGEND_LINES) if legend else 0
    columns, rows = fitted(*picture, columns=width, rows=height - reserved)
    top = 0 if legend else (height - rows) // 2
    bottom = top + rows
    below = Layout(Region((width - columns) // 2, top, columns, rows), Region(0, bottom, width, height - bottom))
    side = max(16, min(36, width // 3))
    if not legend or width < 2 * side:
        return below
    columns, rows = fitted(*picture, columns=width - side - 1, rows=height)
    left = max(0, (width - columns - 1) // 2 - side)
    edge = left + columns + 1
    beside = Layout(Region(left, (height - rows) // 2, columns, rows), Region(edge, 0, width - edge, height))
    return beside if columns * rows > _BESIDE * below.picture.width * below.picture.height else below


def legend_lines(
    parts: Sequence[Part], names: dict[int, str], *, width: int, height: int, lit: Container[int], out: Container[int]
) -> list[tuple[int | None, Text]]:
    """A line of at most `width` cells for each part, with its id, lit ones first: number, name, share of image.

    Lit parts have a bar in front, left-out ones their sign. A last line without an id says how many parts have no room.
    """
    digits = max((len(str(part.id)) for part in parts), default=1)
    longest = max((cell_len(printable(name)) for name in names.values()), default=0)
    shares = width >= _WITHOUT_SHARE
    width = min(width, digits + longest + (_AROUND if shares else 2))
    ordered = sorted(parts, key=lambda part: part.id not in lit)
    hidden = len(ordered) - height + 1 if len(ordered) > height else 0
    lines: list[tuple[int | None, Text]] = [
        (part.id, _line(part, names[part.id], width, digits, shares, lit=part.id in lit, out=part.id in out))
        for part in ordered[: len(ordered) - hidden]
    ]
    if hidden and height > 0:
        lines.append((None, Text(f"{' ' * (digits + 2)}{hidden} more", "dim", no_wrap=True, end="")))
    for _, line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines


def share_text(area: float) -> str:
    """A part's share of the picture."""
    return "<1 %" if area < 0.01 else f"{100 * area:.0f} %"


def _line(part: Part, name: str, width: int, digits: int, shares: bool, *, lit: bool, out: bool) -> Text:
    colour = Style(color="#{:02x}{:02x}{:02x}".format(*colour_of(part.id)))
    line = Text(no_wrap=True, end="")
    line.append(SIGN["left-out"] if out else "▌" if lit else " ", colour)
    line.append(str(part.id).rjust(digits), number_style(colour_of(part.id)))
    share = share_text(part.area) if shares else ""
    text = Text(f" {printable(name)}", Style(bold=lit))
    text.truncate(max(1, width - line.cell_len - len(share) - bool(share)), overflow="ellipsis")
    line.append_text(text)
    if share:
        line.append(share.rjust(width - line.cell_len), Style(bold=lit, dim=not lit))
    return line

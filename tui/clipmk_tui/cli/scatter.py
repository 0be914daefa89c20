"""A scatter plot made of characters."""

from __future__ import annotations

import string
from collections.abc import Sequence
from math import inf
from typing import Final, NamedTuple

LETTERS: Final = string.ascii_lowercase + string.ascii_uppercase
"""Marks of points, in their order; later ones share `MANY`."""
MANY: Final = "•"
_LINE: Final = "┊"
_LABEL: Final = 7
"""Columns of the numbers at the left."""


class Dot(NamedTuple):
    """A point; `mark` is one character."""

    x: float
    y: float
    mark: str


def letter(index: int) -> str:
    """The mark of a point by its 0-based position."""
    return LETTERS[index] if index < len(LETTERS) else MANY


def scatter(
    dots: Sequence[Dot],
    *,
    width: int,
    height: int,
    vertical: float | None = None,
    within: tuple[float, float] = (-inf, inf),
) -> list[str]:
    """Lines of a plot with its axes; a mark whose cell is taken stands in the nearest free one of its line.

    Args:
        dots: at least one.
        width: columns, numbers of the y axis included.
        height: lines, the two of the x axis included.
        vertical: where a dotted vertical line stands, within the plot whatever the points are.
        within: lowest and highest value that y can have; the axis goes no further.
    """
    columns, lines = max(8, width - _LABEL - 1), max(3, height - 2)
    low_x, high_x = _range([*(dot.x for dot in dots), *([] if vertical is None else [vertical])])
    low_y, high_y = _range([dot.y for dot in dots], within)
    cells = [[" "] * columns for _ in range(lines)]
    if vertical is not None:
        at = _cell(vertical, low_x, high_x, columns)
        for line in cells:
            line[at] = _LINE
    for dot in dots:
        line = cells[lines - 1 - _cell(dot.y, low_y, high_y, lines)]
        at = _cell(dot.x, low_x, high_x, columns)
        line[_free(line, at)] = dot.mark
    numbers = {0: high_y, (lines - 1) // 2: (low_y + high_y) / 2, lines - 1: low_y}
    drawn = [
        f"{f'{numbers[index]:.1f}' if index in numbers else '':>{_LABEL - 1}} │{''.join(line).rstrip()}"
        for index, line in enumerate(cells)
    ]
    ends = f"{low_x:.2f}", f"{high_x:.2f}"
    drawn.append(" " * _LABEL + "└" + "─" * columns)
    drawn.append(" " * (_LABEL + 1) + ends[0] + ends[1].rjust(columns - len(ends[0])))
    return drawn


def _range(values: Sequence[float], within: tuple[float, float] = (-inf, inf)) -> tuple[float, float]:
    """The values' ends; where all are alike, one below and one above, as far as there can be such values."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (max(within[0], low - 1), min(within[1], high + 1))


def _cell(value: float, low: float, high: float, count: int) -> int:
    return min(count - 1, max(0, round((value - low) / (high - low) * (count - 1))))


def _free(line: Sequence[str], at: int) -> int:
    """The free place nearest to `at`; `at` itself where all are taken."""
    places = sorted(range(len(line)), key=lambda place: (abs(place - at), place))
    return next((place for place in places if line[place] in {" ", _LINE}), at)

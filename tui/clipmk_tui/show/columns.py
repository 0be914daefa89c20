"""Widths of a table's columns if there is less room than they want."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

DROPPED: Final = 0
"""A floor: the column leaves the table, with the blanks beside it."""


class Step(NamedTuple):
    """What may be taken from a column: it shrinks to the floor, no more than needed; or it is dropped."""

    column: str
    floor: int = DROPPED


def fit_columns(
    wanted: Mapping[str, int], steps: Sequence[Step], room: int, *, gap: int = 1, edges: int = 2
) -> dict[str, int]:
    """Widths of columns that fit in a line, the least important columns smaller or dropped.

    Args:
        wanted: column -> cells it wants; 0 for an empty column, which takes no room.
        steps: what is taken first, second, ... until the rest fits; columns without a step keep what they want. What
            a step took too much is given back, the last step's first: a dropped column returns if it fits.
        room: cells of the line.
        gap: blanks between two columns.
        edges: blanks at both ends together.

    Returns:
        Column -> cells, 0 for dropped columns. Together they exceed the room only if all steps are not enough.
    """
    widths = dict(wanted)

    def spare() -> int:
        shown = [width for width in widths.values() if width]
        return room - edges - sum(shown) - gap * max(0, len(shown) - 1)

    taken: list[tuple[str, int]] = []  # with the width before
    for column, floor in steps:
        if spare() >= 0:
            break
        taken.append((column, widths[column]))
        widths[column] = DROPPED if floor == DROPPED else max(min(floor, widths[column]), widths[column] + spare())
    for column, before in reversed(taken):
        if widths[column] != DROPPED:
            widths[column] = min(before, widths[column] + max(0, spare()))
            continue
        widths[column] = before
        if spare() < 0:
            widths[column] = DROPPED
    return widths

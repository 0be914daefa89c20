"""How wide the columns of a table become where there is less room than they want."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

GONE: Final = 0
"""A floor: the column leaves the table, with the blanks beside it."""


class Step(NamedTuple):
    """What may be taken from a column: it shrinks to the floor, as little as is needed; or it goes."""

    column: str
    floor: int = GONE


def squeezed(
    wanted: Mapping[str, int], steps: Sequence[Step], room: int, *, gap: int = 1, edges: int = 2
) -> dict[str, int]:
    """Widths of columns that fit into a line, the least important ones smaller or gone.

    Args:
        wanted: column -> the cells it wants; 0 where it is empty and takes no place.
        steps: what is taken first, second, ... until the rest fits; columns without a step keep what they want. What
            a step takes too much is given back, the last step's first: a column that went comes back where it fits.
        room: cells of the line.
        gap: blanks between two columns.
        edges: blanks at both ends together.

    Returns:
        Column -> cells, 0 for those that are gone. Together they are wider than the room only where all steps are not
        enough.
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
        widths[column] = GONE if floor == GONE else max(min(floor, widths[column]), widths[column] + spare())
    for column, before in reversed(taken):
        if widths[column] != GONE:
            widths[column] = min(before, widths[column] + max(0, spare()))
            continue
        widths[column] = before
        if spare() < 0:
            widths[column] = GONE
    return widths

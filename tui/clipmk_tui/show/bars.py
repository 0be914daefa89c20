"""Bars and sparklines made of characters."""

from __future__ import annotations

from collections.abc import Sequence

_EIGHTHS = "▏▎▍▌▋▊▉█"
_HEIGHTS = "▁▂▃▄▅▆▇█"


def bar(share: float, cells: int) -> str:
    """A horizontal bar, padded with spaces to `cells` columns; any share above zero is visible.

    Args:
        share: clipped to [0, 1].
        cells: its full length.
    """
    eighths = round(min(1.0, max(0.0, share)) * cells * 8)
    if share > 0:
        eighths = max(1, eighths)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest - 1] if rest else "")).ljust(cells)


def sparkline(values: Sequence[float]) -> str:
    """One character per value, its height relative to the largest value; 0 is the lowest character."""
    top = max(values, default=0.0)
    if top <= 0:
        return _HEIGHTS[0] * len(values)
    steps = len(_HEIGHTS) - 1
    return "".join(_HEIGHTS[round(steps * max(0.0, value) / top)] for value in values)

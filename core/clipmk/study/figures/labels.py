"""Names beside the points of a scatter plot, none over another.

Of adjustText (1.4.0), with the parameters that suited best, no plot of 13 crowded names was free of names over marks or
over each other; here each name takes the cheapest of 160 positions.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

_DISTANCES: Final = (7, 12, 18, 26, 36, 48, 62, 78, 96, 120)
"""Points between a mark and its name."""
_DIRECTIONS: Final = 16
_MARK: Final = 5
"""Half the side of the square that a mark takes, in points."""
_MARGIN: Final = 1.5
_CONNECT_FROM: Final = 12
"""Points from which a line leads from the mark to its name."""
_COVERING: Final = 1_000.0
"""Cost of covering a mark or a name, per square point; covering an error bar costs 1, a point of distance 4."""
_DISTANCE: Final = 4.0

Box = tuple[float, float, float, float]
"""Left, bottom, right and top, in points from the figure's lower left corner."""
Boxes = NDArray[np.float64]
"""The same of n boxes, (n, 4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A mark and its name, in data coordinates."""

    name: str
    x: float
    y: float
    x_reach: tuple[float, float]
    """Ends of its error bar."""
    y_reach: tuple[float, float]
    colour: tuple[float, float, float]


def place_labels(axes: Axes, points: Sequence[Point], *, size: float = 8) -> list[Box]:
    """Write each name beside its mark: as near as possible, over no mark or name, inside the axes, off error bars.

    Call it when the limits of the axes and the layout are final.

    Returns:
        The box of each name.
    """
    frame = _in_points(axes, axes.get_window_extent().get_points())
    at = [_in_points(axes, axes.transData.transform([(point.x, point.y)] * 2)) for point in points]
    taken = [(x - _MARK, y - _MARK, x + _MARK, y + _MARK) for x, y, *_ in at]
    bars = np.array([bar for point in points for bar in _error_bars(axes, point)])
    placed: dict[int, Box] = {}
    for index in sorted(range(len(points)), key=lambda one: -at[one][0]):  # from the right, where space is scarce
        obstacles = np.array([*taken, *placed.values()])
        placed[index] = _place(axes, points[index], at[index][:2], obstacles, bars, np.array([frame]), size)
    return [placed[index] for index in range(len(points))]


def _place(
    axes: Axes, point: Point, mark: tuple[float, float], taken: Boxes, bars: Boxes, frame: Boxes, size: float
) -> Box:
    """Write a name at the cheapest position around its mark (in points)."""
    note = axes.annotate(
        point.name,
        (point.x, point.y),
        xytext=(0, 0),
        textcoords="offset points",
        fontsize=size,
        color=tuple(0.75 * one for one in point.colour),
        path_effects=[withStroke(linewidth=2, foreground="white")],
    )
    left, low, right, high = _in_points(axes, note.get_window_extent().get_points())
    extent = np.array([right - left, high - low])
    distances, offsets, aligned = _positions()
    lower = np.array(mark) + offsets - aligned / 2 * extent
    boxes = np.hstack([lower - _MARGIN, lower + extent + _MARGIN])
    outside = (extent + 2 * _MARGIN).prod() - _covered(boxes, frame)
    costs = _COVERING * (_covered(boxes, taken) + outside) + _covered(boxes, bars) + _DISTANCE * distances
    best = int(costs.argmin())
    across, up = aligned[best].tolist()
    position = tuple(offsets[best].tolist())
    note.set(
        position=position,
        horizontalalignment=("left", "center", "right")[across],
        verticalalignment=("bottom", "center", "top")[up],
    )
    if distances[best] >= _CONNECT_FROM:
        axes.annotate(
            "",
            (point.x, point.y),
            xytext=position,
            textcoords="offset points",
            arrowprops={"arrowstyle": "-", "color": "#777777", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 4},
        )
    left, low, right, high = boxes[best].tolist()
    return left, low, right, high


@functools.cache
def _positions() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Distances (n,), offsets from the mark (n, 2) and alignments (n, 2): 0 beyond the mark, 1 centred, 2 before it.

    Near ones first; right and left before above and below.
    """
    steps = np.arange(_DIRECTIONS)
    angles = 2 * np.pi * ((steps + 1) // 2) * np.where(steps % 2, 1, -1) / _DIRECTIONS
    directions = np.column_stack([np.cos(angles), np.sin(angles)])
    aligned = np.where(np.abs(directions) < 0.4, 1, np.where(directions > 0, 0, 2))
    distances = np.repeat(np.array(_DISTANCES, dtype=np.float64), _DIRECTIONS)
    repeats = (len(_DISTANCES), 1)
    return distances, distances[:, None] * np.tile(directions, repeats), np.tile(aligned, repeats)


def _error_bars(axes: Axes, point: Point) -> Iterator[Box]:
    """The error bars of a mark, widened by a point on either side."""
    for ends in (
        [(point.x_reach[0], point.y), (point.x_reach[1], point.y)],
        [(point.x, point.y_reach[0]), (point.x, point.y_reach[1])],
    ):
        left, low, right, high = _in_points(axes, axes.transData.transform(ends))
        yield left - 1, low - 1, right + 1, high + 1


def _in_points(axes: Axes, pixels: NDArray[np.float64]) -> Box:
    (left, low), (right, high) = (pixels * 72 / axes.figure.dpi).tolist()
    return left, low, right, high


def _covered(boxes: Boxes, others: Boxes) -> NDArray[np.float64]:
    """Total area that each box covers of the others."""
    shared = np.minimum(boxes[:, None, 2:], others[:, 2:]) - np.maximum(boxes[:, None, :2], others[:, :2])
    return np.asarray(np.maximum(shared, 0).prod(axis=2).sum(axis=1))

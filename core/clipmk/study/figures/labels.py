"""Names beside the points of a scatter plot, none over another.

Of adjustText (1.4.0), with the parameters that suited best, no plot of 13 crowded names was free of names over marks or
over each other; here each name takes the cheapest of 160 positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import cos, pi, sin
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


@dataclass(frozen=True, slots=True)
class _Obstacles:
    """What a name should not cover, and the frame it should not leave: boxes (n, 4)."""

    taken: NDArray[np.float64]
    bars: NDArray[np.float64]
    frame: NDArray[np.float64]

    def cost(self, box: Box) -> float:
        """Cost of a name in this box."""
        outside = (box[2] - box[0]) * (box[3] - box[1]) - _covered(box, self.frame)
        return _COVERING * (_covered(box, self.taken) + outside) + _covered(box, self.bars)


@dataclass(frozen=True, slots=True)
class _Position:
    """A position of a name relative to its mark, in points."""

    distance: float
    dx: float
    dy: float
    horizontal: str
    vertical: str

    def box(self, mark: Box, width: float, height: float) -> Box:
        """The box of a name of that size beside a mark (a box without extent)."""
        left = mark[0] + self.dx - {"left": 0, "center": width / 2, "right": width}[self.horizontal]
        low = mark[1] + self.dy - {"bottom": 0, "center": height / 2, "top": height}[self.vertical]
        return left - _MARGIN, low - _MARGIN, left + width + _MARGIN, low + height + _MARGIN


def place_labels(axes: Axes, points: Sequence[Point], *, size: float = 8) -> list[Box]:
    """Write each name beside its mark: as near as possible, over no mark or name, inside the axes, off error bars.

    Call it when the limits of the axes and the layout are final.

    Returns:
        The box of each name.
    """
    frame = _in_points(axes, axes.get_window_extent().get_points())
    at = [_in_points(axes, axes.transData.transform([(point.x, point.y)] * 2)) for point in points]
    marks = [(x - _MARK, y - _MARK, x + _MARK, y + _MARK) for x, y, *_ in at]
    bars = np.array([bar for point in points for bar in _error_bars(axes, point)])
    placed: dict[int, Box] = {}
    for index in sorted(range(len(points)), key=lambda one: -at[one][0]):  # from the right, where space is scarce
        obstacles = _Obstacles(np.array([*marks, *placed.values()]), bars, np.array([frame]))
        placed[index] = _place(axes, points[index], at[index], obstacles, size)
    return [placed[index] for index in range(len(points))]


def _place(axes: Axes, point: Point, mark: Box, obstacles: _Obstacles, size: float) -> Box:
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
    width, height = right - left, high - low
    best = min(_positions(), key=lambda one: obstacles.cost(one.box(mark, width, height)) + _DISTANCE * one.distance)
    note.set(position=(best.dx, best.dy), horizontalalignment=best.horizontal, verticalalignment=best.vertical)
    if best.distance >= _CONNECT_FROM:
        axes.annotate(
            "",
            (point.x, point.y),
            xytext=(best.dx, best.dy),
            textcoords="offset points",
            arrowprops={"arrowstyle": "-", "color": "#777777", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 4},
        )
    return best.box(mark, width, height)


def _positions() -> Iterator[_Position]:
    """Near ones first; right and left before above and below."""
    for distance in _DISTANCES:
        for step in range(_DIRECTIONS):
            side = (step + 1) // 2 * (1 if step % 2 else -1)
            angle = 2 * pi * side / _DIRECTIONS
            dx, dy = distance * cos(angle), distance * sin(angle)
            horizontal = "center" if abs(dx) < 0.4 * distance else "left" if dx > 0 else "right"
            vertical = "center" if abs(dy) < 0.4 * distance else "bottom" if dy > 0 else "top"
            yield _Position(distance, dx, dy, horizontal, vertical)


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


def _covered(box: Box, others: NDArray[np.float64]) -> float:
    """Total area that a box covers of some boxes (n, 4)."""
    widths = np.minimum(box[2], others[:, 2]) - np.maximum(box[0], others[:, 0])
    heights = np.minimum(box[3], others[:, 3]) - np.maximum(box[1], others[:, 1])
    return float((np.maximum(widths, 0) * np.maximum(heights, 0)).sum())

"""Shape primitives: every outline a part may have, as polygons in the unit box.

A shape is a tuple of pieces, each a float64 (points, 2) closed polygon with x to the right and y down, inside
[-1, 1] x [-1, 1] except for the width of lines. Pieces are painted one after the other. Directed shapes look to the
left when they belong to the front of an object, and to the right when they belong to its back.

`assets/world/shapes.json` lists the pieces of each shape:

- `polygon`: points [x, y], and arcs [x, y, radius x, radius y, start, stop[, points]] between them, in turns.
- `ellipse`: [x, y, radius x, radius y[, turn]]; `box`: [left, top, right, bottom].
- `ribbon`: a thick line along points, `widths` at its start and stop.
- `around`: so many copies of a `petal` [distance, radius x, radius y], `spike` [widest at, half width] or `paddle`
  (half width), spread over the circle from `phase` on, in turns.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from math import cos, sin, tau
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from clipmk.system.locations import json_asset

Polygon: TypeAlias = npt.NDArray[np.float64]
Shape: TypeAlias = tuple[Polygon, ...]
Point: TypeAlias = tuple[float, float]


@cache
def shape(name: str) -> Shape:
    """The named shape as a tuple of float64 (points, 2) polygons in the unit box."""
    return tuple(polygon for piece in json_asset("world/shapes.json")[name] for polygon in _polygons(piece))


def _polygons(piece: Mapping[str, Any]) -> Shape:
    """The polygons of a piece."""
    match piece:
        case {"polygon": points}:
            outlines = [_points(points)]
        case {"ellipse": numbers}:
            outlines = [_ellipse(*numbers)]
        case {"box": [left, top, right, bottom]}:
            outlines = [[(left, top), (right, top), (right, bottom), (left, bottom)]]
        case {"ribbon": points, "widths": [start, stop]}:
            outlines = [_ribbon(_points(points), start, stop)]
        case {"around": count}:
            outlines = [_turned(piece, piece.get("phase", 0.0) + k / count) for k in range(count)]
        case _:
            raise ValueError(f"{piece!r} is not a piece of a shape")
    return tuple(np.array(outline, dtype=np.float64) for outline in outlines)


def _turned(piece: Mapping[str, Any], turn: float) -> list[Point]:
    """A copy of a piece that points from the centre to the rim, at an angle in turns."""
    c, s = cos(tau * turn), sin(tau * turn)
    points: tuple[Point, ...]
    match piece:
        case {"petal": [distance, rx, ry]}:
            return _ellipse(distance * c, distance * s, rx, ry)
        case {"spike": [inner, half]}:
            points = ((0.12, 0.0), (inner, half), (1.0, 0.0), (inner, -half))
        case {"paddle": half}:
            points = ((0.0, 0.0), (0.3, half), (1.0, half), (1.0, -0.05), (0.0, -0.05))
        case _:
            raise ValueError(f"{piece!r} is not a piece that goes around")
    return [(c * u - s * v, s * u + c * v) for u, v in points]


def _points(entries: Sequence[Any]) -> list[Point]:
    """Points as they are, and those of arcs."""
    found: list[Point] = []
    for entry in entries:
        found += _arc(*entry["arc"]) if isinstance(entry, dict) else [(entry[0], entry[1])]
    return found


def _arc(x: float, y: float, rx: float, ry: float, start: float, stop: float, points: int = 18) -> list[Point]:
    """Points on an ellipse from angle `start` to `stop` (turns; 0 = right, 0.25 = down)."""
    turns = (start + (stop - start) * k / (points - 1) for k in range(points))
    return [(x + rx * cos(tau * t), y + ry * sin(tau * t)) for t in turns]


def _ellipse(x: float, y: float, rx: float, ry: float, turn: float = 0.0) -> list[Point]:
    """Ellipse with centre (x, y) and radii (rx, ry), turned by `turn` (full turns)."""
    c, s = cos(tau * turn), sin(tau * turn)
    around = _arc(0.0, 0.0, rx, ry, 0.0, 1.0 - 1.0 / 22, 22)
    return [(x + c * u - s * v, y + s * u + c * v) for u, v in around]


def _ribbon(points: Sequence[Point], start_width: float, stop_width: float) -> list[Point]:
    """Thick line along the points, its width running from `start_width` to `stop_width`."""
    line = np.array(points, dtype=np.float64)
    along = np.gradient(line, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.linalg.norm(along, axis=1, keepdims=True)
    half = np.linspace(start_width, stop_width, len(line))[:, None] / 2
    return [(x, y) for x, y in np.concatenate([line + normal * half, (line - normal * half)[::-1]]).tolist()]

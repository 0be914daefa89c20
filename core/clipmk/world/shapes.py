"""Shape primitives: every outline a part may have, as polygons in the unit box.

A shape is a tuple of pieces, each a float64 (points, 2) closed polygon with x to the right and y down, inside
[-1, 1] x [-1, 1] but for the width of lines. Pieces are painted one after the other. Directed shapes look to the left
when they belong to the front of an object, and to the right when they belong to its back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from math import cos, pi, sin, tau
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Polygon: TypeAlias = npt.NDArray[np.float64]
Shape: TypeAlias = tuple[Polygon, ...]
Point: TypeAlias = tuple[float, float]


def polygon(*points: Point) -> Polygon:
    """Closed polygon through the points, float64 (points, 2)."""
    return np.array(points, dtype=np.float64)


def arc(centre: Point, radius: Point, start: float, stop: float, points: int = 18) -> list[Point]:
    """Points on an ellipse from angle `start` to `stop` (turns; 0 = right, 0.25 = down)."""
    turns = (start + (stop - start) * k / (points - 1) for k in range(points))
    return [(centre[0] + radius[0] * cos(tau * t), centre[1] + radius[1] * sin(tau * t)) for t in turns]


def ellipse(x: float = 0.0, y: float = 0.0, rx: float = 1.0, ry: float = 1.0, turn: float = 0.0) -> Polygon:
    """Ellipse with centre (x, y) and radii (rx, ry), turned by `turn` (full turns)."""
    c, s = cos(tau * turn), sin(tau * turn)
    around = arc((0.0, 0.0), (rx, ry), 0.0, 1.0 - 1.0 / 22, 22)
    return polygon(*((x + c * u - s * v, y + s * u + c * v) for u, v in around))


def box(x0: float = -1.0, y0: float = -1.0, x1: float = 1.0, y1: float = 1.0) -> Polygon:
    """Axis-parallel rectangle."""
    return polygon((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def ribbon(points: Sequence[Point], start_width: float, stop_width: float) -> Polygon:
    """Thick line along the points, its width running from `start_width` to `stop_width`."""
    line = np.array(points, dtype=np.float64)
    along = np.gradient(line, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.linalg.norm(along, axis=1, keepdims=True)
    half = np.linspace(start_width, stop_width, len(line))[:, None] / 2
    return np.concatenate([line + normal * half, (line - normal * half)[::-1]])


def ring(inner: float) -> Polygon:
    """Circle with a round hole of radius `inner`, as one polygon with a seam on the left."""
    return polygon(*arc((0, 0), (1, 1), 0.5, 1.5, 24), *arc((0, 0), (inner, inner), 1.5, 0.5, 24))


def around(count: int, piece: Callable[[float], Polygon], phase: float = 0.0) -> Shape:
    """`count` copies of a piece, given its angle in turns, spread over the circle."""
    return tuple(piece(phase + k / count) for k in range(count))


def spike(turn: float, inner: float, half_width: float) -> Polygon:
    """Diamond from the centre to the rim, widest at `inner`."""
    c, s = cos(tau * turn), sin(tau * turn)
    points = ((0.12, 0.0), (inner, half_width), (1.0, 0.0), (inner, -half_width))
    return polygon(*((c * u - s * v, s * u + c * v) for u, v in points))


def paddle(turn: float, half_width: float) -> Polygon:
    """Broad blade from the centre to the rim."""
    c, s = cos(tau * turn), sin(tau * turn)
    points = ((0.0, 0.0), (0.3, half_width), (1.0, half_width), (1.0, -0.05), (0.0, -0.05))
    return polygon(*((c * u - s * v, s * u + c * v) for u, v in points))


def drip(count: int) -> Polygon:
    """Flat top, `count` round drips at the bottom."""
    waves: list[Point] = []
    for k in range(count):
        x = 1 - (2 * k + 1) / count
        waves += arc((x, 0.1), (1 / count, 0.9 if k % 2 else 0.55), 0.0, 0.5, 9)
    return polygon((-1, -1), (1, -1), *waves)


def battlement() -> Polygon:
    """Box with three merlons on top."""
    top: list[Point] = [(-1, -1), (-0.5, -1), (-0.5, -0.72), (-0.25, -0.72), (-0.25, -1), (0.25, -1), (0.25, -0.72)]
    return polygon(*top, (0.5, -0.72), (0.5, -1), (1, -1), (1, 1), (-1, 1))


def _cloud() -> Shape:
    return ellipse(-0.45, 0.35, 0.5, 0.55), ellipse(0.35, 0.3, 0.6, 0.6), ellipse(-0.05, -0.35, 0.6, 0.6)


def _flagged(cloth: Polygon) -> Shape:
    return box(-1.0, -1.0, -0.76, 1.0), cloth


def _feeler(tip: Polygon, line: Sequence[Point]) -> Shape:
    return ribbon(line, 0.34, 0.3), tip


def _bike_frame(width: float) -> Shape:
    bars: tuple[tuple[Point, Point], ...] = (
        ((-0.5, -0.75), (-0.95, 0.9)),
        ((-0.5, -0.7), (0.35, -0.7)),
        ((-0.45, -0.6), (0.0, 0.8)),
        ((0.35, -0.95), (0.0, 0.85)),
        ((0.0, 0.85), (0.95, 0.85)),
        ((0.38, -0.6), (0.95, 0.85)),
    )
    return tuple(ribbon(bar, width, width) for bar in bars)


def _table() -> dict[str, Callable[[], Shape]]:
    """Name of every shape, with the function that makes it."""
    return {**_plain_shapes(), **_animal_shapes(), **_plant_shapes(), **_made_shapes(), **_vehicle_shapes()}


def _plain_shapes() -> dict[str, Callable[[], Shape]]:
    return {
        "ellipse": lambda: (ellipse(),),
        "box": lambda: (box(),),
        "rounded": lambda: (
            polygon(
                *arc((-0.7, -0.7), (0.3, 0.3), 0.5, 0.75, 5),
                *arc((0.7, -0.7), (0.3, 0.3), 0.75, 1.0, 5),
                *arc((0.7, 0.7), (0.3, 0.3), 0.0, 0.25, 5),
                *arc((-0.7, 0.7), (0.3, 0.3), 0.25, 0.5, 5),
            ),
        ),
        "triangle": lambda: (polygon((-1, 1), (0, -1), (1, 1)),),
        "point-down": lambda: (polygon((-1, -1), (1, -1), (0, 1)),),
        "wedge-left": lambda: (polygon((1, -1), (1, 1), (-1, 0.3)),),
        "dome": lambda: (polygon(*arc((0, 1), (1, 2), 0.5, 1.0)),),
        "bowl": lambda: (polygon(*arc((0, -1), (1, 2), 0.0, 0.5)),),
        "tub": lambda: (polygon((-1, -1), (1, -1), (0.66, 1), (-0.66, 1)),),
        "taper": lambda: (polygon((-0.62, -1), (0.62, -1), (1, 1), (-1, 1)),),
        "ring": lambda: (ring(0.58),),
        "square-ring": lambda: (
            polygon(
                (-1, 0.95), (-1, -1), (1, -1), (1, 1), (-1, 1), (-1, 0.45), (0.45, 0.45), (0.45, -0.45), (-1, -0.45)
            ),
        ),
        "cloud": _cloud,
        "wave": lambda: (ellipse(-0.55, 0.6, 0.45, 0.4), ellipse(0.05, 0.0, 0.5, 0.4), ellipse(0.45, -0.6, 0.55, 0.4)),
    }


def _animal_shapes() -> dict[str, Callable[[], Shape]]:
    return {
        "beak-curved": lambda: (polygon((1, -1), (-0.3, -0.95), (-1, 0.0), (-0.85, 1), (-0.2, 0.45), (1, 0.7)),),
        "fork": lambda: (polygon((-1, -0.16), (1, -1), (0.35, 0), (1, 1), (-1, 0.16)),),
        "brush": lambda: (
            polygon((-1, 0.35), (-0.2, -0.9), (0.55, -1), (1, -0.65), (0.75, 0.2), (0.1, 0.9), (-0.7, 1)),
        ),
        "curl": lambda: (ribbon([(-1, 0.8), (-0.4, 0.8), *arc((0.1, 0.05), (0.66, 0.7), 0.2, -0.62)], 0.46, 0.34),),
        "fin-round": lambda: (polygon(*arc((0, 1), (1, 2), 0.5, 1.0)),),
        "fin-pointed": lambda: (polygon((-1, 1), (0.7, -1), (1, 1)),),
        "feeler-straight": lambda: _feeler(ellipse(0.5, -0.62, 0.42, 0.38), [(-0.6, 1), (0.5, -0.6)]),
        "feeler-curved": lambda: (
            ribbon([(-0.8, 1), (-0.6, 0.2), (-0.1, -0.6), (0.4, -0.75), (0.75, -0.4), (0.5, 0)], 0.42, 0.42),
        ),
        "butterfly-wing": lambda: (ellipse(0.1, 0.5, 0.72, 0.5, 0.06), ellipse(0.1, -0.4, 0.95, 0.58, -0.07)),
        "bird-wing": lambda: (
            polygon((-1, 1), (-0.8, 0), (0.1, -0.85), (1, -1), (0.85, -0.3), (0.6, 0.2), (0.1, 0.75)),
        ),
        "slug": lambda: (
            polygon(
                (-1, -0.55),
                *arc((-0.74, -0.6), (0.26, 0.4), 0.5, 1.0, 9),
                (-0.4, 0.1),
                (0.4, 0.2),
                (1, 0.85),
                (0.9, 1),
                (-0.8, 1),
            ),
        ),
        "trunk-curved": lambda: (
            ribbon([(0.85, -1), (0.3, -0.75), (-0.05, -0.1), (-0.15, 0.5), (-0.45, 0.75), (-0.8, 0.5)], 0.75, 0.42),
        ),
        "trunk-flared": lambda: (polygon((-0.6, -1), (0.6, -1), (0.66, 0.4), (1, 1), (-1, 1), (-0.66, 0.4)),),
        "tusk": lambda: (polygon((1, -1), (0.6, 0.6), (-0.3, 1), (-1, 0.55), (-0.1, 0.35), (0.2, -1)),),
        "leg-thin": lambda: (box(-0.42, -1, 0.42, 1),),
        "leg-thick": lambda: (polygon((-0.85, -1), (0.85, -1), (1, 1), (-1, 1)),),
    }


def _plant_shapes() -> dict[str, Callable[[], Shape]]:
    return {
        "petals-round": lambda: around(6, lambda t: ellipse(0.6 * cos(tau * t), 0.6 * sin(tau * t), 0.42, 0.4)),
        "petals-pointed": lambda: around(8, lambda t: spike(t, 0.5, 0.3)),
        "leaf-pointed": lambda: (polygon((-1, 0.9), (-0.55, -0.15), (1, -1), (0.35, 0.55)),),
        "leaf-round": lambda: (ellipse(0, 0, 1.1, 0.72, -0.1),),
        "crown-round": lambda: (
            ellipse(-0.45, 0.3, 0.55, 0.6),
            ellipse(0.45, 0.3, 0.55, 0.6),
            ellipse(0.0, -0.3, 0.66, 0.7),
        ),
        "crown-pointed": lambda: (
            polygon((-1, 1), (0, -0.3), (1, 1)),
            polygon((-0.8, 0.35), (0, -0.7), (0.8, 0.35)),
            polygon((-0.6, -0.25), (0, -1), (0.6, -0.25)),
        ),
        "fruit-round": lambda: tuple(
            ellipse(x, y, 0.25, 0.25) for x, y in ((-0.6, 0.3), (0.1, -0.7), (0.65, 0.1), (-0.5, -0.4), (0.0, 0.55))
        ),
        "fruit-long": lambda: tuple(
            ellipse(x, y, 0.15, 0.38) for x, y in ((-0.65, 0.2), (0.0, -0.6), (0.65, 0.2), (0.0, 0.45))
        ),
        "blossom-pointed": lambda: around(5, lambda t: spike(t, 0.45, 0.36), 0.05),
        "arm-thin": lambda: (polygon((-1, 0.75), (1, -1), (1, -0.55), (-1, 1)),),
        "arm-thick": lambda: (polygon((-1, 0.05), (0.6, -1), (1, -0.35), (-1, 1)),),
        "arm-bent": lambda: (polygon((-1, 0.4), (0.3, 0.4), (0.3, -1), (1, -1), (1, 0.7), (0.8, 1), (-1, 1)),),
    }


def _made_shapes() -> dict[str, Callable[[], Shape]]:
    return {
        "arched": lambda: (polygon((-1, 1), *arc((0, -0.2), (1, 0.8), 0.5, 1.0, 12), (1, 1)),),
        "roof-flat": lambda: (polygon((-1, 1), (-0.9, -0.2), (0.9, -0.2), (1, 1)),),
        "turret-flat": lambda: (battlement(),),
        "turret-pointed": lambda: (box(-0.75, -0.35, 0.75, 1), polygon((-1, -0.3), (0, -1), (1, -0.3))),
        "flag-square": lambda: _flagged(box(-0.8, -1.0, 1.0, 0.25)),
        "flag-triangular": lambda: _flagged(polygon((-0.8, -1.0), (1.0, -0.38), (-0.8, 0.25))),
        "hat-tall": lambda: (box(-0.62, -1, 0.62, 0.7), box(-1, 0.5, 1, 1)),
        "hat-pointed": lambda: (polygon((-0.72, 0.7), (0.15, -1), (0.72, 0.7)), polygon(*ellipse(0, 0.75, 1, 0.25))),
        "shawl": lambda: (box(0.25, -0.2, 0.75, 1), box(-1, -1, 1, 0.1)),
        "buttons-round": lambda: (ellipse(0, -0.66, 1, 0.3), ellipse(0, 0, 1, 0.3), ellipse(0, 0.66, 1, 0.3)),
        "buttons-square": lambda: (box(-1, -1, 1, -0.46), box(-1, -0.27, 1, 0.27), box(-1, 0.46, 1, 1)),
        "blades-wide": lambda: around(4, lambda t: paddle(t, 0.34), 0.06),
        "blades-pointed": lambda: around(4, lambda t: spike(t, 0.62, 0.26), 0.09),
        "spout-curved": lambda: (ribbon([(1, 0.75), (0.2, 0.6), (-0.1, 0), (-0.35, -0.6), (-0.9, -0.8)], 0.75, 0.36),),
        "spout-straight": lambda: (polygon((1, 0), (1, 0.95), (-1, -0.55), (-0.75, -1)),),
        "lid-round": lambda: (ellipse(0, -0.72, 0.22, 0.28), polygon(*arc((0, 1), (1, 1.5), 0.5, 1.0))),
        "lid-flat": lambda: (box(-0.2, -1, 0.2, 0), polygon((-1, 1), (-0.9, 0), (0.9, 0), (1, 1))),
        "scoops": lambda: (ellipse(-0.48, 0.4, 0.54, 0.6), ellipse(0.48, 0.4, 0.54, 0.6), ellipse(0, -0.4, 0.56, 0.6)),
        "layers": lambda: (box(-1, 0.0, 1, 1), box(-0.74, -1, 0.74, 0.05)),
        "drip": lambda: (drip(5),),
        "zigzag": lambda: (polygon((-1, -1), (1, -1), (1, 0.2), (0.6, 1), (0.2, 0), (-0.2, 1), (-0.6, 0), (-1, 0.9)),),
        "candles": lambda: tuple(box(x - 0.17, -1, x + 0.17, 1) for x in (-0.8, 0.0, 0.8)),
        "candles-pointed": lambda: tuple(polygon((x - 0.24, 1), (x, -1), (x + 0.24, 1)) for x in (-0.75, 0.0, 0.75)),
    }


def _vehicle_shapes() -> dict[str, Callable[[], Shape]]:
    return {
        "wheel-spoked": lambda: (
            ring(0.66),
            *(
                ribbon([(-cos(pi * k / 3), -sin(pi * k / 3)), (cos(pi * k / 3), sin(pi * k / 3))], 0.2, 0.2)
                for k in range(3)
            ),
        ),
        "wheel-round": lambda: (ellipse(), ellipse(0, 0, 0.3, 0.3)),
        "frame-thin": lambda: _bike_frame(0.16),
        "frame-thick": lambda: _bike_frame(0.3),
        "bar-curved": lambda: (ribbon([(0.9, 1), (0.5, -0.5), (-0.3, -0.8), (-0.8, -0.4), (-0.6, 0.3)], 0.5, 0.5),),
        "bar-straight": lambda: (
            polygon((0.5, 1), (0.2, -0.4), (-1, -0.4), (-1, -1), (1, -1), (1, -0.4), (0.8, -0.4), (1, 1)),
        ),
        "sail": lambda: (polygon((-0.95, 1), (-0.05, -1), (-0.05, 1)), polygon((0.08, 1), (0.08, -0.9), (1, 1))),
        "plane-wing": lambda: (polygon((-1, -1), (-0.1, -1), (1, 1), (0.35, 1)),),
        "flames-pointed": lambda: (
            polygon((-1, -1), (1, -1), (0.85, 0.4), (0.5, -0.1), (0, 1), (-0.5, -0.1), (-0.85, 0.4)),
        ),
        "flames-round": lambda: (
            ellipse(-0.5, -0.3, 0.45, 0.65),
            ellipse(0.5, -0.3, 0.45, 0.65),
            ellipse(0, 0, 0.5, 1),
        ),
        "cabin-round": lambda: (polygon(*arc((0, 1), (1, 2), 0.5, 1.0)),),
        "cabin-square": lambda: (polygon((-1, 1), (-0.86, -1), (0.86, -1), (1, 1)),),
        "fuselage": lambda: (
            polygon(
                (-1, 0.15), (-0.8, -0.55), (-0.45, -0.9), (0.5, -0.75), (1, -0.55), (1, 0.0), (0.4, 0.8), (-0.6, 1)
            ),
        ),
        "rocket": lambda: (
            polygon((-0.62, -1), (0.62, -1), (1, -0.2), (0.95, 0.5), (0.7, 1), (-0.7, 1), (-0.95, 0.5), (-1, -0.2)),
        ),
    }


_SHAPES: Final = _table()


def shape_names() -> tuple[str, ...]:
    """Every shape a table may name."""
    return tuple(_SHAPES)


@cache
def shape(name: str) -> Shape:
    """The named shape as a tuple of float64 (points, 2) polygons in the unit box."""
    return _SHAPES[name]()

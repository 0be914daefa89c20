"""Backgrounds: a place with uneven colour, lines and blobs, and a few nameless distractor objects."""

from dataclasses import dataclass
from math import cos, pi, sin
from random import Random
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from clipmk.world.conditions import Conditions
from clipmk.world.tables import places

GRID: Final = 16  # coarse colours along each side
GRAIN: Final = 64  # cells of fine noise along each side


@dataclass(frozen=True, slots=True)
class Mark:
    """A painted polygon or line, in fractions of the image's side."""

    points: npt.NDArray[np.float64]
    paint: tuple[float, float, float]
    width: float = 0.0
    """Line width as a fraction of the image's side; 0 fills the polygon."""


@dataclass(frozen=True, slots=True)
class Background:
    """A background with all its random choices made."""

    ground: npt.NDArray[np.float32]
    """Coarse colours, float32 (16, 16, 3), 0..255."""
    marks: tuple[Mark, ...]
    grain: npt.NDArray[np.float32]
    """Fine noise on the whole image, float32 (64, 64, 3)."""


def draw_background(rng: Random, grain: np.random.Generator, conditions: Conditions) -> Background:
    """Draw the place, its unevenness, its clutter and its distractors."""
    place, colours = tuple(places().items())[int(rng.random() * len(places()))]
    top, bottom = (np.array(colour, dtype=np.float32) for colour in colours)
    horizon = 0.45 + 0.3 * rng.random()
    sharp = 12.0 if place in ("grass", "room", "field") else 1.6
    down = np.clip(0.5 + sharp * (np.linspace(0, 1, GRID, dtype=np.float32) - horizon), 0, 1)[:, None, None]
    brightness = np.float32(0.82 + 0.28 * rng.random())
    ground = (top + (bottom - top) * down) * brightness + 9 * grain.standard_normal((GRID, GRID, 1), dtype=np.float32)
    ground = ground + 5 * grain.standard_normal((GRID, GRID, 3), dtype=np.float32)
    blobs, shapes = conditions.clutter, conditions.distractors
    marks = [_clutter(rng, place, ground, conditions) for _ in range(int(blobs.low) + int(blobs.span * rng.random()))]
    few = shapes.span * rng.random() ** 1.4
    marks += [_distractor(rng, conditions) for _ in range(int(shapes.low) + int(few))]
    fine = np.float32(conditions.grain) * grain.standard_normal((GRAIN, GRAIN, 1), dtype=np.float32)
    return Background(np.clip(ground, 0, 255), tuple(marks), np.repeat(fine, 3, axis=2))


def _clutter(rng: Random, place: str, ground: npt.NDArray[np.float32], conditions: Conditions) -> Mark:
    """A blob, blade or ripple in a colour near that of its surroundings."""
    x, y, length = rng.random(), rng.random(), 0.04 + 0.22 * rng.random()
    near = ground[int(y * GRID), int(x * GRID)]
    change = conditions.clutter_change * (rng.random() - 0.5)
    paint = (float(near[0]) + change, float(near[1]) + change, float(near[2]) + change)
    if place in ("grass", "field"):
        lean = 0.1 * (rng.random() - 0.5)
        return Mark(np.array([(x, y), (x + lean, y - length)]), paint, 0.012)
    if place in ("water", "room"):
        return Mark(np.array([(x - length, y), (x + length, y + 0.02 * rng.random())]), paint, 0.016)
    radius = 0.015 if place == "night" else 0.5 * length
    return Mark(_blob(x, y, radius, radius * (0.4 + 0.6 * rng.random()), 10), paint)


def _blob(x: float, y: float, rx: float, ry: float, corners: int, turn: float = 0.0) -> npt.NDArray[np.float64]:
    """Regular polygon stretched to the radii, float64 (corners, 2)."""
    angles = [turn + 2 * pi * k / corners for k in range(corners)]
    return np.array([(x + rx * cos(a), y + ry * sin(a)) for a in angles])


def _distractor(rng: Random, conditions: Conditions) -> Mark:
    """A small shape near the border, in any colour."""
    angle, far = 2 * pi * rng.random(), conditions.distractor_distance.draw(rng)
    radius = conditions.distractor_radius.draw(rng)
    corners = (3, 4, 5, 14)[int(4 * rng.random())]
    x, y = 0.5 + far * cos(angle), 0.5 + far * sin(angle)
    points = _blob(x, y, radius, radius * (0.6 + 0.4 * rng.random()), corners, rng.random())
    return Mark(points, (255 * rng.random(), 255 * rng.random(), 255 * rng.random()))


def paint_background(background: Background, side: int) -> npt.NDArray[np.uint8]:
    """The background alone, uint8 (side, side, 3)."""
    canvas = cv2.resize(background.ground.astype(np.uint8), (side, side), interpolation=cv2.INTER_LINEAR)
    for mark in background.marks:
        points = [np.rint(mark.points * (16 * side)).astype(np.int32)]
        if mark.width:
            cv2.polylines(canvas, points, False, mark.paint, max(1, round(mark.width * side)), cv2.LINE_8, 4)
        else:
            cv2.fillPoly(canvas, points, mark.paint, cv2.LINE_8, 4)
    return np.asarray(canvas, dtype=np.uint8)

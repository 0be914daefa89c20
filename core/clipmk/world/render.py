"""From a plan to pixels: outlines, textures, light, background, and the mask of every part.

Painting goes through one label image at twice the size: its low five bits say which part a pixel shows, two more
whether it belongs to the painted texture or to the outline of the part. Colours and light come from tables over the
labels, masks from counting labels. All random choices come before the size: a scene is the same at any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import cos, pi, radians, sin
from random import Random
from typing import Final, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from clipmk.world.background import Background, Mark, draw_background, paint_background
from clipmk.world.conditions import Conditions
from clipmk.world.sampling import Camera, PlacedPart, Plan
from clipmk.world.shapes import shape
from clipmk.world.tables import Box, Look, Outline, colours, grammar

SUPERSAMPLE: Final = 2
REFERENCE_SIZE: Final = 64
"""Side in pixels of the image in which a part must have `VISIBLE_PIXELS` to count as visible."""
VISIBLE_PIXELS: Final = 12
MIDDLE_GRAY: Final = 128.0  # low contrast moves all colours towards this value, sRGB
PART_BITS: Final = 0x1F
TEXTURE_BIT: Final = 0x20
OUTLINE_BIT: Final = 0x40
FRACTION_BITS: Final = 4  # fixed-point bits of polygon coordinates handed to OpenCV

Labels: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Appearance:
    """Random details of one part: its exact paint and how the light falls on it."""

    paint: tuple[float, float, float]
    """sRGB 0..255."""
    light: tuple[float, float, float]
    """Gain = light[0] * x + light[1] * y + light[2], x and y in -1..1 over the image."""
    texture: tuple[float, float, float]
    """Turn in radians, and offset along both axes in periods."""
    size: tuple[float, float]
    """Width and height relative to the table's."""
    offset: tuple[float, float]
    """Displacement in object coordinates."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """An exposure drawn from its `ExposureRanges`."""

    blur: float
    contrast: float
    light: tuple[float, float, float]
    """Gain = light[0] * x + light[1] * y + light[2], x and y in -1..1 over the image."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A plan with all random choices made; renders to the same scene at any size."""

    plan: Plan
    appearances: tuple[Appearance, ...]
    background: Background
    occluders: tuple[Mark, ...]
    relief: npt.NDArray[np.float32]
    """Unevenness of the paint, float32 (16, 16), mean 0."""
    exposure: Exposure | None
    """What the camera does to the picture; None: nothing."""
    left_out: int | None = None
    """Index of a placed part that is not painted; whatever it hides is seen."""

    def with_look(self, index: int, look: Look) -> Drawing:
        """The same drawing, one placed part in another look: its shade differs from the new colour as it did before."""
        placed, appearances = list(self.plan.placed), list(self.appearances)
        paint = np.add(appearances[index].paint, colours()[look.colour]) - colours()[placed[index].look.colour]
        appearances[index] = replace(appearances[index], paint=tuple(paint.tolist()))
        placed[index] = replace(placed[index], look=look)
        return replace(self, plan=replace(self.plan, placed=tuple(placed)), appearances=tuple(appearances))


def draw(plan: Plan, rng: Random, grain: np.random.Generator, conditions: Conditions) -> Drawing:
    """Make every random choice of the scene."""
    sun, strength, brightness = 2 * pi * rng.random(), conditions.sun.draw(rng), conditions.brightness.draw(rng)
    sun_x, sun_y = strength * cos(sun), strength * sin(sun)
    appearances = tuple(_appearance(rng, placed, sun_x, sun_y, brightness) for placed in plan.placed)
    background = draw_background(rng, grain, conditions)
    occluders = tuple(_occluder(rng, plan.camera, conditions) for covers in conditions.occluders if covers.draw(rng))
    relief = grain.standard_normal((16, 16), dtype=np.float32)
    exposure = None
    if (bad := conditions.exposure) is not None:
        turn, fall, gain = 2 * pi * rng.random(), bad.fall.draw(rng), bad.gain.draw(rng)
        light = (gain * fall * cos(turn), gain * fall * sin(turn), gain)
        exposure = Exposure(bad.blur.draw(rng), bad.contrast.draw(rng), light)
    return Drawing(plan, appearances, background, occluders, relief, exposure)


def _appearance(rng: Random, placed: PlacedPart, sun_x: float, sun_y: float, brightness: float) -> Appearance:
    """Random details of one part under this light."""

    def around(span: float) -> float:
        return span * (rng.random() - 0.5)

    r, g, b = colours()[placed.look.colour]
    tint = around(18)
    paint = (r + tint + around(14), g + tint + around(14), b + tint + around(14))
    light = (sun_x + around(0.16), sun_y + around(0.16), brightness + around(0.08))
    upright = 0.0 if rng.random() < 0.5 else pi / 2
    texture = (upright + around(0.5), rng.random(), rng.random())
    size = (0.92 + 0.16 * rng.random(), 0.92 + 0.16 * rng.random())
    offset = (around(0.02), around(0.02))
    return Appearance(paint, light, texture, size, offset)


def _occluder(rng: Random, camera: Camera, conditions: Conditions) -> Mark:
    """A small irregular patch over the object."""
    middle_x, middle_y = (0.5 + conditions.occluders_follow * along for along in camera.shift)
    x, y = middle_x + 0.5 * (rng.random() - 0.5), middle_y + 0.5 * (rng.random() - 0.5)
    radius = conditions.occluder_radius.draw(rng)
    rim = [(2 * pi * k / 7, radius * (0.7 + 0.6 * rng.random())) for k in range(7)]
    points = np.array([(x + r * cos(t), y + r * sin(t)) for t, r in rim])
    return Mark(points, (255 * rng.random(), 255 * rng.random(), 255 * rng.random()))


def part_labels(drawing: Drawing, size: int) -> Labels:
    """Part index + 1 at each pixel and 0 elsewhere, uint8 (size, size), without painting the scene."""
    return _downsample(_paint_labels(drawing, SUPERSAMPLE * size), len(drawing.plan.placed), size)


def render(drawing: Drawing, size: int) -> tuple[npt.NDArray[np.uint8], Labels]:
    """Paint the scene: its image, sRGB, uint8 (size, size, 3), and its labels (see `part_labels`)."""
    side = SUPERSAMPLE * size
    labels = _paint_labels(drawing, side)
    ground = paint_background(drawing.background, side)
    table = _palette(drawing)
    painted = cv2.merge([cv2.LUT(labels, table[:, channel]) for channel in range(3)])
    light = _light(drawing, labels, side)
    painted = cv2.multiply(painted, cv2.merge([light, light, light]), dtype=cv2.CV_8U)
    cv2.copyTo(painted, labels, ground)
    image = cv2.resize(ground, (size, size), interpolation=cv2.INTER_AREA)
    if drawing.exposure is not None:
        image = _expose(image, drawing.exposure)
    grain = cv2.resize(drawing.background.grain, (size, size), interpolation=cv2.INTER_LINEAR)
    image = np.asarray(cv2.add(image, grain, dtype=cv2.CV_8U), dtype=np.uint8)
    return image, _downsample(labels, len(drawing.plan.placed), size)


def _expose(image: npt.NDArray[np.uint8], exposure: Exposure) -> npt.NDArray[np.uint8]:
    """gain(x, y) * (gray + contrast * (blurred - gray)), clipped, uint8 (size, size, 3)."""
    size = image.shape[0]
    blurred = cv2.GaussianBlur(image.astype(np.float32), (0, 0), exposure.blur * size / REFERENCE_SIZE)
    x, y = _ramp(size)
    gain = exposure.light[0] * x + exposure.light[1] * y + exposure.light[2]
    exposed = gain[..., None] * (MIDDLE_GRAY + exposure.contrast * (blurred - MIDDLE_GRAY))
    return np.asarray(np.clip(np.rint(exposed), 0, 255), dtype=np.uint8)


@cache
def _ramp(side: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Image coordinates -1..1 as a row (1, side) and a column (side, 1)."""
    line = np.linspace(-1, 1, side, dtype=np.float32)
    return line[None, :], line[:, None]


def _light(drawing: Drawing, labels: Labels, side: int) -> npt.NDArray[np.float32]:
    """Gain of the paint at each pixel, float32 (side, side)."""
    slopes = np.zeros((3, 256), dtype=np.float32)
    slopes[2] = 1.0
    for k, appearance in enumerate(drawing.appearances):
        for bits in (0, TEXTURE_BIT, OUTLINE_BIT, TEXTURE_BIT | OUTLINE_BIT):
            slopes[:, k + 1 | bits] = appearance.light
    x, y = _ramp(side)
    relief = cv2.resize(drawing.relief, (side, side), interpolation=cv2.INTER_LINEAR)
    light = cv2.LUT(labels, slopes[2])
    light += cv2.LUT(labels, slopes[0]) * x
    light += cv2.LUT(labels, slopes[1]) * y
    light += 0.05 * relief
    return np.asarray(np.clip(light, 0.76, 1.16, out=light), dtype=np.float32)


def _palette(drawing: Drawing) -> npt.NDArray[np.float32]:
    """Paint of every label, float32 (256, 3)."""
    table = np.zeros((256, 3), dtype=np.float32)
    for k, (placed, appearance) in enumerate(zip(drawing.plan.placed, drawing.appearances, strict=True), start=1):
        paint = np.array(appearance.paint, dtype=np.float32)
        contrast = np.array((40, 38, 42) if placed.look.colour in ("white", "yellow", "pink") else (242, 240, 236))
        table[k] = paint
        table[k | TEXTURE_BIT] = contrast
        table[k | OUTLINE_BIT] = 0.45 * paint if placed.look.colour != "black" else 80.0
    for k, occluder in enumerate(drawing.occluders, start=len(drawing.appearances) + 1):
        table[k] = occluder.paint
    return table


def _view(camera: Camera, target: Sequence[Box] | None) -> npt.NDArray[np.float64]:
    """Affine map from object coordinates to fractions of the image's side, float64 (2, 3)."""
    c, s = cos(radians(camera.degrees)), sin(radians(camera.degrees))
    wide, high = camera.scale * camera.stretch * (-1 if camera.flip else 1), camera.scale / camera.stretch
    linear = np.array([[c * wide, -s * high], [s * wide, c * high]])
    shift = np.array(camera.shift)
    if target is not None:
        middle = np.array([sum(box.x for box in target), sum(box.y for box in target)]) / len(target)
        shift = shift - linear @ middle
    return np.column_stack([linear, 0.5 + shift])


def _placement(box: Box, outline: Outline, role: str, appearance: Appearance) -> npt.NDArray[np.float64]:
    """Affine map from the unit box of a shape to object coordinates, float64 (2, 3)."""
    width = box.width * outline.width * appearance.size[0] / 2 * (-1 if box.mirrored else 1)
    height = box.height * outline.height * appearance.size[1] / 2
    grown = box.height / 2 - height
    y = box.y + (grown if role == "top" else -grown if role == "bottom" else 0.0)
    turn = radians(-box.angle if box.mirrored else box.angle)
    c, s = cos(turn), sin(turn)
    x = box.x + appearance.offset[0]
    return np.array([[c * width, -s * height, x], [s * width, c * height, y + appearance.offset[1]]])


def _paint_labels(drawing: Drawing, side: int) -> Labels:
    """Label of each pixel, uint8 (side, side)."""
    labels: Labels = np.zeros((side, side), dtype=np.uint8)
    plan = drawing.plan
    target = None if plan.camera.target is None else plan.placed[plan.camera.target].boxes
    view = _view(plan.camera, target)
    pixels = side * (1 << FRACTION_BITS)
    thickness = max(1, round(side / 110))
    for k, (placed, appearance) in enumerate(zip(plan.placed, drawing.appearances, strict=True), start=1):
        if k - 1 == drawing.left_out:
            continue
        outline = grammar()[placed.part.noun].outlines[placed.look.modifier]
        if placed.part.shape and placed.look.is_texture:  # the class has an outline of its own for textured looks
            outline = Outline(placed.part.shape)
        for box in placed.boxes:
            inner = _placement(box, outline, placed.part.role, appearance)
            linear = view[:, :2] @ inner[:, :2] * pixels
            offset = (view[:, :2] @ inner[:, 2] + view[:, 2]) * pixels - (1 << FRACTION_BITS) / 2
            for piece in shape(outline.shape):
                points = [np.rint(piece @ linear.T + offset).astype(np.int32)]
                cv2.fillPoly(labels, points, k, cv2.LINE_8, FRACTION_BITS)
                cv2.polylines(labels, points, True, k | OUTLINE_BIT, thickness, cv2.LINE_8, FRACTION_BITS)
        if placed.look.texture != "plain":
            _paint_texture(labels, k, placed, appearance, view, side)
    for k, occluder in enumerate(drawing.occluders, start=len(plan.placed) + 1):
        points = [np.rint(occluder.points * pixels).astype(np.int32)]
        cv2.fillPoly(labels, points, k, cv2.LINE_8, FRACTION_BITS)
    return labels


def _paint_texture(
    labels: Labels, k: int, placed: PlacedPart, appearance: Appearance, view: npt.NDArray[np.float64], side: int
) -> None:
    """Mark stripes, spots or checks inside part `k`, in place."""
    corners = np.array(
        [
            (box.x + sx * 0.62 * abs(box.width), box.y + sy * 0.62 * box.height)
            for box in placed.boxes
            for sx in (-1, 1)
            for sy in (-1, 1)
        ]
    )
    seen = (corners @ view[:, :2].T + view[:, 2]) * side
    x0, y0 = np.clip(seen.min(axis=0).astype(int), 0, side)
    x1, y1 = np.clip(seen.max(axis=0).astype(int) + 2, 0, side)
    region = labels[y0:y1, x0:x1]
    if region.size == 0:
        return
    turn, u_offset, v_offset = appearance.texture
    spin = np.array([[cos(turn), sin(turn)], [-sin(turn), cos(turn)]])
    back = spin @ np.linalg.inv(view[:, :2]) / _period(placed)
    x = ((np.arange(x0, x1) + 0.5) / side - view[0, 2]).astype(np.float32)[None, :]
    y = ((np.arange(y0, y1) + 0.5) / side - view[1, 2]).astype(np.float32)[:, None]
    u = np.float32(back[0, 0]) * x + (np.float32(back[0, 1]) * y + np.float32(u_offset))
    if placed.look.texture == "striped":
        marks = u - np.floor(u) < 0.42
    else:
        v = np.float32(back[1, 0]) * x + (np.float32(back[1, 1]) * y + np.float32(v_offset))
        if placed.look.texture == "checkered":  # two squares a period
            marks = (np.floor(2 * u) + np.floor(2 * v)) % 2 == 0
        else:  # round spots in rows, every other row displaced by half a period
            line = np.floor(v)
            shifted = u + np.float32(0.5) * (line % 2)
            marks = (shifted - np.floor(shifted) - 0.5) ** 2 + (v - line - 0.5) ** 2 < 0.095
    region[marks & (region == k)] = k | TEXTURE_BIT


def _period(placed: PlacedPart) -> float:
    """Period of the texture in object coordinates: coarse on large parts, and never too fine for 64 pixels."""
    box = placed.boxes[0]
    across = min(abs(box.width), box.height)
    coarse = {"striped": (0.10, 0.15), "spotted": (0.115, 0.16), "checkered": (0.15, 0.22)}[placed.look.texture]
    return min(max(0.42 * across, coarse[0]), coarse[1])


def _downsample(labels: Labels, count: int, size: int) -> Labels:
    """Part with the largest share of each pixel that shows mostly object, uint8 (size, size)."""
    part = labels & PART_BITS
    shares = np.empty((count, size, size), dtype=np.uint8)
    for k in range(count):
        shares[k] = cv2.resize(cv2.compare(part, k + 1, cv2.CMP_EQ), (size, size), interpolation=cv2.INTER_AREA)
    hidden = cv2.resize(cv2.compare(part, count, cv2.CMP_GT), (size, size), interpolation=cv2.INTER_AREA)
    bare = cv2.resize(cv2.compare(part, 0, cv2.CMP_EQ), (size, size), interpolation=cv2.INTER_AREA)
    inside = cv2.add(hidden, bare) < 128
    return np.where(inside, shares.argmax(axis=0) + 1, 0).astype(np.uint8)

"""Draws pictures and parts as arrays: for half-blocks two pixels in every cell, else as many as the terminal has.

Needs numpy: imported with the first picture.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from clipmk.images.masks import rle_sample
from clipmk.output.palette import colour_of
from clipmk_tui.show.half_blocks import ink_on, shrunk

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, UInt8

    from clipmk.images.decoder import Picture
    from clipmk.records import Part

    Pixels = UInt8[np.ndarray, "height width 3"]

Mode = Literal["plain", "parts", "concept"]
"""The picture alone; all parts tinted; the lit parts only. Where parts are lit, the rest is dimmed."""

Depth = Literal["16", "256", "true"]  # how many colours a terminal has

_Rgb = tuple[int, int, int]

Numbers = Mapping[tuple[int, int], tuple[int | str, _Rgb]]
"""(row, column) of a cell -> the number of a part, or the sign of a map, and the colour it stands on."""

_TINT, _LIT = (0.45, 0.8), (0.4, 0.7)
"""(opacity, light) of the colour of a part and of a lit one; light: how much of the picture's light and dark stays."""

_VIVID_TINT, _VIVID_LIT = (0.9, 0.6), (0.85, 0.5)
"""The same where there are only sixteen colours: paler tints would become grey."""

_UNLIT_OPACITY = 0.3  # of the colour of a part while others are lit
_LIFT = 40  # by how much black becomes lighter in a lit part, of 255
_DIMMED: dict[Mode, float] = {"parts": 0.5, "concept": 0.28}  # brightness of what is not lit
_GREYED = 0.6  # how far it loses its colours
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # share of red, green, blue in brightness (Rec. 601)
_ROOM = 4  # a part of fewer pixels has no room for its number, unless it is lit
_BLUR = 1 / 12  # reach of the blur on left-out regions, as a share of the picture's shorter side


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A painted picture."""

    cells: Pixels
    """uint8 RGB (2 * rows, columns, 3), six bits a channel: twice as fast to write, and nobody sees it."""
    numbers: Numbers

    def changes(self, before: Frame | None) -> dict[int, tuple[int, int]]:
        """Row -> (first, past the last) column of the cells that differ; all of them, if the other has another size."""
        height, columns = self.cells.shape[0] // 2, self.cells.shape[1]
        if before is None or before.cells.shape != self.cells.shape:
            return dict.fromkeys(range(height), (0, columns))
        differ = (self.cells != before.cells).any(axis=2).reshape(height, 2, columns).any(axis=1)
        for (row, column), (part, _) in (*self.numbers.items(), *before.numbers.items()):
            if self.numbers.get((row, column)) != before.numbers.get((row, column)):
                differ[row, column : column + len(str(part))] = True
        spans = ((int(row), np.flatnonzero(differ[row])) for row in np.flatnonzero(differ.any(axis=1)))
        return {row: (int(found[0]), int(found[-1]) + 1) for row, found in spans}


class Canvas:
    """One picture at one size in pixels, float32 RGB (height, width, 3) in [0, 255]; computed once."""

    def __init__(self, picture: Picture, *, width: int, height: int) -> None:
        self.picture, self.size = picture, (width, height)

    @cached_property
    def plain(self) -> Float[np.ndarray, "height width 3"]:
        """The picture without anything on it."""
        width, height = self.size
        return shrunk(self.picture.image, width=width, height=height).astype(np.float32)

    @cached_property
    def blurred(self) -> Float[np.ndarray, "height width 3"]:
        """The same, blurred: the mean over `2 reach + 1` neighbours down, then across; the border is repeated."""
        cells, reach = self.plain, max(2, round(min(self.plain.shape[:2]) * _BLUR))
        span = 2 * reach + 1
        for _ in ("down", "across"):
            padded = np.pad(cells, ((reach + 1, reach), (0, 0), (0, 0)), mode="edge")
            sums = np.cumsum(padded, axis=0, dtype=np.float64)
            cells = ((sums[span:] - sums[:-span]) / span).astype(np.float32).swapaxes(0, 1)
        return cells


class Shapes:
    """The parts of an explanation at one size of the picture in pixels; computed once."""

    def __init__(self, parts: Sequence[Part], *, width: int, height: int) -> None:
        self.parts, self.size = tuple(parts), (width, height)

    @cached_property
    def masks(self) -> Mapping[int, Bool[np.ndarray, "height width"]]:
        """Part id -> bool (height, width), never empty."""
        return {part.id: self._mask(part) for part in self.parts}

    def part_at(self, row: int, column: int) -> int | None:
        """The part that a cell of half-blocks shows: the smallest one there, or the one whose number it is."""
        numbered = {(y, x + digit): part for part, (y, x) in self.places.items() for digit in range(len(str(part)))}
        found = [part for part, mask in self.masks.items() if mask[2 * row : 2 * row + 2, column].any()]
        smallest = min(found, key=lambda part: int(np.count_nonzero(self.masks[part])), default=None)
        return numbered.get((row, column), smallest)

    @cached_property
    def places(self) -> Mapping[int, tuple[int, int]]:
        """Part id -> (row, column) of the cell of half-blocks where its number begins: where the part is deepest."""
        taken: set[tuple[int, int]] = set()
        places: dict[int, tuple[int, int]] = {}
        for part, mask in self.masks.items():
            digits = len(str(part))
            for y, column in _deepest_first(mask):
                row, start = y // 2, max(0, min(column, self.size[0] - digits))
                cells = {(row, start + offset) for offset in range(digits)}
                if not cells & taken:  # two numbers never share a cell while there is room
                    break
            taken |= cells
            places[part] = (row, start)
        return places

    def _mask(self, part: Part) -> Bool[np.ndarray, "height width"]:
        (height, width), (across, down) = part.mask.size, self.size
        mask = rle_sample(part.mask, _centres(across, width), _centres(down, height))
        if not mask.any():  # smaller than a pixel
            left, top, right, bottom = part.bbox_xyxy
            row = min(down - 1, (top + bottom) * down // (2 * height))
            mask[row, min(across - 1, (left + right) * across // (2 * width))] = True
        return mask


def painted(
    canvas: Canvas, shapes: Shapes, mode: Mode, *, lit: Collection[int], blurred: Collection[int], depth: Depth = "true"
) -> Frame:
    """The picture as half-blocks, with its parts in a mode and their numbers.

    Both are of one size; `lit` and `blurred` are ids of parts. Blurred regions are not tinted, whatever the mode.
    """
    exact = painted_pixels(canvas, shapes, mode, lit=lit, blurred=blurred, vivid=depth == "16")
    shown = any(part in lit for part in shapes.masks)
    numbers: dict[tuple[int, int], tuple[int | str, _Rgb]] = {}
    for part, mask in () if mode == "plain" else shapes.masks.items():
        red, green, blue = colour_of(part)
        if part in lit:
            numbers[shapes.places[part]] = part, (red, green, blue)
        elif mode == "parts" and np.count_nonzero(mask) >= _ROOM * len(str(part)):
            numbers[shapes.places[part]] = part, (red // 2, green // 2, blue // 2) if shown else (red, green, blue)
    return framed(exact, numbers, depth)


def framed(exact: Pixels, numbers: Numbers, depth: Depth) -> Frame:
    """Pixels in the colours that the terminal has, and what stands on them."""
    if depth == "256":
        red, green, blue = (exact >> 3).transpose(2, 0, 1)
        return Frame(cells=_nearest_of_256()[red, green, blue], numbers=numbers)
    return Frame(cells=(exact & 0xFC) | (exact >> 6), numbers=numbers)


def painted_pixels(
    canvas: Canvas, shapes: Shapes, mode: Mode, *, lit: Collection[int], blurred: Collection[int], vivid: bool = False
) -> Pixels:
    """The picture with its parts, as `painted`, without numbers: uint8 RGB (height, width, 3); vivid for 16 colours."""
    masks, plain = shapes.masks, canvas.plain.copy()
    for part in masks:
        if part in blurred:
            plain[masks[part]] = canvas.blurred[masks[part]]
    shown = [] if mode == "plain" else [part for part in masks if part in lit]
    dimmed = bool(shown) and not vivid  # sixteen colours have no shades
    cells = greyed(plain) * _DIMMED[mode] if dimmed else plain.copy()
    for part, mask in masks.items() if mode == "parts" or shown else ():
        pixels, colour, tinted = plain[mask], colour_of(part), part not in blurred
        if part in shown:
            lifted = pixels + _LIFT * (1 - pixels / 255)
            cells[mask] = _tinted(lifted, colour, *(_VIVID_LIT if vivid else _LIT)) if tinted else pixels
        elif mode == "parts" and dimmed:
            cells[mask] = (_tinted(pixels, colour, _UNLIT_OPACITY, 1.0) if tinted else pixels) * _DIMMED[mode]
        elif mode == "parts" and tinted and not shown:
            cells[mask] = _tinted(pixels, colour, *(_VIVID_TINT if vivid else _TINT))
    return cells.clip(0, 255).astype(np.uint8)


def numbered(pixels: Pixels, numbers: Numbers, *, cell: tuple[int, int]) -> Pixels:
    """Pixels with the numbers of a `Frame` on them, where a cell has that many pixels across and down."""
    from PIL import Image, ImageDraw, ImageFont  # noqa: PLC0415 - where a terminal draws pixels

    image, (width, height) = Image.fromarray(pixels, mode="RGB"), cell
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(max(8, 3 * height // 4))
    for (row, column), (part, colour) in numbers.items():
        text, left, top = str(part), column * width, row * height
        right, bottom = left + len(text) * width, top + height
        draw.rectangle((left, top, right - 1, bottom - 1), fill=colour)
        draw.text(((left + right) / 2, (top + bottom) / 2), text, fill=ink_on(colour), font=font, anchor="mm")
    return np.asarray(image)


def greyed(pixels: Float[np.ndarray, "height width 3"]) -> Float[np.ndarray, "height width 3"]:
    """Pixels that have lost some of their colours."""
    return (1 - _GREYED) * pixels + _GREYED * (pixels @ _LUMA)[..., None]


def _tinted(
    pixels: Float[np.ndarray, "pixels 3"], colour: _Rgb, opacity: float, light: float
) -> Float[np.ndarray, "pixels 3"]:
    """Pixels in a colour that keeps a share of their own light and dark, so that what they show stays visible."""
    own, ground = np.array(colour, dtype=np.float32), pixels @ _LUMA
    shaded = (own + light * (ground - own @ _LUMA)[:, None]).clip(0, 255)
    return (1 - opacity) * pixels + opacity * shaded


@cache
def _nearest_of_256() -> UInt8[np.ndarray, "32 32 32 3"]:
    """(red, green, blue), five bits each -> the nearest of a terminal's 256 colours, without the sixteen of its theme.

    Rich's own rule turns dark browns into reds and greens.
    """
    levels, greys = np.array([0, 95, 135, 175, 215, 255]), np.arange(8, 248, 10)
    cube = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    known = np.concatenate([cube, greys[:, None].repeat(3, axis=1)]).astype(np.float32)
    steps = np.arange(4, 256, 8)
    pixels = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    weighted = known * _LUMA  # |pixel - known|^2 without |pixel|^2, which is the same for all
    distance = (weighted * known).sum(axis=1) - 2 * pixels.astype(np.float32) @ weighted.T
    table: UInt8[np.ndarray, "32 32 32 3"] = known.astype(np.uint8)[distance.argmin(axis=1)].reshape(32, 32, 32, 3)
    return table


def _centres(count: int, length: int) -> Int[np.ndarray, " count"]:
    """Pixels at the centres of `count` equal stretches of `length` pixels."""
    return ((2 * np.arange(count) + 1) * length) // (2 * count)


def _deepest_first(mask: Bool[np.ndarray, "height width"]) -> list[tuple[int, int]]:
    """(y, x) of a mask's pixels: those that survive most erosions first, of these the nearest to their middle."""
    depth = np.zeros(mask.shape, dtype=np.int64)
    layer = mask
    while layer.any():
        depth += layer
        padded = np.pad(layer, 1)  # nothing comes in over the border
        layer = layer & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    ys, xs = np.nonzero(mask)
    core_y, core_x = (float(axis.mean()) for axis in np.nonzero(depth == depth.max()))
    order = np.lexsort((np.hypot(ys - core_y, xs - core_x), -depth[ys, xs]))
    return [(int(ys[place]), int(xs[place])) for place in order]

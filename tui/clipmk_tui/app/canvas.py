"""Draws pictures and parts as small arrays, one pixel per half cell. Needs numpy: imported with the first picture."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from clipmk.images.masks import rle_sample
from clipmk.output.palette import colour_of
from clipmk_tui.show.half_blocks import ink_on, shrunk

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, UInt8

    from clipmk.images.decoder import Picture
    from clipmk.records import Part

Mode = Literal["plain", "parts", "concept"]
"""The picture alone; all parts in colour; the lit parts in colour and the rest dimmed."""

_ALPHA = 0.55
_STRONG = 0.8
"""Opacity of a part, and of a lit one among others."""

_DIMMED = 0.3
"""Brightness of what is not lit, in mode "concept"."""

_BLUR = 1 / 12
"""Reach of the blur on left-out regions, as a share of the picture's shorter side."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A painted picture."""

    cells: UInt8[np.ndarray, "pixel_rows columns 3"]
    """uint8 RGB (2 * rows, columns, 3), six bits a channel: twice as fast to write, and nobody sees it."""
    numbers: Mapping[tuple[int, int], int]
    """(row, column) of a cell -> id of the part whose number is there."""

    def changes(self, before: Frame | None) -> dict[int, tuple[int, int]]:
        """Row -> (first, past the last) column of the cells that differ from another frame of the same size.

        All cells differ from a frame of another size, and from None.
        """
        height, columns = self.cells.shape[0] // 2, self.cells.shape[1]
        if before is None or before.cells.shape != self.cells.shape:
            return dict.fromkeys(range(height), (0, columns))
        differ = (self.cells != before.cells).any(axis=2).reshape(height, 2, columns).any(axis=1)
        for (row, column), part in (*self.numbers.items(), *before.numbers.items()):
            if self.numbers.get((row, column)) != before.numbers.get((row, column)):
                differ[row, column : column + len(str(part))] = True
        spans = ((int(row), np.flatnonzero(differ[row])) for row in np.flatnonzero(differ.any(axis=1)))
        return {row: (int(found[0]), int(found[-1]) + 1) for row, found in spans}


class Canvas:
    """One picture at one size, float32 RGB (2 * rows, columns, 3) in [0, 255]; computed once.

    Args:
        picture: the picture.
        columns: cells across.
        rows: cells down.
    """

    def __init__(self, picture: Picture, *, columns: int, rows: int) -> None:
        self.picture, self.columns, self.rows = picture, columns, rows

    @property
    def is_warm(self) -> bool:
        """Whether everything is computed."""
        return "blurred" in vars(self)

    @cached_property
    def plain(self) -> Float[np.ndarray, "pixel_rows columns 3"]:
        """The picture without anything on it."""
        return shrunk(self.picture.image, columns=self.columns, rows=self.rows).astype(np.float32)

    @cached_property
    def blurred(self) -> Float[np.ndarray, "pixel_rows columns 3"]:
        """The same, blurred."""
        reach = max(2, round(min(self.plain.shape[:2]) * _BLUR))
        return _box_blurred(_box_blurred(self.plain, reach, axis=0), reach, axis=1)


class Shapes:
    """The parts of an explanation at one size of the picture; computed once.

    Args:
        parts: the parts.
        columns: cells across.
        rows: cells down.
    """

    def __init__(self, parts: Sequence[Part], *, columns: int, rows: int) -> None:
        self.parts, self.columns, self.rows = tuple(parts), columns, rows

    @property
    def is_warm(self) -> bool:
        """Whether everything is computed."""
        return "places" in vars(self)

    @cached_property
    def masks(self) -> Mapping[int, Bool[np.ndarray, "pixel_rows columns"]]:
        """Part id -> bool (2 * rows, columns), never empty."""
        return {part.id: self._mask(part) for part in self.parts}

    @cached_property
    def places(self) -> Mapping[int, tuple[int, int]]:
        """Part id -> (row, column) of the cell where its number begins: where the part is deepest."""
        return _places(self.masks, self.columns)

    def _mask(self, part: Part) -> Bool[np.ndarray, "pixel_rows columns"]:
        height, width = part.mask.size
        mask = rle_sample(part.mask, _centres(self.columns, width), _centres(2 * self.rows, height))
        if not mask.any():  # smaller than a cell
            left, top, right, bottom = part.bbox_xyxy
            row = min(2 * self.rows - 1, (top + bottom) * self.rows // height)
            mask[row, min(self.columns - 1, (left + right) * self.columns // (2 * width))] = True
        return mask


def painted(canvas: Canvas, shapes: Shapes, mode: Mode, *, lit: Collection[int], blurred: Collection[int]) -> Frame:
    """The picture with its parts in a mode.

    Args:
        canvas: the picture.
        shapes: its parts, at the canvas's size.
        mode: which parts are shown; lit parts show in every mode.
        lit: ids of parts.
        blurred: ids of parts whose regions are blurred.
    """
    masks = shapes.masks
    lit = [part for part in masks if part in lit]
    cells, soft = canvas.plain.copy(), canvas.blurred
    for part in masks:
        if part in blurred:
            cells[masks[part]] = soft[masks[part]]
    if mode == "concept" and lit:
        cells[~np.logical_or.reduce([masks[part] for part in lit])] *= _DIMMED
    shown = list(masks) if mode == "parts" else lit
    for part in shown:
        alpha, mask = _STRONG if mode == "parts" and part in lit else _ALPHA, masks[part]
        cells[mask] = (1 - alpha) * cells[mask] + alpha * np.array(colour_of(part), dtype=np.float32)
    if mode == "parts":
        for part in lit:
            ring = ~masks[part] & _neighbours(masks[part]).any(axis=0)  # thin parts have no room for a contour inside
            cells[ring] = ink_on(colour_of(part))
    exact = cells.astype(np.uint8)
    return Frame(cells=(exact & 0xFC) | (exact >> 6), numbers={shapes.places[part]: part for part in shown})


def _centres(count: int, length: int) -> Int[np.ndarray, " count"]:
    """Pixels at the centres of `count` equal stretches of `length` pixels."""
    return ((2 * np.arange(count) + 1) * length) // (2 * count)


def _neighbours(mask: Bool[np.ndarray, "pixel_rows columns"]) -> Bool[np.ndarray, "4 pixel_rows columns"]:
    """The mask moved by one pixel down, up, right, left; nothing comes in over the border."""
    padded = np.pad(mask, 1)
    return np.stack([padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])


def _places(masks: Mapping[int, Bool[np.ndarray, "pixel_rows columns"]], columns: int) -> dict[int, tuple[int, int]]:
    """A cell for every part's number; two numbers never share one while there is room."""
    taken: set[tuple[int, int]] = set()
    places: dict[int, tuple[int, int]] = {}
    for part, mask in masks.items():
        digits = len(str(part))
        for y, column in _deepest_first(mask):
            row, start = y // 2, max(0, min(column, columns - digits))
            cells = {(row, start + offset) for offset in range(digits)}
            if not cells & taken:
                break
        taken |= cells
        places[part] = (row, start)
    return places


def _deepest_first(mask: Bool[np.ndarray, "pixel_rows columns"]) -> list[tuple[int, int]]:
    """(y, x) of a mask's pixels: those that survive most erosions first, of these the nearest to their middle."""
    depth = np.zeros(mask.shape, dtype=np.int64)
    layer = mask
    while layer.any():
        depth += layer
        layer = layer & _neighbours(layer).all(axis=0)
    ys, xs = np.nonzero(mask)
    core_y, core_x = (float(axis.mean()) for axis in np.nonzero(depth == depth.max()))
    order = np.lexsort((np.hypot(ys - core_y, xs - core_x), -depth[ys, xs]))
    return [(int(ys[place]), int(xs[place])) for place in order]


def _box_blurred(cells: Float[np.ndarray, "pixel_rows columns 3"], reach: int, *, axis: int) -> np.ndarray:
    """Mean over the `2 reach + 1` neighbours along an axis; the border is repeated."""
    widths = [(0, 0)] * cells.ndim
    widths[axis] = (reach + 1, reach)
    sums = np.cumsum(np.pad(cells, widths, mode="edge"), axis=axis, dtype=np.float64)
    span, length = 2 * reach + 1, cells.shape[axis]
    upper = np.take(sums, np.arange(span, span + length), axis=axis)
    lower = np.take(sums, np.arange(length), axis=axis)
    return ((upper - lower) / span).astype(np.float32)

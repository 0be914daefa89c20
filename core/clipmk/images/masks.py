"""Masks and relevance maps in the original image's pixels as records hold them; masks by COCO's run-length encoding.

The encoding equals that of pycocotools. A mask is read column by column; `counts` are the lengths of its runs, zeros
first. From the fourth on, each is written as the difference from the one two before. Numbers are written in groups of
five bits, lowest first, as the character 48 + group, with 32 added to every group but the last; the highest bit of the
last group is the sign.
"""

from __future__ import annotations

import base64
import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipmk.records import RelevanceMap, Rle

if TYPE_CHECKING:
    from jaxtyping import Bool

    from clipmk.images.square import Square

_LONGEST = 12  # characters of a number at most: 60 bits
_LIMITS = 16 << 5 * np.arange(_LONGEST, dtype=np.int64)
"""The first number that does not fit into 1, 2, ... characters."""


class PixelMask(NamedTuple):
    """A mask in the original image's pixels."""

    rle: Rle
    area: float
    """Share of the image, in [0, 1]."""
    bbox_xyxy: tuple[int, int, int, int]
    """Right and bottom exclusive; all 0 where the mask is empty."""


def rle_encode(mask: NDArray[np.bool_]) -> Rle:
    """Encode a mask, bool (height, width)."""
    flat = mask.ravel(order="F").astype(bool, copy=False)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    return _rle(_runs_between(changes, flat.size, first=bool(flat.size and flat[0])), mask.shape)


def _runs_between(changes: NDArray[np.integer], size: int, *, first: bool) -> NDArray[np.int64]:
    """Lengths of the runs of a mask of `size` pixels, zeros first, from the places (by column) where it changes."""
    borders = np.concatenate([[0] * (1 + first), changes, [size]])
    return np.diff(borders).astype(np.int64)


def _rle(runs: NDArray[np.int64], size: tuple[int, ...]) -> Rle:
    """Encode runs that fill a mask of (height, width)."""
    steps = runs.copy()
    steps[3:] -= runs[1:-2]
    return Rle(size=(size[0], size[1]), counts=_encoded(steps))


def rle_decode(rle: Rle) -> NDArray[np.bool_]:
    """Decode a mask, bool (height, width); ValueError if the runs do not fill it exactly."""
    runs = _runs(rle)
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(rle.size, order="F")


def rle_sample(rle: Rle, xs: NDArray[np.integer], ys: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Look a mask up at every (y, x), bool (len(ys), len(xs)), without decoding all of it; ValueError outside it."""
    height, width = rle.size
    for positions, limit in ((xs, width), (ys, height)):
        if positions.size and not 0 <= int(positions.min()) <= int(positions.max()) < limit:
            raise ValueError(f"a position lies outside a mask of {height} x {width} px")
    ends = np.cumsum(_runs(rle))
    places = xs[None, :].astype(np.int64) * height + ys[:, None]
    inside: NDArray[np.bool_] = np.searchsorted(ends, places, side="right") % 2 == 1
    return inside


def mask_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """Left, top, right and bottom of a mask's pixels, right and bottom exclusive; None where it holds none."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def pixel_masks(masks_square: Bool[np.ndarray, "masks side side"], square: Square) -> list[PixelMask]:
    """Masks on a square of any side in the original's pixels, exactly as `Square.to_pixels` maps them, without mapping.

    Rows and columns repeat on the way to the original. So where a mask changes there follows from where it changes on
    the square, and the cost grows with the original's width, not with its area.
    """
    square, size = replace(square, side=masks_square.shape[1]), (square.height, square.width)
    rows, columns = (_Bands.of(shown, side=square.side) for shown in square.shown)
    found, shown = [], masks_square
    if not all(np.array_equal(bands.shown, np.arange(square.side)) for bands in (rows, columns)):
        framed = np.pad(masks_square, ((0, 0), (1, 1), (1, 1)))
        shown = framed.take(rows.shown + 1, axis=1).take(columns.shown + 1, axis=2)
    for cells in shown:
        runs = _runs_between(_changes(cells, rows, columns), math.prod(size), first=bool(cells[0, 0]))
        area, box = int(runs[1::2].sum()) / math.prod(size), mask_box(cells) or (0, 0, 0, 0)
        (left, right), (top, bottom) = columns.edges[[*box[::2]]].tolist(), rows.edges[[*box[1::2]]].tolist()
        found.append(PixelMask(_rle(runs, size), area, (left, top, right, bottom)))
    return found


def heat_encode(values: NDArray[np.floating], geometry: Square) -> RelevanceMap:
    """Record a map over the square input, (rows, columns), relevance in [0, 1]; exact to scale / 510."""
    scale = float(values.max())
    whole = np.rint(255 * values / scale) if scale > 0 else np.zeros_like(values)
    left, top, right, bottom = (round(edge) for edge in geometry.box)
    return RelevanceMap(
        size=(values.shape[0], values.shape[1]),
        bbox_xyxy=(max(left, 0), max(top, 0), min(right, geometry.width), min(bottom, geometry.height)),
        scale=scale,
        values=base64.b64encode(whole.astype(np.uint8).tobytes()).decode("ascii"),
    )


def heat_grid(heat: RelevanceMap) -> NDArray[np.float32]:
    """The relevance of each cell, float32 (rows, columns), in [0, 1]; ValueError if the values do not fill the grid."""
    whole = np.frombuffer(base64.b64decode(heat.values, validate=True), dtype=np.uint8).reshape(heat.size)
    return (whole * np.float32(heat.scale / 255)).astype(np.float32)


def heat_pixels(heat: RelevanceMap, *, width: int, height: int) -> NDArray[np.float32]:
    """The relevance of each pixel of the original image, float32 (height, width); 0 where the model does not look."""
    import cv2  # noqa: PLC0415 - not for what only draws cells

    left, top, right, bottom = heat.bbox_xyxy
    pixels = np.zeros((height, width), dtype=np.float32)
    pixels[top:bottom, left:right] = cv2.resize(heat_grid(heat), (right - left, bottom - top))
    return pixels


def _runs(rle: Rle) -> NDArray[np.int64]:
    """Lengths of the mask's runs, zeros first; ValueError if they do not fill the mask exactly."""
    height, width = rle.size
    runs = _decoded(rle.counts)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    if runs.min(initial=0) < 0 or runs.sum() != height * width:
        raise ValueError(f"runs of {runs.sum()} px do not fill a mask of {height} x {width} px")
    return runs


def _encoded(numbers: NDArray[np.int64]) -> str:
    """Write signed numbers as characters."""
    sizes = np.where(numbers < 0, ~numbers, numbers)  # what must fit beside the sign
    lengths = 1 + np.searchsorted(_LIMITS, sizes, side="right")
    ends = np.cumsum(lengths)
    places = np.arange(lengths.sum()) - np.repeat(ends - lengths, lengths)
    characters = 48 + ((np.repeat(numbers, lengths) >> 5 * places) & 0x1F | 0x20)
    characters[ends - 1] -= 0x20
    return bytes(characters.astype(np.uint8)).decode("ascii")


def _decoded(text: str) -> NDArray[np.int64]:
    """Read all numbers of a string that `_encoded` wrote."""
    for character in text:
        if not 0 <= ord(character) - 48 < 64:
            raise ValueError(f"{character!r} is not a character of a compressed mask")
    groups = np.frombuffer(text.encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    last = np.flatnonzero(groups < 0x20)
    if groups.size and (not last.size or last[-1] != groups.size - 1):
        raise ValueError("the compressed mask ends in the middle of a number")
    lengths = np.diff(last, prepend=-1)
    if lengths.max(initial=0) > _LONGEST:
        raise ValueError("the compressed mask holds a number larger than any image")
    shifts = 5 * (np.arange(groups.size) - np.repeat(last - lengths + 1, lengths))
    numbers = np.add.reduceat((groups & 0x1F) << shifts, last - lengths + 1) if last.size else groups
    negative = groups[last] & 0x10 != 0
    return numbers - np.where(negative, np.int64(1) << (5 * lengths), 0)


class _Bands(NamedTuple):
    """One axis of an image in runs of pixels that show the same row (or column) of the square."""

    shown: NDArray[np.int64]
    """For each band the row of the square; -1 or `side` outside the square."""
    edges: NDArray[np.int64]
    """First pixel of each band, and the one after the last."""

    @classmethod
    def of(cls, rows: NDArray[np.int64], *, side: int) -> _Bands:
        """The bands of `Square.shown`."""
        known = np.clip(rows, -1, side)
        edges = np.append(np.flatnonzero(np.diff(known, prepend=-2)), len(rows))
        return cls(known[edges[:-1]], edges)


def _changes(cells: NDArray[np.bool_], rows: _Bands, columns: _Bands) -> NDArray[np.int64]:
    """Positions, column by column, of pixels that differ from the one before, the foot of the last column included."""
    height, widths = int(rows.edges[-1]), np.diff(columns.edges)
    band, column = np.divmod(np.flatnonzero(cells[1:] != cells[:-1]), len(widths))  # faster than np.nonzero
    repeats = widths[column]
    inside = np.repeat(columns.edges[column] - np.cumsum(repeats) + repeats, repeats) + np.arange(repeats.sum())
    head, foot = np.repeat(cells[0], widths), np.repeat(cells[-1], widths)
    tops = 1 + np.flatnonzero(head[1:] != foot[:-1])
    return np.sort(np.concatenate([inside * height + np.repeat(rows.edges[band + 1], repeats), tops * height]))

"""Run-length encoded masks in the compressed string format of COCO, exact with pycocotools.

A mask is read column by column; `counts` are the lengths of its runs, zeros first. From the fourth on, each is written
as the difference from the one two before. Numbers are written in groups of five bits, lowest first, as the character
48 + group, with 32 added to every group but the last; the highest bit of the last group is the sign.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from clipmk.records import Rle

_LONGEST = 12
"""Characters of a number at most: 60 bits."""
_LIMITS = 16 << 5 * np.arange(_LONGEST, dtype=np.int64)
"""The first number that does not fit into 1, 2, ... characters."""


def rle_encode(mask: npt.NDArray[np.bool_]) -> Rle:
    """Encode a mask, bool (height, width)."""
    flat = mask.ravel(order="F").astype(bool, copy=False)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    return rle_of_changes(changes, size=mask.shape, first=bool(flat.size and flat[0]))


def rle_of_changes(changes: npt.NDArray[np.integer], *, size: tuple[int, ...], first: bool) -> Rle:
    """Encode a mask of which is known where it changes.

    Args:
        changes: positions, column by column, whose value differs from the one before; int, rising, above 0.
        size: (height, width).
        first: the value of the first pixel.
    """
    height, width = size
    borders = np.concatenate([[0], changes, [height * width]]).astype(np.int64)
    runs = np.diff(borders, prepend=0) if first else np.diff(borders)
    steps = runs.copy()
    steps[3:] -= runs[1:-2]
    return Rle(size=(height, width), counts=_written(steps))


def rle_decode(rle: Rle) -> npt.NDArray[np.bool_]:
    """Decode a mask, bool (height, width).

    Raises:
        ValueError: the runs do not fill the mask exactly.
    """
    runs = _runs(rle)
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(rle.size, order="F")


def rle_sample(rle: Rle, xs: npt.NDArray[np.integer], ys: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """Look a mask up on a grid of pixels without decoding all of it.

    Args:
        rle: the mask.
        xs: columns, whole pixels in [0, width).
        ys: rows, whole pixels in [0, height).

    Returns:
        bool (len(ys), len(xs)): the mask at every (y, x).

    Raises:
        ValueError: the runs do not fill the mask exactly, or a position lies outside it.
    """
    height, width = rle.size
    for positions, limit in ((xs, width), (ys, height)):
        if positions.size and not 0 <= int(positions.min()) <= int(positions.max()) < limit:
            raise ValueError(f"a position lies outside a mask of {height} x {width} px")
    ends = np.cumsum(_runs(rle))
    places = xs[None, :].astype(np.int64) * height + ys[:, None]
    inside: npt.NDArray[np.bool_] = np.searchsorted(ends, places, side="right") % 2 == 1
    return inside


def _runs(rle: Rle) -> npt.NDArray[np.int64]:
    """Lengths of the mask's runs, zeros first; they fill it exactly.

    Raises:
        ValueError: they do not.
    """
    height, width = rle.size
    runs = _read(rle.counts)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    if runs.min(initial=0) < 0 or runs.sum() != height * width:
        raise ValueError(f"runs of {runs.sum()} px do not fill a mask of {height} x {width} px")
    return runs


def _written(numbers: npt.NDArray[np.int64]) -> str:
    """Signed numbers as characters."""
    sizes = np.where(numbers < 0, ~numbers, numbers)  # what must fit beside the sign
    lengths = 1 + np.searchsorted(_LIMITS, sizes, side="right")
    ends = np.cumsum(lengths)
    places = np.arange(lengths.sum()) - np.repeat(ends - lengths, lengths)
    characters = 48 + ((np.repeat(numbers, lengths) >> 5 * places) & 0x1F | 0x20)
    characters[ends - 1] -= 0x20
    return bytes(characters.astype(np.uint8)).decode("ascii")


def _read(text: str) -> npt.NDArray[np.int64]:
    """All numbers of a string written by `_written`."""
    for character in text:
        if not 0 <= ord(character) - 48 < 64:
            raise ValueError(f"{character!r} is no character of a compressed mask")
    groups = np.frombuffer(text.encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    last = np.flatnonzero(groups < 0x20)
    if groups.size and (not last.size or last[-1] != groups.size - 1):
        raise ValueError("the compressed mask ends in the middle of a number")
    lengths = np.diff(last, prepend=-1)
    if lengths.max(initial=0) > _LONGEST:
        raise ValueError("the compressed mask holds a number beyond any picture")
    shifts = 5 * (np.arange(groups.size) - np.repeat(last - lengths + 1, lengths))
    numbers = np.add.reduceat((groups & 0x1F) << shifts, last - lengths + 1) if last.size else groups
    negative = groups[last] & 0x10 != 0
    return numbers - np.where(negative, np.int64(1) << (5 * lengths), 0)

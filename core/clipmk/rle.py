"""Run-length encoded masks in the compressed string format of COCO, exact with pycocotools.

A mask is read column by column; `counts` are the lengths of its runs, zeros first. From the fourth on, each is written
as the difference from the one two before. Numbers are written in groups of five bits, lowest first, as the character
48 + group, with 32 added to every group but the last; the highest bit of the last group is the sign.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from clipmk.records import Rle


def rle_encode(mask: npt.NDArray[np.bool_]) -> Rle:
    """Encode a mask, bool (height, width)."""
    height, width = mask.shape
    flat = mask.ravel(order="F").astype(bool)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    borders = [0, *changes.tolist(), flat.size]
    runs = [stop - start for start, stop in pairwise(borders)]
    if flat.size and flat[0]:
        runs.insert(0, 0)
    steps = (run - (runs[k - 2] if k > 2 else 0) for k, run in enumerate(runs))
    return Rle(size=(height, width), counts="".join(_written(step) for step in steps))


def rle_decode(rle: Rle) -> npt.NDArray[np.bool_]:
    """Decode a mask, bool (height, width).

    Raises:
        ValueError: the runs do not fill the mask exactly.
    """
    height, width = rle.size
    runs: list[int] = []
    for step in _read(rle.counts):
        runs.append(step + (runs[-2] if len(runs) > 2 else 0))
    if min(runs, default=0) < 0 or sum(runs) != height * width:
        raise ValueError(f"runs of {sum(runs)} px do not fill a mask of {height} x {width} px")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape((height, width), order="F")


def _written(number: int) -> str:
    """One signed number as characters."""
    text = ""
    while True:
        group, number = number & 0x1F, number >> 5
        if number == (-1 if group & 0x10 else 0):
            return text + chr(48 + group)
        text += chr(48 + (group | 0x20))


def _read(text: str) -> list[int]:
    """All numbers of a string written by `_written`."""
    numbers: list[int] = []
    number = shift = 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64:
            raise ValueError(f"{character!r} is no character of a compressed mask")
        number |= (group & 0x1F) << shift
        shift += 5
        if not group & 0x20:
            numbers.append(number - (1 << shift) if group & 0x10 else number)
            number = shift = 0
    if shift:
        raise ValueError("the compressed mask ends in the middle of a number")
    return numbers

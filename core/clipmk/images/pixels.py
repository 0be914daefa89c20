"""Masks on the square input as the record tells them of the original picture, without making them there.

A mask is made larger by repeating its rows and columns. So where it changes in the picture's pixels follows from where
it changes on the square, and what that costs grows with the picture's width, not with its area.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipmk.images.masks import rle_of_changes

if TYPE_CHECKING:
    from jaxtyping import Bool

    from clipmk.images.square import Square
    from clipmk.records import Rle


class PixelMask(NamedTuple):
    """A mask in the original picture's pixels."""

    rle: Rle
    area: float
    """Share of the picture, in [0, 1]."""
    bbox_xyxy: tuple[int, int, int, int]
    """Right and bottom exclusive; all 0 where the mask is empty."""


class Bands(NamedTuple):
    """How one axis of a picture shows the square: runs of pixels that show the same row (or column) of it."""

    shown: NDArray[np.int64]
    """Of each band, the row of the square; -1 or `side` where the square does not reach."""
    starts: NDArray[np.int64]
    """First pixel of each band."""
    lengths: NDArray[np.int64]
    """Pixels."""

    @classmethod
    def of(cls, rows: NDArray[np.int64], *, side: int) -> Bands:
        """The bands of `Square.shown`."""
        known = np.clip(rows, -1, side)
        starts = np.flatnonzero(np.diff(known, prepend=-2))
        return cls(known[starts], starts, np.diff(starts, append=len(rows)))


def pixel_mask(mask_square: Bool[np.ndarray, "side side"], square: Square) -> PixelMask:
    """What `Square.to_pixels` makes of a mask: encoded, with its area and its box, all exact.

    Args:
        mask_square: bool (side, side).
        square: how the picture is shown.
    """
    rows, columns = (Bands.of(shown, side=square.side) for shown in square.shown)
    cells = np.pad(mask_square, 1)[np.ix_(rows.shown + 1, columns.shown + 1)]
    count = int(rows.lengths @ cells @ columns.lengths)
    (left, right), (top, bottom) = _extent(cells, 0, columns), _extent(cells, 1, rows)
    rle = rle_of_changes(_changes(cells, rows, columns), size=(square.height, square.width), first=bool(cells[0, 0]))
    return PixelMask(rle, count / (square.height * square.width), (left, top, right, bottom))


def _changes(cells: NDArray[np.bool_], rows: Bands, columns: Bands) -> NDArray[np.int64]:
    """Pixels, column by column, that differ from the one before: inside a column, or from the foot of the last one."""
    height = int(rows.lengths.sum())
    of_band = np.zeros(cells.T.shape, dtype=bool)
    of_band[:, 1:] = (cells[1:] != cells[:-1]).T
    changed = np.repeat(of_band, columns.lengths, axis=0)
    head, foot = np.repeat(cells[0], columns.lengths), np.repeat(cells[-1], columns.lengths)
    changed[1:, 0] = head[1:] != foot[:-1]
    column, band = np.nonzero(changed)
    return np.asarray(column * height + rows.starts[band])


def _extent(cells: NDArray[np.bool_], axis: int, bands: Bands) -> tuple[int, int]:
    """First pixel and the one after the last, along the axis that is not summed up."""
    found = np.flatnonzero(cells.any(axis=axis))
    if not len(found):
        return 0, 0
    return int(bands.starts[found[0]]), int(bands.starts[found[-1]] + bands.lengths[found[-1]])

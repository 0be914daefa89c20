"""The square input of a model, and the way back to the original image's pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import numpy as np
from PIL import Image

from clipmk.errors import InputError, UsageError, suggest
from clipmk.settings import Resize

if TYPE_CHECKING:
    from jaxtyping import Bool, Int, UInt8

STRIP_PIXELS = 2**25
"""Images that would be larger than this after resizing are cropped while they are resized: the same to one grey level,
and an image of 100,000 x 1 px does not need gigabytes on the way."""


@dataclass(frozen=True, slots=True)
class Square:
    """How a square input of `side` px maps to an image of `width` x `height` px.

    `squash` resizes the whole image to the square. `crop` resizes its shorter side to `side` and keeps the centre, to
    the pixel like torchvision's Resize and CenterCrop in open_clip's own transform. All mappings are exact in integers.
    """

    width: int
    height: int
    side: int
    resize: Resize

    def __post_init__(self) -> None:
        if self.resize not in get_args(Resize):
            raise UsageError(f"resize {self.resize!r} does not exist; {suggest(self.resize, get_args(Resize))}")
        if min(self.width, self.height, self.side) < 1:
            raise InputError(f"an image of {self.width}x{self.height} px has no square of {self.side} px")

    @property
    def resized(self) -> tuple[int, int]:
        """(width, height) of the whole image at the square's scale, pixels."""
        if self.resize == "squash":
            return self.side, self.side
        longer = int(self.side * max(self.width, self.height) / min(self.width, self.height))
        return (self.side, longer) if self.width <= self.height else (longer, self.side)

    @property
    def corner(self) -> tuple[int, int]:
        """(left, top) of the square in the resized image, pixels; halves round to even, as in torchvision."""
        width, height = self.resized
        return round((width - self.side) / 2), round((height - self.side) / 2)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """(x0, y0, x1, y1): the region of the original that the square shows, in original pixels."""
        (width, height), (left, top) = self.resized, self.corner
        across, down = self.width / width, self.height / height
        return left * across, top * down, (left + self.side) * across, (top + self.side) * down

    @property
    def shown(self) -> tuple[Int[np.ndarray, " height"], Int[np.ndarray, " width"]]:
        """For each row and each column of the original, that of the square; outside [0, side) it is not shown."""
        (width, height), (left, top) = self.resized, self.corner
        return _nearest(self.height, height) - top, _nearest(self.width, width) - left

    def to_pixels(self, mask_square: Bool[np.ndarray, "side side"]) -> Bool[np.ndarray, "height width"]:
        """A mask on the square, bool (side, side), on the original, bool (height, width).

        Each original pixel takes the square's pixel that its centre falls on (nearest); outside a crop it is False.
        """
        _require_mask(mask_square, (self.side, self.side))
        inside = [np.flatnonzero((along >= 0) & (along < self.side)) for along in self.shown]
        mask_pixels = np.zeros((self.height, self.width), dtype=bool)
        places = [along[kept] for along, kept in zip(self.shown, inside, strict=True)]
        mask_pixels[np.ix_(*inside)] = mask_square[np.ix_(*places)]
        return mask_pixels

    def to_square(self, mask_pixels: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "side side"]:
        """A mask on the original, bool (height, width), on the square, bool (side, side), nearest.

        A mask so small that it falls between the square's pixels marks every pixel that shows some of it; the result is
        empty only if the square does not show the mask at all.
        """
        _require_mask(mask_pixels, (self.height, self.width))
        (width, height), (left, top) = self.resized, self.corner
        rows = _nearest(height, self.height)[top : top + self.side]
        columns = _nearest(width, self.width)[left : left + self.side]
        result: Bool[np.ndarray, "side side"] = mask_pixels[np.ix_(rows, columns)]
        if not result.any():
            rows, columns = (shown[place] for shown, place in zip(self.shown, np.nonzero(mask_pixels), strict=True))
            inside = (rows >= 0) & (rows < self.side) & (columns >= 0) & (columns < self.side)
            result[rows[inside], columns[inside]] = True
        return result


def square_image(
    image: Image.Image, square: Square, *, interpolation: str = "bicubic"
) -> UInt8[np.ndarray, "side side 3"]:
    """Resample an RGB image to the square, by one of Pillow's interpolations: uint8 RGB (side, side, 3)."""
    method, side = Image.Resampling[interpolation.upper()], square.side
    if math.prod(square.resized) > max(STRIP_PIXELS, side * side):
        return np.array(image.resize((side, side), method, box=square.box))
    left, top = square.corner
    return np.array(image.resize(square.resized, method).crop((left, top, left + side, top + side)))


def _nearest(count: int, among: int) -> Int[np.ndarray, " count"]:
    """For each of `count` pixels the index among `among` at its centre: floor((i + 1/2) * among / count), exact."""
    return (2 * np.arange(count, dtype=np.int64) + 1) * among // (2 * count)


def _require_mask(mask: np.ndarray, shape: tuple[int, int]) -> None:
    if mask.shape != shape or mask.dtype != np.bool_:
        raise InputError(f"mask is {mask.dtype} {mask.shape}; bool {shape} is needed")

"""Masks told in pixels without being made there, against the masks themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from clipmk.images.masks import rle_decode, rle_encode
from clipmk.images.pixels import pixel_mask
from clipmk.images.square import Square
from clipmk.settings import Resize


def box(mask: NDArray[np.bool_]) -> tuple[int, ...]:
    """The smallest box around all true pixels, right and bottom exclusive."""
    ys, xs = np.nonzero(mask)
    return (min(xs), min(ys), max(xs) + 1, max(ys) + 1) if len(ys) else (0, 0, 0, 0)


@settings(max_examples=150)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 12),
    st.sampled_from(["squash", "crop"]),
    st.floats(0, 1),
    st.integers(0, 2**32 - 1),
)
def test_a_mask_is_told_as_its_pixels_are(
    width: int, height: int, side: int, resize: Resize, share: float, seed: int
) -> None:
    square = Square(width, height, side, resize)
    mask = np.random.default_rng(seed).random((side, side)) < share
    pixels = square.to_pixels(mask)
    found = pixel_mask(mask, square)
    assert found.rle == rle_encode(pixels)
    np.testing.assert_array_equal(rle_decode(found.rle), pixels)
    assert found.area == pixels.mean()
    assert found.bbox_xyxy == box(pixels)


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_empty_and_full_masks_are_told_too(full: bool, resize: Resize) -> None:
    square = Square(50, 20, 8, resize)
    mask = np.full((8, 8), full)
    found = pixel_mask(mask, square)
    assert found.area == (0 if not full else 1 if resize == "squash" else 0.4)
    assert found.bbox_xyxy == box(square.to_pixels(mask))

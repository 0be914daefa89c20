"""The way from the picture to the model's square and back: as open_clip crops it, and where masks lie."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from open_clip.transform import image_transform

import clipmk.images.square
from clipmk.errors import InputError, UsageError
from clipmk.images.decoder import read_picture
from clipmk.images.square import Square, square_image
from pictures import noise

SIZES = st.integers(1, 40)


def shown(image: Any, *, side: int, resize: Any, interpolation: str = "bicubic") -> NDArray[np.uint8]:
    picture = read_picture(image)
    square = Square(picture.info.width, picture.info.height, side, resize)
    return square_image(picture.image, square, interpolation=interpolation)


@pytest.mark.parametrize(
    "size", [(64, 48), (48, 64), (63, 41), (37, 53), (31, 97), (224, 224), (5, 3), (225, 224), (3, 100)]
)
@pytest.mark.parametrize("side", [32, 37])
@pytest.mark.parametrize("resize", ["squash", "crop"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_squares_equal_open_clips_own_transform_to_the_pixel(
    size: tuple[int, int], side: int, resize: str, interpolation: str
) -> None:
    mode = "shortest" if resize == "crop" else "squash"
    transform = image_transform(
        side, is_train=False, mean=(0, 0, 0), std=(1, 1, 1), resize_mode=mode, interpolation=interpolation
    )
    expected = (transform(noise(*size)) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    square = shown(noise(*size), side=side, resize=resize, interpolation=interpolation)
    np.testing.assert_array_equal(square, expected)


@pytest.mark.parametrize("size", [(3000, 20), (20, 3001)])
def test_a_very_long_strip_is_cropped_on_the_way_with_the_same_pixels(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    transform = image_transform(16, is_train=False, mean=(0, 0, 0), std=(1, 1, 1))
    expected = (transform(noise(*size)) * 255).round().permute(1, 2, 0).numpy()
    monkeypatch.setattr(clipmk.images.square, "STRIP_PIXELS", 1000)
    square = shown(noise(*size), side=16, resize="crop")
    np.testing.assert_allclose(square.astype(float), expected, atol=1)
    monkeypatch.undo()
    assert shown(np.zeros((1, 300_000), np.uint8), side=224, resize="crop").shape == (224, 224, 3)


@pytest.mark.parametrize(("resize", "expected"), [("squash", (0, 0, 80, 40)), ("crop", (20, 0, 60, 40))])
def test_the_box_is_the_region_of_the_original(resize: str, expected: tuple[float, ...]) -> None:
    assert Square(80, 40, 20, resize).box == expected


@given(width=SIZES, height=SIZES, side=SIZES, resize=st.sampled_from(["squash", "crop"]), seed=st.integers(0, 9))
def test_masks_follow_the_pixels_that_their_centres_fall_on(
    width: int, height: int, side: int, resize: str, seed: int
) -> None:
    square = Square(width, height, side, resize)
    (across, down), (left, top) = square.resized, square.corner
    draw = np.random.default_rng(seed)
    mask_pixels, mask_square = draw.random((height, width)) < 0.5, draw.random((side, side)) < 0.5
    to_square, to_pixels = square.to_square(mask_pixels), square.to_pixels(mask_square)
    nearest = np.zeros_like(to_square)
    for row in range(side):
        for column in range(side):
            y = (row + top + Fraction(1, 2)) * height / down
            x = (column + left + Fraction(1, 2)) * width / across
            nearest[row, column] = mask_pixels[int(y), int(x)]
    if nearest.any():
        np.testing.assert_array_equal(to_square, nearest)
    for row in range(height):
        for column in range(width):
            y = (row + Fraction(1, 2)) * down / height - top
            x = (column + Fraction(1, 2)) * across / width - left
            inside = 0 <= y < side and 0 <= x < side
            assert to_pixels[row, column] == (inside and mask_square[int(y), int(x)])


@given(width=SIZES, height=SIZES, side=SIZES, seed=st.integers(0, 9))
def test_squashed_masks_survive_the_way_through_the_finer_grid(width: int, height: int, side: int, seed: int) -> None:
    square, draw = Square(width, height, side, "squash"), np.random.default_rng(seed)
    if side >= max(width, height):
        mask_pixels = draw.random((height, width)) < 0.5
        np.testing.assert_array_equal(square.to_pixels(square.to_square(mask_pixels)), mask_pixels)
    if side <= min(width, height):
        mask_square = draw.random((side, side)) < 0.5
        np.testing.assert_array_equal(square.to_square(square.to_pixels(mask_square)), mask_square)


@given(width=SIZES, height=SIZES, side=SIZES)
def test_a_crop_covers_exactly_the_pixels_with_their_centre_in_its_box(width: int, height: int, side: int) -> None:
    square = Square(width, height, side, "crop")
    x0, y0, x1, y1 = square.box
    covered = square.to_pixels(np.ones((side, side), bool))
    for y, x in np.ndindex(height, width):
        distance = min(x + 0.5 - x0, x1 - x - 0.5, y + 0.5 - y0, y1 - y - 0.5)
        if abs(distance) > 1e-9:
            assert covered[y, x] == (distance > 0)


@pytest.mark.parametrize("size", [(61, 47), (47, 61), (101, 100)])
@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_a_mask_on_the_square_is_where_the_picture_shows_the_object(size: tuple[int, int], resize: str) -> None:
    width, height = size
    thing = np.zeros((height, width), bool)
    thing[height // 3 : height // 2, width // 4 : width // 2] = True
    picture = read_picture((thing * 255).astype(np.uint8))
    square = Square(width, height, 32, resize)
    found = square_image(picture.image, square, interpolation="nearest")[..., 0] > 0
    mask = square.to_square(thing)
    assert (mask != found).mean() < 0.002
    assert mask.any()


def test_wrong_masks_sizes_and_kinds_of_resizing_are_refused() -> None:
    square = Square(6, 4, 3, "squash")
    with pytest.raises(InputError, match=r"bool \(3, 3\) is needed"):
        square.to_pixels(np.zeros((4, 6), bool))
    with pytest.raises(InputError, match=r"uint8 \(4, 6\); bool \(4, 6\)"):
        square.to_square(np.zeros((4, 6), np.uint8))
    with pytest.raises(InputError):
        Square(0, 4, 3, "squash")
    with pytest.raises((UsageError, TypeError), match="squash"):  # TypeError when the test run checks types itself
        Square(6, 4, 3, "squish")

"""Masks in pixels: encoded without being drawn, and looked up without being decoded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from clipmk.images.masks import mask_box, pixel_masks, rle_decode, rle_encode, rle_sample
from clipmk.images.square import Square
from clipmk.records import Rle
from clipmk.settings import Resize

coco = pytest.importorskip("pycocotools.mask")

MASKS = st.tuples(st.integers(1, 30), st.integers(1, 30)).flatmap(lambda size: arrays(np.bool_, size))


@settings(max_examples=150)
@given(MASKS, st.data())
def test_samples_are_the_decoded_masks_pixels(mask: NDArray[np.bool_], data: st.DataObject) -> None:
    height, width = mask.shape
    xs = np.array(data.draw(st.lists(st.integers(0, width - 1), max_size=8)), dtype=np.int64)
    ys = np.array(data.draw(st.lists(st.integers(0, height - 1), max_size=8)), dtype=np.int32)
    rle = rle_encode(mask)
    found = rle_sample(rle, xs, ys)
    assert found.shape == (len(ys), len(xs))
    assert found.dtype == np.bool_
    np.testing.assert_array_equal(found, rle_decode(rle)[np.ix_(ys, xs)])


@pytest.mark.parametrize("value", [False, True])
def test_a_mask_of_one_value_is_that_value_everywhere(value: bool) -> None:
    rle = rle_encode(np.full((5, 7), value))
    assert (rle_sample(rle, np.arange(7), np.arange(5)) == value).all()


def test_large_masks_are_sampled_exactly() -> None:
    mask = np.zeros((9_000, 8_000), dtype=bool)
    mask[4_000:4_003, 5:7_000] = True
    xs, ys = np.array([4, 5, 6_999, 7_000]), np.array([3_999, 4_000, 4_002, 4_003])
    np.testing.assert_array_equal(rle_sample(rle_encode(mask), xs, ys), mask[np.ix_(ys, xs)])


@pytest.mark.parametrize(("xs", "ys"), [([3], [0]), ([-1], [0]), ([0], [2]), ([0], [-1])])
def test_positions_outside_are_refused(xs: list[int], ys: list[int]) -> None:
    with pytest.raises(ValueError, match="outside a mask of 2 x 3 px"):
        rle_sample(rle_encode(np.zeros((2, 3), dtype=bool)), np.array(xs), np.array(ys))


@pytest.mark.parametrize("counts", ["", "3", "P", "!!", "\x7f", "é", "o" * 40 + "0"])
def test_broken_masks_are_refused(counts: str) -> None:
    for look in (rle_decode, lambda rle: rle_sample(rle, np.array([0]), np.array([0]))):
        with pytest.raises(ValueError, match="mask"):
            look(Rle(size=(2, 3), counts=counts))


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
def test_a_mask_is_encoded_in_pixels_as_its_pixels_are(
    width: int, height: int, side: int, resize: Resize, share: float, seed: int
) -> None:
    square = Square(width, height, side, resize)
    mask = np.random.default_rng(seed).random((side, side)) < share
    pixels = square.to_pixels(mask)
    found = pixel_masks(mask[None], square)[0]
    assert found.rle == rle_encode(pixels)
    np.testing.assert_array_equal(rle_decode(found.rle), pixels)
    assert found.area == pixels.mean()
    assert found.bbox_xyxy == box(pixels)


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_empty_and_full_masks_are_encoded_too(full: bool, resize: Resize) -> None:
    square = Square(50, 20, 8, resize)
    mask = np.full((8, 8), full)
    found = pixel_masks(mask[None], square)[0]
    assert found.area == (0 if not full else 1 if resize == "squash" else 0.4)
    assert found.bbox_xyxy == box(square.to_pixels(mask))


@settings(max_examples=150)
@given(MASKS)
def test_masks_are_encoded_as_pycocotools_encodes_them(mask: NDArray[np.bool_]) -> None:
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    ours = rle_encode(mask)
    assert ours == Rle(size=tuple(theirs["size"]), counts=theirs["counts"].decode())
    assert (rle_decode(ours) == mask).all()


def test_long_runs_are_encoded_as_pycocotools_encodes_them() -> None:
    mask = np.zeros((700, 900), dtype=bool)
    mask[5:600, 100:102] = mask[3, 700] = True
    assert rle_encode(mask).counts == coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    assert (rle_decode(rle_encode(mask)) == mask).all()


@given(st.integers(0, 2**31))
def test_box_of_a_mask_is_the_smallest_around_its_pixels(seed: int) -> None:
    mask = np.random.default_rng(seed).random((7, 5)) < 0.1
    pixels = [(x, y) for y in range(7) for x in range(5) if mask[y, x]]
    box = mask_box(mask)
    if not pixels:
        assert box is None
        return
    xs, ys = zip(*pixels, strict=True)
    assert box == (min(xs), min(ys), max(xs) + 1, max(ys) + 1)

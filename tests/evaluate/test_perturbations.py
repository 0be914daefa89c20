"""Random regions of the same shape and area."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmk.evaluate.perturbations import moved_regions


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.integers(1, 4))
def test_moved_regions_keep_shape_and_area_within_the_picture(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, 20, 20), dtype=bool)
    for mask in masks:
        top, left, height, width = rng.integers(1, 9, size=4)
        mask[top : top + height, left : left + width] = rng.random((height, width)) < 0.7
    inside = np.zeros((20, 20), dtype=bool)
    inside[2:18, 3:19] = True
    before = masks.copy()
    moved = moved_regions(masks, inside, rng=np.random.default_rng(seed))
    np.testing.assert_array_equal(masks, before)
    for old, new in zip(masks, moved, strict=True):
        assert new.sum() == old.sum()
        if old.any():
            np.testing.assert_array_equal(cropped(old), cropped(new))
    np.testing.assert_array_equal(moved, moved_regions(masks, inside, rng=np.random.default_rng(seed)))


def cropped(mask: np.ndarray) -> np.ndarray:
    ys, xs = np.nonzero(mask)
    return mask[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]


def test_moved_regions_stay_in_the_object_and_hardly_overlap() -> None:
    masks = np.zeros((4, 32, 32), dtype=bool)
    for k, mask in enumerate(masks):
        mask[0:4, 4 * k : 4 * k + 4] = True  # all of them outside the object
    inside = np.zeros((32, 32), dtype=bool)
    inside[10:30, 10:30] = True
    moved = moved_regions(masks, inside, rng=np.random.default_rng(3))
    assert (moved & inside).sum() >= 0.85 * masks.sum()
    assert moved.any(axis=0).sum() >= 0.8 * masks.sum()
    places = {tuple(np.argwhere(m)[0]) for seed in range(8) for m in moved_regions(masks, inside, rng=rng(seed))}
    assert len(places) > 16


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_region_that_fills_the_picture_stays() -> None:
    masks = np.ones((1, 5, 5), dtype=bool)
    assert moved_regions(masks, np.zeros((5, 5), dtype=bool), rng=rng(0)).all()

"""What is changed in images, features and regions, and what stays as it was."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import embedded
from clipmk.evaluate import perturbations
from clipmk.evaluate.perturbations import moved_inside, moved_regions


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


@settings(max_examples=5)
@given(st.integers(0, 1000))
def test_outliers_leave_everything_else_as_it_was(seed: int) -> None:
    encoded = embedded.explainer().encode(embedded.scenes()[0].image)
    before = encoded.patches.clone()
    damaged = perturbations.inject_outliers(encoded, seed=seed)
    changed = (damaged.patches != encoded.patches).any(-1)[0]
    assert int(changed.sum()) == perturbations.OUTLIERS
    assert torch.equal(encoded.patches, before)  # the input is not written to
    for name in ("embeddings", "grid", "attention", "state"):
        assert getattr(damaged, name) is getattr(encoded, name)
    long = damaged.patches[0, changed]
    median = encoded.patches.norm(dim=-1).median()
    torch.testing.assert_close(long.norm(dim=-1), (perturbations.OUTLIER_GAIN * median).expand(3))
    assert torch.equal(long[0], long[1])


@settings(max_examples=40)
@given(st.integers(0, 2**31), st.integers(2, 7), st.integers(2, 7))
def test_a_moved_region_is_the_same_shape_elsewhere_inside_the_object(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    inside = np.zeros((32, 32), dtype=bool)
    inside[3:27, 5:30] = True
    region = np.zeros((32, 32), dtype=bool)
    y, x = rng.integers(3, 27 - height), rng.integers(5, 30 - width)
    region[y : y + height, x : x + width] = rng.random((height, width)) < 0.8
    region[y, x] = True
    moved = moved_inside(region, inside, seed=seed)
    assert moved is not None
    assert moved.sum() == region.sum()
    assert inside[moved].mean() >= perturbations.INSIDE_LEAST
    assert (moved & region).sum() <= perturbations.OVERLAP_MOST * region.sum()
    turns = [np.rot90(side, k) for side in (region, region[:, ::-1]) for k in range(4)]
    assert any(np.array_equal(trimmed(turn), trimmed(moved)) for turn in turns)


def trimmed(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def test_places_of_a_moved_region_are_spread_over_the_object() -> None:
    inside = np.zeros((24, 24), dtype=bool)
    inside[2:22, 2:22] = True
    region = np.zeros_like(inside)
    region[3:6, 3:8] = True
    moved = np.stack([found for seed in range(150) if (found := moved_inside(region, inside, seed=seed)) is not None])
    assert len(moved) == 150
    halves = [moved[:, :12].sum(), moved[:, 12:].sum(), moved[:, :, :12].sum(), moved[:, :, 12:].sum()]
    assert min(halves) > 0.3 * max(halves)


def test_a_region_that_fills_the_object_has_no_other_place() -> None:
    inside = np.zeros((16, 16), dtype=bool)
    inside[4:12, 4:12] = True
    assert moved_inside(inside, inside, seed=0) is None
    assert moved_inside(np.zeros_like(inside), inside, seed=0) is None
    corner = np.zeros_like(inside)
    corner[:3, :3] = True
    assert moved_inside(corner, np.zeros_like(inside), seed=0) is None
    assert moved_inside(np.ones_like(inside), np.ones_like(inside), seed=0) is None


def test_a_shifted_picture_moves_right_and_down_and_repeats_its_edge() -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    found = perturbations.shifted(image, pixels=2)
    for y in range(9):
        for x in range(9):
            np.testing.assert_array_equal(found[y, x], image[max(y - 2, 0), max(x - 2, 0)])

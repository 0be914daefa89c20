"""Deletion, insertion, entropy and boxes against plain loops."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmk.evaluate import curves

BOXES = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 9), st.integers(1, 9)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


def random_masks(seed: int, count: int = 4, side: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).random((count, side, side)) < 0.3


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=1, max_size=8))
def test_parts_are_ordered_by_the_product_of_both_cosines(pairs: list[tuple[float, float]]) -> None:
    parts, descriptors = (np.asarray(column) for column in zip(*pairs, strict=True))
    found = curves.concept_order(parts, descriptors).tolist()
    assert found == sorted(range(len(pairs)), key=lambda i: (-(pairs[i][0] * pairs[i][1]), i))


def test_two_negative_cosines_make_a_high_product() -> None:
    order = curves.concept_order(np.array([0.1, -0.5, 0.2]), np.array([0.3, -0.5, -0.3]))
    assert order.tolist() == [1, 0, 2]


@given(st.integers(0, 2**31), st.integers(1, 5), st.booleans())
def test_steps_hide_the_union_so_far_or_all_but_it(seed: int, count: int, reveal: bool) -> None:
    masks = random_masks(seed, count)
    order = np.random.default_rng(seed).permutation(count)
    found = curves.hidden_regions(masks, order, reveal=reveal)
    assert found.shape == (count + 1, 6, 6)
    for step in range(count + 1):
        for y in range(6):
            for x in range(6):
                reached = any(masks[order[t], y, x] for t in range(step))
                assert found[step, y, x] == (reached != reveal)


def test_deletion_starts_untouched_and_insertion_wholly_hidden() -> None:
    masks = random_masks(0)
    assert not curves.hidden_regions(masks, [0, 1, 2, 3], reveal=False)[0].any()
    assert curves.hidden_regions(masks, [0, 1, 2, 3], reveal=True)[0].all()


def test_areas_are_the_mean_and_the_sum_of_all_points() -> None:
    curve = [0.7, 0.6, 0.4, 0.4, 0.3, 0.2]
    assert curves.area_mean(curve) == pytest.approx(2.6 / 6)
    assert curves.area_sum(curve) == pytest.approx(2.6)
    with pytest.raises(ValueError, match="at least one point"):
        curves.area_mean([])


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=5, unique=True), min_size=1, max_size=6))
def test_entropy_is_that_of_how_often_each_descriptor_is_given(picks: list[list[int]]) -> None:
    given_out = [descriptor for part in picks for descriptor in part]
    expected = 0.0
    for descriptor in set(given_out):
        share = given_out.count(descriptor) / len(given_out)
        expected -= share * math.log(share)
    assert curves.descriptor_entropy(picks) == pytest.approx(expected, abs=1e-12)
    assert curves.descriptor_entropy(picks) >= 0


@pytest.mark.parametrize(
    ("picks", "expected"),
    [
        ([["a", "b", "c"]] * 5, math.log(3)),
        ([[f"{part}{k}" for k in range(3)] for part in range(5)], math.log(15)),
        ([["a"], ["a"], ["b"], ["b"]], math.log(2)),
        ([["a"]], 0.0),
    ],
)
def test_entropy_of_known_cases(picks: Sequence[Sequence[str]], expected: float) -> None:
    assert curves.descriptor_entropy(picks) == pytest.approx(expected, abs=1e-12)


def test_entropy_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="undefined"):
        curves.descriptor_entropy([[], []])


@given(st.integers(0, 2**31))
def test_box_of_a_mask_is_the_smallest_around_its_pixels(seed: int) -> None:
    mask = np.random.default_rng(seed).random((7, 5)) < 0.1
    pixels = [(x, y) for y in range(7) for x in range(5) if mask[y, x]]
    box = curves.mask_box(mask)
    if not pixels:
        assert box is None
        return
    xs, ys = zip(*pixels, strict=True)
    assert box == (min(xs), min(ys), max(xs) + 1, max(ys) + 1)


@given(BOXES, BOXES)
def test_box_overlap_is_that_of_their_pixels(one: curves.Box, other: curves.Box) -> None:
    def pixels(box: curves.Box) -> set[tuple[int, int]]:
        return {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}

    expected = len(pixels(one) & pixels(other)) / len(pixels(one) | pixels(other))
    assert curves.box_iou(one, other) == pytest.approx(expected)
    assert curves.box_iou(one, other) == curves.box_iou(other, one)


def test_localised_needs_more_than_half() -> None:
    assert not curves.localised((0, 0, 2, 1), (0, 0, 1, 1))  # exactly a half
    assert curves.localised((0, 0, 10, 10), (0, 0, 10, 6))
    assert not curves.localised(None, (0, 0, 1, 1))

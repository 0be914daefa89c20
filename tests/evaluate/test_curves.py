"""Deletion, insertion and entropy against plain loops."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmk.evaluate import metrics


def random_masks(seed: int, count: int = 4, side: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).random((count, side, side)) < 0.3


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=1, max_size=8))
def test_parts_are_ordered_by_the_product_of_both_cosines(pairs: list[tuple[float, float]]) -> None:
    parts, descriptors = (np.asarray(column) for column in zip(*pairs, strict=True))
    found = metrics.concept_order(parts, descriptors).tolist()
    assert found == sorted(range(len(pairs)), key=lambda i: (-(pairs[i][0] * pairs[i][1]), i))


def test_two_negative_cosines_make_a_high_product() -> None:
    order = metrics.concept_order(np.array([0.1, -0.5, 0.2]), np.array([0.3, -0.5, -0.3]))
    assert order.tolist() == [1, 0, 2]


@given(st.integers(0, 2**31), st.integers(1, 5), st.booleans())
def test_steps_hide_the_union_so_far_or_all_but_it(seed: int, count: int, reveal: bool) -> None:
    masks = random_masks(seed, count)
    order = np.random.default_rng(seed).permutation(count)
    found = metrics.hidden_regions(masks, order, reveal=reveal)
    assert found.shape == (count + 1, 6, 6)
    for step in range(count + 1):
        for y in range(6):
            for x in range(6):
                reached = any(masks[order[t], y, x] for t in range(step))
                assert found[step, y, x] == (reached != reveal)


def test_deletion_starts_untouched_and_insertion_wholly_hidden() -> None:
    masks = random_masks(0)
    assert not metrics.hidden_regions(masks, [0, 1, 2, 3], reveal=False)[0].any()
    assert metrics.hidden_regions(masks, [0, 1, 2, 3], reveal=True)[0].all()


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=5, unique=True), min_size=1, max_size=6))
def test_entropy_is_that_of_how_often_each_descriptor_is_given(picks: list[list[int]]) -> None:
    given_out = [descriptor for part in picks for descriptor in part]
    expected = 0.0
    for descriptor in set(given_out):
        share = given_out.count(descriptor) / len(given_out)
        expected -= share * math.log(share)
    assert metrics.descriptor_entropy(picks) == pytest.approx(expected, abs=1e-12)
    assert metrics.descriptor_entropy(picks) >= 0


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
    assert metrics.descriptor_entropy(picks) == pytest.approx(expected, abs=1e-12)


def test_entropy_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="undefined"):
        metrics.descriptor_entropy([[], []])

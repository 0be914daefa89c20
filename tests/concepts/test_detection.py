"""AUROC against counting pairs and scikit-learn, DeLong's variance against its double loop."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from clipmk.concepts.detection import auroc, placements
from clipmk.concepts.statistics import NORMAL_95, Estimate

images = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.booleans()), min_size=4, max_size=40)


def kernel(high: float, low: float) -> float:
    return 1.0 if high > low else 0.5 if high == low else 0.0


def delong(scores: NDArray[np.float64], wrong: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """AUROCs of the columns and their covariance, by the double loops of DeLong et al. (1988), equations 4 to 6."""
    x, y = scores[wrong], scores[~wrong]
    psi = np.array([[[kernel(a, b) for b in y[:, k]] for a in x[:, k]] for k in range(scores.shape[1])])
    first, second = psi.mean(axis=2), psi.mean(axis=1)
    return psi.mean(axis=(1, 2)), np.atleast_2d(np.cov(first)) / len(x) + np.atleast_2d(np.cov(second)) / len(y)


@settings(max_examples=60, deadline=None)
@given(images)
def test_auroc_and_its_paired_difference_are_delongs(rows: list[tuple[int, int, bool]]) -> None:
    one, other, wrong = (np.array(column) for column in zip(*rows, strict=True))
    wrong[:2], wrong[2:4] = True, False
    values, covariance = delong(np.column_stack([one, other]).astype(np.float64), wrong)
    alone = np.arange(len(rows))
    placed = [placements(scores.astype(np.float64), wrong) for scores in (one, other)]
    for found, value, variance in zip(
        (auroc(p, wrong, alone) for p in placed), values, covariance.diagonal(), strict=True
    ):
        assert found.value == pytest.approx(value)
        if found.low is None or found.high is None:
            assert variance == pytest.approx(0, abs=1e-15)
        else:
            half = NORMAL_95 * sqrt(variance)
            assert (found.low, found.high) == pytest.approx((max(0, value - half), min(1, value + half)))
    difference = auroc(placed[0] - placed[1], wrong, alone, lowest=-1.0)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert difference.value == pytest.approx(values[0] - values[1], abs=1e-12)
    if difference.low is not None and variance > 1e-12:
        assert difference.low == pytest.approx(max(-1, values[0] - values[1] - NORMAL_95 * sqrt(variance)))


def test_auroc_is_scikit_learns() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(3)
    wrong, scores = rng.random(500) < 0.3, np.round(rng.random(500), 2)
    found = auroc(placements(scores, wrong), wrong, np.arange(500))
    assert found.value == pytest.approx(metrics.roc_auc_score(wrong, scores))


def test_images_that_were_fitted_together_are_one_piece_of_evidence() -> None:
    """Every image five times: the interval is as wide as that of the single ones, but for the degrees of freedom."""
    rng = np.random.default_rng(5)
    wrong, scores = rng.random(400) < 0.4, rng.random(400)
    single = auroc(placements(scores, wrong), wrong, np.arange(400))
    wrong, scores, groups = (np.repeat(one, 5) for one in (wrong, scores, np.arange(400)))
    many = auroc(placements(scores, wrong), wrong, groups)
    apart = auroc(placements(scores, wrong), wrong, np.arange(2_000))
    assert many.value == pytest.approx(single.value)
    assert many.low == pytest.approx(single.low, abs=1e-9)
    assert apart.low is not None
    assert many.low is not None
    assert apart.low > many.low


@pytest.mark.parametrize("wrong", [[True] * 5, [False] * 5, []])
def test_without_wrong_or_without_right_predictions_there_is_no_auroc(wrong: list[bool]) -> None:
    flags = np.array(wrong, dtype=bool)
    with np.errstate(all="ignore"):
        placed = placements(np.arange(float(len(wrong))), flags)
    assert auroc(placed, flags, np.arange(len(wrong))) == Estimate(None)


def test_a_single_wrong_prediction_gives_no_interval() -> None:
    wrong = np.array([True, False, False, False])
    found = auroc(placements(np.array([2.0, 1.0, 3.0, 0.0]), wrong), wrong, np.arange(4))
    assert found == Estimate(pytest.approx(2 / 3))

"""Intervals and fits against scipy and numpy, and the published table refitted."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from clipmk.study.paper import PRINTED_FIT, PUBLISHED, published_fit
from clipmk.study.statistics import fit, mean, mean_interval, pearson, spearman, wilson

X = np.array([3.5, 3.575, 3.815, 3.9, 4.42, 4.475, 4.54, 2.1])
Y = np.array([61.66, 67.7, 68.88, 73.37, 74.77, 76.23, 76.24, 67.7])

floats = arrays(np.float64, 7, elements=st.integers(-5, 5).map(float))


def test_the_published_vits_give_the_published_line() -> None:
    found = published_fit("vit")
    assert found is not None
    assert (found.slope, found.intercept) == pytest.approx((11.25, 25.90), abs=0.005)
    assert found.pearson.value == pytest.approx(0.91, abs=0.005)
    assert found.count == 7
    assert (found.slope, found.intercept) == pytest.approx(PRINTED_FIT, abs=0.1)


def test_two_convnexts_are_too_few_for_a_line() -> None:
    assert published_fit("convnext") is None
    assert len(PUBLISHED) == 13


def test_line_and_band_are_those_of_scipy() -> None:
    found, reference = fit("vit", X.tolist(), Y.tolist()), scipy.stats.linregress(X, Y)
    assert found is not None
    assert (found.slope, found.intercept) == pytest.approx((reference.slope, reference.intercept), rel=1e-12)
    assert found.pearson.value == pytest.approx(reference.rvalue, rel=1e-12)
    at = np.array([0.0, X.mean(), 5.0])
    t = scipy.stats.t.ppf(0.975, len(X) - 2)
    assert found.band(at)[0] == pytest.approx(t * reference.intercept_stderr, rel=1e-12)
    s = math.sqrt(((Y - reference.slope * X - reference.intercept) ** 2).sum() / (len(X) - 2))
    assert found.band(at)[1] == pytest.approx(t * s / math.sqrt(len(X)), rel=1e-12)
    assert found.at(at)[1] == pytest.approx(Y.mean(), rel=1e-12)


@given(floats, floats)
def test_correlations_are_those_of_scipy(x: np.ndarray, y: np.ndarray) -> None:
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert np.isnan(pearson(x, y))
        assert np.isnan(spearman(x, y))
    else:
        assert pearson(x, y) == pytest.approx(scipy.stats.pearsonr(x, y).statistic, abs=1e-12)
        assert spearman(x, y) == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-12)


def test_the_bootstrap_interval_of_r_is_that_of_a_plain_loop() -> None:
    found = fit("vit", X.tolist(), Y.tolist(), seed=3)
    assert found is not None
    rng = np.random.default_rng(99)
    drawn = [rng.integers(len(X), size=len(X)) for _ in range(4000)]
    values = [np.corrcoef(X[d], Y[d])[0, 1] for d in drawn if np.ptp(X[d]) and np.ptp(Y[d])]
    low, high = np.quantile(values, (0.025, 0.975))
    assert (found.pearson.low, found.pearson.high) == pytest.approx((low, high), abs=0.06)
    assert found == fit("vit", X.tolist(), Y.tolist(), seed=3)


def test_four_models_on_a_line_are_certain() -> None:
    found = fit("vit", [1, 2, 3, 4], [10, 12, 14, 16])
    assert found is not None
    assert (found.slope, found.intercept) == pytest.approx((2, 8))
    assert (found.pearson.value, found.pearson.low, found.spearman.low) == pytest.approx((1, 1, 1))
    assert found.band(np.array([9.0]))[0] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("x", "y"), [([1, 2, 3], [1, 2, 3]), ([2, 2, 2, 2], [1, 2, 3, 4]), ([], [])])
def test_no_line_goes_through_too_few_or_alike(x: list[float], y: list[float]) -> None:
    assert fit("vit", x, y) is None


def test_equal_accuracies_have_a_line_but_no_correlation() -> None:
    found = fit("vit", [1, 2, 3, 4], [5, 5, 5, 5])
    assert found is not None
    assert (found.slope, found.pearson.value, found.spearman.value) == (0, None, None)


@pytest.mark.parametrize(("hits", "count"), [(0, 7), (7, 7), (3, 7), (612, 1000), (1, 1)])
def test_wilson_intervals_are_those_of_scipy(hits: int, count: int) -> None:
    found = wilson(hits, count)
    reference = scipy.stats.binomtest(hits, count).proportion_ci(0.95, method="wilson")
    assert (found.value, found.low, found.high) == pytest.approx((hits / count, reference.low, reference.high))


def test_mean_intervals_are_those_of_scipy() -> None:
    found = mean_interval(Y)
    low, high = scipy.stats.norm.interval(0.95, Y.mean(), scipy.stats.sem(Y))
    assert (found.value, found.low, found.high) == pytest.approx((Y.mean(), low, high), rel=1e-12)
    assert mean_interval(Y[:1]).low is None


@given(st.permutations([1e16, 1.0, -1e16, 3.0, 1e-8]))
def test_means_do_not_depend_on_the_order(values: list[float]) -> None:
    assert mean(np.array(values)) == 4.00000001 / 5


def test_nothing_has_no_mean_and_no_share() -> None:
    assert mean(np.array([])) is mean_interval(np.array([])).value is wilson(0, 0).value is None

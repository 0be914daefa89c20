"""Intervals and fits against scipy and numpy, and the published table refitted."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from clipmk.concepts.statistics import (
    Estimate,
    RankEstimate,
    fit,
    mean,
    mean_interval,
    pearson,
    pearson_estimate,
    permutation_p,
    spearman,
    spearman_estimate,
    wilson,
)
from clipmk.study.paper import PRINTED_FIT, PUBLISHED, published_fit

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


def test_the_interval_of_r_is_that_of_scipy() -> None:
    for count in (4, 5, 8):
        found = fit("vit", X[:count].tolist(), Y[:count].tolist())
        assert found is not None
        expected = scipy.stats.pearsonr(X[:count], Y[:count]).confidence_interval(0.95)
        assert (found.pearson.low, found.pearson.high) == pytest.approx(tuple(expected), rel=1e-12)


@given(floats, floats)
def test_intervals_hold_the_correlation_and_stay_within_its_range(x: np.ndarray, y: np.ndarray) -> None:
    long_x, long_y = np.concatenate((x, x + 0.5)), np.concatenate((y, y[::-1]))
    for found in (pearson_estimate(x, y), spearman_estimate(x, y), spearman_estimate(long_x, long_y)):
        assert found.value is None or -1 <= found.value <= 1
        if found.low is not None:
            assert found.value is not None
            assert found.high is not None
            assert -1 <= found.low < found.value < found.high <= 1


def test_correlations_and_their_rounding_stay_within_one() -> None:
    x = np.array([0.1, 0.2, 0.3, 0.4, 0.7])
    for scale in np.linspace(0.1, 3, 40):
        found = pearson_estimate(x, scale * x + 0.1)
        assert found.value is not None
        assert 1 - 1e-12 < found.value <= 1
        assert (found.low, found.high) == (None, None)


def test_three_models_have_a_correlation_but_no_interval() -> None:
    assert pearson_estimate(X[:3], Y[:3][::-1]).low is None
    assert pearson_estimate(X[:4], Y[:4][::-1]).low is not None


def test_few_models_in_perfect_order_are_no_certainty() -> None:
    found = fit("vit", [1, 2, 3, 4], [10, 12, 14, 16])
    assert found is not None
    assert (found.slope, found.intercept) == pytest.approx((2, 8))
    assert found.pearson == Estimate(1.0)
    assert found.spearman == RankEstimate(1.0, p=2 / 24)
    assert found.band(np.array([9.0]))[0] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_the_p_of_rho_is_that_of_scipy_over_all_orders(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, 4 + seed % 3))

    def rho(order: np.ndarray) -> float:
        return float(scipy.stats.spearmanr(x, order).statistic)

    reference = scipy.stats.permutation_test((y,), rho, permutation_type="pairings", n_resamples=np.inf)
    assert permutation_p(x, y) == pytest.approx(reference.pvalue, rel=1e-12)


def test_the_p_of_rho_with_ties_is_that_of_a_plain_loop() -> None:
    x, y = np.array([3.0, 1, 1, 2, 5, 5]), np.array([1.0, 1, 2, 2, 2, 7])
    found = abs(scipy.stats.spearmanr(x, y).statistic)
    far = [abs(scipy.stats.spearmanr(x, order).statistic) >= found - 1e-9 for order in itertools.permutations(y)]
    assert permutation_p(x, y) == sum(far) / len(far)
    assert permutation_p(x, y) == permutation_p(-x, y)


def test_rho_has_a_p_below_ten_models_and_from_there_an_interval() -> None:
    x, y = np.arange(10.0), np.array([2.0, 1, 4, 3, 6, 5, 8, 7, 10, 9])
    nine, ten = spearman_estimate(x[:9], y[:9]), spearman_estimate(x, y)
    assert (nine.low, nine.high) == (None, None)
    assert nine.p is not None
    assert nine.p < 0.01
    rho = scipy.stats.spearmanr(x, y).statistic
    error = math.sqrt((1 + rho**2 / 2) / (10 - 3))  # Bonett & Wright 2000
    expected = np.tanh(np.arctanh(rho) + scipy.stats.norm.ppf([0.025, 0.975]) * error)
    assert (ten.value, ten.low, ten.high) == pytest.approx((rho, *expected), rel=1e-12)
    assert ten.p is None
    assert spearman_estimate(x, x) == RankEstimate(1.0)


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

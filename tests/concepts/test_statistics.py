"""Intervals and fits against plain loops, formulas and numpy, and the published table refitted."""

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
    fit_line,
    mean,
    mean_interval,
    pearson_estimate,
    permutation_p,
    range_without_one,
    spearman_estimate,
    wilson,
)
from clipmk.study.paper import PRINTED_FIT, published_fit, published_models

X = np.array([3.5, 3.575, 3.815, 3.9, 4.42, 4.475, 4.54, 2.1])
Y = np.array([61.66, 67.7, 68.88, 73.37, 74.77, 76.23, 76.24, 67.7])

floats = arrays(np.float64, 7, elements=st.integers(-5, 5).map(float))


def test_the_published_vits_give_the_published_line() -> None:
    found = published_fit("vit", published_models())
    assert found is not None
    assert (found.slope, found.intercept) == pytest.approx((11.25, 25.90), abs=0.005)
    assert found.pearson.value == pytest.approx(0.91, abs=0.005)
    assert found.count == 7
    assert (found.slope, found.intercept) == pytest.approx(PRINTED_FIT, abs=0.1)


def test_two_convnexts_are_too_few_for_a_line() -> None:
    assert published_fit("convnext", published_models()) is None
    assert len(published_models()) == 13


def test_line_and_band_are_those_of_the_normal_equations() -> None:
    found = fit_line("vit", X.tolist(), Y.tolist())
    assert found is not None
    design = np.stack([X, np.ones_like(X)], axis=1)
    (slope, intercept), (residual,), *_ = np.linalg.lstsq(design, Y)
    assert (found.slope, found.intercept) == pytest.approx((slope, intercept), rel=1e-12)
    at = np.array([0.0, X.mean(), 5.0])
    rows = np.stack([at, np.ones_like(at)], axis=1)
    variances = np.einsum("ij,jk,ik->i", rows, np.linalg.inv(design.T @ design), rows) * residual / (len(X) - 2)
    assert found.band(at) == pytest.approx(scipy.stats.t.ppf(0.975, len(X) - 2) * np.sqrt(variances), rel=1e-9)
    assert found.at(at)[1] == pytest.approx(Y.mean(), rel=1e-12)


def plain_ranks(values: np.ndarray) -> list[float]:
    return [float(sum(v < value for v in values) + (sum(v == value for v in values) + 1) / 2) for value in values]


@given(floats, floats)
def test_correlations_are_those_of_plain_loops(x: np.ndarray, y: np.ndarray) -> None:
    r, rho = pearson_estimate(x, y).value, spearman_estimate(x, y).value
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert r is rho is None
    else:
        assert r == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-12)
        assert rho == pytest.approx(np.corrcoef(plain_ranks(x), plain_ranks(y))[0, 1], abs=1e-12)


def test_the_interval_of_r_is_that_of_fishers_z() -> None:
    for count in (4, 5, 8):
        found = pearson_estimate(X[:count], Y[:count])
        assert found.value is not None
        half = scipy.stats.norm.ppf(0.975) / math.sqrt(count - 3)
        expected = [math.tanh(math.atanh(found.value) + side) for side in (-half, half)]
        assert [found.low, found.high] == pytest.approx(expected, rel=1e-12)


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
    found = fit_line("vit", [1, 2, 3, 4], [10, 12, 14, 16])
    assert found is not None
    assert (found.slope, found.intercept) == pytest.approx((2, 8))
    assert found.pearson == Estimate(1.0)
    assert found.spearman == RankEstimate(1.0, p=2 / 24)
    assert found.band(np.array([9.0]))[0] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_the_p_of_rho_is_that_of_a_plain_loop_over_all_orders_ties_or_not(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.integers(6, size=(2, 4 + seed % 3)).astype(float) if seed % 2 else rng.normal(size=(2, 4 + seed % 3))
    assert np.ptp(x) > 0
    assert np.ptp(y) > 0
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
    assert fit_line("vit", x, y) is None


def test_equal_accuracies_have_a_line_but_no_correlation() -> None:
    found = fit_line("vit", [1, 2, 3, 4], [5, 5, 5, 5])
    assert found is not None
    assert (found.slope, found.pearson.value, found.spearman.value) == (0, None, None)


@pytest.mark.parametrize(("hits", "count"), [(0, 7), (7, 7), (3, 7), (612, 1000), (1, 1)])
def test_the_ends_of_a_wilson_interval_are_shares_that_a_normal_test_just_allows(hits: int, count: int) -> None:
    found = wilson(hits, count)
    assert found.value == hits / count
    for end in (found.low, found.high):
        assert end is not None
        distance = abs(hits / count - end)
        assert distance == pytest.approx(1.959963984540054 * math.sqrt(end * (1 - end) / count), abs=1e-12)
    assert 0 <= found.low <= hits / count <= found.high <= 1


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


def test_a_group_of_images_counts_as_one_piece_of_evidence() -> None:
    values, groups = np.array([1.0, 2.0, 4.0, 0.0, 3.0, 8.0, 5.0]), np.array([7, 7, 2, 2, 2, 9, 9])
    centre = sum(values) / 7
    totals = [sum(value - centre for value, own in zip(values, groups, strict=True) if own == one) for one in (7, 2, 9)]
    half = 1.959964 * math.sqrt(3 / 2 * sum(total**2 for total in totals)) / 7
    found = mean_interval(values, groups)
    assert (found.value, found.low, found.high) == pytest.approx((centre, centre - half, centre + half))
    assert mean_interval(values, np.arange(7)) == mean_interval(values)
    assert mean_interval(values, np.ones(7, dtype=np.int64)) == Estimate(mean_interval(values).value)
    alone = mean_interval(values[:4])
    assert alone.high is not None
    repeated = mean_interval(np.repeat(values[:4], 9), np.repeat(np.arange(4), 9))
    assert (repeated.low, repeated.high) == pytest.approx((alone.low, alone.high))


def test_the_range_without_one_group_is_that_of_the_correlations_of_the_rest() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 9))
    groups = [*"aaabbccdd"]
    rest = [np.array([one != left for one in groups]) for left in "abcd"]
    expected = [np.corrcoef(x[kept], y[kept])[0, 1] for kept in rest]
    found = range_without_one(x, y, groups)
    assert (found.value, found.low, found.high) == pytest.approx(
        (np.corrcoef(x, y)[0, 1], min(expected), max(expected))
    )
    whole = Estimate(found.value)
    assert range_without_one(x, y, ["a"] * 9) == whole
    assert range_without_one(x, y, [*"aaaaaaabb"]) == whole  # two of b remain
    assert range_without_one(np.array([1.0, 1, 1, 2]), y[:4], [*"abcd"]).low is None  # without d all are equal

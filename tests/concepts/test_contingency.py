"""Tables of 2 x 2 counts against scipy, one by one, and against published examples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import fisher_exact

from clipmk.concepts import contingency
from clipmk.concepts.contingency import fisher_p, odds_ratio, share_difference
from clipmk.concepts.statistics import wilson

cells = st.tuples(*[st.one_of(st.integers(0, 12), st.integers(0, 400))] * 4)


@settings(max_examples=60, deadline=None)
@given(st.lists(cells, min_size=1, max_size=12))
def test_fishers_p_of_many_tables_is_that_of_scipy_for_each(tables: list[tuple[int, int, int, int]]) -> None:
    found = fisher_p(*np.array(tables).T)
    expected = [fisher_exact([[a, b], [c, d]]).pvalue for a, b, c, d in tables]
    assert found == pytest.approx(expected, rel=1e-8)


def test_tables_do_not_depend_on_how_many_are_worked_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = np.random.default_rng(0).integers(0, 60, (4, 50))
    whole = fisher_p(*tables)
    monkeypatch.setattr(contingency, "_AT_ONCE", 40)
    assert fisher_p(*tables).tolist() == whole.tolist()
    assert len(fisher_p(*np.empty((4, 0), dtype=np.int64))) == 0


def test_a_table_that_is_almost_impossible_has_a_p_of_zero_without_a_warning() -> None:
    with np.errstate(over="raise"):
        assert fisher_p(*np.array([[3_000, 0, 0, 3_000]]).T).tolist() == [0.0]


def test_the_lady_tasting_tea() -> None:
    assert fisher_p(*np.array([[3, 1, 1, 3]]).T) == pytest.approx([34 / 70])


def test_the_difference_of_two_shares_has_newcombes_interval() -> None:
    """Newcombe (1998), table II, method 10: 56/70 - 48/80 and 9/10 - 3/10."""
    value, low, high = share_difference(*np.array([[56, 14, 48, 32], [9, 1, 3, 7]]).T)
    assert value == pytest.approx([0.2, 0.6])
    assert np.round(low, 4).tolist() == [0.0524, 0.1705]
    assert np.round(high, 4).tolist() == [0.3339, 0.8090]


def test_shares_have_wilsons_intervals() -> None:
    for hits, count in ((0, 7), (3, 7), (7, 7), (120, 4_000)):
        one = wilson(hits, count)
        value, low, high = (float(x[0]) for x in contingency._wilson(np.array([hits]), np.array([count])))
        assert (value, low, high) == pytest.approx((one.value, one.low, one.high), abs=1e-12)


def test_the_odds_ratio_is_finite_where_a_count_is_zero() -> None:
    value, low, high = (float(one[0]) for one in odds_ratio(*np.array([[12, 0, 4, 30]]).T))
    assert value == pytest.approx(12.5 * 30.5 / (0.5 * 4.5))
    half = 1.959964 * np.sqrt(1 / 12.5 + 1 / 0.5 + 1 / 4.5 + 1 / 30.5)
    assert (low, high) == pytest.approx((value / np.exp(half), value * np.exp(half)), rel=1e-6)

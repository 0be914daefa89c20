"""From embeddings to ordered concepts: candidates, relevance, transport, importance, language and soft matches."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import ot
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from clipmk.concepts import selection
from clipmk.concepts.matching import sinkhorn, soft_matches
from clipmk.concepts.selection import language_concepts

COSINES = st.floats(-1, 1).map(lambda x: round(x, 2))


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    rows = torch.tensor(np.random.default_rng(seed).standard_normal(shape))
    return torch.nn.functional.normalize(rows, dim=-1)


def by_score(scores: list[float], count: int) -> list[int]:
    return sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:count]


@given(hnp.arrays(np.float64, (3, 12), elements=st.sampled_from([0.1, 0.2, 0.3])), st.integers(1, 14))
def test_highest_is_a_stable_sort(scores: np.ndarray, count: int) -> None:
    found = selection.highest(torch.tensor(scores), count)
    assert found.tolist() == [by_score(row, count) for row in scores.tolist()]


@pytest.mark.parametrize(("count", "nan"), [(1, False), (9, False), (1, True), (9, True), (10**6, False)])
def test_highest_of_a_long_vector_is_a_stable_sort_too(count: int, nan: bool) -> None:
    scores = torch.tensor(np.random.default_rng(count).integers(0, 9, selection.BLOCK + 3) / 8)
    if nan:
        scores[[7, 5]] = math.nan
    found = selection.highest(scores, count)
    assert torch.equal(found, torch.sort(scores, descending=True, stable=True).indices[:count])


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 12), st.integers(1, 3))
def test_what_is_nearest_block_by_block_is_what_is_nearest_at_once(
    seed: int, count: int, block: int, width: int
) -> None:
    draw = np.random.default_rng(seed)
    parts = torch.tensor(draw.integers(-2, 3, (3, width)).astype(np.float64))  # whole numbers: products are exact, and
    bank = torch.tensor(draw.integers(-2, 3, (30, width)).astype(np.float64))  # many are equal
    scores = parts @ bank.T
    expected = sorted({i for row in scores.tolist() for i in by_score(row, count)})
    found = selection.nearest(parts, bank, count=count, block=block)
    assert found.indices.tolist() == expected
    assert torch.equal(found.scores, scores[:, expected])
    whole, expected_warnings = selection.candidates(scores, count=count)
    among, warnings = selection.candidates(found.scores, count=count)
    assert torch.equal(found.indices[among], whole)
    assert warnings == expected_warnings


def test_a_bank_of_one_block_gives_the_digits_of_one_product() -> None:
    parts, bank = unit(5, 64).float(), unit(3_000, 64, seed=1).float()
    found = selection.nearest(parts, bank, count=50)
    assert torch.equal(found.scores, (parts @ bank.T)[:, found.indices])


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=COSINES), st.integers(1, 10))
def test_candidates_are_the_union_or_intersection_of_each_parts_nearest(scores: np.ndarray, count: int) -> None:
    sets = [set(by_score(row, count)) for row in scores.tolist()]
    common, union = set.intersection(*sets), set.union(*sets)
    near = selection.nearest(torch.tensor(scores), torch.eye(scores.shape[1], dtype=torch.float64), count=count)
    assert near.indices.tolist() == sorted(union)
    found, warnings = selection.candidates(torch.tensor(scores), count=count)
    assert found.tolist() == sorted(common or union)
    assert warnings == (() if common else (selection.NO_COMMON_CANDIDATE,))


def test_an_empty_intersection_becomes_the_union_with_a_warning() -> None:
    found, warnings = selection.candidates(torch.eye(3), count=1)
    assert found.tolist() == [0, 1, 2]
    assert warnings == (selection.NO_COMMON_CANDIDATE,)


@pytest.mark.parametrize("statistic", ["mean", "median"])
@given(values=st.lists(COSINES, min_size=1, max_size=9), offset=st.sampled_from([-0.02, 0.02, 0.5]))
def test_relevance_compares_with_the_statistic_of_the_candidates(
    statistic: str, values: list[float], offset: float
) -> None:
    centre = statistics.mean(values) if statistic == "mean" else statistics.median(values)
    if any(abs(value - centre - offset) < 1e-9 for value in values):
        return
    expected = [value > centre + offset for value in values]
    keep, warnings = selection.relevance_filter(
        torch.tensor(values, dtype=torch.float64), statistic="mean" if statistic == "mean" else "median", offset=offset
    )
    assert keep.tolist() == (expected if any(expected) else [True] * len(values))
    assert warnings == (() if any(expected) else (selection.NOTHING_RELEVANT,))


def test_the_reference_filter_keeps_more_than_the_papers_text() -> None:
    values = torch.tensor([0.20, 0.21, 0.22, 0.30])
    assert selection.relevance_filter(values, statistic="mean", offset=-0.02)[0].tolist() == [False, False, True, True]
    assert selection.relevance_filter(values, statistic="median", offset=0.02)[0].tolist() == [False] * 3 + [True]


def test_no_candidates_need_no_filter() -> None:
    keep, warnings = selection.relevance_filter(torch.zeros(0), statistic="median", offset=0.02)
    assert keep.tolist() == []
    assert warnings == ()


def loop_sinkhorn(scores: np.ndarray, rounds: int) -> np.ndarray:
    plan = np.exp(2.5 * scores)
    for _ in range(rounds):
        for i in range(plan.shape[0]):
            plan[i] /= plan[i].sum()
        for j in range(plan.shape[1]):
            plan[:, j] /= plan[:, j].sum()
    return plan


SHAPES = pytest.mark.parametrize("shape", [(5, 200), (5, 3), (1, 7), (7, 1), (1, 1), (4, 4)])


@SHAPES
def test_sinkhorn_reaches_what_a_thousand_rounds_reach(shape: tuple[int, int]) -> None:
    scores = np.random.default_rng(0).uniform(-0.2, 0.5, shape)
    found = sinkhorn(torch.tensor(scores), tolerance=1e-12)
    assert np.abs(found.numpy() - loop_sinkhorn(scores, 1_000)).max() < 1e-12


@SHAPES
def test_sinkhorn_is_the_plan_of_the_optimal_transport_library(shape: tuple[int, int]) -> None:
    parts, descriptors = shape
    scores = np.random.default_rng(1).uniform(-0.2, 0.5, shape)
    rows, columns = np.full(parts, 1 / parts), np.full(descriptors, 1 / descriptors)
    expected = ot.sinkhorn(rows, columns, -scores, reg=1 / 2.5, stopThr=1e-15, numItermax=5_000, warn=False)
    found = sinkhorn(torch.tensor(scores), tolerance=1e-12)
    assert np.allclose(found.numpy(), expected * descriptors, atol=1e-9)


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 12)), elements=st.floats(-1, 1)),
    st.sampled_from([0.0, 2.5, 50.0, 1e4]),
)
def test_columns_sum_to_one_and_rows_to_their_share(scores: np.ndarray, scale: float) -> None:
    parts, descriptors = scores.shape
    plan = sinkhorn(torch.tensor(scores), scale=scale, most_rounds=50).numpy()
    assert np.isfinite(plan).all()
    assert np.allclose(plan.sum(axis=0), 1, atol=1e-9)
    residual = np.abs(plan.sum(axis=1) * parts / descriptors - 1).max()
    every = sinkhorn(torch.tensor(scores), scale=scale, most_rounds=50, tolerance=0.0).numpy()
    assert residual < 1.001e-6 or np.array_equal(plan, every)  # converged, or stopped after all rounds


def test_about_five_rounds_suffice_for_cosines() -> None:
    scores = torch.tensor(np.random.default_rng(0).uniform(0, 0.4, (5, 200)))
    found = sinkhorn(scores)
    assert torch.equal(found, sinkhorn(scores, most_rounds=8))
    assert (found.sum(dim=1) * 5 / 200 - 1).abs().max() < 1e-6


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0)])
def test_nothing_to_transport_gives_an_empty_plan(shape: tuple[int, int]) -> None:
    found = sinkhorn(torch.zeros(shape))
    assert found.shape == shape


def test_one_part_takes_everything_and_one_descriptor_is_shared_evenly() -> None:
    one_part = sinkhorn(torch.tensor([[0.1, 0.9, -0.3]]), most_rounds=1)
    assert torch.allclose(one_part, torch.ones(1, 3, dtype=torch.float64))
    one_descriptor = sinkhorn(torch.tensor([[0.1], [0.9]]), most_rounds=1)
    assert torch.allclose(one_descriptor, torch.full((2, 1), 0.5, dtype=torch.float64))


def test_transport_spreads_parts_over_different_descriptors() -> None:
    scores = torch.tensor([[0.9, 0.5, 0.1, 0.1], [0.9, 0.1, 0.5, 0.1], [0.9, 0.1, 0.1, 0.5]])
    alone = set(selection.highest(scores, 1).flatten().tolist())
    spread = set(selection.highest(sinkhorn(scores, scale=10.0), 1).flatten().tolist())
    assert len(spread) > len(alone)


def test_the_highest_are_stable_and_at_most_all() -> None:
    plan = torch.tensor([[0.5, 0.5, 0.2, 0.5], [0.1, 0.2, 0.9, 0.2]])
    assert selection.highest(plan, 3).tolist() == [[0, 1, 3], [2, 1, 3]]
    assert selection.highest(plan[:, :2], 3).tolist() == [[0, 1], [1, 0]]


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=5),
    st.lists(COSINES, min_size=10, max_size=10),
    st.integers(1, 6),
)
def test_vision_concepts_are_unique_ordered_and_carried(picks: list[list[int]], raw: list[float], most: int) -> None:
    carried = torch.tensor([[d in part for d in range(10)] for part in picks], dtype=torch.bool).reshape(-1, 10)
    found = selection.vision_concepts(carried, torch.tensor(raw, dtype=torch.float64), most=most)
    unique = {descriptor for part in picks for descriptor in part}
    expected = sorted(unique, key=lambda d: (-raw[d], d))[:most]
    assert found.indices.tolist() == expected
    assert found.importance.tolist() == pytest.approx([2.5 * raw[d] for d in expected])
    assert found.part_ids == tuple(tuple(part for part, chosen in enumerate(picks) if d in chosen) for d in expected)


@given(hnp.arrays(np.float64, (8, 3), elements=st.sampled_from([0.0, 1.0, -1.0])), st.integers(1, 10))
def test_language_concepts_are_the_nearest_in_bank_order(rows: np.ndarray, count: int) -> None:
    query = torch.tensor([0.6, 0.8, 0.0], dtype=torch.float64)
    bank = torch.tensor(rows)
    found = language_concepts(query, bank, count=count)
    cosines = [sum(a * b for a, b in zip(row, query.tolist(), strict=True)) for row in rows.tolist()]
    expected = sorted(range(8), key=lambda d: (-round(cosines[d], 9), d))[:count]
    assert found.indices.tolist() == expected
    assert found.cosines.tolist() == pytest.approx([cosines[d] for d in expected])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("shape", "threshold"), [((3, 4), 0.0), ((4, 3), 0.3), ((4, 4), 0.1), ((2, 5), 0.9)])
def test_soft_matches_are_the_best_of_all_matchings(seed: int, shape: tuple[int, int], threshold: float) -> None:
    vision, language = unit(shape[0], 3, seed=seed), unit(shape[1], 3, seed=seed + 50)
    cosines = (vision @ language.T).numpy()
    best = 0.0
    places = [*range(shape[1]), *[None] * shape[0]]
    for chosen in set(itertools.permutations(places, shape[0])):
        pairs = [(row, column) for row, column in enumerate(chosen) if column is not None]
        if all(cosines[pair] > threshold for pair in pairs):
            best = max(best, math.fsum(cosines[pair] for pair in pairs))
    found = soft_matches(vision, language, threshold=threshold)
    assert math.fsum(cosine for *_, cosine in found) == pytest.approx(best, abs=1e-12)
    assert all(cosine > threshold for *_, cosine in found)
    assert all(cosine == pytest.approx(cosines[row, column]) for row, column, cosine in found)
    assert len({row for row, *_ in found}) == len({column for _, column, _ in found}) == len(found)
    assert [cosine for *_, cosine in found] == sorted((cosine for *_, cosine in found), reverse=True)


def test_soft_matching_gives_up_a_best_pair_for_a_better_whole() -> None:
    vision = torch.tensor([[1.0, 0.0], [0.8, 0.6]], dtype=torch.float64)
    language = torch.tensor([[0.98, math.sqrt(1 - 0.98**2)], [0.7, -math.sqrt(1 - 0.49)]], dtype=torch.float64)
    found = soft_matches(vision, language, threshold=0.5)
    assert {(row, column) for row, column, _ in found} == {(0, 1), (1, 0)}


def test_nothing_above_the_threshold_matches_nothing() -> None:
    assert soft_matches(torch.eye(3), torch.eye(3).roll(1, 0)[:0], threshold=0.5) == []
    assert soft_matches(torch.eye(4)[:2], torch.eye(4)[2:], threshold=0.0) == []
    with pytest.raises(ValueError, match=r"1\.5"):
        soft_matches(torch.eye(2), torch.eye(2), threshold=1.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [1, 7, 300, 400])
def test_language_sets_are_the_language_concepts_of_every_class(
    count: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "PRODUCTS", 1_000)  # a few classes at once
    bank = unit(300, 48).to(dtype)
    bank[100:200] = bank[:100]  # ties
    bank[200:250] = torch.nn.functional.normalize(bank[:50] + 1e-7, dim=-1)  # and what is nearly one
    classes = torch.cat([unit(20, 48, seed=1).to(dtype), bank[::60]])
    sets = selection.language_sets(classes, bank, count=count)
    assert sets.dtype == torch.int32
    assert [sorted(row) for row in sets.tolist()] == [
        sorted(language_concepts(one, bank, count=count).indices.tolist()) for one in classes
    ]

"""Truth metrics, deletion, insertion and entropy against plain loops and hand-made cases."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score

from clipmk.evaluate import metrics
from clipmk.evaluate.report import Tally
from clipmk.pipeline.comparison import jaccard

MASKS = hnp.arrays(np.bool_, (6, 6))
BOXES = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 9), st.integers(1, 9)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
SETS = st.sets(st.sampled_from("abcdefg"))


@given(st.permutations("abcdefgh"), st.sets(st.sampled_from("abcdefgh"), min_size=1))
def test_average_precision_of_a_full_ranking_is_scikit_learns(ranked: list[str], true: set[str]) -> None:
    labels, scores = [item in true for item in ranked], [-rank for rank in range(len(ranked))]
    assert metrics.average_precision(ranked, true) == pytest.approx(average_precision_score(labels, scores))


def test_what_is_not_listed_scores_nothing() -> None:
    assert metrics.average_precision(["a", "x", "b"], {"a", "b", "c"}) == pytest.approx((1 + 2 / 3) / 3)
    assert metrics.average_precision([], {"a"}) == 0
    assert metrics.average_precision(["x", "y"], {"a"}) == 0
    assert metrics.average_precision(["a", "b"], {"a", "b"}) == 1


def test_r_precision_looks_at_as_many_as_are_true() -> None:
    assert metrics.r_precision(["a", "x", "b", "c"], {"a", "b", "c"}) == pytest.approx(2 / 3)
    assert metrics.r_precision(["x", "a"], {"a"}) == 0
    assert metrics.r_precision(["a"], {"a", "b"}) == 0.5
    assert metrics.r_precision(["b", "a", "x"], {"a", "b"}) == 1


@pytest.mark.parametrize("metric", [metrics.average_precision, metrics.r_precision])
def test_nothing_true_is_refused(metric: object) -> None:
    with pytest.raises(ValueError, match="at least one true item"):
        metric(["a"], set())  # type: ignore[operator]


@given(MASKS, MASKS)
def test_iou_counts_pixels(one: np.ndarray, other: np.ndarray) -> None:
    places = [set(zip(*np.nonzero(mask), strict=True)) for mask in (one, other)]
    union = places[0] | places[1]
    expected = len(places[0] & places[1]) / len(union) if union else 1.0
    assert metrics.iou(one, other) == pytest.approx(expected)
    assert metrics.iou(one, other) == metrics.iou(other, one)


@given(st.lists(MASKS, min_size=1, max_size=3), st.lists(MASKS, min_size=1, max_size=4))
def test_pairwise_and_best_iou_are_iou_of_every_pair(found: list[np.ndarray], true: list[np.ndarray]) -> None:
    table = [[metrics.iou(f, t) for t in true] for f in found]
    np.testing.assert_allclose(metrics.pairwise_iou(np.stack(found), np.stack(true)), table)
    best = [max(row[t] for row in table) for t in range(len(true))]
    np.testing.assert_allclose(metrics.pairwise_iou(np.stack(found), np.stack(true)).max(axis=0), best)


@settings(max_examples=25)
@given(MASKS, st.sampled_from([(3, 3), (2, 3), (3, 1), (4, 2), (4, 1)]))
def test_no_union_of_cells_beats_the_grid_ceiling(mask: np.ndarray, grid: tuple[int, int]) -> None:
    rows, columns = grid
    best = 0.0 if mask.any() else 1.0
    for cells in itertools.product([False, True], repeat=rows * columns):
        chosen = np.reshape(cells, grid)
        union = np.array([[chosen[y * rows // 6, x * columns // 6] for x in range(6)] for y in range(6)])
        best = max(best, metrics.iou(union, mask))
    assert metrics.grid_ceiling(mask, grid=grid) == pytest.approx(best)


@given(SETS, SETS)
def test_jaccard_counts_members(one: set[str], other: set[str]) -> None:
    both = [x for x in "abcdefg" if x in one and x in other]
    either = [x for x in "abcdefg" if x in one or x in other]
    assert jaccard(sorted(one), sorted(other)) == (len(both) / len(either) if either else None)


def test_jaccard_ignores_repetition() -> None:
    assert jaccard(["a", "a", "b"], ["b", "b"]) == 0.5


@settings(max_examples=20)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30))
def test_an_interval_lies_around_its_mean_within_the_values(values: list[float]) -> None:
    found = metrics.interval(values)
    assert found.mean == pytest.approx(math.fsum(values) / len(values), abs=1e-12)
    slack = 1e-12
    assert min(values) - slack <= found.low <= found.high <= max(values) + slack
    assert found.count == len(values)
    assert metrics.interval(values) == found
    moved = metrics.interval([3 * value + 1 for value in values])
    assert (moved.low, moved.high) == pytest.approx((3 * found.low + 1, 3 * found.high + 1), abs=1e-9)


def test_an_interval_is_that_of_the_normal_distribution_for_many_values() -> None:
    values = np.random.default_rng(0).normal(2.0, 1.0, 400)
    found = metrics.interval(values.tolist(), seed=1)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert found.low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.15 * half)


def test_many_values_have_the_normal_interval_in_little_memory() -> None:
    few = np.random.default_rng(0).exponential(1.0, metrics.MOST_RESAMPLED - 1)
    many = np.append(few, few.mean())
    one, other = metrics.interval(few.tolist()), metrics.interval(many.tolist())
    width = other.high - other.low
    assert (one.mean, one.low, one.high) == pytest.approx((other.mean, other.low, other.high), abs=0.03 * width)
    assert width == pytest.approx(2 * 1.959964 * many.std(ddof=1) / math.sqrt(len(many)))
    tracemalloc.start()
    metrics.interval([0.0, 1.0] * 20_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20


def test_an_interval_is_the_percentiles_of_resampled_means() -> None:
    values = [0.0, 1.0, 4.0, 9.0]
    rng = np.random.default_rng(7)
    means = sorted(math.fsum(values[i] for i in row) / 4 for row in rng.integers(4, size=(metrics.RESAMPLES, 4)))
    found = metrics.interval(values, seed=7)
    for share, value in ((0.025, found.low), (0.975, found.high)):
        place = share * (len(means) - 1)
        below = means[math.floor(place)]
        assert value == pytest.approx(below + (place % 1) * (means[math.floor(place) + 1] - below))


def test_a_cluster_is_drawn_whole_and_a_control_draw_by_draw() -> None:
    values = np.array([[1.0, 0.0, 4.0, 2.0, 2.0, 7.0], [0.0, 3.0, 1.0, 1.0, 5.0, 2.0]])
    clusters = np.array([5, 8, 5, 9, 9, 9])
    members = [[0, 2], [1], [3, 4, 5]]
    of_clusters, of_draws = (np.random.default_rng(seed) for seed in (3, 4))
    means = []
    for drawn, draws in zip(
        of_clusters.integers(3, size=(metrics.RESAMPLES, 3)),
        of_draws.integers(2, size=(metrics.RESAMPLES, 2)),
        strict=True,
    ):
        images = [image for cluster in drawn for image in members[cluster]]
        means.append(np.mean([values[draw, image] for draw in draws for image in images]))
    found = metrics.clustered_interval(values, clusters, seed=3)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))
    assert (found.mean, found.count) == (values.mean(), 6)


def test_images_that_repeat_one_another_do_not_narrow_the_interval_of_their_clusters() -> None:
    values = np.random.default_rng(0).normal(size=20)
    alone = metrics.clustered_interval(values[None], np.arange(20))
    assert (alone.low, alone.high) == pytest.approx((metrics.interval(values).low, metrics.interval(values).high))
    again = metrics.clustered_interval(np.repeat(values, 50)[None], np.repeat(np.arange(20), 50))
    assert (again.low, again.high) == pytest.approx((alone.low, alone.high))
    assert metrics.interval(np.repeat(values, 50)).high < alone.high


def test_images_of_a_single_cluster_are_drawn_one_by_one() -> None:
    values = np.random.default_rng(0).normal(size=20)
    found = metrics.clustered_interval(values[None], np.full(20, 7))
    assert found == metrics.clustered_interval(values[None], np.arange(20))
    assert found.high - found.low > 0.3
    one = metrics.clustered_interval(np.ones((1, 1)), np.zeros(1, dtype=np.int64))
    assert (one.low, one.mean, one.high) == (1, 1, 1)


def test_scenes_without_a_value_are_left_out() -> None:
    nan = float("nan")
    assert metrics.interval([nan, 1.0, nan, 3.0]) == metrics.interval([1.0, 3.0])
    assert metrics.interval([nan, 1.0, nan, 3.0]).count == 2
    for nothing in ([], [nan]):
        with pytest.raises(ValueError, match="at least one defined value"):
            metrics.interval(nothing)


def margin(ours: list[float], theirs: list[float]) -> metrics.Interval:
    tally = Tally(seed=2)
    for name, values in (("ours", ours), ("theirs", theirs)):
        for value in values:
            tally.add(name, {"ap": value})
    return tally.rows("test", over=["theirs"])[0].margins["theirs"]


def test_paired_differences_are_resampled_as_pairs() -> None:
    rng = np.random.default_rng(3)
    theirs = rng.normal(0, 10, 60)
    ours = theirs + rng.normal(0.5, 0.1, 60)
    found = margin(ours.tolist(), theirs.tolist())
    assert found == metrics.interval([a - b for a, b in zip(ours, theirs, strict=True)], seed=2)
    assert 0.45 < found.low < found.mean < found.high < 0.55  # though each side alone is uncertain by two and a half
    back = margin(theirs.tolist(), ours.tolist())
    assert (back.mean, back.low, back.high) == pytest.approx((-found.mean, -found.high, -found.low))


def test_pairs_with_an_undefined_side_are_left_out() -> None:
    nan = float("nan")
    found = margin([1.0, nan, 5.0, 2.0], [0.0, 1.0, 3.0, nan])
    assert (found.mean, found.count) == (1.5, 2)
    with pytest.raises(ValueError, match=r"\(2,\) \(3,\)"):
        margin([1.0, 2.0], [1.0, 2.0, 3.0])


@given(BOXES, BOXES)
def test_box_overlap_is_that_of_their_pixels(one: metrics.Box, other: metrics.Box) -> None:
    def pixels(box: metrics.Box) -> set[tuple[int, int]]:
        return {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}

    expected = len(pixels(one) & pixels(other)) / len(pixels(one) | pixels(other))
    assert metrics.box_iou(one, other) == pytest.approx(expected)
    assert metrics.box_iou(one, other) == metrics.box_iou(other, one)


def test_localised_needs_more_than_half() -> None:
    assert not metrics.localised((0, 0, 2, 1), (0, 0, 1, 1))  # exactly a half
    assert metrics.localised((0, 0, 10, 10), (0, 0, 10, 6))
    assert not metrics.localised(None, (0, 0, 1, 1))


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

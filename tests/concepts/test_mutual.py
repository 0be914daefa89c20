"""Mutual knowledge: the paper's numbers, exact chance, and the what-if."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from clipmk.concepts import mutual
from clipmk.records import ClassSwap, Mutual, SoftPair

FLAGS = st.lists(st.booleans(), max_size=20)


def strength(flags: list[bool], language_count: int, **more: Any) -> Mutual:
    """The measure among 400 descriptors."""
    return mutual.measure(flags, language_count=language_count, vocabulary_size=400, **more)


@pytest.mark.parametrize(
    ("vision", "language", "shared", "value"),
    [
        (15, 50, 0, 0),
        (15, 50, 1, 6.620073),
        (15, 50, 2, 7.313220),
        (15, 50, 4, 8.006368),
        (15, 50, 15, 9.328123),
        (10, 50, 3, 7.313220),
        (12, 15, 4, 6.579251),
    ],
)
def test_mi_paper_gives_the_published_vectors(vision: int, language: int, shared: int, value: float) -> None:
    assert mutual.mi_paper(vision, language, shared) == pytest.approx(value, abs=5e-7)


@pytest.mark.parametrize("shared", range(1, 11))
def test_mi_paper_is_the_sum_of_three_entropies_of_the_contingency_table(shared: int) -> None:
    vision, language = 12, 15
    table = np.zeros((vision, language))
    table[np.arange(shared), np.arange(shared)] = 1 / shared
    joint = stats.entropy(table.ravel())
    uniform = stats.entropy(np.full(vision, 1 / vision)) + stats.entropy(np.full(language, 1 / language))
    assert mutual.mi_paper(vision, language, shared) == pytest.approx(uniform + joint, abs=1e-12)
    textbook = stats.entropy(table.sum(0)) + stats.entropy(table.sum(1)) - joint
    assert mutual.mi_textbook(shared) == pytest.approx(textbook, abs=1e-12)


def test_no_shared_concept_means_no_information() -> None:
    assert mutual.mi_paper(0, 0, 0) == mutual.mi_paper(15, 50, 0) == mutual.mi_textbook(0) == 0.0


@pytest.mark.parametrize("counts", [(3, 50, 4), (50, 3, 4), (3, 3, -1), (-1, 3, 0)])
def test_impossible_counts_are_refused(counts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=str(counts[2])):
        mutual.mi_paper(*counts)
    with pytest.raises(ValueError):
        mutual.mi_textbook(-1)


def test_dynamics_gives_the_long_published_curve() -> None:
    flags = [rank in {0, 2, 5} for rank in range(15)]
    curve = strength(flags, 50).curve
    expected = [7.7187, 7.3132, 7.3132, 6.6201, 6.6201, 6.6201] + [0.0] * 10
    assert curve == pytest.approx(expected, abs=5e-5)
    assert mutual.auc(curve) == pytest.approx(2.6378, abs=5e-5)


def test_dynamics_gives_the_short_published_curve() -> None:
    curve = strength([False, True, False, True], 6).curve
    assert curve == pytest.approx([3.8712, 3.8712, 3.1781, 3.1781, 0], abs=5e-5)
    assert mutual.auc(curve) == pytest.approx(2.8197, abs=5e-5)


@given(FLAGS, st.integers(20, 60))
def test_dynamics_follows_a_plain_loop(flags: list[bool], language: int) -> None:
    expected, remaining = [], list(flags)
    while True:
        shared = remaining.count(True)
        expected.append(math.log(len(flags)) + math.log(language) + math.log(shared) if shared else 0.0)
        if not remaining:
            break
        remaining.pop(0)
    curve = strength(flags, language).curve
    assert curve == pytest.approx(expected, abs=1e-12)
    assert curve[-1] == 0
    assert len(curve) == len(flags) + 1


@given(FLAGS, st.integers(0, 30))
def test_padding_only_divides_by_more_points(flags: list[bool], extra: int) -> None:
    curve = strength(flags, 50).curve
    padded = [*curve, *[0.0] * extra]
    assert mutual.auc(curve, length=len(padded)) == pytest.approx(sum(padded) / len(padded), abs=1e-12)


def test_a_curve_longer_than_the_padding_is_refused() -> None:
    with pytest.raises(ValueError, match="5 points"):
        mutual.auc([1.0] * 5, length=4)
    with pytest.raises(ValueError):
        mutual.auc([])


def test_overlap_is_by_identity_and_keeps_the_order() -> None:
    vision = ["a long snout with whiskers", "a long snout with hair", "fur"]
    assert mutual.overlap(vision, ["fur", "a long snout with hair on it", vision[0]]) == (True, False, True)
    assert mutual.overlap([], ["fur"]) == ()


@given(FLAGS.filter(bool), st.data())
def test_leaving_out_the_first_concepts_continues_the_curve(flags: list[bool], data: st.DataObject) -> None:
    removed = data.draw(st.integers(0, len(flags)))
    left = strength(flags, 50, removed=range(removed), length=21)
    curve = strength(flags, 50).curve
    assert left.curve == curve[removed:]
    assert left.mi_paper == curve[removed]
    assert left.auc == pytest.approx(sum(curve[removed:]) / 21)


@given(FLAGS, st.sets(st.integers(0, 19)))
def test_leaving_out_any_concepts_keeps_the_vision_count_in_the_logarithm(flags: list[bool], drawn: set[int]) -> None:
    removed = {position for position in drawn if position < len(flags)}
    left = strength(flags, 50, removed=removed)
    shared = sum(flag for position, flag in enumerate(flags) if position not in removed)
    assert left.count == shared
    assert left.mi_paper == pytest.approx(math.log(len(flags) * 50 * shared) if shared else 0.0)
    assert left.mi_textbook == pytest.approx(math.log(shared) if shared else 0.0)
    assert len(left.curve) == len(flags) - len(removed) + 1
    assert left.auc == left.auc_unpadded == pytest.approx(sum(left.curve) / len(left.curve))


@given(FLAGS.filter(bool), st.sets(st.integers(0, 19)))
def test_chance_and_p_are_those_of_as_many_concepts_as_remain(flags: list[bool], drawn: set[int]) -> None:
    removed = {position for position in drawn if position < len(flags)}
    left = strength(flags, 20, removed=removed, length=21)
    remaining = len(flags) - len(removed)
    assert left.p_value == pytest.approx(stats.hypergeom.sf(left.count - 1, 400, 20, remaining))
    assert left.p_value == 1.0 or left.count
    assert left.chance.count == pytest.approx(remaining * 20 / 400)
    of_as_many = [
        stats.hypergeom.pmf(range(1, 21), 400, 20, drawn) @ np.log(len(flags) * 20 * np.arange(1, 21))
        for drawn in range(remaining, -1, -1)
    ]
    assert left.chance.mi_paper == pytest.approx(of_as_many[0])
    assert left.chance.auc == pytest.approx(sum(of_as_many) / 21)


def test_leaving_out_everything_leaves_one_point_at_zero() -> None:
    left = strength([True, True], 10, removed=[0, 1], length=16)
    assert (left.count, left.mi_paper, left.curve, left.auc, left.auc_unpadded) == (0, 0.0, (0.0,), 0.0, 0.0)


def test_leaving_out_a_concept_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[7\].*there are 2"):
        strength([True, True], 10, removed=[0, 7])


@given(st.integers(0, 12), st.integers(0, 30), st.integers(30, 60))
def test_chance_agrees_with_scipys_hypergeometric(vision: int, language: int, vocabulary: int) -> None:
    law = stats.hypergeom(vocabulary, language, vision)
    support = range(min(vision, language) + 1)
    mean = sum(m * law.pmf(m) for m in support)
    assert mutual.chance(vision, language, vocabulary).count == pytest.approx(mean, abs=1e-9)
    mi = sum(law.pmf(m) * math.log(vision * language * m) for m in support if m)
    assert mutual.chance(vision, language, vocabulary).mi_paper == pytest.approx(mi, abs=1e-9)
    for shared in support:
        tail = mutual.p_value(vision, language, vocabulary, shared)
        assert tail == pytest.approx(law.sf(shared - 1), rel=1e-9, abs=1e-14)


def test_chance_auc_averages_over_every_possible_draw() -> None:
    vocabulary, vision, language, length = 6, 3, 2, 7
    total, draws = 0.0, 0
    for a in range(vocabulary):
        for b in range(vocabulary):
            for c in range(vocabulary):
                if len({a, b, c}) == vision:
                    flags = [concept < language for concept in (a, b, c)]
                    total += mutual.auc(strength(flags, language).curve, length=length)
                    draws += 1
    exact = mutual.chance(vision, language, vocabulary, length=length).auc
    assert exact == pytest.approx(total / draws, abs=1e-12)


@pytest.mark.parametrize(
    ("vocabulary", "count", "area", "count_published", "area_published"),
    [(4229, 0.1773, 0.5596, 0.18, 0.55), (120, 6.25, 6.5859, 6.2, 6.6)],
)
def test_chance_agrees_with_simulation_and_with_the_published_figures(
    vocabulary: int, count: float, area: float, count_published: float, area_published: float
) -> None:
    found = mutual.chance(15, 50, vocabulary, length=16)
    assert found.count == pytest.approx(count, abs=5e-5)
    assert found.count == pytest.approx(count_published, abs=0.051)
    assert found.auc == pytest.approx(area, abs=5e-5)
    assert found.auc == pytest.approx(area_published, abs=0.02)
    rng = np.random.default_rng(7)
    flags = np.argsort(rng.random((6_000, vocabulary)), axis=1)[:, :15] < 50 if vocabulary < 200 else _draws(rng)
    remaining = flags[:, ::-1].cumsum(axis=1)[:, ::-1]
    curves = np.where(remaining > 0, np.log(np.maximum(15 * 50 * remaining, 1)), 0.0)
    areas = curves.sum(axis=1) / 16
    spread = 4 / math.sqrt(len(flags))
    assert abs(areas.mean() - found.auc) < spread * areas.std()
    assert abs(curves[:, 0].mean() - found.mi_paper) < spread * curves[:, 0].std()


def _draws(rng: np.random.Generator) -> np.ndarray:
    drawn = rng.integers(0, 4229, (20_000, 15))
    distinct = (np.diff(np.sort(drawn, axis=1), axis=1) > 0).all(axis=1)
    return drawn[distinct] < 50


def test_no_vision_concept_has_no_chance() -> None:
    found = mutual.chance(0, 8, 500, length=16)
    assert (found.count, found.mi_paper, found.auc) == (0.0, 0.0, 0.0)
    assert mutual.p_value(0, 8, 500, 0) == 1.0


@pytest.mark.parametrize(("vision", "language"), [(5, 11), (11, 5), (-1, 5)])
def test_more_concepts_than_descriptors_are_refused(vision: int, language: int) -> None:
    with pytest.raises(ValueError, match="10 descriptors"):
        mutual.chance(vision, language, 10)
    with pytest.raises(ValueError, match="10 descriptors"):
        mutual.p_value(vision, language, 10, 0)


def test_p_value_is_exact_far_out_in_the_tail() -> None:
    law = Fraction(math.comb(50, 15), math.comb(4229, 15))
    assert mutual.p_value(15, 50, 4229, 15) == float(law)
    assert mutual.p_value(15, 50, 4229, 16) == 0.0
    with pytest.raises(ValueError):
        mutual.p_value(15, 50, 4229, -1)


def test_language_count_follows_table_1a() -> None:
    assert mutual.language_count_for(500) == 8
    for size in (2_000, 4_229, 10_000):
        assert mutual.language_count_for(size) == 50


def test_language_count_keeps_the_chance_auc_of_the_papers_setting() -> None:
    target = mutual.chance(15, 50, 4229, length=16).auc
    for size in (120, 500, 1_000, 1_999):
        u = mutual.language_count_for(size)
        off = [abs(mutual.chance(15, other, size, length=16).auc - target) for other in (u - 1, u, u + 1) if other]
        assert min(off) == abs(mutual.chance(15, u, size, length=16).auc - target)


def test_a_long_curve_of_chance_needs_few_large_binomials(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_by_one(total: int, chosen: int) -> int:
        raise AssertionError(f"C({total}, {chosen}) was computed by itself")

    monkeypatch.setattr(mutual, "comb", one_by_one)
    assert mutual.language_count_for(1_999, vision_count=1_000) == 31
    vision, language, size = 1_000, 3, 1_999
    law = stats.hypergeom(size, language, np.arange(vision, -1, -1))
    terms = [(m, math.log(vision * language * m)) for m in range(1, language + 1)]
    expected = sum(law.pmf(m) * term for m, term in terms)
    assert mutual.chance_curve(vision, language, size) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_language_count_never_falls_as_the_vocabulary_grows() -> None:
    sizes = [*range(1, 60), *range(60, 2_001, 97), 1_999, 2_000]
    counts = [mutual.language_count_for(size) for size in sorted(sizes)]
    assert counts == sorted(counts)
    assert all(1 <= count <= size for count, size in zip(counts, sorted(sizes), strict=True))
    with pytest.raises(ValueError, match="vocabulary of 0"):
        mutual.language_count_for(0)


def test_measure_puts_everything_side_by_side() -> None:
    pair = SoftPair(vision="a pointed muzzle", language="a pointy snout", cosine=0.9)
    flags = [True, False, True, False]
    found = mutual.measure(flags, language_count=8, vocabulary_size=500, length=16, soft=[pair])
    assert found.count == 2
    assert found.mi_paper == pytest.approx(math.log(4 * 8 * 2))
    assert found.mi_textbook == pytest.approx(math.log(2))
    assert found.curve == strength(flags, 8).curve
    assert found.auc == pytest.approx(sum(found.curve) / 16)
    assert found.auc_unpadded == pytest.approx(sum(found.curve) / 5)
    assert found.chance == mutual.chance(4, 8, 500, length=16)
    assert found.p_value == mutual.p_value(4, 8, 500, 2)
    assert found.soft == (pair,)


def brute_force_swap(language: dict[str, set[int]], vision: list[int], explained: str) -> ClassSwap:
    shared = {name: sum(concept in tied for concept in vision) for name, tied in language.items()}
    others = {name: count for name, count in shared.items() if name != explained}
    following = None
    for name, count in sorted(others.items()):
        if count > (0 if following is None else others[following]):
            following = name
    at_least = 0
    for count in others.values():
        at_least += count >= shared[explained]
    return ClassSwap(
        p_value=(1 + at_least) / len(language),
        classes=len(language),
        of=len(language),
        at_least=at_least,
        next_class=following,
        next_count=0 if following is None else others[following],
    )


SETS = st.dictionaries(st.text("abc", min_size=1, max_size=4), st.sets(st.integers(0, 12)), min_size=2, max_size=9)


@given(language=SETS, vision=st.lists(st.integers(0, 12), unique=True, max_size=8), data=st.data())
def test_class_swap_is_a_plain_count_over_the_other_classes(
    language: dict[str, set[int]], vision: list[int], data: st.DataObject
) -> None:
    explained = data.draw(st.sampled_from(sorted(language)))
    tied_to = [[name for name, tied in language.items() if concept in tied] for concept in vision]
    shared = len(language[explained] & set(vision))
    found = mutual.class_swap(tied_to, shared, explained=explained, classes=len(language), of=len(language))
    assert found == brute_force_swap(language, vision, explained)
    assert found.floor == 1 / len(language) <= found.p_value <= 1
    assert (found.p_value == found.floor) == (found.next_count < shared)


def test_class_swap_needs_another_class_and_says_1_where_nothing_is_shared() -> None:
    assert mutual.class_swap([["fox"]], 1, explained="fox", classes=1, of=1) is None
    found = mutual.class_swap([[], ["cat"]], 0, explained="fox", classes=29, of=200)
    assert found == ClassSwap(p_value=1.0, classes=29, of=200, at_least=28, next_class="cat", next_count=1)
    assert mutual.class_swap([], 0, explained="fox", classes=2, of=2).next_class is None


def test_classes_share_as_many_concepts_by_chance_as_the_p_value_says() -> None:
    rng = np.random.default_rng(0)
    classes, below = 40, 0
    for _ in range(2_000):
        shared = rng.binomial(13, 0.2, size=classes)
        tied_to = [[str(y) for y in range(classes) if rank < shared[y]] for rank in range(13)]
        found = mutual.class_swap(tied_to, int(shared[0]), explained="0", classes=classes, of=classes)
        below += found.p_value <= 0.05
    assert below / 2_000 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2_000)


@pytest.mark.parametrize(
    ("classes", "descriptors", "count"),
    [(29, 650, 29), (1_000, 4_229, 1_000), (200_000, 4_229, 2_000), (1_000, 10**6, 100), (60, 10**7, 60)],
)
def test_of_very_many_classes_an_evenly_spaced_sample_is_swapped(classes: int, descriptors: int, count: int) -> None:
    found = mutual.swapped_classes(classes, descriptors)
    assert len(set(found)) == len(found) == count
    assert found == sorted(found)
    assert found[0] == 0
    assert {later - one for one, later in zip(found, [*found[1:], classes], strict=True)} <= {
        classes // count,
        -(-classes // count),
    }

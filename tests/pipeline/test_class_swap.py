"""The class swap of real explanations, against explaining every class one by one."""

from __future__ import annotations

import pytest

import embedded
from clipmk.explanation import Explanation
from clipmk.pipeline import builder


@pytest.fixture(scope="module")
def by_class() -> list[dict[str, Explanation]]:
    """For each of a few scenes the explanation of every class."""
    explainer = embedded.explainer()
    names = explainer.vocabulary.classes
    return [
        dict(zip(names, explainer.explain([one] * len(names), targets=names), strict=True))
        for one in embedded.pictures(4)
    ]


def test_m_of_other_classes_is_what_explaining_them_gives(by_class: list[dict[str, Explanation]]) -> None:
    for every in by_class:
        shared = {name: one.mutual.count for name, one in every.items()}
        assert max(shared.values()) > 0
        for name, one in every.items():
            others = {other: count for other, count in shared.items() if other != name}
            following = min(others, key=lambda other: (-others[other], other))
            swap = one.mutual.class_swap
            assert swap is not None
            assert (swap.classes, swap.of) == (len(shared), len(shared))
            assert swap.at_least == sum(count >= shared[name] for count in others.values())
            assert swap.p_value == (1 + swap.at_least) / len(shared)
            assert (swap.next_class, swap.next_count) == (following if others[following] else None, others[following])
            tied = {concept.text: concept.tied_to for concept in one.vision_concepts}
            assert {text for text, names in tied.items() if name in names} == set(one.mutual_concepts)


def test_alternatives_and_another_target_have_the_same_swap(by_class: list[dict[str, Explanation]]) -> None:
    for every in by_class:
        predicted = next(one for one in every.values() if one.class_name == one.predictions[0].class_name)
        for other in predicted.alternatives:
            assert other.mutual == every[other.class_name].mutual
            assert predicted.for_class(other.class_name).mutual == other.mutual


def test_what_if_swaps_classes_with_the_concepts_that_remain(by_class: list[dict[str, Explanation]]) -> None:
    for every in by_class:
        for name, one in every.items():
            kept = {concept.text for concept in one.vision_concepts[1::2]}
            left_out = [concept.text for concept in one.vision_concepts if concept.text not in kept]
            shared = {other: len(kept & set(found.mutual_concepts)) for other, found in every.items()}
            found = one.without(left_out)
            assert (found.count, found.vision_count) == (shared[name], len(kept))
            assert found.class_swap is not None
            assert found.class_swap.at_least == sum(n >= shared[name] for other, n in shared.items() if other != name)


def test_a_single_class_has_no_swap() -> None:
    found = embedded.explainer_of(embedded.words(40, classes=1), embedded.explainer().settings).explain(
        [embedded.picture()]
    )[0]
    assert found.mutual.class_swap is None
    assert found.without([found.vision_concepts[0].text]).class_swap is None


def test_a_sample_of_classes_is_said_in_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "swapped_classes", lambda classes, _: list(range(0, classes, 4)))
    explainer = embedded.explainer(seed=1)
    names = explainer.vocabulary.classes
    for target, classes in ((names[4], len(names[::4])), (names[5], len(names[::4]) + 1)):
        found = explainer.explain([embedded.picture()], targets=[target])[0]
        swap = found.mutual.class_swap
        assert swap is not None
        assert (swap.classes, swap.of) == (classes, len(names))
        assert {name for concept in found.vision_concepts for name in concept.tied_to} <= set(names[::4])

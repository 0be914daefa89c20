"""What a strength says in words."""

from __future__ import annotations

import dataclasses

import pytest

import samples
from clipmk.output.sentences import Measure, beaten, measures, overlap_sentence, part_names
from clipmk.records import ClassSwap, Mutual


def test_a_part_is_named_without_a_mark_only_by_a_concept_that_is_seen_in_it() -> None:
    made = samples.explanation()
    own, other = (part.descriptors for part in made.parts)
    concepts = tuple(dataclasses.replace(concept, parts=(1,)) for concept in made.vision_concepts)
    parts = [
        dataclasses.replace(made.parts[0], id=number, descriptors=words)
        for number, words in enumerate([own, other[:1], (), own[:1]], 1)
    ]
    seen = {concept.text for concept in concepts}
    assert {own[0].text, other[0].text} <= seen
    made = dataclasses.replace(made, parts=tuple(parts), vision_concepts=concepts)
    assert part_names(made) == {1: own[0].text, 2: f"? {other[0].text}", 3: "?", 4: f"? {own[0].text}"}
    unseen = dataclasses.replace(made, vision_concepts=())
    assert part_names(unseen)[1] == f"? {own[0].text}"


def counted(count: int, at_least: int, next_count: int, *, classes: int = 29, of: int = 29) -> Mutual:
    swap = ClassSwap(
        p_value=(1 + at_least) / classes,
        classes=classes,
        of=of,
        at_least=at_least,
        next_class="truck" if next_count else None,
        next_count=next_count,
    )
    return dataclasses.replace(samples.explanation().mutual, count=count, vision_count=13, class_swap=swap)


@pytest.mark.parametrize(
    ("mutual", "sentence", "beats"),
    [
        (counted(5, 0, 2), "5 {are}; more than to any of 28 other classes (next: 'truck', 2)", "all 28"),
        (
            counted(2, 6, 4),
            "2 {are}; 6 of 28 other classes have as many or more (most: 'truck', 4; p 0.24)",
            "22 of 28",
        ),
        (counted(1, 1, 1), "1 {is}; 1 of 28 other classes has as many or more (most: 'truck', 1; p 0.069)", "27 of 28"),
        (counted(1, 0, 0), "1 {is}; none to any of 28 other classes", "all 28"),
        (counted(0, 28, 3), "none {is}; the most to another class: 'truck', 3", "0 of 28"),
        (counted(0, 28, 0), "none {is}; none to any of 28 other classes", "0 of 28"),
        (counted(3, 0, 1, of=2, classes=2), "3 {are}; more than to the 1 other class (next: 'truck', 1)", "all 1"),
        (
            counted(5, 0, 2, classes=2_001, of=200_000),
            "5 {are}; more than to any of 2,000 other classes (a sample of 200,000; next: 'truck', 2)",
            "all 2,000",
        ),
        (
            counted(5, 3, 7, classes=2_001, of=200_000),
            "5 {are}; 3 of 2,000 other classes have as many or more (a sample of 200,000; most: 'truck', 7; p 0.002)",
            "1,997 of 2,000",
        ),
    ],
)
def test_the_sentence_counts_and_compares_with_other_classes(mutual: Mutual, sentence: str, beats: str) -> None:
    words = {verb: f"of 13 seen concepts {verb} tied to 'car'" for verb in ("is", "are")}
    assert overlap_sentence(mutual, "car") == sentence.format(**words)
    assert beaten(mutual) == beats


def test_a_single_class_is_compared_with_nothing() -> None:
    alone = dataclasses.replace(counted(5, 0, 2), class_swap=None)
    assert overlap_sentence(alone, "car").endswith("tied to 'car'; there is no other class to compare with")
    assert beaten(alone) == "–"
    assert [one.name for one in measures(alone)] == ["strength", "AUC", "u"]


def test_measures_say_what_to_hold_each_number_against() -> None:
    shown = measures(counted(2, 6, 4), everything=True)
    assert shown == [
        Measure("class swap p", "0.24", "share of 29 classes with as many or more, its own included"),
        Measure("strength", "3.69", "the paper's MI, in nats; by chance 0.90"),
        Measure("AUC", "0.61", "under the curve, 1.1 x chance (0.55); unpadded 1.94"),
        Measure("u", "5", "of 100 descriptors are tied to each class (5 %)"),
        Measure("random draw p", "0.017", "mutual concepts of random ones: 0.20"),
    ]
    assert measures(counted(2, 6, 4)) == shown[:-1]


@pytest.mark.parametrize(
    ("size", "told"), [(1_800, False), (1_801, True), (2_000, True), (2_199, True), (2_200, False)]
)
def test_the_jump_of_u_is_told_near_2000_descriptors(size: int, told: bool) -> None:
    (note,) = [
        one.note for one in measures(dataclasses.replace(counted(2, 6, 4), vocabulary_size=size)) if one.name == "u"
    ]
    assert note.endswith("; u jumps at 2,000") == told

"""The check of a vocabulary: duplicates, leaked class names, classes too alike, odd lengths."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmk.vocabulary.lint import check
from clipmk.vocabulary.vocabulary import Vocabulary, from_descriptor_json
from small_vocabulary import FARM, WORDS


def described(*descriptors: str, classes: tuple[str, ...] = ("zzz",)) -> Vocabulary:
    return Vocabulary("v", classes, ("a {}",), descriptors)


def test_a_sound_vocabulary_is_ok() -> None:
    report = check(Vocabulary("v", FARM.classes, FARM.templates, FARM.descriptors))
    assert not report.problems
    assert report.problems == []


def test_duplicates_except_for_case_and_spaces_are_found() -> None:
    report = check(described("A red  comb", "a red comb", "a blue comb", classes=("Fox", "fox")))
    assert report.duplicates == (("Fox", "fox"), ("A red  comb", "a red comb"))
    assert report.near_duplicates == ()
    assert report.problems
    assert report.problems[0].startswith("2 equal except for case and spaces: 'Fox' / 'fox'")


@pytest.mark.parametrize(
    ("first", "second", "near"),
    [
        ("a pointed ear", "pointed ears", True),
        ("ears, long and soft", "soft and long ears", True),
        ("a pointed muzzle", "a pointy muzzle", True),
        ("a rounded shell", "a round shell", True),
        ("a red wheel", "a blue wheel", False),
        ("a red roof", "a red hoof", False),
        ("a long tail", "a short tail", False),
        ("a long tail", "a long snout", False),
    ],
)
def test_near_duplicates_are_distinguished_from_different_concepts(first: str, second: str, near: bool) -> None:
    assert check(described(first, "something else", second)).near_duplicates == (((first, second),) if near else ())


def test_class_names_in_descriptors_are_found_as_whole_words() -> None:
    classes = ("cat", "ice cream", "fox", "pony")
    report = check(
        described(
            "a Cat's paw", "a caterpillar", "two foxes", "scoops of ice creams", "cream", "ponies", classes=classes
        )
    )
    assert report.leaks == (
        ("cat", "a Cat's paw"),
        ("fox", "two foxes"),
        ("ice cream", "scoops of ice creams"),
        ("pony", "ponies"),
    )


def test_a_plural_without_singular_is_not_an_adjective() -> None:
    assert not check(described("a short tail", "tight curls", classes=("shorts", "tights"))).problems
    assert check(described("grey shorts", "tight curls", classes=("shorts",))).leaks == (("shorts", "grey shorts"),)


def test_single_words_of_a_class_in_its_own_descriptors_are_found() -> None:
    by_class = {
        "bird of prey": ("the eyes of a hunter", "strong birds' feet", "a hooked beak"),
        "tabby cat": ("bird of prey prints", "the tabbies' stripes"),
        "shirt": ("shirt buttons", "strong birds' feet"),
    }
    texts = tuple(dict.fromkeys(text for texts in by_class.values() for text in texts))
    report = check(Vocabulary("v", tuple(by_class), ("{}",), texts, by_class=by_class))
    assert report.own_words == (("bird of prey", "strong birds' feet"), ("tabby cat", "the tabbies' stripes"))
    assert report.leaks == (("bird of prey", "bird of prey prints"), ("shirt", "shirt buttons"))
    assert any(line.startswith("2 descriptors with a word of their class's name") for line in report.problems)


def test_classes_that_another_class_nearly_covers_are_found() -> None:
    by_class = {
        "a": ("one", "two", "three"),
        "b": ("one", "two", "four", "five"),
        "c": ("one", "six", "seven"),
        "d": ("eight",),
        "e": ("seven", "six", "one"),
    }
    texts = tuple(dict.fromkeys(text for texts in by_class.values() for text in texts))
    vocabulary = Vocabulary("v", tuple(by_class), ("{}",), texts, by_class=by_class)
    report = check(vocabulary)
    assert report.alike == (("a", "b"),)
    assert report.same_descriptors == (("c", "e"),)
    assert any(line == "1 classes hard to tell from another: 'a' / 'b'" for line in report.problems)
    assert check(vocabulary, own=1).alike == ()
    assert set(check(vocabulary, own=3).alike) == {
        *(("a", other) for other in "bce"),
        ("b", "a"),
        *((one, other) for one in "ce" for other in "ab"),
    }


@given(
    st.dictionaries(WORDS, st.lists(st.sampled_from("abcdefg"), min_size=1, unique=True), min_size=1, max_size=8),
    st.integers(1, 3),
)
def test_every_pair_of_alike_classes_is_found(by_class: dict[str, list[str]], own: int) -> None:
    vocabulary = from_descriptor_json(json.dumps({"by_class": by_class}), name="any")
    sets = {name: set(texts) for name, texts in vocabulary.by_class.items()}
    expected = {
        (one, other)
        for one in sets
        for other in sets
        if sets[one] & sets[other] and len(sets[one] - sets[other]) < own and sets[one] != sets[other]
    }
    found = check(vocabulary, own=own).alike
    assert set(found) == expected
    assert len(set(found)) == len(found)


def test_odd_lengths_are_found() -> None:
    long = "a very long sentence that goes on and on about a thing and does not come to an end"
    assert check(described("ab", "a red comb", "round eyes", long)).outliers == ("ab", long)


def test_classes_alike_and_classes_without_descriptors_are_found() -> None:
    vocabulary = Vocabulary(
        "v",
        ("a", "b", "c", "d"),
        ("{}",),
        ("one", "two"),
        by_class={"a": ("one", "two"), "b": ("one",), "c": ("two", "one")},
    )
    report = check(vocabulary)
    assert report.same_descriptors == (("a", "c"),)
    assert report.undescribed == ("d",)


def test_problems_show_a_few_examples_and_count_the_rest() -> None:
    report = check(described(*(f"{letter}" for letter in "abcdefgh")))
    assert len(report.outliers) == 8
    assert report.problems == ["8 descriptors of odd length: 'a', 'b', 'c', 'd', 'e', and 3 more"]

"""Vocabularies: both JSON forms, class lists, what is refused and where, and what the check finds."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmk import locations, world
from clipmk.errors import UsageError, VocabularyError
from clipmk.vocabulary import (
    IMAGENET_TEMPLATES,
    Vocabulary,
    available,
    check,
    from_descriptor_json,
    load_vocabulary,
    parse_classes,
    resolve_class,
)

FARM = Vocabulary(
    name="farm",
    classes=("hen", "barn owl", "cat"),
    templates=("a photo of a {}.", "art of the {}."),
    descriptors=("a red comb", "round eyes", "a small beak"),
    by_class={"hen": ("a red comb", "a small beak"), "barn owl": ("round eyes", "a small beak")},
)
WORDS = st.text(st.characters(min_codepoint=33, exclude_categories=("C", "Z")), min_size=1, max_size=12)


def test_the_world_is_as_the_renderer_says() -> None:
    vocabulary = load_vocabulary("world")
    assert vocabulary.classes == tuple(world.class_names())
    assert vocabulary.descriptors == tuple(world.descriptors())
    assert len(vocabulary.descriptors) >= 500
    assert vocabulary.by_class["fox"] == tuple(world.typical_descriptors("fox"))
    assert vocabulary.templates == ("a photo of a {}.", "a drawing of a {}.", "a picture of a {}.", "a {}.")
    assert vocabulary.descriptor_prompts[0] == f"a photo showing {vocabulary.descriptors[0]}"
    assert check(vocabulary).ok


def test_descriptor_json_keeps_order_and_drops_repetitions() -> None:
    text = '{"owl": ["round eyes", " a beak ", "round eyes"], "hen": ["a comb", "a beak"]}'
    vocabulary = from_descriptor_json(text, name="birds")
    assert vocabulary.classes == ("owl", "hen")
    assert vocabulary.descriptors == ("round eyes", "a beak", "a comb")
    assert vocabulary.by_class == {"owl": ("round eyes", "a beak"), "hen": ("a comb", "a beak")}
    assert vocabulary.templates == IMAGENET_TEMPLATES
    assert vocabulary.descriptor_template == "a photo showing {}"
    assert vocabulary.name == "birds"


def test_prompts_fill_every_template_with_every_class() -> None:
    assert FARM.class_prompts[1] == ("a photo of a barn owl.", "art of the barn owl.")
    assert len(FARM.class_prompts) == 3
    braces = Vocabulary("x", ("{0} %s",), ("a {}.",), ("b",))
    assert braces.class_prompts == (("a {0} %s.",),)


def test_the_full_form_reads_back_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(FARM.to_dict()), encoding="utf-8")
    assert load_vocabulary(str(path)) == FARM
    assert load_vocabulary(str(path)).sha256 == FARM.sha256


def test_the_full_form_has_defaults() -> None:
    vocabulary = from_descriptor_json('{"by_class": {"hen": ["a comb"], "owl": ["eyes", "a comb"]}}', name="n")
    assert vocabulary.classes == ("hen", "owl")
    assert vocabulary.descriptors == ("a comb", "eyes")
    bare = from_descriptor_json('\ufeff{"classes": ["hen"], "descriptors": ["a", "b", "a"]}'.encode(), name="n")
    assert (bare.descriptors, bare.by_class, bare.templates) == (("a", "b"), {}, IMAGENET_TEMPLATES)


def test_attributes_are_descriptors_of_no_class() -> None:
    table = {"by_class": {"hen": ["a comb"]}, "attributes": ["dim light", "a comb", "dim light", "rust"]}
    vocabulary = from_descriptor_json(json.dumps(table), name="n")
    assert vocabulary.descriptors == ("a comb", "dim light", "rust")
    assert vocabulary.by_class == {"hen": ("a comb",)}
    alone = from_descriptor_json('{"classes": ["hen"], "attributes": ["dim light"]}', name="n")
    assert (alone.classes, alone.descriptors) == (("hen",), ("dim light",))
    table["descriptors"] = ["eyes", "a comb"]
    assert from_descriptor_json(json.dumps(table), name="n").descriptors == ("eyes", "a comb", "dim light", "rust")


@given(st.dictionaries(WORDS, st.lists(WORDS, min_size=1, max_size=4), min_size=1, max_size=5))
def test_any_descriptor_json_becomes_its_union(table: dict[str, list[str]]) -> None:
    if "classes" in table or "by_class" in table:
        return
    vocabulary = from_descriptor_json(json.dumps(table), name="any")
    assert vocabulary.classes == tuple(table)
    assert len(set(vocabulary.descriptors)) == len(vocabulary.descriptors)
    assert set(vocabulary.descriptors) == {text for texts in table.values() for text in texts}
    assert from_descriptor_json(json.dumps(vocabulary.to_dict()), name="other") == vocabulary


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"hen":\n ["a" "b"]}', r"is not JSON: .* \(line 2, column 7\)"),
        ('{"hen": ["a"],\n "owl": ["b"],\n "hen": ["c"]}', r"the key 'hen' stands twice \(again in line 3\)"),
        ('{"classes": ["a"], "by_class": {"a": ["x"], "a": ["y"]}}', "the key 'a' stands twice"),
        ('["a"]', "is a list; an object"),
        ("{}", "is empty"),
        ("", r"line 1, column 1"),
        ("[" * 100_000, "is not JSON that can be read"),
        ("1" * 5_000, "is not JSON that can be read|is a number"),
        ('{"hen": "a comb"}', "'hen' is a text; a list of texts is needed"),
        ('{"hen": {"a": 1}}', "'hen' is an object; a list"),
        ('{"hen": []}', "'hen' is empty"),
        ('{"hen": ["a", 3]}', r"'hen'\[1\] is a number; a text is needed"),
        ('{"hen": ["a", null]}', r"'hen'\[1\] is null"),
        ('{"hen": ["a", "b", "  "]}', r"'hen'\[2\] is blank"),
        ('{" ": ["a"]}', "key 0 is blank"),
        ('{"hen": ["a"], "hen ": ["b"]}', "the key 'hen' stands twice"),
        (r'{"hen": ["a \u001b[31m"]}', r"'hen'\[0\] holds the control character \\x1b: 'a \\x1b\[31m'"),
        (r'{"hen": ["two\nlines"]}', r"control character \\x0a"),
        (r'{"hen": ["\ud800"]}', r"control character \\ud800"),
        (r'{"hen\u202e": ["a"]}', r"key 0 holds the control character \\u202e"),
        ('{"hen": ["%s"]}' % ("x" * 301), r"'hen'\[0\] has 301 characters; at most 300"),
        ('{"classes": ["hen"], "descriptorz": ["a"]}', "'descriptorz' is no key of a vocabulary; close: 'descriptors'"),
        ('{"classes": ["hen"]}', "descriptors is empty"),
        ('{"classes": "hen", "descriptors": ["a"]}', "classes is a text"),
        ('{"classes": ["hen", "owl", "hen"], "descriptors": ["a"]}', r"classes\[2\] repeats classes\[0\]: 'hen'"),
        (
            '{"classes": ["hen"], "descriptors": ["a"], "templates": ["a {}", "b"]}',
            r"templates\[1\] is 'b'; .* \{\} exactly",
        ),
        ('{"classes": ["hen"], "descriptors": ["a"], "templates": ["{} {}"]}', "exactly once"),
        ('{"classes": ["hen"], "descriptors": ["a"], "descriptor_template": "x"}', "descriptor_template is 'x'"),
        (
            '{"classes": ["hen"], "descriptors": ["a"], "by_class": {"hne": ["a"]}}',
            "'hne', which is no class; close: 'hen'",
        ),
        (
            '{"classes": ["hen"], "descriptors": ["a"], "by_class": {"hen": ["b"]}}',
            r"'hen'\[0\] is 'b', which is not among",
        ),
        ('{"by_class": {"hen": ["a"]}, "attributes": ["b", " "]}', r"attributes\[1\] is blank"),
        ('{"by_class": {"hen": ["a"]}, "attributes": []}', "attributes is empty"),
        ('{"classes": ["hen"], "descriptors": ["a"], "by_class": ["b"]}', "'by_class' is a list"),
    ],
)
def test_a_malformed_file_is_refused_with_the_place(text: str, message: str) -> None:
    with pytest.raises(VocabularyError, match=message) as caught:
        from_descriptor_json(text, name="v")
    assert str(caught.value).startswith("vocabulary 'v'")
    assert str(caught.value).isprintable()


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(VocabularyError, match=r"is not UTF-8 text \(byte 2\)"):
        from_descriptor_json(b'{"\xff": ["a"]}', name="v")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ()}, "classes is empty"),
        ({"templates": ("no place",)}, r"templates\[0\] is 'no place'; it must hold \{\} exactly once"),
        ({"descriptors": ("a", "b", "a")}, r"descriptors\[2\] repeats descriptors\[0\]"),
        ({"descriptors": ("a", "")}, r"descriptors\[1\] is blank"),
    ],
)
def test_a_vocabulary_made_in_python_is_checked_too(changes: dict[str, object], message: str) -> None:
    fields: dict[str, object] = {"classes": ("hen",), "templates": ("a {}",), "descriptors": ("a",)}
    with pytest.raises(VocabularyError, match=f"vocabulary 'mine': {message}"):
        Vocabulary(name="mine", **{**fields, **changes})


def test_the_record_is_frozen_hashable_and_portable() -> None:
    copy = pickle.loads(pickle.dumps(FARM))  # noqa: S301 - our own bytes
    assert copy == FARM
    assert hash(copy) == hash(FARM)
    with pytest.raises(AttributeError):
        copy.name = "y"


def test_the_digest_follows_the_content_and_not_the_name() -> None:
    assert replace(FARM, name="other").sha256 == FARM.sha256
    changed = [
        replace(FARM, descriptors=FARM.descriptors[::-1]),
        replace(FARM, templates=FARM.templates[:1]),
        replace(FARM, descriptor_template="{}"),
        replace(FARM, by_class={}),
        FARM.with_classes(["hen", "cat", "barn owl"]),
    ]
    assert len({FARM.sha256, *(vocabulary.sha256 for vocabulary in changed)}) == 6
    assert len(FARM.sha256) == 64


def test_other_classes_keep_the_descriptors() -> None:
    other = FARM.with_classes(["hen", "dog"])
    assert other.classes == ("hen", "dog")
    assert (other.descriptors, other.templates) == (FARM.descriptors, FARM.templates)
    assert other.by_class == {"hen": FARM.by_class["hen"]}
    assert FARM.with_classes(name for name in (" hen", "dog")).classes == ("hen", "dog")
    with pytest.raises(VocabularyError, match="classes is a text"):
        FARM.with_classes("hen")


def test_an_unknown_vocabulary_names_what_exists(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="vocabulary 'wrold' is neither a name nor a file; close: 'world'"):
        load_vocabulary("wrold")
    (tmp_path / "birds.json").touch()
    with pytest.raises(VocabularyError, match=r"brids.json' does not exist; close: 'birds.json'"):
        load_vocabulary(str(tmp_path / "brids.json"))
    with pytest.raises(VocabularyError, match="is a folder"):
        load_vocabulary(str(tmp_path))


def test_shipped_files_are_vocabularies_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vocabularies").mkdir()
    table = {**FARM.to_dict(), "description": "a farm"}
    (tmp_path / "vocabularies" / "farm.json").write_text(json.dumps(table), encoding="utf-8")
    monkeypatch.setattr(locations, "assets_dir", lambda: tmp_path)
    assert available()["farm"] == "a farm"
    assert "world" in available()
    assert load_vocabulary("farm") == FARM
    with pytest.raises(UsageError, match="close: 'farm'"):
        load_vocabulary("farn")


def test_class_lists_come_from_commas_or_files(tmp_path: Path) -> None:
    assert parse_classes("red fox, cat,dog") == ("red fox", "cat", "dog")
    assert parse_classes("fox") == ("fox",)
    path = tmp_path / "classes.txt"
    path.write_bytes("\ufeff# animals\r\nred fox\r\n\r\n  cat, tabby  \r\nC# sharp\r\n".encode())
    assert parse_classes(str(path)) == ("red fox", "cat, tabby", "C# sharp")
    (tmp_path / "c.json").write_text('["a", "b"]', encoding="utf-8")
    assert parse_classes(str(tmp_path / "c.json")) == ("a", "b")


def test_a_folder_named_like_a_class_is_a_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cat").mkdir()
    monkeypatch.chdir(tmp_path)
    assert parse_classes("cat") == ("cat",)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("", "class 1 is blank"),
        ("a,,b", "class list 'a,,b': class 2 is blank"),
        ("a,b, a", "class 3 repeats class 1: 'a'"),
        ("a,b\x1bc", r"class 2 holds the control character \\x1b"),
        ("missing.txt", "class list 'missing.txt' does not exist"),
        ("x" * 301, "at most 300"),
    ],
)
def test_bad_class_lists_are_refused_with_the_place(argument: str, message: str) -> None:
    with pytest.raises(VocabularyError, match=message):
        parse_classes(argument)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.txt", b"# nothing\n\n", "is empty"),
        ("c.txt", b"a\nb\n#x\na\n", "line 4 repeats line 1: 'a'"),
        ("c.txt", b"a\nb\x07\n", r"line 2 holds the control character \\x07"),
        ("c.txt", b"\xff\xfea\0", "is not UTF-8"),
        ("c.json", b'["a", 1]', r"names\[1\] is a number"),
        ("c.json", b'["a"', "is not JSON: .*line 1"),
        ("c.json", b'{"a": 1}', "names is an object"),
    ],
)
def test_bad_class_files_are_refused_with_the_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(VocabularyError, match=message) as caught:
        parse_classes(str(tmp_path / name))
    assert name in str(caught.value)


def test_classes_are_found_by_name() -> None:
    assert resolve_class(FARM, "barn owl") == 1
    assert resolve_class(FARM, " Barn OWL") == 1
    both = FARM.with_classes(["Cat", "cat", "dog"])
    assert resolve_class(both, "cat") == 1
    with pytest.raises(UsageError, match="class 'CAT' is not in farm; close: 'Cat', 'cat'"):
        resolve_class(both, "CAT")


def test_an_unknown_class_names_close_ones() -> None:
    vocabulary = Vocabulary("imagenet", ("tabby cat", "tiger"), ("a {}",), ("x",))
    with pytest.raises(UsageError) as caught:
        resolve_class(vocabulary, "tabby cta")
    assert str(caught.value) == "class 'tabby cta' is not in imagenet; close: 'tabby cat'"
    with pytest.raises(UsageError, match="known: tabby cat, tiger"):
        resolve_class(vocabulary, "zzzz")


def described(*descriptors: str, classes: tuple[str, ...] = ("zzz",)) -> Vocabulary:
    return Vocabulary("v", classes, ("a {}",), descriptors)


def test_a_sound_vocabulary_is_ok() -> None:
    report = check(Vocabulary("v", FARM.classes, FARM.templates, FARM.descriptors))
    assert (report.class_count, report.template_count, report.descriptor_count) == (3, 2, 3)
    assert report.ok
    assert report.problems == []


def test_repetitions_but_for_case_and_spaces_are_found() -> None:
    report = check(described("A red  comb", "a red comb", "a blue comb", classes=("Fox", "fox")))
    assert report.duplicates == (("Fox", "fox"), ("A red  comb", "a red comb"))
    assert report.near_duplicates == ()
    assert not report.ok
    assert report.problems[0].startswith("2 equal but for case and spaces: 'Fox' / 'fox'")


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
def test_near_repetitions_are_told_from_different_concepts(first: str, second: str, near: bool) -> None:
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


def test_a_plural_without_singular_is_no_adjective() -> None:
    assert check(described("a short tail", "tight curls", classes=("shorts", "tights"))).ok
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
    assert any(line == "1 classes hardly told from another: 'a' / 'b'" for line in report.problems)
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

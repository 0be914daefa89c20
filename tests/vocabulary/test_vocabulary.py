"""Vocabularies: both JSON forms, class lists, and what is refused and where."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmk.api import _explainer as explainer
from clipmk.errors import UsageError, VocabularyError
from clipmk.pipeline.explainer import vocabulary_warnings
from clipmk.settings import preset
from clipmk.system import locations
from clipmk.vocabulary.lint import check
from clipmk.vocabulary.vocabulary import (
    IMAGENET_TEMPLATES,
    Vocabulary,
    available,
    default_vocabulary,
    from_descriptor_json,
    load_vocabulary,
)
from clipmk.world.combinations import typical_descriptors
from clipmk.world.tables import all_descriptors, class_names
from small_vocabulary import FARM, WORDS


def test_the_worlds_vocabulary_follows_its_tables() -> None:
    vocabulary = load_vocabulary("world")
    assert vocabulary.classes == class_names()
    assert vocabulary.descriptors == all_descriptors()
    assert len(vocabulary.descriptors) >= 500
    assert vocabulary.by_class["fox"] == typical_descriptors("fox")
    assert vocabulary.templates == ("a photo of a {}.", "a drawing of a {}.", "a picture of a {}.", "a {}.")
    assert vocabulary.descriptor_template == "a photo showing {}"
    assert not check(vocabulary).problems


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
        ('{"hen":\n ["a" "b"]}', "is not readable JSON: .*: line 2 column 7"),
        ('{"hen": ["a"],\n "owl": ["b"],\n "hen": ["c"]}', r"the key 'hen' is repeated \(again in line 3\)"),
        ('{"classes": ["a"], "by_class": {"a": ["x"], "a": ["y"]}}', "the key 'a' is repeated"),
        ('["a"]', "is a list; an object"),
        ("{}", "is empty"),
        ("", r"line 1 column 1"),
        ("[" * 100_000, "is not readable JSON"),
        ("1" * 5_000, "is not readable JSON|is a number"),
        ('{"hen": "a comb"}', "'hen' is a text; a list of texts is needed"),
        ('{"hen": {"a": 1}}', "'hen' is an object; a list"),
        ('{"hen": []}', "'hen' is empty"),
        ('{"hen": ["a", 3]}', r"'hen'\[1\] is a number; a text is needed"),
        ('{"hen": ["a", null]}', r"'hen'\[1\] is null"),
        ('{"hen": ["a", "b", "  "]}', r"'hen'\[2\] is blank"),
        ('{" ": ["a"]}', "key 0 is blank"),
        ('{"hen": ["a"], "hen ": ["b"]}', "the key 'hen' is repeated"),
        (r'{"hen": ["a \u001b[31m"]}', r"'hen'\[0\] holds the control character \\x1b: 'a \\x1b\[31m'"),
        (r'{"hen": ["\ud800"]}', r"control character \\ud800"),
        (r'{"hen\u202e": ["a"], "hen": ["b"]}', "the key 'hen' is repeated"),
        ('{"hen": ["%s"]}' % ("x" * 301), r"'hen'\[0\] has 301 characters; at most 300"),
        (
            '{"classes": ["hen"], "descriptorz": ["a"]}',
            "'descriptorz' is not a key of a vocabulary; close: 'descriptors'",
        ),
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
            "'hne', which is not a class; close: 'hen'",
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
def test_a_malformed_file_is_refused_with_its_position(text: str, message: str) -> None:
    with pytest.raises(VocabularyError, match=message) as caught:
        from_descriptor_json(text, name="v")
    assert str(caught.value).startswith("vocabulary 'v'")
    assert str(caught.value).isprintable()


def test_all_faults_of_the_descriptors_are_reported_at_once() -> None:
    with pytest.raises(VocabularyError) as caught:
        from_descriptor_json('{"hen": ["a", 3, " "], "owl": [], " ": ["b"], "cat": "c"}', name="v")
    assert str(caught.value) == (
        "vocabulary 'v': 4 faults: 1) 'hen'[1] is a number; a text is needed; 2) 'hen'[2] is blank; 3) key 2 is blank; "
        "4) 'cat' is a text; a list of texts is needed"
    )
    with pytest.raises(VocabularyError, match=r"12 faults: 1\) 'hen'\[0\] .*; 8\) 'hen'\[7\] is null.*; and 4 more$"):
        from_descriptor_json(json.dumps({"hen": [None] * 12}), name="v")
    repeated = '{"classes": ["a", "b", "a", "b"], "descriptors": ["x"]}'
    with pytest.raises(VocabularyError, match=r"classes\[2\] repeats classes\[0\]: 'a'; 2\) classes\[3\] repeats"):
        from_descriptor_json(repeated, name="v")
    strange = '{"classes": ["hen"], "descriptors": ["x"], "by_class": {"hen": ["y"], "owl": ["x"]}}'
    with pytest.raises(VocabularyError, match=r"1\) by_class 'hen'\[0\] is 'y'.*; 2\) by_class names 'owl'"):
        from_descriptor_json(strange, name="v")


def test_what_can_be_checked_is_loaded_with_what_was_skipped(tmp_path: Path) -> None:
    path = tmp_path / "v.json"
    path.write_text('{"hen": ["a comb", 3], "owl": [], "cat": 1, "dog": ["a tail"]}', encoding="utf-8")
    left_out: list[str] = []
    vocabulary = load_vocabulary(path, skipped=left_out)
    assert vocabulary.classes == ("hen", "owl", "cat", "dog")
    assert vocabulary.by_class == {"hen": ("a comb",), "dog": ("a tail",)}
    assert check(vocabulary).undescribed == ("owl", "cat")
    assert left_out == ["'hen'[1] is a number; a text is needed", "'cat' is a number; a list of texts is needed"]
    with pytest.raises(VocabularyError, match=r"2 faults: .*'cat' is a number"):
        load_vocabulary(str(path))
    left_out.clear()
    assert load_vocabulary("cifar10", skipped=left_out) == load_vocabulary("cifar10")
    assert not left_out
    for nothing_left in ('{"owl": []}', '{"by_class": {"owl": []}, "attributes": ["a"]}'):
        path.write_text(nothing_left, encoding="utf-8")
        with pytest.raises(VocabularyError, match="'owl' is empty"):
            load_vocabulary(path, skipped=left_out)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"hen":}', "vocabulary 'lists/v2.json' is not readable JSON: Expecting value: line 1 column 8 (char 7)"),
        ('{"hen": 1}', "vocabulary 'lists/v2.json': 'hen' is a number; a list of texts is needed"),
        (
            '{"name": "farm", "by_class": {"hen": ["a"]}, "templates": ["x"]}',
            "vocabulary 'lists/v2.json': templates[0] is 'x'; it must hold {} exactly once",
        ),
    ],
)
def test_a_malformed_file_is_named_as_the_user_gave_it(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lists").mkdir()
    Path("lists/v2.json").write_text(text, encoding="utf-8")
    with pytest.raises(VocabularyError) as caught:
        load_vocabulary("lists/v2.json")
    assert str(caught.value) == message


def test_bytes_that_are_not_text_are_refused() -> None:
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
def test_a_vocabulary_constructed_in_python_is_checked_too(changes: dict[str, object], message: str) -> None:
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
    assert list(available()) == ["farm"]
    assert load_vocabulary("farm") == FARM
    with pytest.raises(UsageError, match="close: 'farm'"):
        load_vocabulary("farn")


def test_a_name_of_the_users_own_for_an_embedded_model_brings_its_vocabulary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.toml").write_text(
        '[models]\nmine = "embedded/vit-s8"\nother = "ViT-B-32:openai"\n', encoding="utf-8"
    )
    monkeypatch.setenv("CLIPMK_CONFIG", str(tmp_path / "config.toml"))
    assert default_vocabulary("mine") == "world"
    for name in ("other", "unknown"):
        with pytest.raises(UsageError, match=f"model '{name}' brings no vocabulary"):
            default_vocabulary(name)
    assert explainer("mine", None, preset("default")).vocabulary == load_vocabulary("world")


def test_a_class_without_descriptors_is_noted_and_kept() -> None:
    vocabulary = from_descriptor_json('{"donuts": [], "car": ["round wheels"], "bus": []}', name="v")
    assert vocabulary.classes == ("donuts", "car", "bus")
    assert vocabulary.by_class == {"car": ("round wheels",)}
    assert vocabulary.notes == ("2 classes have no descriptors: 'donuts', 'bus'",)
    assert vocabulary_warnings(vocabulary)[0] == vocabulary.notes[0]
    assert from_descriptor_json('{"classes": ["a", "b"], "descriptors": ["x"]}', name="v").notes == ()


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("a\tred\u00a0 comb", "a red comb"),
        ("two\nlines\r\n", "two lines"),
        ("\ufeffa red\u200b comb\u2060", "a red comb"),
        ("soft\u00adhyphen", "softhyphen"),
        ("left\u200eto\u202eright", "lefttoright"),
        ("para\u2029graph", "para graph"),
    ],
)
def test_tabs_and_invisible_characters_are_cleaned_with_a_note(text: str, clean: str) -> None:
    vocabulary = from_descriptor_json(json.dumps({"hen": [text, clean]}), name="v")
    assert vocabulary.descriptors == (clean,)
    assert vocabulary.notes == (f"1 text has tabs, line breaks or invisible characters, cleaned: '{clean}'",)
    assert from_descriptor_json(json.dumps({text: ["x"]}), name="v").classes == (clean,)
    bare = from_descriptor_json(json.dumps({"hen": [clean]}), name="v")
    assert (vocabulary, vocabulary.sha256, bare.notes) == (bare, bare.sha256, ())


@pytest.mark.parametrize("text", ["نیم\u200cفاصله", "👩\u200d🌾 farmer", "a  b", "é", "日本"])
def test_texts_in_other_scripts_stay_as_they_are(text: str) -> None:
    vocabulary = from_descriptor_json(json.dumps({"hen": [text]}), name="v")
    assert (vocabulary.descriptors, vocabulary.notes) == ((text,), ())


def test_repeated_classes_count_once_with_a_note() -> None:
    other = FARM.with_classes(["sunglasses", "missile", "hen", "missile"])
    assert other.classes == ("sunglasses", "missile", "hen")
    assert other.notes == ("1 class is repeated and counts once: 'missile'",)
    assert other.to_dict() == FARM.with_classes(["sunglasses", "missile", "hen"]).to_dict()

"""Answers of a language model become a vocabulary: what is ignored, joined, reworded and refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmk.errors import VocabularyError
from clipmk.vocabulary.answers import as_text, from_answers
from clipmk.vocabulary.vocabulary import IMAGENET_TEMPLATES, from_descriptor_json, load_vocabulary
from command_line import Runner

PROSE = """Of course! Here they are {in short}:

```json
{"hen": ["A red comb.", "- a pointed beak", "it has scaly  legs"],
 "owl": ["Round eyes", "pointed beaks", "with mottled feathers"]}
```

```
{"Hen": ["a red comb", "a straw-covered ground"], "duck": ["a pointed beak", "T-shaped prints"]}
```
Shall I go on?
"""


def test_answers_are_joined_in_one_wording() -> None:
    vocabulary = from_answers([("one", PROSE), ("two", b'{"gull": ["white wings"]}')], name="birds")
    assert vocabulary.by_class == {
        "hen": ("a red comb", "a pointed beak", "scaly legs", "a straw-covered ground"),
        "owl": ("round eyes", "a pointed beak", "mottled feathers"),
        "duck": ("a pointed beak", "T-shaped prints"),
        "gull": ("white wings",),
    }
    assert vocabulary.classes == ("hen", "owl", "duck", "gull")
    assert vocabulary.name == "birds"
    assert vocabulary.templates == IMAGENET_TEMPLATES


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("Pale speckled plumage", "pale speckled plumage"),
        ("An eye", "an eye"),
        ("A beak", "a beak"),
        ("- Has Yellow-green legs.", "yellow-green legs"),
        ("Émaillé panels", "émaillé panels"),
        *((same, same) for same in ("T-shirt", "USB port", "X shape", "McIntosh apples", "V-neck collar", "a TV set")),
        *((same, same) for same in ("3D letters", "A4 sheets", "A-frame roof", "UPPER letters", "O'clock dial")),
    ],
)
def test_a_descriptor_begins_in_lower_case_unless_the_word_has_capitals_of_its_own(said: str, kept: str) -> None:
    vocabulary = from_answers([("one", json.dumps({"zzz": [said]}))], name="n")
    assert vocabulary.descriptors == (kept,)


def test_words_in_another_order_may_mean_another_thing() -> None:
    text = '{"a": ["a white band on black fur"], "b": ["a black band on white fur"]}'
    assert len(from_answers([("one", text)], name="n").descriptors) == 2


def test_a_list_of_classes_gives_names_and_order() -> None:
    vocabulary = from_answers([("one", PROSE)], name="n", classes=("duck", "Owl", "Hen"), templates=("the {}",))
    assert (vocabulary.classes, vocabulary.templates) == (("duck", "Owl", "Hen"), ("the {}",))


def test_answers_name_classes_in_any_spelling() -> None:
    answers = [("one", '{"Barn_Owl": ["a pale face"], "hen": ["a red comb"]}'), ("two", '{"barn owl": ["dark eyes"]}')]
    vocabulary = from_answers(answers, name="n", classes=("hen", "barn-owl"))
    assert vocabulary.by_class == {"hen": ("a red comb",), "barn-owl": ("a pale face", "dark eyes")}
    assert from_answers(answers, name="n").classes == ("Barn_Owl", "hen")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("I cannot do that.", "one holds no JSON object"),
        ('\n\n{"hen": ["a comb",', r"one is truncated or not JSON: .*: line 3 column"),
        ('Yes:\n```json\n\n{"hen" ["a"]}\n```', r"one is truncated or not JSON: .*: line 4 column 8"),
        ('{"hen": {"parts": ["a comb"]}}', "one: 'hen' is an object; a list of texts is needed"),
        ('{"hen": "a comb"}', "one: 'hen' is a text; a list"),
        ('{"hen": []}', "one: 'hen' is empty"),
        ('{"hen": ["a", 3]}', r"one: 'hen'\[1\] is a number"),
        ('{"hen": ["- ."]}', "nothing is left of the descriptor"),
        ('{"hne": ["a comb"]}', "one: 'hne' is not a class of the list; close: 'hen'"),
        ('{"hen": ["a comb"]}', "1 of 2 classes have no answer: 'owl'$"),
        ('{"hen\\u001b": ["a comb"]}', "control character"),
        ('{"a":' * 100_000, "cannot be read|readable|truncated"),
        (b"\xff", "one is not UTF-8"),
    ],
)
def test_a_malformed_answer_is_refused_with_its_position(text: str | bytes, message: str) -> None:
    with pytest.raises(VocabularyError, match=message) as caught:
        from_answers([("one", text)], name="n", classes=("hen", "owl"))
    assert str(caught.value).isprintable()


@given(
    st.dictionaries(
        st.text("abcü '\"", min_size=1).filter(str.strip),
        st.lists(st.text("aeß xs", min_size=1).filter(str.strip), min_size=1, max_size=4),
        min_size=1,
        max_size=5,
    )
)
def test_what_is_written_reads_back(table: dict[str, list[str]]) -> None:
    vocabulary = from_answers([("one", json.dumps(table))], name="any")
    assert from_descriptor_json(as_text(vocabulary), name="other") == vocabulary
    assert from_answers([("one", json.dumps({"x": ["a"], **table}))], name="any").classes[0] == "x"


def test_the_command_writes_a_vocabulary_and_checks_it(clipmk: Runner, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text(PROSE, encoding="utf-8")
    (tmp_path / "two.txt").write_text('{"gull": ["white wings", "a gull in flight"]}', encoding="utf-8")
    ran = clipmk("vocab", "build", "one.txt", "two.txt", "-o", "birds.json", "--template", "the {}.", "--json")
    assert ran.status == 3
    made = json.loads(ran.out)
    assert made["vocabulary"]["classes"] == 4
    assert any("'a gull in flight' ('gull')" in line for line in made["problems"])
    assert load_vocabulary("birds.json").templates == ("the {}.",)
    assert sum(line.startswith("  ") for line in Path("birds.json").read_text(encoding="utf-8").splitlines()) == 4


def test_nothing_is_written_where_an_answer_is_broken(clipmk: Runner, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text('{"gull": ["white', encoding="utf-8")
    assert clipmk("vocab", "build", "one.txt", "-o", "birds.json").status == 3
    assert clipmk("vocab", "build", "missing.txt", "-o", "birds.json").status == 3
    assert not Path("birds.json").exists()
    ran = clipmk("vocab", "build", "one.txt", "-o", "birds.txt")
    assert ran.status == 2
    assert ".json" in ran.err


def test_an_existing_file_is_replaced_only_with_force(clipmk: Runner, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text('{"gull": ["white wings"], "hen": ["a red comb"]}', encoding="utf-8")
    written = Path("birds.json")
    written.write_text("edited", encoding="utf-8")
    for answer in ("one.txt", "missing.txt"):  # refused before any answer is read
        ran = clipmk("vocab", "build", answer, "-o", "birds.json")
        assert ran.status == 2
        assert "'birds.json', which exists; --force overwrites it" in ran.err
        assert written.read_text(encoding="utf-8") == "edited"
    assert clipmk("vocab", "build", "missing.txt", "-o", "birds.json", "--force").status == 3
    assert written.read_text(encoding="utf-8") == "edited"
    clipmk("vocab", "build", "one.txt", "-o", "birds.json", "--force")
    assert load_vocabulary("birds.json").classes == ("gull", "hen")


def test_the_help_shows_no_half_brackets(clipmk: Runner) -> None:
    for command in ("build", "check", "show"):
        ran = clipmk("vocab", command, "--help")
        assert ran.status == 0
        assert "{class: }" not in ran.out
        assert "per class" in " ".join(ran.out.replace("│", " ").split())


ANSWER = '{"hen": ["a red comb", "a small beak"], "owl": ["round eyes", "a flat face"]}'


@pytest.mark.parametrize(
    "text",
    [
        "I use the form {class name: [descriptor]}.\n\n" + ANSWER,
        "{ }: empty braces, {these ones} and {{those}}\n" + ANSWER + "\nDone {really}.",
        '<think>\nMaybe {"hen": ["wings"], "cow": ["horns"]}?\n</think>\n' + ANSWER,
        'Maybe {"cow": ["horns"}</think>' + ANSWER,
        "<thinking>a</thinking><reasoning>{b}</reasoning>" + ANSWER,
        '{"**hen**": ["1. a red comb", "2) **a small beak**"], "owl": ["* Round eyes.", "_a flat face_"]}',
        '{"hen": ["a\\tred comb", "a small\u200b beak"], "owl": ["`round eyes`", "– a flat face*."]}',
    ],
)
def test_the_json_is_found_in_whatever_a_model_writes_around_and_into_it(text: str) -> None:
    assert from_answers([("one", text)], name="n") == from_answers([("one", ANSWER)], name="n")


def test_what_is_truncated_is_never_read_in_part() -> None:
    for text in ('{"birds": {"hen": ["a comb"]}, "ow', ANSWER + '\n{"gull": ["white', '{"hen": ["a", {"b": ["c"]'):
        with pytest.raises(VocabularyError, match=r"one is truncated or not JSON|is an object; a list of texts"):
            from_answers([("one", text)], name="n")

"""Class names: lists of them, and which class a name means."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmk.datasets.matching import resolve_labels
from clipmk.errors import UsageError, VocabularyError
from clipmk.vocabulary import classes as classes_module
from clipmk.vocabulary.classes import ClassIndex, class_key, parse_classes, resolve_class
from clipmk.vocabulary.vocabulary import Vocabulary, load_vocabulary
from small_vocabulary import FARM


def test_class_lists_come_from_commas_or_files(tmp_path: Path) -> None:
    assert parse_classes("red fox, cat,dog").names == ("red fox", "cat", "dog")
    assert parse_classes("fox").names == ("fox",)
    path = tmp_path / "classes.txt"
    path.write_bytes("\ufeff# animals\r\nred fox\r\n\r\n  cat, tabby  \r\nC# sharp\r\n".encode())
    assert parse_classes(str(path)).names == ("red fox", "cat, tabby", "C# sharp")
    (tmp_path / "c.json").write_text('["a", "b"]', encoding="utf-8")
    assert parse_classes(str(tmp_path / "c.json")).names == ("a", "b")


def test_a_folder_named_like_a_class_is_a_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cat").mkdir()
    monkeypatch.chdir(tmp_path)
    assert parse_classes("cat").names == ("cat",)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("", "class 1 is blank"),
        ("a,,b", "class list 'a,,b': class 2 is blank"),
        ("a,b\x1bc", r"class 2 holds the control character \\x1b"),
        ("missing.txt", "class list 'missing.txt' does not exist"),
        ("x" * 301, "at most 300"),
    ],
)
def test_bad_class_lists_are_refused_with_the_position(argument: str, message: str) -> None:
    with pytest.raises(VocabularyError, match=message):
        parse_classes(argument)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.txt", b"# nothing\n\n", "is empty"),
        ("c.txt", b"a\nb\x07\n", r"line 2 holds the control character \\x07"),
        ("c.txt", b"\xff\xfea\0", "is not UTF-8"),
        ("c.json", b'["a", 1]', r"names\[1\] is a number"),
        ("c.json", b'["a"', "is not readable JSON: .*line 1"),
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


SPELLINGS = [
    ("fox", "fox"),
    ("FOX", "fox"),
    ("Tabby_Cat", "tabby cat"),
    ("tabby-cat ", "tabby cat"),
    ("tabby  cat", "tabby cat"),
    ("tabbycat", None),
    ("dog", None),
    ("", None),
    (None, None),
]


@pytest.mark.parametrize(("name", "found"), SPELLINGS)
def test_targets_and_labels_mean_classes_in_any_spelling(name: str | None, found: str | None) -> None:
    vocabulary = Vocabulary("v", ("fox", "tabby cat"), ("a {}",), ("x",))
    assert ClassIndex(vocabulary.classes).find(name) == found
    if found is None:
        return
    assert vocabulary.classes[resolve_class(vocabulary, str(name))] == found
    assert resolve_labels([name], vocabulary)[0] == [found]


def test_an_exact_name_goes_first_and_two_classes_with_one_spelling_are_told_apart_by_it() -> None:
    index = ClassIndex(["polish hen", "Polish-Hen", "fox"])
    assert [index.find(name) for name in ("polish hen", "Polish-Hen", "POLISH HEN")] == [
        "polish hen",
        "Polish-Hen",
        None,
    ]
    assert index.spellings("POLISH_HEN") == ("polish hen", "Polish-Hen")


@given(st.text(max_size=12), st.sampled_from([" ", "_", "-", "  ", " - "]))
def test_a_key_is_its_own_key_whatever_joins_the_words(text: str, joint: str) -> None:
    assert class_key(class_key(text)) == class_key(text)
    assert class_key(joint.join(["a", "B", "c"])) == "a b c"


def test_the_cost_of_looking_labels_up_is_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def counted(name: str) -> str:
        calls.append(name)
        return class_key(name)

    monkeypatch.setattr(classes_module, "class_key", counted)
    names = tuple(f"class {number}" for number in range(100))
    labels = [f"Class_{number % 100}" for number in range(5_000)]
    assert resolve_labels(labels, Vocabulary("v", names, ("a {}",), ("x",)))[0] == [
        names[k % 100] for k in range(5_000)
    ]
    assert len(calls) == 200


def test_an_unknown_class_names_close_ones() -> None:
    vocabulary = Vocabulary("imagenet", ("tabby cat", "tiger"), ("a {}",), ("x",))
    with pytest.raises(UsageError) as caught:
        resolve_class(vocabulary, "tabby cta")
    assert str(caught.value) == "class 'tabby cta' is not in imagenet; close: 'tabby cat'"
    with pytest.raises(UsageError, match="known: tabby cat, tiger"):
        resolve_class(vocabulary, "zzzz")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("one, two/c.txt", b"car\ntrain\n"),
        ("c.names", b"car\ntrain\n"),
        ("classes", b'["car", "train"]'),
        ("c.csv", b"id,name\n0,car\n1,train\n"),
        ("c.csv", b"\xef\xbb\xbfclass;index\r\ncar;0\r\ntrain;1\r\n"),
        ("c.csv", b"label,class_name\n0,car\n1,train\n"),
        ("c.csv", b"class,label\n0,car\n1,train\n"),
        ("c.csv", b"car\ntrain\n"),
        ("c.csv", b"name\ncar\ntrain\n"),
        ("c.tsv", b"0\tname\n0\tcar\n1\ttrain\n"),
        ("c.jsonl", b'{"id": 0, "name": "car"}\n{"id": 1, "name": "train"}\n'),
    ],
)
def test_an_existing_file_is_read_in_its_form_whatever_its_path_holds(
    name: str, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    assert parse_classes(str(path)) == (("car", "train"), ())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.csv", b"a,b\n1,2\n", r"has no column of names \(class_name, .*\); its columns: 'a', 'b'"),
        ("c.csv", b"id,label\n1,2\n", "has no column of names"),
        ("c.csv", b"id,name\n1\n", r"c\.csv' is malformed: line 2 has 1 column"),
        ("data.yaml", b"names:\n  0: car\n", r"is a \.yaml file; a list is a text per line, CSV, or a JSON"),
        ("c.txt", b'{"0": "car"}', "names is an object; a list of texts is needed"),
        ("c.txt", b"[car\n", "is not readable JSON"),
    ],
)
def test_a_file_of_another_form_is_refused(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(VocabularyError, match=message):
        parse_classes(str(tmp_path / name))


@pytest.mark.parametrize(
    ("argument", "names", "note"),
    [
        ("a,b, a,b", ("a", "b"), "2 classes are repeated and count once: 'a', 'b'"),
        ("a,b\tc,d\u200be\u00a0f", ("a", "b c", "de f"), "2 texts have tabs, .* cleaned: 'b c', 'de f'"),
        ("typo_of_a_file", ("typo_of_a_file",), "'typo_of_a_file' is not a file; it is taken as the name of a single"),
    ],
)
def test_what_is_changed_or_guessed_in_a_class_list_is_noted(argument: str, names: tuple[str, ...], note: str) -> None:
    found = parse_classes(argument)
    assert found.names == names
    assert [re.match(note, line) is not None for line in found.notes] == [True]
    assert found.within(FARM).notes == found.notes
    assert found.within(FARM).sha256 == FARM.with_classes(names).sha256


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "c.txt").write_text("car\ntrain\n", encoding="utf-8")
    (tmp_path / "v.json").write_text('{"hen": ["a comb"]}', encoding="utf-8")
    assert parse_classes("~/c.txt").names == ("car", "train")
    assert load_vocabulary("~/v.json").classes == ("hen",)
    with pytest.raises(VocabularyError, match=r"'.*/d\.txt' does not exist; close: 'c\.txt'"):
        parse_classes("~/d.txt")

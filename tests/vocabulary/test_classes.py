"""Class names: lists of them, and which class a name means."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmk.datasets.matching import resolve_labels
from clipmk.errors import UsageError, VocabularyError
from clipmk.vocabulary import classes as classes_module
from clipmk.vocabulary.classes import ClassIndex, class_key, parse_classes, resolve_class
from clipmk.vocabulary.vocabulary import Vocabulary
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

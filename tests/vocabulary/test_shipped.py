"""The shipped vocabularies: complete, clean by our own check, in one style, fast to load and fit to explain with."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from clipmk.errors import UsageError
from clipmk.system import locations
from clipmk.system.text import printable
from clipmk.vocabulary.lint import check
from clipmk.vocabulary.vocabulary import IMAGENET_TEMPLATES, Vocabulary, available, default_vocabulary, load_vocabulary
from command_line import FAST, Runner

SIZES = {"cifar10": 10, "cifar100": 100, "food101": 101, "imagenet": 1000, "pets": 37, "places365": 365}
"""Classes of the datasets; `everyday` follows none."""

NAMES = (*SIZES, "everyday")
FOLDER = locations.assets_dir() / "vocabularies"
MAX_STEPS = 200
"""Lines of Python run per class and descriptor while a file is loaded, about three times what is needed: in steps, for
seconds depend on what else the machine does."""

DESCRIPTOR = re.compile(r"[a-zéèêñüA-Z0-9][a-zéèêñüA-Z0-9',-]*( [a-zéèêñüA-Z0-9',-]+){1,6}")


@cache
def vocabulary(name: str) -> Vocabulary:
    return load_vocabulary(name)


def test_all_are_there_and_described() -> None:
    assert set(available()) == {"world", *NAMES}
    assert all(10 <= len(text) <= 80 for text in available().values())
    assert {path.stem for path in FOLDER.glob("*.json")} == set(available())
    assert next(iter(available())) == "world"
    with pytest.raises(UsageError, match=r"known: world, cifar10, .*imagenet"):
        default_vocabulary("ViT-B-32:openai")


@pytest.mark.parametrize("name", SIZES)
def test_a_data_set_has_all_its_classes_described(name: str) -> None:
    assert len(vocabulary(name).classes) == SIZES[name]
    assert tuple(vocabulary(name).by_class) == vocabulary(name).classes


def test_imagenet_has_enough_to_say() -> None:
    assert len(vocabulary("imagenet").descriptors) >= 3500
    assert vocabulary("imagenet").templates == IMAGENET_TEMPLATES
    places = {0: "tench", 207: "golden retriever", 281: "tabby cat", 466: "bullet train", 999: "toilet paper"}
    assert {index: vocabulary("imagenet").classes[index] for index in places} == places


def test_everyday_holds_things_and_attributes() -> None:
    everyday = vocabulary("everyday")
    assert len(everyday.classes) >= 1000
    typical = {text for texts in everyday.by_class.values() for text in texts}
    assert len(set(everyday.descriptors) - typical) >= 200
    assert {"a wet cobbled ground", "a rear view"} <= set(everyday.descriptors) - typical


@pytest.mark.parametrize("name", NAMES)
def test_the_check_finds_nothing(name: str) -> None:
    assert check(vocabulary(name)).problems == []
    assert check(vocabulary(name), own=3).alike == ()


@pytest.mark.parametrize("name", NAMES)
def test_every_class_has_five_to_eight_descriptors_in_one_style(name: str) -> None:
    by_class = vocabulary(name).by_class
    assert {one: len(texts) for one, texts in by_class.items() if not 5 <= len(texts) <= 8} == {}
    written = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["by_class"]
    assert {one: list(texts) for one, texts in by_class.items()} == written, "none is dropped as a repetition"
    for text in vocabulary(name).descriptors:
        assert DESCRIPTOR.fullmatch(text), text
        assert not re.match(r"(has|have|it|its|the|with|is) ", text), text


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_printable_and_lower_case_except_for_names(name: str) -> None:
    one = vocabulary(name)
    for text in (one.name, *one.classes, *one.templates, *one.descriptors):
        assert printable(text) == text
        assert text.isprintable()
        assert "  " not in text
    assert {text for text in one.descriptors if re.search(r"\b[A-Z](?!\b)", text)} == set(), "letters only: T-shirt"
    assert len({text.casefold() for text in one.classes}) == len(one.classes)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"imagenet"}))
def test_templates_read_well_for_every_class(name: str) -> None:
    assert 1 <= len(vocabulary(name).templates) <= 4
    assert not any(re.search(r"\ban? \{\}", template) for template in vocabulary(name).templates)


@pytest.mark.parametrize("name", NAMES)
def test_files_load_fast_and_are_diffable(name: str) -> None:
    steps = 0

    def step(*_: Any) -> Any:
        nonlocal steps
        steps += 1
        return step

    before = sys.gettrace()
    sys.settrace(step)
    try:
        one = load_vocabulary(name)
    finally:
        sys.settrace(before)
    assert 0 < steps < MAX_STEPS * (len(one.classes) + len(one.descriptors))
    text = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    assert sum(line.startswith("  ") and ": [" in line for line in text.splitlines()) == len(one.classes)
    assert list(json.loads(text))[:4] == ["name", "description", "templates", "by_class"]


def test_a_note_says_who_wrote_them() -> None:
    note = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(name in note for name in NAMES)
    assert "Licence: that of this repository" in note


@pytest.mark.parametrize("name", NAMES)
def test_the_command_line_finds_nothing_either(name: str, clipmk: Runner) -> None:
    ran = clipmk("vocab", "check", name)
    assert ran.status == 0
    assert "no problems found" in ran.out


def test_explains_with_a_shipped_vocabulary(
    clipmk: Runner, scene_files: list[Path], valid: Callable[[Any], None]
) -> None:
    ran = clipmk("explain", scene_files[0], *FAST, "--vocab", "cifar10", "--json")
    assert ran.status == 0
    made = json.loads(ran.out)
    valid(made)
    (result,) = made["results"]
    assert result["provenance"]["vocabulary"] == "cifar10"
    assert result["explanation"]["class"] in vocabulary("cifar10").classes


def test_the_numbers_in_note_and_guide_are_right() -> None:
    note = (FOLDER / "README.md").read_text(encoding="utf-8")
    guide = Path(__file__).parents[2] / "docs" / "vocabularies.md"
    for name in NAMES:
        numbers = f"{len(vocabulary(name).classes):,} | {len(vocabulary(name).descriptors):,} |"
        assert f"| `{name}.json` | {numbers}" in note
        assert f"| `{name}` | {numbers}" in guide.read_text(encoding="utf-8")

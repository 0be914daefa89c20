"""Vocabularies: what a model may say (classes) and by what it may say it (descriptors).

A vocabulary is a JSON file in one of two forms. The descriptor JSON that a language model
writes, `{class: [descriptor, ...]}`:

    {"hen": ["a red comb", "a small beak"], "owl": ["round eyes", "a small beak"]}

and the full form, in which everything but the descriptors has a default:

    {"name": "farm", "classes": ["hen", "owl"], "templates": ["a photo of a {}."], "descriptors": ["a red comb", ...],
     "descriptor_template": "a photo showing {}", "by_class": {"hen": ["a red comb"]}}

Without "descriptors", those of "by_class" are taken; "attributes" are descriptors of no class that come after them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from clipmk.errors import UsageError, VocabularyError, suggest
from clipmk.system import locations
from clipmk.system.files import read_regular
from clipmk.system.text import printable, quoted
from clipmk.vocabulary.lint import VocabularyReport, check
from clipmk.vocabulary.reader import fields_of, parsed
from clipmk.vocabulary.texts import all_of, checked_text, checked_texts, decoded, unique

__all__ = [
    "IMAGENET_TEMPLATES",
    "Vocabulary",
    "VocabularyReport",
    "available",
    "check",
    "from_descriptor_json",
    "load_to_check",
    "load_vocabulary",
    "parse_classes",
    "resolve_class",
]

IMAGENET_TEMPLATES = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
    "a photo of a {}.",
)
"""The ImageNet 8 of method.md section 1: the default of every vocabulary that brings none."""

DESCRIPTOR_TEMPLATE = "a photo showing {}"

MAX_BYTES = 64 * 2**20
"""Largest vocabulary file read."""

_FILE_ENDING = re.compile(r"\.(txt|json|csv|tsv|lst)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Classes, templates and descriptors, checked when made.

    Raises:
        VocabularyError: something is empty, blank, repeated, too long, holds control characters or is no template; the
            message says where.
    """

    name: str
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    """Prompts of a class, each with exactly one ``{}``."""
    descriptors: tuple[str, ...]
    """Class-agnostic, without repetition; the order is the order of ids."""
    descriptor_template: str = DESCRIPTOR_TEMPLATE
    by_class: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    """Typical descriptors of some or all classes; may be empty. No part of the method: for checks and truth metrics."""

    def __post_init__(self) -> None:
        try:
            for key in ("classes", "templates", "descriptors"):
                object.__setattr__(self, key, unique(checked_texts(getattr(self, key), key), key))
            by_class = {name: tuple(checked_texts(texts, repr(name))) for name, texts in self.by_class.items()}
            object.__setattr__(self, "by_class", by_class)
            for index, template in enumerate(self.templates):
                _check_template(template, f"templates[{index}]")
            _check_template(checked_text(self.descriptor_template, "descriptor_template"), "descriptor_template")
            _check_by_class(self)
        except VocabularyError as error:
            raise VocabularyError(_place(self.name) + str(error)) from error

    @property
    def sha256(self) -> str:
        """Hex digest of everything but the name, as canonical JSON."""
        content = {key: value for key, value in self.to_dict().items() if key != "name"}
        text = json.dumps(content, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    @property
    def class_prompts(self) -> tuple[tuple[str, ...], ...]:
        """For each class its prompts, one per template."""
        return tuple(tuple(t.replace("{}", name) for t in self.templates) for name in self.classes)

    @property
    def descriptor_prompts(self) -> tuple[str, ...]:
        """Every descriptor in the descriptor template."""
        return tuple(self.descriptor_template.replace("{}", text) for text in self.descriptors)

    def with_classes(self, classes: Iterable[str]) -> Vocabulary:
        """Other classes, the same templates and descriptors.

        Raises:
            VocabularyError: as on making one.
        """
        names = tuple(checked_texts(classes if isinstance(classes, str) else tuple(classes), "classes"))
        return replace(self, classes=names, by_class={n: self.by_class[n] for n in names if n in self.by_class})

    def to_dict(self) -> dict[str, Any]:
        """The full form, ready for JSON; `from_descriptor_json` reads it back."""
        return {
            "name": self.name,
            "classes": list(self.classes),
            "templates": list(self.templates),
            "descriptors": list(self.descriptors),
            "descriptor_template": self.descriptor_template,
            "by_class": {name: list(texts) for name, texts in self.by_class.items()},
        }


def available() -> dict[str, str]:
    """Name -> short description of every built-in vocabulary."""
    return {name: str(parsed(path.read_bytes(), name).get("description", "")) for name, path in _shipped().items()}


def default_vocabulary(model_id: str) -> str:
    """The vocabulary an embedded model was trained with.

    Raises:
        UsageError: any other model has none of its own; the message names what exists.
    """
    if model_id.startswith("embedded/"):
        return "world"
    raise UsageError(
        f"model {model_id!r} brings no vocabulary; choose one with --vocab NAME|FILE (known: "
        f"{', '.join(_shipped())}; a FILE is an LLM descriptor JSON {{class: [descriptor, ...]}})"
    )


def load_vocabulary(name_or_path: str) -> Vocabulary:
    """Load a built-in vocabulary by name, or a JSON file.

    Raises:
        UsageError: it is neither; the message names what exists.
        VocabularyError: the file cannot be read or is malformed; the message says where.
    """
    return _loaded(name_or_path, None)


def load_to_check(name_or_path: str) -> tuple[Vocabulary, tuple[str, ...]]:
    """Load what can be checked of a vocabulary, even where single descriptors keep it from being used.

    Returns:
        The vocabulary, in which a class with an empty list has no descriptors, and what was left out of it and why.

    Raises:
        UsageError: as `load_vocabulary`.
        VocabularyError: as `load_vocabulary`, for all other faults.
    """
    left_out: list[str] = []
    return _loaded(name_or_path, left_out), tuple(left_out)


def _loaded(name_or_path: str, left_out: list[str] | None) -> Vocabulary:
    shipped = _shipped()
    if name_or_path in shipped:
        return from_descriptor_json(shipped[name_or_path].read_bytes(), name=name_or_path)
    if os.path.lexists(name_or_path) or _FILE_ENDING.search(name_or_path):
        data = read_regular(
            name_or_path, limit=MAX_BYTES, noun="vocabulary", error=VocabularyError, suffixes=frozenset({".json"})
        )
        return _read(data, Path(name_or_path).stem, left_out, path=name_or_path)
    known = suggest(name_or_path, [*shipped])
    raise UsageError(f"vocabulary {quoted(name_or_path)} is neither a name nor a file; {known}")


def from_descriptor_json(data: bytes | str, *, name: str) -> Vocabulary:
    """Read either JSON form (see the module); classes keep the file's order, descriptors their first-seen order.

    Args:
        data: The file's content.
        name: What the vocabulary is called in messages and records, unless the file says it.

    Raises:
        VocabularyError: malformed; the message gives line and column, or key and index, of several faults at once.
    """
    return _read(data, name)


def _read(data: bytes | str, name: str, left_out: list[str] | None = None, *, path: str | None = None) -> Vocabulary:
    """A vocabulary from either form; messages call it by its path as the user gave it, where it has one."""
    label = f"vocabulary {quoted(path or name)}"
    table = parsed(data, label)
    try:
        fields = {"name": name, "templates": IMAGENET_TEMPLATES, **fields_of(table, left_out=left_out)}
    except VocabularyError as error:
        raise VocabularyError(f"{label}: {error}") from error
    try:
        return Vocabulary(**fields)
    except VocabularyError as error:
        raise VocabularyError(f"{label}: {str(error).removeprefix(_place(fields['name']))}") from error


def _place(name: str) -> str:
    """How what is wrong with a vocabulary begins where its name is all that is known of it."""
    return f"vocabulary {quoted(name)}: "


def parse_classes(argument: str) -> tuple[str, ...]:
    """Read a class list: an existing file (one class per line, `#` starts a comment line), else `a,b,c`.

    A file that ends in `.json` holds a JSON list of names.

    Raises:
        VocabularyError: the file cannot be read, a name is blank, repeated, too long or holds control characters.
    """
    if "," not in argument and (_is_file(argument) or _FILE_ENDING.search(argument)):
        data = read_regular(
            argument, limit=MAX_BYTES, noun="class list", error=VocabularyError, suffixes=frozenset({".txt", ".json"})
        )
        return _classes_of_file(data, argument)
    return _named_classes([(f"class {i}", part.strip()) for i, part in enumerate(argument.split(","), 1)], argument)


def resolve_class(vocabulary: Vocabulary, name: str) -> int:
    """Index of a class by its name; upper and lower case may differ where that is unambiguous.

    Raises:
        UsageError: there is no such class; the message names close ones.
    """
    if name in vocabulary.classes:
        return vocabulary.classes.index(name)
    folded = name.strip().casefold()
    matches = [index for index, known in enumerate(vocabulary.classes) if known.casefold() == folded]
    if len(matches) == 1:
        return matches[0]
    where = f"class {quoted(name)} is not in {printable(vocabulary.name)}"
    if matches:
        raise UsageError(f"{where}; close: {', '.join(repr(vocabulary.classes[i]) for i in matches)}")
    raise UsageError(f"{where}; {suggest(name, vocabulary.classes)}")


def _shipped() -> dict[str, Path]:
    """Name -> file of every built-in vocabulary; the default model's comes first, then by name."""
    folder = locations.assets_dir() / "vocabularies"
    return {path.stem: path for path in sorted(folder.glob("*.json"), key=lambda path: (path.stem != "world", path))}


def _is_file(argument: str) -> bool:
    return os.path.lexists(argument) and not os.path.isdir(argument)  # noqa: PTH112 - unlike Path.is_dir, never raises


def _check_template(template: str, place: str) -> None:
    if template.count("{}") != 1:
        raise VocabularyError(f"{place} is {template!r}; it must hold {{}} exactly once")


def _check_by_class(vocabulary: Vocabulary) -> None:
    classes, descriptors = set(vocabulary.classes), set(vocabulary.descriptors)
    faults = []
    for name, texts in vocabulary.by_class.items():
        if name not in classes:
            faults.append(f"by_class names {name!r}, which is no class; {suggest(name, vocabulary.classes)}")
        faults += [
            f"by_class {name!r}[{index}] is {text!r}, which is not among the descriptors"
            for index, text in enumerate(texts)
            if text not in descriptors
        ]
    if faults:
        raise VocabularyError(all_of(faults))


def _classes_of_file(data: bytes, path: str) -> tuple[str, ...]:
    label = f"class list {quoted(path)}"
    text = decoded(data, label)
    if path.lower().endswith(".json"):
        try:
            names = checked_texts(json.loads(text), "names")
        except VocabularyError as error:
            raise VocabularyError(f"{label}: {error}") from error
        except (ValueError, RecursionError) as error:  # a JSONDecodeError names line and column itself
            raise VocabularyError(f"{label} is not JSON: {error}") from error
        return _named_classes([(f"names[{index}]", name) for index, name in enumerate(names)], path)
    lines = [(f"line {number}", line.strip()) for number, line in enumerate(text.split("\n"), 1)]
    return _named_classes([(place, line) for place, line in lines if line and not line.startswith("#")], path)


def _named_classes(placed: list[tuple[str, str]], argument: str) -> tuple[str, ...]:
    """Check names that come with the place they stand at."""
    label, first = f"class list {quoted(argument)}", dict[str, str]()
    if not placed:
        raise VocabularyError(f"{label} is empty")
    for place, name in placed:
        try:
            text = checked_text(name, place)
        except VocabularyError as error:
            raise VocabularyError(f"{label}: {error}") from error
        if text in first:
            raise VocabularyError(f"{label}: {place} repeats {first[text]}: {text!r}")
        first[text] = place
    return tuple(first)

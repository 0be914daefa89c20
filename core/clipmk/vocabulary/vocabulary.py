"""Vocabularies: the classes a model chooses from, and the descriptors that explain its choice.

A vocabulary is a JSON file in one of two forms. The descriptor JSON that a language model
writes, `{class: [descriptor, ...]}`:

    {"hen": ["a red comb", "a small beak"], "owl": ["round eyes", "a small beak"]}

and the full form, in which everything except the descriptors has a default:

    {"name": "farm", "classes": ["hen", "owl"], "templates": ["a photo of a {}."], "descriptors": ["a red comb", ...],
     "descriptor_template": "a photo showing {}", "by_class": {"hen": ["a red comb"]}}

Without "descriptors", those of "by_class" count; "attributes" are descriptors of no class and come after them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from clipmk.errors import UsageError, VocabularyError, suggest
from clipmk.system import locations
from clipmk.system.config import read_config
from clipmk.system.files import read_regular
from clipmk.system.serialization import plain
from clipmk.system.text import noted, quoted
from clipmk.vocabulary.reader import (
    FILE_ENDING,
    MAX_BYTES,
    checked_text,
    checked_texts,
    cleaned,
    cleaning_notes,
    fields_of,
    join_faults,
    parsed,
    repetition_notes,
    unique,
)

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
"""The ImageNet 8 (docs/method.md, section 1): used by every vocabulary without templates of its own."""

DESCRIPTOR_TEMPLATE = "a photo showing {}"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Classes, templates and descriptors, checked on construction.

    Raises:
        VocabularyError: something is empty, blank, repeated, too long, holds control characters or is not a template;
            the message says where.
    """

    name: str
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    """Prompts of a class, each with exactly one ``{}``."""
    descriptors: tuple[str, ...]
    """Class-agnostic, without repetition; their order is the order of ids."""
    descriptor_template: str = DESCRIPTOR_TEMPLATE
    by_class: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    """Typical descriptors of some or all classes; may be empty. Used by checks and truth metrics, not by the method."""
    notes: tuple[str, ...] = field(default=(), compare=False)
    """What was cleaned or left out while it was read; not part of its content."""

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
            raise VocabularyError(_prefix(self.name) + str(error)) from error

    @property
    def sha256(self) -> str:
        """Hex digest of everything except the name, as canonical JSON."""
        content = {key: value for key, value in self.to_dict().items() if key != "name"}
        text = json.dumps(content, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    @property
    def class_prompts(self) -> tuple[tuple[str, ...], ...]:
        """For each class its prompts, one per template."""
        return tuple(tuple(t.replace("{}", name) for t in self.templates) for name in self.classes)

    def with_classes(self, classes: Iterable[str]) -> Vocabulary:
        """A copy with other classes and the same templates and descriptors; repeated classes count once, with a note.

        Raises:
            VocabularyError: as on construction.
        """
        given = checked_texts(classes if isinstance(classes, str) else tuple(classes), "classes")
        names, notes = tuple(dict.fromkeys(given)), self.notes + repetition_notes(given)
        by_class = {name: self.by_class[name] for name in names if name in self.by_class}
        return replace(self, classes=names, by_class=by_class, notes=notes)

    def to_dict(self) -> dict[str, Any]:
        """The full form, ready for JSON; `from_descriptor_json` reads it back."""
        form: dict[str, Any] = plain(self)
        del form["notes"]
        return form


def available() -> dict[str, str]:
    """Name -> short description of every built-in vocabulary."""
    return {name: str(parsed(path.read_bytes(), name).get("description", "")) for name, path in _shipped().items()}


def default_vocabulary(model_id: str) -> str:
    """The vocabulary that an embedded model, or a registered name of one, was trained with; else `UsageError`."""
    target = model_id if model_id.startswith("embedded/") else read_config().models.get(model_id, model_id)
    if target.startswith("embedded/"):
        return "world"
    raise UsageError(
        f"model {model_id!r} brings no vocabulary; choose one with --vocab NAME|FILE (known: "
        f"{', '.join(_shipped())}; a FILE is an LLM descriptor JSON {{class: [descriptor, ...]}})"
    )


def load_vocabulary(name_or_path: str | os.PathLike[str], *, skipped: list[str] | None = None) -> Vocabulary:
    """Load a built-in vocabulary by name, or a JSON file.

    Args:
        name_or_path: Of the vocabulary.
        skipped: Collects what is wrong with descriptors of single classes, which are then left out; None: each of these
            is an error.

    Raises:
        UsageError: it is neither; the message names what exists.
        VocabularyError: the file cannot be read or is malformed; the message says where.
    """
    if not isinstance(name_or_path, str | os.PathLike):
        raise UsageError(f"vocabulary is {name_or_path!r:.80}; it must be a name or a path")
    shipped, name = _shipped(), os.path.expanduser(os.fspath(name_or_path))  # noqa: PTH111 - may be a name
    if name in shipped:
        return from_descriptor_json(shipped[name].read_bytes(), name=name)
    if os.path.lexists(name) or FILE_ENDING.search(name):
        data = read_regular(name, limit=MAX_BYTES, noun="vocabulary", error=VocabularyError, suffixes={".json"})
        return from_descriptor_json(data, name=Path(name).stem, path=name, skipped=skipped)
    raise UsageError(f"vocabulary {quoted(name)} is neither a name nor a file; {suggest(name, shipped)}")


def from_descriptor_json(
    data: bytes | str, *, name: str, path: str | None = None, skipped: list[str] | None = None
) -> Vocabulary:
    """Read either JSON form (see the module); classes keep the file's order, descriptors their first-seen order.

    `name` is used unless the file gives one, `path` in messages; for `skipped` see `reader.fields_of`. Raises
    `VocabularyError` with line and column, or key and index, of several faults at once.
    """
    label = f"vocabulary {quoted(path or name)}"
    table, changed = parsed(data, label), list[str]()
    fields: dict[str, Any] = {"name": name, "templates": IMAGENET_TEMPLATES}
    try:
        fields |= fields_of(cleaned(table, changed), skipped=skipped)
        bare = [name for name in fields["classes"] if name not in fields["by_class"]] if fields["by_class"] else []
        notes = cleaning_notes(changed)
        if bare and skipped is None and "classes" not in table:
            notes += tuple(noted(bare, "class has no descriptors", "classes have no descriptors"))
        return Vocabulary(**fields, notes=notes)
    except VocabularyError as error:
        raise VocabularyError(f"{label}: {str(error).removeprefix(_prefix(fields['name']))}") from error


def _prefix(name: str) -> str:
    """How messages about a vocabulary begin where only its name is known."""
    return f"vocabulary {quoted(name)}: "


def _shipped() -> dict[str, Path]:
    """Name -> file of every built-in vocabulary; the default model's comes first, then by name."""
    folder = locations.assets_dir() / "vocabularies"
    return {path.stem: path for path in sorted(folder.glob("*.json"), key=lambda path: (path.stem != "world", path))}


def _check_template(template: str, place: str) -> None:
    if template.count("{}") != 1:
        raise VocabularyError(f"{place} is {template!r}; it must hold {{}} exactly once")


def _check_by_class(vocabulary: Vocabulary) -> None:
    classes, descriptors = set(vocabulary.classes), set(vocabulary.descriptors)
    faults = []
    for name, texts in vocabulary.by_class.items():
        if name not in classes:
            faults.append(f"by_class names {name!r}, which is not a class; {suggest(name, vocabulary.classes)}")
        faults += [
            f"by_class {name!r}[{index}] is {text!r}, which is not among the descriptors"
            for index, text in enumerate(texts)
            if text not in descriptors
        ]
    if faults:
        raise VocabularyError(join_faults(faults))

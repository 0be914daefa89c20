"""Both JSON forms of a vocabulary (see `vocabulary`), read into the fields of one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from clipmk.errors import VocabularyError, suggest
from clipmk.vocabulary.texts import all_of, checked_text, checked_texts, decoded, kind_of, sifted_texts

_FULL_KEYS = (
    "name",
    "description",
    "classes",
    "templates",
    "descriptors",
    "descriptor_template",
    "by_class",
    "attributes",
)


def parsed(data: bytes | str, label: str) -> dict[str, Any]:
    """JSON object with unique keys.

    Raises:
        VocabularyError: it is none, is empty, or is not UTF-8; the message begins with `label`.
    """
    text = decoded(data, label)
    try:
        table = json.loads(text, object_pairs_hook=_unique_keys)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise VocabularyError(f"{label} is not JSON: {error.msg} ({place})") from error
    except _RepeatedKeyError as error:
        raise VocabularyError(f"{label}: the key {error.key!r} stands twice{_second_place(text, error.key)}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets without end
        raise VocabularyError(f"{label} is not JSON that can be read: {error}") from error
    if not isinstance(table, dict):
        raise VocabularyError(f"{label} is {kind_of(table)}; an object {{class: [descriptor, ...]}} is needed")
    if not table:
        raise VocabularyError(f"{label} is empty; an object {{class: [descriptor, ...]}} is needed")
    return table


def fields_of(table: dict[str, Any], *, left_out: list[str] | None = None) -> dict[str, Any]:
    """What the file says of a `Vocabulary`, by the names of its fields; what has a default may be left out.

    Args:
        table: the file's object.
        left_out: takes what is wrong with descriptors of single classes, which are left out then; a class with an empty
            list is one without descriptors. Without it, all of that is an error.

    Raises:
        VocabularyError: a key is unknown, or values are not what is needed; the message says where.
    """
    full = "classes" in table or "by_class" in table
    return _full_form(table, left_out) if full else _descriptor_form(table, left_out)


class _RepeatedKeyError(Exception):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in pairs:
        if key in table:
            raise _RepeatedKeyError(key)
        table[key] = value
    return table


def _second_place(text: str, key: str) -> str:
    places = [match.start() for match in re.finditer(re.escape(json.dumps(key, ensure_ascii=False)) + r"\s*:", text)]
    return f" (again in line {text.count(chr(10), 0, places[1]) + 1})" if len(places) > 1 else ""


def _descriptor_form(table: dict[str, Any], left_out: list[str] | None) -> dict[str, Any]:
    by_class = _by_class(table, left_out)
    return {"classes": tuple(by_class), "descriptors": _union(by_class), "by_class": _described(by_class)}


def _full_form(table: dict[str, Any], left_out: list[str] | None) -> dict[str, Any]:
    for key in table:
        if key not in _FULL_KEYS:
            raise VocabularyError(f"{key!r} is no key of a vocabulary; {suggest(key, _FULL_KEYS)}")
    by_class = _by_class(_object(table.get("by_class", {}), "by_class"), left_out)
    attributes = checked_texts(table["attributes"], "attributes") if "attributes" in table else []
    described = checked_texts(table.get("descriptors", list(_union(by_class)) or attributes), "descriptors")
    fields: dict[str, Any] = {
        "classes": tuple(checked_texts(table.get("classes", list(by_class)), "classes")),
        "descriptors": tuple(dict.fromkeys([*described, *attributes])),
        "by_class": _described(by_class),
    }
    if "templates" in table:
        fields["templates"] = tuple(checked_texts(table["templates"], "templates"))
    return fields | {key: checked_text(table[key], key) for key in ("name", "descriptor_template") if key in table}


def _object(value: Any, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise VocabularyError(f"{key!r} is {kind_of(value)}; an object is needed")
    return value


def _by_class(table: dict[str, Any], left_out: list[str] | None) -> dict[str, tuple[str, ...]]:
    """Each class with its descriptors, none where they are left out; all that is wrong is told at once."""
    by_class: dict[str, tuple[str, ...]] = {}
    faults: list[str] = []
    for index, (key, value) in enumerate(table.items()):
        try:
            name = checked_text(key, f"key {index}")
        except VocabularyError as error:
            faults.append(str(error))
            continue
        if name in by_class:
            faults.append(f"the key {name!r} stands twice")
            continue
        texts, wrong = sifted_texts(value, repr(key))
        faults += wrong
        by_class[name] = tuple(dict.fromkeys(texts))
    if faults and (left_out is None or not any(by_class.values())):
        raise VocabularyError(all_of(faults))
    if left_out is not None:
        left_out.extend(faults)
    return by_class


def _described(by_class: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {name: texts for name, texts in by_class.items() if texts}


def _union(by_class: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for texts in by_class.values() for text in texts))

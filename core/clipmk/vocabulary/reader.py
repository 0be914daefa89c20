"""Vocabulary files and the single texts in them, checked so that every error says where.

Both JSON forms of a vocabulary (see `clipmk.vocabulary.vocabulary`) are read into the fields of one.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from clipmk.errors import UsageError, VocabularyError, raised_as, suggest
from clipmk.system.files import decoded
from clipmk.system.text import is_unsafe, noted, printable, quoted

MAX_BYTES = 64 * 2**20  # largest vocabulary file or class list read

FILE_ENDING = re.compile(r"\.(txt|json|csv|tsv|lst)$", re.IGNORECASE)
"""How the name of a file ends, even if it does not exist."""

MAX_LENGTH = 300  # most characters of a class name, template or descriptor; text towers read no further
FAULTS = 8  # most faults of one file that a message lists

_KEYS = ("name", "description", "classes", "templates", "descriptors", "descriptor_template", "by_class", "attributes")


def parsed(data: bytes | str, label: str) -> dict[str, Any]:
    """JSON object, not empty, with unique keys; else a `VocabularyError` that begins with `label`."""
    table = json_value(decoded(data, label, VocabularyError), label)
    if not isinstance(table, dict):
        raise VocabularyError(f"{label} is {kind_of(table)}; an object {{class: [descriptor, ...]}} is needed")
    if not table:
        raise VocabularyError(f"{label} is empty; an object {{class: [descriptor, ...]}} is needed")
    return table


def json_value(text: str, label: str) -> Any:
    """A JSON value in which every object has unique keys; else a `VocabularyError` that says where."""

    def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            counts = Counter(key for key, _ in pairs)
            key = next(key for key, count in counts.items() if count > 1)
            raise VocabularyError(f"{label}: the key {key!r} is repeated{_second_place(text, key)}")
        return table

    with raised_as(VocabularyError, f"{label} is not readable JSON", ValueError, RecursionError):  # endless brackets
        return json.loads(text, object_pairs_hook=unique_keys)


def fields_of(table: dict[str, Any], *, skipped: list[str] | None = None) -> dict[str, Any]:
    """The fields of a `Vocabulary` that a file gives in either form; those with a default may be missing.

    Fields that need nothing but `Vocabulary`'s own checks are returned as they are. `skipped` collects what is wrong
    with descriptors of single classes, which are then skipped; if it is None, these are errors as well. Raises
    `VocabularyError`, which says where, for an unknown key or a value of the wrong form.
    """
    full = table if "classes" in table or "by_class" in table else {"by_class": table}
    for key in full:
        if key not in _KEYS:
            raise VocabularyError(f"{key!r} is not a key of a vocabulary; {suggest(key, _KEYS)}")
    described = full.get("by_class", {})
    if not isinstance(described, dict):
        raise VocabularyError(f"'by_class' is {kind_of(described)}; an object is needed")
    by_class = _by_class(described, skipped)
    attributes = checked_texts(full["attributes"], "attributes") if "attributes" in full else []
    texts = list(dict.fromkeys(text for texts in by_class.values() for text in texts)) or attributes
    descriptors = checked_texts(full["descriptors"], "descriptors") if "descriptors" in full else texts
    fields = {key: full[key] for key in ("classes", "templates", "descriptor_template") if key in full}
    if "name" in full:
        fields["name"] = checked_text(full["name"], "name")
    return {
        "classes": tuple(by_class),
        "descriptors": tuple(dict.fromkeys([*descriptors, *attributes])),
        "by_class": {name: texts for name, texts in by_class.items() if texts},
        **fields,
    }


def cleaned(value: Any, changed: list[str]) -> Any:
    """A JSON value with clean texts: blanks of all kinds are spaces, invisible characters are dropped.

    `changed` collects the clean form of each text that was not clean. Raises `VocabularyError` for keys that become the
    same.
    """
    if isinstance(value, list):
        return [cleaned(one, changed) for one in value]
    if isinstance(value, dict):
        table = {cleaned(key, changed): cleaned(one, changed) for key, one in value.items()}
        if len(table) < len(value):
            names = [cleaned(key, []) for key in value]
            raise VocabularyError(f"the key {next(name for name in names if names.count(name) > 1)!r} is repeated")
        return table
    if not isinstance(value, str) or value.isprintable():
        return value
    text = " ".join("".join(map(_cleaned_character, value)).split())
    changed += [text] if text != value.strip() else []
    return text


def _cleaned_character(one: str) -> str:
    if one.isspace():
        return " "
    return "" if unicodedata.category(one) == "Cf" and is_unsafe(one) else one


def cleaning_notes(changed: Sequence[str]) -> tuple[str, ...]:
    """A note on the texts that `cleaned` has changed, if there are any."""
    what = "tabs, line breaks or invisible characters, cleaned"
    return tuple(noted(changed, f"text has {what}", f"texts have {what}"))


def checked_texts(values: Any, place: str) -> list[str]:
    """A list of texts from outside, each as `checked_text`; of errors `place` says where they are."""
    texts, faults = split_texts(values, place)
    if faults:
        raise VocabularyError(join_faults(faults))
    return texts


def split_texts(values: Any, place: str) -> tuple[list[str], list[str]]:
    """The valid texts of a list from outside, and what is wrong with the list and with each invalid text."""
    if not isinstance(values, list | tuple):
        return [], [f"{place} is {kind_of(values)}; a list of texts is needed"]
    texts: list[str] = []
    faults = [] if values else [f"{place} is empty"]
    for index, value in enumerate(values):
        try:
            texts.append(checked_text(value, f"{place}[{index}]"))
        except VocabularyError as error:
            faults.append(str(error))
    return texts, faults


def join_faults(faults: Sequence[str]) -> str:
    """One message for all faults: a single one as it is, several numbered and counted, at most `FAULTS` of them."""
    if len(faults) == 1:
        return faults[0]
    listed = "; ".join(f"{number}) {fault}" for number, fault in enumerate(faults[:FAULTS], 1))
    more = f"; and {len(faults) - FAULTS:,} more" if len(faults) > FAULTS else ""
    return f"{len(faults):,} faults: {listed}{more}"


def checked_text(value: Any, place: str) -> str:
    """One text from outside, without surrounding spaces; `VocabularyError` if it is blank, too long or not plain."""
    if not isinstance(value, str):
        raise VocabularyError(f"{place} is {kind_of(value)}; a text is needed")
    text = value.strip()
    if not text:
        raise VocabularyError(f"{place} is blank")
    if len(text) > MAX_LENGTH:
        raise VocabularyError(f"{place} has {len(text)} characters; at most {MAX_LENGTH} are allowed")
    if text.isprintable():  # the fast path: one call for the whole text
        return text
    unsafe = next((character for character in text if is_unsafe(character)), None)
    if unsafe is not None:
        raise VocabularyError(f"{place} holds the control character {printable(unsafe)}: {quoted(text)}")
    return text


def ask_texts(given: Iterable[str]) -> tuple[str, ...]:
    """Texts that a user asks for, clean and each once; the error says which one cannot be used."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise UsageError(f"texts is {given!r:.80}; it must be a list of texts")
    texts = [checked_text(cleaned(text, []), f"text {number}") for number, text in enumerate(given, 1)]
    return tuple(dict.fromkeys(texts))


def unique(texts: Sequence[str], key: str) -> tuple[str, ...]:
    """The texts as they are, or a `VocabularyError` with the places of those that repeat others."""
    if len(set(texts)) == len(texts):
        return tuple(texts)
    first: dict[str, int] = {}
    places = [(index, first.setdefault(text, index), text) for index, text in enumerate(texts)]
    raise VocabularyError(join_faults([f"{key}[{i}] repeats {key}[{j}]: {text!r}" for i, j, text in places if i != j]))


def repetition_notes(names: Sequence[str]) -> tuple[str, ...]:
    """A note on names that are given more than once, if there are any."""
    repeated = [name for name, count in Counter(names).items() if count > 1]
    return tuple(noted(repeated, "class is repeated and counts once", "classes are repeated and count once"))


def kind_of(value: Any) -> str:
    """The type of a JSON value, in words."""
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a text", list: "a list", dict: "an object"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


def _second_place(text: str, key: str) -> str:
    places = [match.start() for match in re.finditer(re.escape(json.dumps(key, ensure_ascii=False)) + r"\s*:", text)]
    return f" (again in line {text.count(chr(10), 0, places[1]) + 1})" if len(places) > 1 else ""


def _by_class(table: dict[str, Any], skipped: list[str] | None) -> dict[str, tuple[str, ...]]:
    """Each class with its descriptors, none where they are skipped; one error names all faults."""
    by_class: dict[str, tuple[str, ...]] = {}
    faults: list[str] = []
    for index, (key, value) in enumerate(table.items()):
        try:
            name = checked_text(key, f"key {index}")
        except VocabularyError as error:
            faults.append(str(error))
            continue
        if name in by_class:
            faults.append(f"the key {name!r} is repeated")
            continue
        texts, wrong = split_texts(value, repr(key)) if value != [] else ([], [])
        faults += wrong
        by_class[name] = tuple(dict.fromkeys(texts))
    if not any(by_class.values()):
        faults += [f"{name!r} is empty" for name, value in table.items() if value == []]
    if faults and (skipped is None or not any(by_class.values())):
        raise VocabularyError(join_faults(faults))
    if skipped is not None:
        skipped.extend(faults)
    return by_class

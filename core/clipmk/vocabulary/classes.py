"""Class names: lists of them from outside, and which class of a vocabulary a name means."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from clipmk.errors import UsageError, VocabularyError, suggest
from clipmk.system.files import decoded, read_regular
from clipmk.system.rows import TABLES, read_rows
from clipmk.system.text import listed, printable, quoted
from clipmk.vocabulary.reader import (
    FILE_ENDING,
    MAX_BYTES,
    checked_text,
    cleaned,
    cleaning_notes,
    json_value,
    kind_of,
    repetition_notes,
)

_TITLES = ("class_name", "classname", "name", "class", "label", "category")
"""Names of the column of names in a table, in lower case."""

_WORDNET = re.compile(r"n\d{8}[\s,:]+(?=\S)", re.ASCII)
"""How lists of ImageNet's classes begin their lines: `n01440764 tench, Tinca tinca`."""

_OTHER = frozenset(
    {".yaml", ".yml", ".toml", ".xml", ".ini", ".py", ".html", ".parquet", ".xlsx", ".xls", ".png", ".jpg"}
)
"""Endings of files that are not a class list, although their lines could be read as one."""

if TYPE_CHECKING:
    from clipmk.vocabulary.vocabulary import Vocabulary


@lru_cache(maxsize=2**14)  # 50,000 labels repeat some thousand names
def class_key(name: str) -> str:
    """What all spellings of a class have in common: `Tabby_cat`, `tabby-cat` and `tabby cat` are the same class."""
    return " ".join(re.split(r"[\s_-]+", unicodedata.normalize("NFC", name).casefold())).strip()


class ClassIndex:
    """Finds classes by name; build it once, then every look-up takes constant time.

    An exact name goes first. Otherwise neither case nor how words are joined matters, where a single class is meant.
    """

    def __init__(self, classes: Iterable[str]) -> None:
        self._classes = tuple(classes)
        self._exact = frozenset(self._classes)
        self._spellings: defaultdict[str, list[str]] = defaultdict(list)
        for name in self._classes:
            self._spellings[class_key(name)].append(name)

    def spellings(self, name: str) -> tuple[str, ...]:
        """Classes that the name may mean: none, the one that is meant, or several."""
        return (name,) if name in self._exact else tuple(self._spellings.get(class_key(name), ()))

    def find(self, name: str | None) -> str | None:
        """The class that a name means; None for none and where several could be meant."""
        found = () if name is None else self.spellings(name)
        return found[0] if len(found) == 1 else None


def resolve_class(vocabulary: Vocabulary, name: str) -> int:
    """Index of the class that a name means (see `ClassIndex`); `UsageError` with close ones if there is none."""
    classes = vocabulary.classes
    found = (name,) if name in classes else ClassIndex(classes).spellings(name)
    if len(found) == 1:
        return classes.index(found[0])
    where = f"class {quoted(name)} is not in {printable(vocabulary.name)}"
    raise UsageError(
        f"{where}; close: {', '.join(map(repr, found))}" if found else f"{where}; {suggest(name, classes)}"
    )


class ClassList(NamedTuple):
    """Class names from outside."""

    names: tuple[str, ...]
    notes: tuple[str, ...]
    """What was cleaned, left out or guessed."""

    def within(self, vocabulary: Vocabulary) -> Vocabulary:
        """The vocabulary with these classes, and with the notes."""
        other = vocabulary.with_classes(self.names)
        return replace(other, notes=other.notes + self.notes)


def parse_classes(argument: str) -> ClassList:
    """Read a class list: an existing file, else `a,b,c`; `VocabularyError` where that is impossible.

    A text file has one class per line, `#` starts a comment line; `.json` holds a list of names; CSV, TSV and JSON
    lines have a column of names.
    """
    label, path = f"class list {quoted(argument)}", os.path.expanduser(argument)  # noqa: PTH111 - may be a list
    is_file = "\0" not in path and os.path.lexists(path) and not os.path.isdir(path)  # noqa: PTH112
    notes: list[str] = []
    if is_file or ("," not in argument and FILE_ENDING.search(argument)):
        placed = _in_file(path, label)
    else:
        placed = [(f"class {number}", part) for number, part in enumerate(argument.split(","), 1)]
        if len(placed) == 1:
            notes.append(f"{quoted(argument)} is not a file; it is taken as the name of a single class")
    return _class_list(placed, notes, label)


def parse_class_lines(text: str) -> ClassList:
    """Read a typed class list, one class a line, `#` starts a comment line; `VocabularyError` names bad lines."""
    return _class_list(_in_lines(text), [], "class list")


def _class_list(placed: list[tuple[str, Any]], notes: list[str], label: str) -> ClassList:
    """The classes at some places, cleaned and without repetitions."""
    if not placed:
        raise VocabularyError(f"{label} is empty")
    if all(_WORDNET.match(str(name)) for _, name in placed):
        notes.append(f"every class begins with a WordNet id, which is left out: {quoted(str(placed[0][1]))}")
        placed = [(place, _WORDNET.sub("", name)) for place, name in placed]
    changed: list[str] = []
    names = [checked_text(cleaned(name, changed), f"{label}: {place}") for place, name in placed]
    return ClassList(tuple(dict.fromkeys(names)), (*notes, *cleaning_notes(changed), *repetition_notes(names)))


def read_texts(path: str) -> tuple[str, ...]:
    """The texts in a file, at least one, in any of the forms of a class list; each once."""
    label = f"file of texts {quoted(path)}"
    placed = _in_file(os.path.expanduser(path), label, noun="file of texts")  # noqa: PTH111 - as class lists
    if not placed:
        raise VocabularyError(f"{label} is empty")
    return tuple(dict.fromkeys(checked_text(cleaned(text, []), f"{label}: {place}") for place, text in placed))


def _in_file(path: str, label: str, noun: str = "class list") -> list[tuple[str, Any]]:
    """(place, name) of every class in a file."""
    ending = os.path.splitext(path)[1].lower()  # noqa: PTH122
    if ending in TABLES and ending != ".json":
        header, rows = read_rows(path, limit=MAX_BYTES, noun=noun, error=VocabularyError)
        return _in_table(header, list(rows), label)
    endings = {".txt", ".json", ".csv", ".tsv"}
    data = read_regular(path, limit=MAX_BYTES, noun=noun, error=VocabularyError, suffixes=endings)
    if ending in _OTHER:
        raise VocabularyError(f"{label} is a {ending} file; a list is a text per line, CSV, or a JSON list")
    text = decoded(data, label, VocabularyError)
    if ending == ".json" or text.lstrip().startswith(("[", "{")):
        names = json_value(text, label)
        if not isinstance(names, list):
            raise VocabularyError(f"{label}: names is {kind_of(names)}; a list of texts is needed")
        return [(f"names[{index}]", name) for index, name in enumerate(names)]
    return _in_lines(text)


def _in_lines(text: str) -> list[tuple[str, Any]]:
    """The names in a text, one a line."""
    lines = [(f"line {number}", line.strip()) for number, line in enumerate(text.split("\n"), 1)]
    return [(place, line) for place, line in lines if line and not line.startswith("#")]


def _in_table(header: list[str], rows: list[list[Any]], label: str) -> list[tuple[str, Any]]:
    """The names in a table: those of a single column, or of the first column with a usual title and words in it."""
    titles = [name.lower() for name in header]
    if len(header) == 1:
        cells = [row[0] for row in rows]
        return [
            (f"row {number}", name) for number, name in enumerate(cells if titles[0] in _TITLES else header + cells, 1)
        ]
    for place in (titles.index(title) for title in _TITLES if title in titles):
        if not all(str(row[place]).strip().isdecimal() for row in rows):
            return [(f"row {number}", row[place]) for number, row in enumerate(rows, 1)]
    columns = listed(header, most=8) or "none"
    raise VocabularyError(f"{label} has no column of names ({', '.join(_TITLES)}); its columns: {columns}")

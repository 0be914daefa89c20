"""Class names: lists of them from outside, and which class of a vocabulary a name means."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

from clipmk.errors import UsageError, VocabularyError, suggest
from clipmk.system.files import read_regular
from clipmk.system.text import printable, quoted
from clipmk.vocabulary.reader import FILE_ENDING, MAX_BYTES, checked_text, checked_texts, decoded, json_value

if TYPE_CHECKING:
    from clipmk.vocabulary.vocabulary import Vocabulary


@lru_cache(maxsize=2**14)  # 50,000 labels repeat some thousand names
def class_key(name: str) -> str:
    """What all spellings of a class have in common: `Tabby_cat`, `tabby-cat` and `tabby cat` are the same class."""
    return " ".join(re.split(r"[\s_-]+", name.casefold())).strip()


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
    """Index of the class that a name means (see `ClassIndex`).

    Raises:
        UsageError: there is no such class; the message names close ones.
    """
    classes = vocabulary.classes
    if name in classes:
        return classes.index(name)
    found = ClassIndex(classes).spellings(name)
    if len(found) == 1:
        return classes.index(found[0])
    where = f"class {quoted(name)} is not in {printable(vocabulary.name)}"
    raise UsageError(
        f"{where}; close: {', '.join(map(repr, found))}" if found else f"{where}; {suggest(name, classes)}"
    )


def parse_classes(argument: str) -> tuple[str, ...]:
    """Read a class list: an existing file (one class per line, `#` starts a comment line), else `a,b,c`.

    A file that ends in `.json` holds a JSON list of names.

    Raises:
        VocabularyError: the file cannot be read, a name is blank, repeated, too long or holds control characters.
    """
    label = f"class list {quoted(argument)}"
    is_file = os.path.lexists(argument) and not os.path.isdir(argument)  # noqa: PTH112 - unlike Path.is_dir, never raises
    if "," in argument or not (is_file or FILE_ENDING.search(argument)):
        placed = [(f"class {number}", part) for number, part in enumerate(argument.split(","), 1)]
    else:
        endings = {".txt", ".json"}
        data = read_regular(argument, limit=MAX_BYTES, noun="class list", error=VocabularyError, suffixes=endings)
        text = decoded(data, label)
        if argument.lower().endswith(".json"):
            names = checked_texts(json_value(text, label), f"{label}: names")
            placed = [(f"names[{index}]", name) for index, name in enumerate(names)]
        else:
            lines = [(f"line {number}", line.strip()) for number, line in enumerate(text.split("\n"), 1)]
            placed = [(place, line) for place, line in lines if line and not line.startswith("#")]
    if not placed:
        raise VocabularyError(f"{label} is empty")
    first: dict[str, str] = {}
    for place, name in placed:
        checked = checked_text(name, f"{label}: {place}")
        if checked in first:
            raise VocabularyError(f"{label}: {place} repeats {first[checked]}: {checked!r}")
        first[checked] = place
    return tuple(first)

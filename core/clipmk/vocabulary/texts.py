"""Words: the single texts of a vocabulary, checked so that every error says where, and counts in messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clipmk.errors import VocabularyError
from clipmk.system.text import is_unsafe, printable, quoted

MAX_LENGTH = 300
"""Most characters of a class name, template or descriptor; text towers read no further."""

FAULTS = 8
"""Most faults of one file that a message tells."""


def decoded(data: bytes | str, label: str) -> str:
    """UTF-8 text, with or without a byte order mark.

    Raises:
        VocabularyError: it is not UTF-8.
    """
    if isinstance(data, str):
        return data
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise VocabularyError(f"{label} is not UTF-8 text (byte {error.start})") from error


def checked_texts(values: Any, place: str) -> list[str]:
    """A list of texts from outside, each as `checked_text`.

    Raises:
        VocabularyError: it is no list, is empty, or texts are bad; `place` says where, for each.
    """
    texts, faults = sifted_texts(values, place)
    if faults:
        raise VocabularyError(all_of(faults))
    return texts


def sifted_texts(values: Any, place: str) -> tuple[list[str], list[str]]:
    """The good texts of a list from outside, and what is wrong with the list and with each other one."""
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


def all_of(faults: Sequence[str]) -> str:
    """One fault as it is; several with numbers and how many there are, at most `FAULTS` of them in full."""
    if len(faults) == 1:
        return faults[0]
    listed = "; ".join(f"{number}) {fault}" for number, fault in enumerate(faults[:FAULTS], 1))
    more = f"; and {len(faults) - FAULTS:,} more" if len(faults) > FAULTS else ""
    return f"{len(faults):,} faults: {listed}{more}"


def checked_text(value: Any, place: str) -> str:
    """One text from outside, without surrounding spaces.

    Raises:
        VocabularyError: it is no text, blank, longer than `MAX_LENGTH` or holds control characters.
    """
    if not isinstance(value, str):
        raise VocabularyError(f"{place} is {kind_of(value)}; a text is needed")
    text = value.strip()
    if not text:
        raise VocabularyError(f"{place} is blank")
    if len(text) > MAX_LENGTH:
        raise VocabularyError(f"{place} has {len(text)} characters; at most {MAX_LENGTH} are allowed")
    if text.isprintable():  # nothing unsafe is, and it is one call for the whole text
        return text
    unsafe = next((character for character in text if is_unsafe(character)), None)
    if unsafe is not None:
        raise VocabularyError(f"{place} holds the control character {printable(unsafe)}: {quoted(text)}")
    return text


def unique(texts: Sequence[str], key: str) -> tuple[str, ...]:
    """The texts as they are.

    Raises:
        VocabularyError: some repeat others; the message gives both places.
    """
    if len(set(texts)) == len(texts):
        return tuple(texts)
    first: dict[str, int] = {}
    places = [(index, first.setdefault(text, index), text) for index, text in enumerate(texts)]
    raise VocabularyError(all_of([f"{key}[{i}] repeats {key}[{j}]: {text!r}" for i, j, text in places if i != j]))


def kind_of(value: Any) -> str:
    """What a JSON value is, in words."""
    names = {
        bool: "a truth value",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "an object",
    }
    return "null" if value is None else names.get(type(value), type(value).__name__)

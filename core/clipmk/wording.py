"""Words: the single texts of a vocabulary, checked so that every error says where, and counts in messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clipmk.errors import VocabularyError
from clipmk.text import is_unsafe, printable, quoted

MAX_LENGTH = 300
"""Most characters of a class name, template or descriptor; text towers read no further."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """`1 image`, `0 images`, `50,000 images`.

    Args:
        number: how many.
        noun: for one.
        plural: for any other number, where it does not end in a mere `s`.
    """
    return f"{number:,} {one_or_many(number, noun, plural or f'{noun}s')}"


def one_or_many(number: int, one: str, many: str) -> str:
    """Whichever words fit a number: `is` for 1, `are` for all others."""
    return one if number == 1 else many


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
        VocabularyError: it is no list, is empty, or a text is bad; `place` says where.
    """
    if not isinstance(values, list | tuple):
        raise VocabularyError(f"{place} is {kind_of(values)}; a list of texts is needed")
    if not values:
        raise VocabularyError(f"{place} is empty")
    return [checked_text(value, f"{place}[{index}]") for index, value in enumerate(values)]


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
        VocabularyError: one repeats another; the message gives both places.
    """
    if len(set(texts)) == len(texts):
        return tuple(texts)
    first: dict[str, int] = {}
    for index, text in enumerate(texts):
        if text in first:
            raise VocabularyError(f"{key}[{index}] repeats {key}[{first[text]}]: {text!r}")
        first[text] = index
    return tuple(texts)


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

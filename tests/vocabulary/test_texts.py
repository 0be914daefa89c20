"""Counts in messages."""

from __future__ import annotations

import pytest

from clipmk.system.text import counted


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0 images"), (1, "1 image"), (2, "2 images"), (21, "21 images"), (50_000, "50,000 images")],
)
def test_one_is_singular_and_thousands_are_parted(number: int, words: str) -> None:
    assert counted(number, "image") == words


def test_a_plural_of_its_own_is_given() -> None:
    assert [counted(number, "class", "classes") for number in (1, 2)] == ["1 class", "2 classes"]

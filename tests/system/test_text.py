"""Text that is safe to print, and the parts of messages."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmk.system.text import byte_size, cause, counted, encodable, is_unsafe, listed, printable, quoted, slug


@given(st.text())
def test_printable_text_is_one_harmless_line(text: str) -> None:
    shown = printable(text)
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u2028\u2029\u202a\u202e\u2066\ufeff" for c in shown)
    assert len(shown.splitlines()) <= 1
    shown.encode("utf-8")


def test_printable_text_escapes_what_steers_and_keeps_what_is_read() -> None:
    assert printable("a\x1b[2J\n\x9b\u202eb\U000e0041") == r"a\x1b[2J\x0a\x9b\u202eb\U000e0041"
    kept = "naïve 狐 🦊 [bold]x[/] می\u200cخواهم"
    assert printable(kept) == kept
    assert quoted(Path("a\tb")) == r"'a\x09b'"
    assert encodable("a\udcff\n狐") == "a\\udcff\n狐"


def test_what_python_calls_printable_is_safe_to_print() -> None:
    assert not [code for code in range(sys.maxunicode + 1) if chr(code).isprintable() and is_unsafe(chr(code))]


@pytest.mark.parametrize(
    ("count", "size"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (99_999, "99,999 bytes"),
        (123_456, "0.1 MB"),
        (34_000_000, "34.0 MB"),
        (512 * 2**20, "512 MiB"),
        (1_200_000_000, "1.2 GB"),
        (8 * 2**30, "8.6 GB"),
    ],
)
def test_sizes_are_short_and_limits_exact(count: int, size: str) -> None:
    assert byte_size(count) == size


def test_lists_are_cut() -> None:
    assert listed(["a", "b\n"], most=2) == r"'a', 'b\x0a'"
    assert listed(["a", "b", "c"], most=2) == "'a', 'b', ..."


def test_the_cause_of_an_error_is_one_printable_line() -> None:
    assert cause(OSError(28, "No space left", "a.bin")) == "No space left"
    assert cause(ValueError("first\x1b\nsecond")) == r"first\x1b"
    assert cause(EOFError()) == "EOFError"


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0 images"), (1, "1 image"), (2, "2 images"), (21, "21 images"), (50_000, "50,000 images")],
)
def test_one_is_singular_and_thousands_are_parted(number: int, words: str) -> None:
    assert counted(number, "image") == words


def test_a_plural_of_its_own_is_given() -> None:
    assert [counted(number, "class", "classes") for number in (1, 2)] == ["1 class", "2 classes"]


def test_a_slug_is_a_short_part_of_a_file_name() -> None:
    assert slug("ViT-B-32:laion2b/x y") == "ViT-B-32-laion2b-x-y"
    assert slug("Füchse_3.1") == "Füchse_3.1"
    assert slug("../..") == slug("\udcff") == "unnamed"
    assert len(slug("ü" * 300).encode()) == 80

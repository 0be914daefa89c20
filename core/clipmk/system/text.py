"""Text for messages and output: input made safe to print, counts, sizes, lists, reasons."""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import PurePath

_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories that steer a terminal or reorder a line: controls, formats (bidi), surrogates, separators."""

_SLUG_BYTES = 80  # file names have up to three slugs; most folders take 255 bytes in all

_JOINERS = frozenset({"\u200c", "\u200d"})
"""Format characters that Persian, Indic scripts and emoji are spelled with; they steer nothing."""


def printable(text: str) -> str:
    r"""Replace control, escape, bidi and undecodable characters by ``\xNN`` style escapes; all else stays.

    The result is one line that neither moves the cursor, nor changes colours, nor reads in another order.
    """
    return "".join(_escaped(character) if is_unsafe(character) else character for character in text)


def is_unsafe(character: str) -> bool:
    """Whether one character could steer a terminal or reorder what stands around it."""
    return unicodedata.category(character) in _UNSAFE and character not in _JOINERS


def quoted(text: str | PurePath) -> str:
    """`printable` text in single quotes, for messages that repeat the user's input."""
    return f"'{printable(str(text))}'"


def listed(names: Sequence[str], *, most: int) -> str:
    """The first names, quoted: ``'a', 'b', ...``."""
    first = ", ".join(quoted(name) for name in names[:most])
    return f"{first}, ..." if len(names) > most else first


def slug(text: str) -> str:
    """A text as a part of a file name that every file system takes; "unnamed" if nothing of it is left."""
    return re.sub(r"[^\w.-]+", "-", text).encode()[:_SLUG_BYTES].decode(errors="ignore").strip("-.") or "unnamed"


def noted(names: Sequence[str], one: str, many: str) -> list[str]:
    """A line about any number of things: `2 images are left out: 'a', 'b'`; no line about none."""
    return [f"{len(names):,} {one_or_many(len(names), one, many)}: {listed(names, most=3)}"] if names else []


def encodable(text: str) -> str:
    r"""Text that UTF-8 can hold: bytes of a file name that were not UTF-8 become ``\udcNN``."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """`1 image`, `0 images`, `50,000 images`; the plural is the noun with an `s` unless it is given."""
    return f"{number:,} {one_or_many(number, noun, plural or f'{noun}s')}"


def one_or_many(number: int, one: str, many: str) -> str:
    """The words that fit a number: `is` for 1, `are` for all others."""
    return one if number == 1 else many


def byte_size(count: int) -> str:
    """`64 MiB` where it is exactly that, as limits are; else `1.2 GB`, `3.4 MB`, `567 bytes`."""
    if 0 < count < 2**30 and count % 2**20 == 0:
        return f"{count // 2**20} MiB"
    unit, size = ("GB", 1e9) if count >= 1e8 else ("MB", 1e6)
    return f"{count / size:.1f} {unit}" if count >= 1e5 else counted(count, "byte")


def cause(error: Exception) -> str:
    """What the system says about an error, else the first line of its message, else its type; printable."""
    reason = getattr(error, "strerror", None) or str(error).strip()
    return printable(reason.splitlines()[0]) if reason else type(error).__name__


def _escaped(character: str) -> str:
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"

"""The signs and colours of what an explanation says about a concept. Sign and word always say what the colour says.

Also what is written in their place on terminals and streams whose encoding lacks them.
"""

import os
import unicodedata
from functools import lru_cache
from typing import IO, Final, Literal

Kind = Literal["mutual", "vision", "language", "left-out"]
"""What an explanation says about a concept; the last: the user has left it out. Also the app's theme variables."""

SIGN: Final[dict[Kind, str]] = {"mutual": "∩", "vision": "◐", "language": "◑", "left-out": "○"}  # one cell each

WORD: Final[dict[Kind, str]] = {
    "mutual": "mutual",
    "vision": "vision only",
    "language": "language only",
    "left-out": "left out",
}

ANSI: Final[dict[Kind, str]] = {
    "mutual": "yellow",
    "vision": "bright_blue",
    "language": "magenta",
    "left-out": "bright_black",
}
"""The app's hues in the terminal's own palette, for the command line, which does not know the background."""

RIGHT: Final = "✓"
WRONG: Final = "✗"
PREDICTED: Final = "●"  # a predicted class where the true one is not known
NEITHER: Final = "·"  # a concept that a model neither sees nor ties to the class
FAILED: Final = "!"

_REPLACED: Final = dict(
    zip(
        "★∩◐◑○●✓✗·▲▼▸▾▴→←↑↓⏎■▀…–—−≈≤≥×±│┃─━" + "▁▂▃▄▅▆▇█" + "▉▊▋▌▍▎▏" + "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏",
        "&*o+-@=x.^v>-+><^v<# ~---~<>x+||--" + "_.:-=+##" + "===|---" + "|/-+|/-+|/",
        strict=True,
    )
)
"""Signs of the interface -> characters of ASCII that can be told from each other, and are not keys of the app."""

_BLOCKS: Final = ((0x2500, 0x2580, "+"), (0x2580, 0x25A0, "#"), (0x2800, 0x2900, "*"))
"""Lines of boxes, blocks and braille: first, past the last, what is written for those that are not listed."""


def encoding_of(stream: IO[str] | None) -> str:
    """The encoding of text for a stream: ASCII where the user's locale is C or POSIX by name.

    There Python writes UTF-8 all the same, and sets LC_CTYPE to say so (PEP 538).
    """
    given = {name: os.environ.get(name, "") for name in ("LC_ALL", "LC_CTYPE", "LANG")}
    coerced = not given["LC_ALL"] and given["LC_CTYPE"].upper() in {"", "C.UTF-8", "C.UTF8", "UTF-8"}
    chosen = given["LANG"] if coerced else given["LC_ALL"] or given["LC_CTYPE"]
    told = any(os.environ.get(name) for name in ("PYTHONIOENCODING", "PYTHONUTF8"))
    if chosen in {"C", "POSIX"} and not told:
        return "ascii"
    return getattr(stream, "encoding", None) or "utf-8"


def readable(text: str, encoding: str) -> str:
    """A text with only characters that an encoding has, in as many cells: `*`, `o`, `+` for the signs of concepts.

    Other letters lose their accents; what is left is a `?` per cell.
    """
    if text.isascii():
        return text
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return "".join(_written(character, encoding) for character in text)
    return text


@lru_cache(maxsize=4096)
def _written(character: str, encoding: str) -> str:
    from rich.cells import cell_len  # noqa: PLC0415 - not for every command

    blocks = (sign for first, end, sign in _BLOCKS if first <= ord(character) < end)
    plain = unicodedata.normalize("NFKD", character)[:1]
    for found in (character, _REPLACED.get(character) or next(blocks, plain)):
        try:
            found.encode(encoding)
        except UnicodeEncodeError:
            continue
        if cell_len(found) == cell_len(character):
            return found
    return "?" * cell_len(character)

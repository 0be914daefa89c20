"""Which files are images, by name alone: listing them needs neither numpy nor Pillow."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from clipmk.errors import ImageError, InputError
from clipmk.system.text import cause, quoted

EXTENSIONS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp"})
"""File endings (lower case) that count as images in a folder."""

_WILD = frozenset("*?[")
"""Characters that make a name a pattern, unless a file has that name."""

MAX_BYTES = 512 * 2**20
"""Largest file that is read."""


def expand_path(argument: str) -> list[str]:
    """Turn a command-line argument into image paths.

    "-" and an existing file are kept, whatever characters their names contain. A folder gives its files with a known
    ending, sorted, without hidden and nested ones. A pattern (``*``, ``?``, ``[]``, ``**``) gives the files it
    matches, sorted. Any other name is kept, for `read_picture` to report.

    Raises:
        InputError: a folder cannot be listed or holds no image; or a pattern matches no file.
    """
    if argument == "-" or not argument or "\0" in argument:
        return [argument]
    if os.path.isdir(argument):  # noqa: PTH112 - unlike Path.is_dir, never raises
        return _images_in(argument)
    if os.path.lexists(argument):
        return [argument]
    matches = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207 - keeps the path as the user wrote it
    files = [match for match in matches if not Path(match).is_dir()]
    if not files:
        refuse_pattern(argument)
    return files or [argument]


def refuse_pattern(argument: str) -> None:
    """Raise where a name that no file has is a pattern, for which close names would not help.

    Raises:
        ImageError: it is.
    """
    if not _WILD.isdisjoint(argument):
        raise ImageError(f"no file matches the pattern {quoted(argument)}")


def _images_in(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            shown = (entry for entry in entries if not entry.name.startswith("."))
            names = sorted(e.name for e in shown if Path(e.name).suffix.lower() in EXTENSIONS and e.is_file())
    except OSError as reason:
        raise InputError(f"folder {quoted(folder)} cannot be listed: {cause(reason)}") from reason
    if not names:
        nested = glob.glob("*/", root_dir=folder)  # noqa: PTH207 - hidden ones left out
        wanted = quoted(os.path.join(folder, "*", "*"))  # noqa: PTH118 - keeps the path as the user wrote it
        hint = f"; folders in it are not searched, name what they hold: {wanted}" if nested else ""
        endings = ", ".join(sorted(EXTENSIONS))
        raise InputError(f"folder {quoted(folder)} holds no image; known endings: {endings}{hint}")
    return [str(Path(folder) / name) for name in names]

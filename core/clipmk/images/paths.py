"""Which files are images, by name alone: listing them needs neither numpy nor Pillow."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from clipmk.errors import ImageError, InputError
from clipmk.system.text import cause, listed, one_or_many, quoted

_HEIF = frozenset({".heic", ".heif", ".hif", ".avif"})
HEIF_HINT = "pip install 'clipmk[heif]' reads HEIC and AVIF"

EXTENSIONS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}) | (
    _HEIF if find_spec("pillow_heif") else frozenset()
)
"""File endings (lower case) that count as images in a folder."""

UNREAD = (_HEIF - EXTENSIONS) | {
    *(".jp2", ".j2k", ".jxl", ".psd", ".svg", ".ico", ".tga", ".ppm", ".pgm", ".pbm", ".exr", ".hdr", ".pdf", ".dcm"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"),
    *(".mov", ".mp4", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".wmv", ".3gp"),
}
"""Endings of pictures and videos that are not read: a folder's are counted."""

_WILD = frozenset("*?[")
"""Characters that make a name a pattern, unless a file has that name."""

MAX_BYTES = 512 * 2**20
"""Largest file that is read."""


def expand_path(argument: str, notes: list[str] | None = None) -> list[str]:
    """Turn a command-line argument into image paths; `~` at its beginning is the home folder.

    "-" and an existing file are kept, whatever characters their names contain. A folder gives its files with a known
    ending, sorted, without hidden and nested ones. A pattern (``*``, ``?``, ``[]``, ``**``) gives the files it
    matches, sorted. Any other name is kept, for `read_picture` to report.

    Args:
        argument: as the user gave it.
        notes: collects what a folder's listing leaves out.

    Raises:
        InputError: a folder cannot be listed or holds no image; or a pattern matches no file.
    """
    if argument == "-" or not argument or "\0" in argument:
        return [argument]
    argument = os.path.expanduser(argument)  # noqa: PTH111 - a pattern is not a path
    if os.path.isdir(argument):  # noqa: PTH112 - unlike Path.is_dir, never raises
        return _images_in(argument, notes)
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


def list_folder(folder: str) -> tuple[list[str], list[str], list[str]]:
    """Names of the images and of the folders in a folder, sorted, without hidden ones, and notes on what is left out.

    Raises:
        InputError: it cannot be listed.
    """
    images, folders, broken = list[str](), list[str](), list[str]()
    endings: Counter[str] = Counter()
    try:
        with os.scandir(folder) as entries:
            for entry in (one for one in entries if not one.name.startswith(".")):
                ending = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - 10,000 names
                try:
                    if entry.is_dir():
                        folders.append(entry.name)
                    elif ending in EXTENSIONS:
                        (images if entry.is_file() else broken).append(entry.name)
                    endings[ending] += ending in UNREAD
                except OSError:  # a link to itself
                    broken.append(entry.name)
    except OSError as reason:
        raise InputError(f"folder {quoted(folder)} cannot be listed: {cause(reason)}") from reason
    return sorted(images), sorted(folders), [*broken_note(broken), *unread_note(endings)]


def broken_note(names: Sequence[str]) -> list[str]:
    """A line about entries that cannot be read, if there are any."""
    what = one_or_many(len(names), "entry cannot be read and is", "entries cannot be read and are")
    return [f"{len(names):,} {what} left out: {listed(sorted(names), most=3)}"] if names else []


def unread_note(endings: Counter[str]) -> list[str]:
    """A line about files that are not read, if there are any: how many of each ending."""
    number = endings.total()
    kinds = ", ".join(f"{count:,} {ending}" for ending, count in sorted(endings.items()) if count)
    hint = f"; {HEIF_HINT}" if any(endings[ending] for ending in _HEIF) else ""
    what = one_or_many(number, "file of a kind that is not read is", "files of kinds that are not read are")
    return [f"{number:,} {what} left out: {kinds}{hint}"] if number else []


def _images_in(folder: str, notes: list[str] | None) -> list[str]:
    names, folders, left_out = list_folder(folder)
    if not names:
        wanted = quoted(os.path.join(folder, "*", "*"))  # noqa: PTH118 - keeps the path as the user wrote it
        hint = f"; folders in it are not searched, name what they hold: {wanted}" if folders else ""
        endings = ", ".join(sorted(EXTENSIONS))
        more = "; ".join(["", *left_out])
        raise InputError(f"folder {quoted(folder)} holds no image; known endings: {endings}{hint}{more}")
    if notes is not None:
        notes += [f"folder {quoted(folder)}: {note}" for note in left_out]
    return [str(Path(folder) / name) for name in names]

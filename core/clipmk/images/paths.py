"""Which files are images, by name alone: listing them needs neither numpy nor Pillow."""

import glob
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from clipmk.errors import ImageError, InputError, raised_as
from clipmk.system.text import noted, one_or_many, quoted

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

_WILD = frozenset("*?[")  # characters that make a name a pattern, unless a file has that name

MAX_BYTES = 512 * 2**20


def expand_path(argument: str, notes: list[str] | None = None) -> list[str]:
    """Turn a command-line argument into image paths; `~` at its beginning is the home folder.

    "-" and an existing file are kept, whatever characters their names contain. A folder gives its files with a known
    ending, sorted, without hidden and nested ones; `notes` collects what is left out. A pattern (``*``, ``?``, ``[]``,
    ``**``) gives the files it matches, sorted. Any other name is kept, for `read_picture` to report. InputError if a
    folder cannot be listed or holds no image; ImageError if a pattern matches no file.
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
    if not files and not _WILD.isdisjoint(argument):  # close names would not help
        raise ImageError(f"no file matches the pattern {quoted(argument)}")
    return files or [argument]


class Listing(NamedTuple):
    """Content of a folder, sorted by name, without hidden entries."""

    images: list[os.DirEntry[str]]
    folders: list[os.DirEntry[str]]
    others: list[os.DirEntry[str]]
    broken: list[str]
    """Names of entries that cannot be read, such as a link to itself or a pipe."""


def list_folder(folder: str) -> Listing:
    """List a folder without opening anything in it; InputError if it cannot be listed."""
    found = Listing([], [], [], [])
    with raised_as(InputError, f"folder {quoted(folder)} cannot be listed", OSError), os.scandir(folder) as entries:
        shown = sorted((one for one in entries if not one.name.startswith(".")), key=attrgetter("name"))
    for entry in shown:
        is_image = _ending(entry.name) in EXTENSIONS
        try:
            if entry.is_dir():
                found.folders.append(entry)
            elif is_image and not entry.is_file():
                found.broken.append(entry.name)
            else:
                (found.images if is_image else found.others).append(entry)
        except OSError:
            found.broken.append(entry.name)
    return found


def left_out(broken: Sequence[str], others: Iterable[str]) -> list[str]:
    """A line about entries that cannot be read, and one about files of other kinds: how many of each ending."""
    endings = Counter(ending for name in others if (ending := _ending(name)) in UNREAD)
    kinds = [f"{count:,} {ending}" for ending, count in sorted(endings.items())]
    hint = f"; {HEIF_HINT}" if not _HEIF.isdisjoint(endings) else ""
    what = one_or_many(endings.total(), "file of a kind that is not read is", "files of kinds that are not read are")
    return [
        *noted(broken, "entry cannot be read and is left out", "entries cannot be read and are left out"),
        *([f"{endings.total():,} {what} left out: {', '.join(kinds)}{hint}"] if kinds else []),
    ]


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - 100,000 names


def _images_in(folder: str, notes: list[str] | None) -> list[str]:
    listing = list_folder(folder)
    about = left_out(listing.broken, (entry.name for entry in listing.others))
    if not listing.images:
        wanted = quoted(os.path.join(folder, "*", "*"))  # noqa: PTH118 - keeps the path as the user wrote it
        hint = f"; folders in it are not searched, name what they hold: {wanted}" if listing.folders else ""
        endings = ", ".join(sorted(EXTENSIONS))
        more = "; ".join(["", *about])
        raise InputError(f"folder {quoted(folder)} holds no image; known endings: {endings}{hint}{more}")
    if notes is not None:
        notes += [f"folder {quoted(folder)}: {note}" for note in about]
    return [str(Path(folder) / entry.name) for entry in listing.images]

"""A dataset: which images there are, what is on them, and how to decode one of them.

Shared by all datasets (`clipmk.datasets.opening` makes them): evenly spread subsets, unique names, the fingerprint, and
images that are files.
"""

import hashlib
import json
import os
import re
import stat
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

from clipmk.datasets.tables import Columns, ListedImage, read_table
from clipmk.errors import ImageError, InputError, raised_as
from clipmk.images.decoder import Picture, read_picture
from clipmk.images.paths import EXTENSIONS, MAX_BYTES
from clipmk.system.files import read_regular
from clipmk.system.text import byte_size, counted, encodable, listed, noted, one_or_many, quoted

T = TypeVar("T")

_PART = re.compile(
    r"(?i:train(ing)?|val(id|idation)?|test(ing)?|dev|eval|images?|imgs?|data(set)?|pictures|photos|jpegimages|dcim)"
    r"|[1-9]\d\d(?=.*[A-Z_])[A-Z0-9_]{5}",  # of a camera: 100APPLE
    re.ASCII,
)
"""Names of folders that hold parts of a dataset rather than a class of it, unless folders of other names are beside."""

SHOWN: Final = 3  # most names that a message repeats
ENDINGS: Final = ", ".join(sorted(EXTENSIONS))  # file endings of images, for messages


@dataclass(frozen=True, slots=True)
class Entry:
    """One image of a dataset."""

    key: str
    """Unique name in the dataset; can be encoded as UTF-8."""
    label: str | None
    """True class, as the dataset spells it; None where it is unknown."""
    path: str | None = None
    """File that holds it, relative to the dataset's root; None for a rendered scene."""
    offset: int | None = None
    """Where its bytes start in a tar file, or its row in a Parquet file; None: it is the whole file."""
    size: int | None = None
    """Bytes at the offset, or of the file."""


class Reader(Protocol):
    """Decodes single images; small, picklable (it travels to other machines) and safe to share by threads."""

    def read(self, entry: Entry) -> Picture:
        """Decode one image; raises `ImageError`, which names it, if that is impossible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInfo:
    """Name and content of a dataset; equal fingerprints mean the same dataset."""

    name: str
    """As the user gave it."""
    kind: str
    """"folder", "manifest", "tar", "parquet" or "world"."""
    images: int
    labelled: int
    classes: int
    """Different true classes."""
    fingerprint: str
    """SHA-256 of all keys, labels and file sizes, in order."""
    root: str | None = None
    """Absolute folder that paths are relative to; None: rendered, or of an older version."""
    column: str | None = None
    """That holds the images of Parquet files."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """The images of a study, in their order."""

    info: DatasetInfo
    entries: Sequence[Entry]
    reader: Reader
    warnings: tuple[str, ...] = ()


def evenly_spread(items: Sequence[T], limit: int | None) -> Sequence[T]:
    """At most `limit` of the items, evenly spread: number floor(k * count / limit)."""
    if limit is None or limit >= len(items):
        return items
    return [items[number * len(items) // limit] for number in range(limit)]


def below_common_folder(files: Iterable[str]) -> tuple[str, list[tuple[str, str]]]:
    """The folder around all files, and for each file its name below it and its absolute path; links are left alone."""
    places = [os.path.abspath(file) for file in files]  # noqa: PTH100
    root = os.path.commonpath([os.path.dirname(place) for place in places])  # noqa: PTH120
    return root, [(encodable(os.path.relpath(place, root)), place) for place in places]


def dataset_of_files(
    spec: str,
    kind: str,
    named: Sequence[ListedImage],
    *,
    root: str,
    noun: str,
    limit: int | None,
    search: Callable[[Sequence[str]], Mapping[str, str]] = lambda _: {},
    warnings: Iterable[str] = (),
) -> Dataset:
    """The dataset of images that are whole files, whose paths are relative to `root`; `limit` spreads them evenly.

    `noun` is what lists them ("table"). `search` is called with paths that do not exist, gives other places for some,
    and may add warnings. Raises `InputError` if some are missing, not regular files or named twice.
    """
    chosen = evenly_spread(named, limit)
    sizes = {path: _size_of(os.path.join(root, path)) for path, _ in chosen}  # noqa: PTH118 - 100,000 of them
    missing = [path for path, _ in chosen if sizes[path] is None]
    found = search(missing) if missing else {}
    sizes |= {path: _size_of(os.path.join(root, place)) for path, place in found.items()}  # noqa: PTH118
    bad = [path for path in missing if sizes[path] is None]
    if bad:
        what = one_or_many(len(bad), "is missing or not a regular file", "are missing or not regular files")
        raise InputError(
            f"{noun} {quoted(spec)}: {len(bad):,} of {counted(len(chosen), 'image')} {what}: "
            f"{listed(bad, most=SHOWN)}; paths are relative to {quoted(root)}"
        )
    names = [encodable(found.get(path, path)) for path, _ in chosen]
    entries = [
        Entry(key=name, label=label, path=name, size=sizes[path])
        for name, (path, label) in zip(names, chosen, strict=True)
    ]
    return make_dataset(spec, kind, entries, FileReader(root), warnings=warnings)


def found_by_name(names: Iterable[str], paths: Iterable[str]) -> dict[str, str]:
    """Bare names, with or without their ending, -> the only path that ends in each."""
    ends: defaultdict[str, set[str]] = defaultdict(set)
    for path in paths:
        last = path.rpartition("/")[2]
        ends[last].add(path)
        ends[os.path.splitext(last)[0]].add(path)  # noqa: PTH122
    return {name: next(iter(ends[name])) for name in names if len(ends.get(name, ())) == 1}


def open_table(spec: str, limit: int | None, columns: Columns) -> Dataset:
    """The images that a table names, in its order; other columns are ignored, blank means no label.

    Images that are missing are looked for below the table, where it names them without a folder or an ending.
    """
    images, warnings = read_table(spec, columns, "table")
    if not images:
        raise InputError(f"table {quoted(spec)} names no image: no row has a path")
    root = os.path.dirname(os.path.abspath(spec))  # noqa: PTH100, PTH120 - leaves links alone

    def search(missing: Sequence[str]) -> dict[str, str]:
        named = (path for path in Path(root).rglob("*") if path.suffix.lower() in EXTENSIONS)  # follows no links
        below = (path.relative_to(root).as_posix() for path in named if not os.path.isdir(path))  # noqa: PTH112
        found = found_by_name(missing, below)
        warnings.extend(noted(list(found), "image is found below by its name", "images are found below by their names"))
        return found

    return dataset_of_files(
        spec, "manifest", images, root=root, noun="table", limit=limit, search=search, warnings=warnings
    )


def depth_of_classes(paths: Sequence[str], *, wrapped: bool = False) -> int:
    """How many folders are above those that name classes: all folders there have names of parts of a dataset.

    Paths have forward slashes. If `wrapped`, a single folder around all images does not name a class either.
    """
    depth = 0
    while names := {folders[depth] for path in paths if len(folders := path.split("/", depth + 1)) > depth + 1}:
        if not (all(map(_PART.fullmatch, names)) or (wrapped and len(names) == 1)):
            break
        depth += 1
    return depth


def class_folder(path: str, depth: int) -> str | None:
    """The folder that names the class of an image; None where the image lies above the classes."""
    folders = path.split("/", depth + 1)
    return sys.intern(folders[depth]) if len(folders) > depth + 1 else None


def make_dataset(
    name: str, kind: str, entries: Sequence[Entry], reader: Reader, *, warnings: Iterable[str] = (), drawn: str = ""
) -> Dataset:
    """Check entries, at least one, and combine them into a dataset; `InputError` if two have the same key.

    `drawn` is what images depend on besides key, label and size; it is part of the fingerprint.
    """
    if len({entry.key for entry in entries}) < len(entries):
        counts = Counter(entry.key for entry in entries)
        twice = [key for key, count in counts.items() if count > 1]
        images = f"{counted(len(twice), 'image')} {one_or_many(len(twice), 'is', 'are')}"
        raise InputError(f"dataset {quoted(name)}: {images} named more than once: {listed(twice, most=SHOWN)}")
    labels = Counter(entry.label for entry in entries)
    unlabelled = labels.pop(None, 0)
    notes = list(warnings)
    if unlabelled and labels:
        verb = one_or_many(unlabelled, "has", "have")
        notes.append(f"{unlabelled:,} of {counted(len(entries), 'image')} {verb} no label; accuracy is over the others")
    digest = hashlib.sha256(json.dumps(f"{kind} {drawn}".rstrip()).encode())
    for entry in entries:
        digest.update(f"\n{json.dumps([entry.key, entry.label, entry.size])}".encode())
    info = DatasetInfo(
        name=encodable(name),
        kind=kind,
        images=len(entries),
        labelled=len(entries) - unlabelled,
        classes=len(labels),
        fingerprint=digest.hexdigest(),
        root=getattr(reader, "root", None),
        column=getattr(reader, "column", None),
    )
    return Dataset(info=info, entries=entries, reader=reader, warnings=tuple(notes))


def _size_of(path: str) -> int | None:
    """Size of a regular file in bytes; None where it is missing or something else."""
    try:
        status = os.stat(path)  # noqa: PTH116 - 100,000 of them
    except (OSError, ValueError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


@dataclass(frozen=True, slots=True)
class FileReader:
    """Reads whole files and members of tar files; keeps nothing open, so threads and processes may share it."""

    root: str
    """Absolute folder that paths are relative to."""

    def read(self, entry: Entry) -> Picture:
        """Decode one image; see `Reader`."""
        path = self.place_of(entry)
        if entry.offset is None:
            data = read_regular(path, limit=MAX_BYTES, noun="image", error=ImageError)
        else:
            data = _part_of(path, entry)
        return read_picture(data, name=entry.key)

    def place_of(self, entry: Entry) -> str:
        """Path of the file; a name that is not valid UTF-8 gets its bytes back."""
        if entry.path is None:
            raise ImageError(f"image {quoted(entry.key)} has no file")
        path = os.path.join(self.root, entry.path)  # noqa: PTH118 - keeps an absolute path as it is
        if "\\udc" in path and not os.path.lexists(path):
            return re.sub(r"\\u(dc[89a-f][0-9a-f])", lambda found: chr(int(found[1], 16)), path)
        return path


def _part_of(path: str, entry: Entry) -> bytes:
    """The bytes of a member of a tar file."""
    label, size = f"image {quoted(entry.key)}", entry.size or 0
    if size > MAX_BYTES:
        raise ImageError(f"{label} is larger than {byte_size(MAX_BYTES)}")
    with (
        raised_as(ImageError, f"{label} cannot be read from {quoted(path)}", OSError),
        open(path, "rb", buffering=0) as handle,  # noqa: PTH123 - two calls instead of five for each image
    ):
        handle.seek(entry.offset or 0)
        data = handle.read(size)
    if len(data) < size:
        raise ImageError(f"{label} is truncated: {quoted(path)} ends within it")
    return data

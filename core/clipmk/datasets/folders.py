"""Datasets in folders: one folder per class, or images side by side with a file of labels."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final

from clipmk.datasets.columns import ColumnError, Columns, ListedImage
from clipmk.datasets.dataset import Dataset
from clipmk.datasets.entries import (
    ENDINGS,
    SHOWN,
    class_folder,
    dataset_of_files,
    depth_of_classes,
    found_by_name,
)
from clipmk.datasets.labels import LABEL_FILES, read_labels
from clipmk.datasets.shards import open_shards
from clipmk.errors import InputError, UsageError
from clipmk.images.paths import EXTENSIONS, UNREAD, broken_note, unread_note
from clipmk.system.rows import TABLES
from clipmk.system.text import cause, counted, listed, one_or_many, printable, quoted

NOISE: Final = frozenset(
    {"@eadir", "#recycle", "@recycle", "#snapshot", "$recycle.bin", "lost+found", "system volume information"}
    | {"__macosx"}
)
"""Folders that a system writes, in lower case: thumbnails, deleted files, recovered files."""

RESULTS: Final = ("study.json", "plan.parquet")
"""Files that are in the folder of a study's results."""


@dataclass(frozen=True, slots=True)
class _Listing:
    """Content of a folder: sorted names, without hidden files."""

    images: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    shards: list[str] = field(default_factory=list)
    """Tar and Parquet files."""
    tables: list[str] = field(default_factory=list)
    """Other tables."""


def open_folder(spec: str, limit: int | None, columns: Columns) -> Dataset:
    """The images of a folder: side by side, in one folder per class as torchvision's ImageFolder, or in shards.

    Where there are images of both kinds, label files decide: if they name the images side by side, these are the data
    set; otherwise folders are classes. Above the classes there may be folders such as `train` and `val`.

    Raises:
        UsageError: it holds both images and tar shards.
        InputError: it holds no image or cannot be listed, or one of its label files is malformed.
    """
    walk = _Walk(os.path.abspath(spec))  # noqa: PTH100 - leaves links alone
    top = walk.listed("")
    below = [path for name in top.folders for path in walk.images_below(name)]
    depth = depth_of_classes(below)
    parts = dict.fromkeys("/".join(path.split("/")[:-1][:depth]) for path in below) if depth else {}
    warnings: list[str] = []
    labels = _labels(walk.root, ("", *parts), [*top.images, *below], columns, warnings)
    named = [ListedImage(name, labels.get(name)) for name in top.images]
    if below and all(one.label is None for one in named):
        if named:
            verb = one_or_many(len(named), "is", "are")
            beside = f"{counted(len(named), 'image')} beside them {verb} left out"
            warnings.append(f"folder {quoted(spec)} has a folder per class; {beside}")
        named = [ListedImage(path, labels.get(path) or class_folder(path, depth)) for path in below]
        if parts:
            verb = one_or_many(len(parts), "is a part", "are parts")
            folders = f"{counted(len(parts), 'folder')}, {listed(list(parts), most=SHOWN)}"
            warnings.append(f"{folders}, {verb} of the dataset and not a class; a folder can be studied alone")
    if not named and (shards := top.shards or sorted(walk.shards)):
        return open_shards(spec, [os.path.join(spec, name) for name in shards], limit, columns)  # noqa: PTH118
    if tars := [name for name in top.shards if name.endswith(".tar")]:
        raise UsageError(
            f"folder {quoted(spec)} holds both images and tar shards; name the shards by a pattern "
            f"({printable(tars[0])} or {{000..012}}.tar) or move them elsewhere"
        )
    if not named:
        what = f"folder {quoted(spec)} holds no image and no .tar or .parquet, neither in it nor below"
        raise InputError("; ".join([f"{what}; known endings: {ENDINGS}", *walk.notes()]))
    tables = [name for name in (*top.tables, *top.shards) if name not in LABEL_FILES]
    if tables and all(one.label is None for one in named):
        warnings.append(f"no image has a label; a table beside them is read where it is named: {_listed(tables)}")
    warnings += walk.notes() + _unused(labels, named)
    return dataset_of_files(spec, "folder", named, root=walk.root, noun="folder", limit=limit, warnings=warnings)


class _Walk:
    """Lists a folder and those below it, and counts what it leaves out. Nothing is opened.

    Links are followed, except to folders and images that are below the root anyway, or to a folder above.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._real = os.path.realpath(root)
        self._seen: set[tuple[int, int]] = set()
        self._unreadable: list[str] = []
        self._twice: list[str] = []
        self._noise: list[str] = []
        self._endings: Counter[str] = Counter()
        self.shards: list[str] = []
        """Tar and Parquet files below folders of the root."""

    def listed(self, folder: str) -> _Listing:
        """List a folder by its path below the root.

        Raises:
            InputError: the root cannot be listed; other folders count as left out.
        """
        found = _Listing()
        try:
            with os.scandir(os.path.join(self.root, folder)) as entries:  # noqa: PTH118
                for entry in sorted(entries, key=attrgetter("name")):
                    if not entry.name.startswith("."):
                        self._sort(entry, f"{folder}/{entry.name}" if folder else entry.name, found)
        except OSError as reason:
            if not folder:
                raise InputError(f"folder {quoted(self.root)} cannot be listed: {cause(reason)}") from reason
            self._unreadable.append(folder)
        return found

    def images_below(self, folder: str) -> list[str]:
        """Paths of the images in a folder and below it, sorted by folder."""
        found: dict[str, list[str]] = {}
        waiting = [folder]
        while waiting:
            listing = self.listed(here := waiting.pop())
            found[here] = listing.images
            self.shards += [f"{here}/{name}" for name in listing.shards]
            waiting += [f"{here}/{name}" for name in listing.folders]
        return [f"{here}/{name}" for here, names in sorted(found.items()) for name in names]

    def notes(self) -> list[str]:
        """One line for each kind of what is left out."""
        kinds = (
            (self._twice, "link to what is read anyway is", "links to what is read anyway are"),
            (self._noise, "folder of the system or of results is", "folders of the system or of results are"),
        )
        lines = [
            f"{len(names):,} {one_or_many(len(names), one, many)} left out: {_listed(sorted(names))}"
            for names, one, many in kinds
            if names
        ]
        return [*broken_note(self._unreadable), *lines, *unread_note(self._endings)]

    def _sort(self, entry: os.DirEntry[str], path: str, found: _Listing) -> None:
        ending = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - 100,000 names
        try:
            if entry.is_dir():
                self._sort_folder(entry, path, found)
            elif ending in EXTENSIONS and not entry.is_file():
                self._unreadable.append(path)
            elif ending in EXTENSIONS:
                twice = entry.is_symlink() and self._is_inside(os.path.realpath(entry.path))
                (self._twice if twice else found.images).append(path if twice else entry.name)
            elif ending in {".tar", ".parquet"}:
                found.shards.append(entry.name)
            elif ending in TABLES:
                found.tables.append(entry.name)
            elif ending in UNREAD:
                self._endings[ending] += 1
        except OSError:  # a link to itself
            self._unreadable.append(path)

    def _sort_folder(self, entry: os.DirEntry[str], path: str, found: _Listing) -> None:
        results = (os.path.join(entry.path, name) for name in RESULTS)  # noqa: PTH118
        if entry.name.lower() in NOISE or all(map(os.path.lexists, results)):
            self._noise.append(path)
        elif self._is_read_elsewhere(entry):
            self._twice.append(path)
        else:
            found.folders.append(entry.name)

    def _is_read_elsewhere(self, entry: os.DirEntry[str]) -> bool:
        """Whether a folder was read before, or is a link to one above the root, or below it, which is read there."""
        status = entry.stat()
        if (status.st_dev, status.st_ino) in self._seen:
            return True
        real = os.path.realpath(entry.path) if entry.is_symlink() else ""
        if real and (self._is_inside(real) or f"{self._real}/".startswith(f"{real}/".replace("//", "/"))):
            return True
        self._seen.add((status.st_dev, status.st_ino))
        return False

    def _is_inside(self, real: str) -> bool:
        """Whether a path is below the root, and not in a hidden folder, whose files are seen through links only."""
        return real.startswith(f"{self._real}/") and "/." not in real[len(self._real) :]


def _labels(
    root: str, folders: Iterable[str], images: Sequence[str], columns: Columns, warnings: list[str]
) -> dict[str, str]:
    """Path of an image -> its label, from the label files in some folders.

    Where a file names images by a bare name, they are looked for among all images.
    """
    labels: dict[str, str] = {}
    for folder in folders:
        prefix = f"{folder}/" if folder else ""
        for name in LABEL_FILES:
            try:
                found = read_labels(os.path.join(root, prefix + name), columns)  # noqa: PTH118
            except ColumnError as reason:
                warnings.append(f"{reason}; it is not used")
            else:
                labels |= {prefix + path: label for path, label in found.items()}
    moved = found_by_name(labels.keys() - set(images), images) if labels else {}
    for name, path in list(moved.items())[:1]:
        verb = one_or_many(len(moved), "is", "are")
        number = counted(len(moved), "labelled image")
        warnings.append(f"{number} {verb} found by name: {quoted(name)} is {quoted(path)}")
    return {moved.get(path, path): label for path, label in labels.items()}


def _unused(labels: Mapping[str, str], named: Sequence[ListedImage]) -> list[str]:
    """A warning where label files name images that do not exist."""
    missing = labels.keys() - {one.path for one in named}
    if not missing:
        return []
    verb, more = one_or_many(len(missing), "is", "are"), one_or_many(len(missing), "", " ...")
    images = f"{len(missing):,} of {counted(len(labels), 'image')}"
    return [f"{images} that label files name {verb} missing: {quoted(min(missing))}{more}"]


def _listed(names: Sequence[str]) -> str:
    return listed(names, most=SHOWN)

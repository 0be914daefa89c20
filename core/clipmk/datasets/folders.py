"""Datasets in folders: one folder per class, or images side by side with a file of labels."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from clipmk.datasets.dataset import Dataset
from clipmk.datasets.entries import ENDINGS, ListedImage, evenly_spread, file_entries, make_dataset
from clipmk.datasets.labels import LABEL_BYTES, LABELS_FILE, TRUTH_FILE, parse_labels
from clipmk.datasets.readers import FileReader
from clipmk.datasets.shards import open_shards
from clipmk.errors import InputError, UsageError
from clipmk.images.paths import EXTENSIONS
from clipmk.system.files import read_regular
from clipmk.system.text import cause, counted, one_or_many, printable, quoted


@dataclass(frozen=True, slots=True)
class Listing:
    """Content of a folder: sorted names, without hidden files."""

    images: list[str]
    folders: list[str]
    shards: list[str]
    """Tar files."""


def open_folder(spec: str, limit: int | None) -> Dataset:
    """The images of a folder: side by side, in one folder per class as torchvision's ImageFolder, or in tar shards.

    Where there are images of both kinds, label files decide: if they name the images side by side, these are the data
    set; otherwise folders are classes.

    Raises:
        UsageError: it holds both images and tar shards.
        InputError: it holds no image or cannot be listed, or one of its label files is malformed.
    """
    root = os.path.abspath(spec)  # noqa: PTH100 - leaves links alone
    top = listed(root)
    labels = _labels_of(root)
    side_by_side = [ListedImage(name, labels.get(name)) for name in top.images]
    by_class: list[ListedImage] = []
    if all(one.label is None for one in side_by_side):
        by_class = [
            ListedImage(path, labels.get(path, name)) for name in top.folders for path in _images_below(root, name)
        ]
    named, warnings = by_class or side_by_side, list[str]()
    if by_class and side_by_side:
        beside = (
            f"{counted(len(side_by_side), 'image')} beside them {one_or_many(len(side_by_side), 'is', 'are')} left out"
        )
        warnings.append(f"folder {quoted(spec)} has a folder per class; {beside}")
    if top.shards and not named:
        return open_shards(spec, [os.path.join(spec, name) for name in top.shards], limit)  # noqa: PTH118
    if top.shards:
        raise UsageError(
            f"folder {quoted(spec)} holds both images and tar shards; name the shards by a pattern "
            f"({printable(top.shards[0])} or {{000..012}}.tar) or move them elsewhere"
        )
    if not named:
        raise InputError(
            f"folder {quoted(spec)} holds no image, neither in it nor below, and no .tar; known endings: {ENDINGS}"
        )
    warnings += _unused(labels, named)
    chosen = [named[index] for index in evenly_spread(len(named), limit)]
    entries = file_entries(chosen, root=root, noun=f"folder {quoted(spec)}")
    return make_dataset(spec, "folder", entries, FileReader(root), warnings=warnings)


def listed(folder: str) -> Listing:
    """List a folder without opening anything in it.

    Raises:
        InputError: it cannot be listed.
    """
    found = Listing([], [], [])
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                ending = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - 100,000 names
                if entry.is_dir():
                    found.folders.append(entry.name)
                elif ending in EXTENSIONS:
                    found.images.append(entry.name)
                elif ending == ".tar":
                    found.shards.append(entry.name)
    except OSError as reason:
        raise InputError(f"folder {quoted(folder)} cannot be listed: {cause(reason)}") from reason
    for names in (found.images, found.folders, found.shards):
        names.sort()
    return found


def _images_below(root: str, name: str) -> Iterator[str]:
    """Paths of a class's images relative to the root, with forward slashes: folder by folder, each sorted."""
    found: dict[str, list[str]] = {}
    _walk(root, name, found, ())
    for folder in sorted(found):
        yield from (f"{folder}/{image}" for image in found[folder])


def _walk(root: str, folder: str, found: dict[str, list[str]], above: tuple[str, ...]) -> None:
    """Collect the images of a folder and its subfolders; links are followed, except into a folder above."""
    place = os.path.join(root, folder)  # noqa: PTH118
    real = os.path.realpath(place)
    if real in above:
        return
    listing = listed(place)
    found[folder] = listing.images
    for inner in listing.folders:
        _walk(root, f"{folder}/{inner}", found, (*above, real))


def _labels_of(root: str) -> dict[str, str]:
    """Labels from the label files of a folder.

    Raises:
        InputError: one is malformed; a study with wrong labels is worthless.
    """
    labels: dict[str, str] = {}
    for name in (TRUTH_FILE, LABELS_FILE):
        path = os.path.join(root, name)  # noqa: PTH118
        if os.path.lexists(path):
            data = read_regular(path, limit=LABEL_BYTES, noun="label file", error=InputError)
            try:
                labels |= parse_labels(name, data)
            except ValueError as reason:
                raise InputError(f"label file {quoted(path)} is malformed: {printable(str(reason))}") from reason
    return labels


def _unused(labels: Mapping[str, str], named: list[ListedImage]) -> list[str]:
    """A warning where label files name images that do not exist."""
    missing = labels.keys() - {one.path for one in named}
    if not missing:
        return []
    verb, more = one_or_many(len(missing), "is", "are"), one_or_many(len(missing), "", " ...")
    images = f"{len(missing):,} of {counted(len(labels), 'image')}"
    return [f"{images} that {TRUTH_FILE} or {LABELS_FILE} name {verb} missing: {quoted(min(missing))}{more}"]

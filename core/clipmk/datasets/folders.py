"""Datasets in folders: one folder per class, or images side by side with a file of labels."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from clipmk.datasets.dataset import Dataset
from clipmk.datasets.entries import ENDINGS, ListedImage, dataset_of_files
from clipmk.datasets.labels import LABELS_FILE, TRUTH_FILE, read_labels
from clipmk.datasets.shards import open_shards
from clipmk.errors import InputError, UsageError
from clipmk.images.paths import EXTENSIONS
from clipmk.system.text import cause, counted, one_or_many, printable, quoted


@dataclass(frozen=True, slots=True)
class _Listing:
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
    top = _listed(root)
    labels = read_labels(os.path.join(root, TRUTH_FILE)) | read_labels(os.path.join(root, LABELS_FILE))  # noqa: PTH118
    named, warnings = [ListedImage(name, labels.get(name)) for name in top.images], list[str]()
    if all(one.label is None for one in named):
        by_class = [
            ListedImage(path := f"{folder}/{image}", labels.get(path, name))
            for name in top.folders
            for folder, images in sorted(_images_below(root, name).items())
            for image in images
        ]
        if by_class and named:
            verb = one_or_many(len(named), "is", "are")
            beside = f"{counted(len(named), 'image')} beside them {verb} left out"
            warnings.append(f"folder {quoted(spec)} has a folder per class; {beside}")
        named = by_class or named
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
    return dataset_of_files(spec, "folder", named, root=root, noun="folder", limit=limit, warnings=warnings)


def _listed(folder: str) -> _Listing:
    """List a folder without opening anything in it.

    Raises:
        InputError: it cannot be listed.
    """
    found = _Listing([], [], [])
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


def _images_below(root: str, folder: str, above: frozenset[str] = frozenset()) -> dict[str, list[str]]:
    """The images of a folder and of its subfolders, by the folder's path below the root, with forward slashes.

    Links are followed, except into a folder above.
    """
    place = os.path.join(root, folder)  # noqa: PTH118
    real = os.path.realpath(place)
    if real in above:
        return {}
    listing = _listed(place)
    found = {folder: listing.images}
    for inner in listing.folders:
        found |= _images_below(root, f"{folder}/{inner}", above | {real})
    return found


def _unused(labels: Mapping[str, str], named: list[ListedImage]) -> list[str]:
    """A warning where label files name images that do not exist."""
    missing = labels.keys() - {one.path for one in named}
    if not missing:
        return []
    verb, more = one_or_many(len(missing), "is", "are"), one_or_many(len(missing), "", " ...")
    images = f"{len(missing):,} of {counted(len(labels), 'image')}"
    return [f"{images} that {TRUTH_FILE} or {LABELS_FILE} name {verb} missing: {quoted(min(missing))}{more}"]

"""Which images the app shows, and their labels. Nothing is decoded here, and no file is checked twice."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clipmk.datasets.tables import LABEL_FILES, label_beside, read_labels
from clipmk.errors import ImageError, InputError, UsageError
from clipmk.images.paths import EXTENSIONS, MAX_BYTES, Listing, expand_path, left_out, list_folder
from clipmk.system.files import read_regular
from clipmk.system.locations import assets_dir
from clipmk.system.text import quoted

_FIRST = "fox-typical-09.png"  # the sample image that is shown first: one that anybody recognises


@dataclass(frozen=True, slots=True)
class Item:
    """An image of the list."""

    path: str  # as the user gave it, or below the folder the user gave
    label: str | None  # its true class, if known


@dataclass(frozen=True, slots=True)
class ImageList:
    """Images in the order in which they are shown."""

    items: tuple[Item, ...]
    warnings: tuple[str, ...] = ()


def open_images(arguments: Sequence[str]) -> ImageList:
    """Find the images that files, folders and patterns name; without arguments the sample images.

    A folder gives its images, sorted; hidden and nested ones are left out. A folder of folders that has no images of
    its own is an image folder: the label is the name of the folder of an image. Labels also come from `truth.json` and
    `labels.csv` beside the images, which go before folder names. Errors are warnings as long as an image is left, else
    the first one is raised.
    """
    if "-" in arguments:
        raise UsageError(
            "'-' (standard input) is not for the app, which reads keys from there; name a file or a folder"
        )
    found = _Collector()
    failures: list[InputError] = []
    for argument in arguments or [_samples()]:
        try:
            _add(found, argument)
        except InputError as failure:
            failures.append(failure)
    if not found.items:
        raise failures[0]
    if not arguments:
        found.items.sort(key=lambda item: not item.path.endswith(_FIRST))
    return ImageList(tuple(found.items), (*found.warnings, *map(str, failures)))


@dataclass(slots=True)
class _Collector:
    """What the arguments have given so far."""

    items: list[Item] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    manifests: dict[str, dict[str, str]] = field(default_factory=dict)

    def note_left_out(self, folder: str, listing: Listing) -> None:
        """Warn of what is in a folder and not shown."""
        about = left_out(listing.broken, (entry.name for entry in listing.others))
        self.warnings += [f"folder {quoted(folder)}: {line}" for line in about]

    def labels_of(self, folder: str) -> dict[str, str]:
        """Labels from the manifests of a folder: path below it, with forward slashes -> label. Read once."""
        if folder not in self.manifests:
            labels: dict[str, str] = {}
            for name in LABEL_FILES:
                try:
                    labels |= read_labels(_prefix(folder) + name)
                except InputError as reason:
                    self.warnings.append(f"{reason}; it is ignored")
            self.manifests[folder] = labels
        return self.manifests[folder]


def _samples() -> str:
    """The folder of the sample images, which the library brings."""
    folder = assets_dir() / "sample_images"
    if folder.is_dir():
        return str(folder)
    raise UsageError("no image is named; name an image or a folder: clipmk tui FOLDER")


def _add(found: _Collector, argument: str) -> None:
    """Add the images that an argument names; raises `InputError` if there are none."""
    folder = os.path.expanduser(argument)  # noqa: PTH111 - as `expand_path` does
    if os.path.isdir(folder):  # noqa: PTH112 - unlike Path.is_dir, never raises
        _add_folder(found, folder)
    else:
        found.items += [Item(name, label_beside(name, found.labels_of)) for name in existing(argument)]


def existing(argument: str) -> list[str]:
    """The files that a name or pattern means; `ImageError` with close names if there is none."""
    if not argument or "\0" in argument:
        raise ImageError(f"image {quoted(argument)} does not exist")
    names = expand_path(argument)
    if missing := next((name for name in names if not os.path.lexists(name)), None):
        read_regular(missing, limit=MAX_BYTES, noun="image", error=ImageError, suffixes=EXTENSIONS)  # says why not
        raise ImageError(f"image {quoted(missing)} has only just appeared; try again")
    return names


def _add_folder(found: _Collector, folder: str) -> None:
    listing = list_folder(folder)
    images, folders = ([entry.name for entry in entries] for entries in (listing.images, listing.folders))
    found.note_left_out(folder, listing)
    if images:
        prefix = _prefix(folder)
        found.items += [Item(prefix + name, label_beside(prefix + name, found.labels_of)) for name in images]
        return
    before = len(found.items)
    labels = found.labels_of(folder) if folders else {}
    for name in folders:
        _add_class(found, _prefix(folder) + name, labels)
    if len(found.items) == before:
        raise InputError(f"folder {quoted(folder)} holds no image; known endings: {', '.join(sorted(EXTENSIONS))}")


def _add_class(found: _Collector, folder: str, labels: Mapping[str, str]) -> None:
    """Add a class folder; one that cannot be listed is a warning."""
    try:
        listing = list_folder(folder)
    except InputError as reason:
        found.warnings.append(str(reason))
        return
    found.note_left_out(folder, listing)
    name, prefix = os.path.basename(folder), _prefix(folder)  # noqa: PTH119
    label = " ".join(re.split(r"[\s_-]+", name)).strip() or None
    images = (entry.name for entry in listing.images)
    found.items += [Item(prefix + image, labels.get(f"{name}/{image}", label)) for image in images]


def _prefix(folder: str) -> str:
    """The path before the name of a file in a folder, as `clipmk.images.paths.expand_path` writes it."""
    return str(Path(folder) / "x")[:-1]

"""Datasets in folders: one folder per class, or images side by side with a file of labels."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from clipmk.datasets.entries import ENDINGS, Dataset, class_folder, dataset_of_files, depth_of_classes, found_by_name
from clipmk.datasets.shards import open_shards
from clipmk.datasets.tables import LABEL_FILES, ColumnError, Columns, ListedImage, read_labels
from clipmk.errors import InputError, UsageError
from clipmk.images.paths import Listing, left_out, list_folder
from clipmk.system.rows import TABLES
from clipmk.system.text import counted, noted, one_or_many, printable, quoted

NOISE: Final = frozenset(
    {"@eadir", "#recycle", "@recycle", "#snapshot", "$recycle.bin", "lost+found", "system volume information"}
    | {"__macosx"}
)
"""Folders that a system writes, in lower case: thumbnails, deleted files, recovered files."""

RESULTS: Final = ("study.json", "plan.parquet")  # files that are in the folder of a study's results


def open_folder(spec: str, limit: int | None, columns: Columns) -> Dataset:
    """The images of a folder: side by side, in one folder per class as torchvision's ImageFolder, or in shards.

    Where there are images of both kinds, label files decide: if they name the images side by side, these are the data
    set; otherwise folders are classes. Above the classes there may be folders such as `train` and `val`. Raises
    `UsageError` for images beside tar shards, and `InputError` where there is no image, or a label file is malformed.
    """
    walk = _Walk(os.path.abspath(spec))  # noqa: PTH100 - leaves links alone
    top = walk.listed("")
    here = [entry.name for entry in top.images]
    below = [path for entry in top.folders for path in walk.images_below(entry.name)]
    depth = depth_of_classes(below)
    parts = dict.fromkeys("/".join(path.split("/")[:-1][:depth]) for path in below) if depth else {}
    warnings: list[str] = []
    labels = _labels(walk.root, ("", *parts), here + below, columns, warnings)
    named = [ListedImage(name, labels.get(name)) for name in here]
    if below and all(one.label is None for one in named):
        warnings += noted(here, "image beside folders of images is left out", "images beside folders are left out")
        warnings += noted(
            list(parts), "folder is a part of the dataset, not a class", "folders are parts of the dataset, not classes"
        )
        named = [ListedImage(path, labels.get(path) or class_folder(path, depth)) for path in below]
    if not named and (shards := _of_top(walk.shards) or sorted(walk.shards)):
        return open_shards(spec, [os.path.join(spec, name) for name in shards], limit, columns)  # noqa: PTH118
    if tars := [name for name in _of_top(walk.shards) if name.endswith(".tar")]:
        raise UsageError(
            f"folder {quoted(spec)} holds both images and tar shards; name the shards by a pattern "
            f"({printable(tars[0])} or {{000..012}}.tar) or move them elsewhere"
        )
    if not named:
        what = f"folder {quoted(spec)} holds no image and no .tar or .parquet, neither in it nor below"
        raise InputError("; ".join([f"{what}; known endings: {ENDINGS}", *walk.notes()]))
    if all(one.label is None for one in named):
        tables = [entry.name for entry in top.others if entry.name.endswith(TABLES) and entry.name not in LABEL_FILES]
        warnings += noted(tables, "table is read only where it is named", "tables are read only where they are named")
    warnings += walk.notes() + _unused(labels, named)
    return dataset_of_files(spec, "folder", named, root=walk.root, noun="folder", limit=limit, warnings=warnings)


class _Walk:
    """Lists a folder and those below it, and counts what it leaves out. Nothing is opened.

    Links are followed, except to folders and images that are below the root anyway, or to a folder above.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.shards: list[str] = []  # tar and Parquet files
        self._real = os.path.realpath(root)
        self._seen: set[tuple[int, int]] = set()
        self._broken: list[str] = []
        self._twice: list[str] = []
        self._noise: list[str] = []
        self._others: list[str] = []

    def listed(self, folder: str) -> Listing:
        """List a folder by its path below the root, which must be readable; what is left out is noted."""
        try:
            found = list_folder(os.path.join(self.root, folder))  # noqa: PTH118
        except InputError:
            if not folder:
                raise
            self._broken.append(folder)
            return Listing([], [], [], [])
        prefix = f"{folder}/" if folder else ""
        self._broken += [prefix + name for name in found.broken]
        self._others += [entry.name for entry in found.others]
        self.shards += [prefix + entry.name for entry in found.others if entry.name.endswith((".tar", ".parquet"))]
        images, folders = list[os.DirEntry[str]](), list[os.DirEntry[str]]()
        for entry in found.images:
            twice = entry.is_symlink() and self._is_inside(os.path.realpath(entry.path))
            self._twice.append(prefix + entry.name) if twice else images.append(entry)
        for entry in found.folders:
            results = (os.path.join(entry.path, name) for name in RESULTS)  # noqa: PTH118
            if entry.name.lower() in NOISE or all(map(os.path.lexists, results)):
                self._noise.append(prefix + entry.name)
            else:
                self._twice.append(prefix + entry.name) if self._is_read_elsewhere(entry) else folders.append(entry)
        return found._replace(images=images, folders=folders)

    def images_below(self, folder: str) -> list[str]:
        """Paths of the images in a folder and below it, sorted by folder."""
        found: dict[str, list[str]] = {}
        waiting = [folder]
        while waiting:
            listing = self.listed(here := waiting.pop())
            found[here] = [entry.name for entry in listing.images]
            waiting += [f"{here}/{entry.name}" for entry in listing.folders]
        return [f"{here}/{name}" for here, names in sorted(found.items()) for name in names]

    def notes(self) -> list[str]:
        """One line for each kind of what is left out."""
        twice = "link to what is read anyway is left out", "links to what is read anyway are left out"
        noise = "folder of the system or of results is left out", "folders of the system or of results are left out"
        return [*noted(self._twice, *twice), *noted(self._noise, *noise), *left_out(self._broken, self._others)]

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


def _of_top(names: Iterable[str]) -> list[str]:
    return [name for name in names if "/" not in name]


def _labels(
    root: str, folders: Iterable[str], images: Sequence[str], columns: Columns, warnings: list[str]
) -> dict[str, str]:
    """Path of an image -> its label, from the label files in some folders; a bare name is looked for everywhere."""
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
    warnings += noted(sorted(moved), "labelled image is found by its name", "labelled images are found by their names")
    return {moved.get(path, path): label for path, label in labels.items()}


def _unused(labels: Mapping[str, str], named: Sequence[ListedImage]) -> list[str]:
    """A warning where label files name images that do not exist."""
    missing = labels.keys() - {one.path for one in named}
    if not missing:
        return []
    verb, more = one_or_many(len(missing), "is", "are"), one_or_many(len(missing), "", " ...")
    images = f"{len(missing):,} of {counted(len(labels), 'image')}"
    return [f"{images} that label files name {verb} missing or ambiguous: {quoted(min(missing))}{more}"]

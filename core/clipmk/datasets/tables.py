"""What tables and label files say about images: which there are, and what is on them. Loads no numpy."""

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from clipmk.errors import InputError, raised_as
from clipmk.system.files import read_regular
from clipmk.system.rows import read_rows
from clipmk.system.text import listed, quoted

PATHS: Final = (
    *("path", "image", "file", "filename", "filepath", "file_name", "file_path", "image_path", "image_name"),
    *("image_id", "img", "img_path"),
)
"""Names of the column of paths; where a table has several, the first of these counts."""
LABELS: Final = ("label", "class", "class_name", "target", "labels", "category", "breed", "species", "fine_label")
"""Names of the column of labels, likewise."""

_MAX_BYTES = 4 * 2**30  # largest table read
_SHOWN = 8  # most columns that a message names
_WHOLE = re.compile(r"\d+(\.0*)?", re.ASCII)


TRUTH_FILE: Final = "truth.json"  # written by `clipmk world export`, and beside the sample images
TABLE_FILES: Final = ("metadata.csv", "metadata.jsonl", "labels.csv")
"""Tables of images below their folder and of labels; the last one that is there counts most."""
LABEL_FILES: Final = (TRUTH_FILE, *TABLE_FILES)
LABEL_BYTES: Final = 512 * 2**20  # largest label file read


class ColumnError(InputError):
    """A table lacks a column that was looked for: it may be a table of something else."""


class ListedImage(NamedTuple):
    """An image that a dataset names; its file may not exist."""

    path: str
    """Relative to the root, or absolute."""
    label: str | None


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of columns that the user gives; None: the usual names are looked for."""

    image: str | None = None
    label: str | None = None


USUAL: Final = Columns()


def read_table(path: str, columns: Columns, noun: str) -> tuple[list[ListedImage], list[str]]:
    """The images of a table, and warnings about what is guessed or missing; `ColumnError` without a column of paths."""
    header, rows = read_rows(path, limit=_MAX_BYTES, noun=noun, error=InputError)
    label = f"{noun} {quoted(path)}"
    if not header:
        raise InputError(f"{label} is malformed: it is empty")
    warnings: list[str] = []
    image = find_column(header, columns.image, PATHS, label, warnings)
    if image is None:
        raise ColumnError(f"{label} has no column of paths ({', '.join(PATHS)}); {_others(header, '--image-column')}")
    name = label_column(header, columns, LABELS, label, warnings)
    cells = ((row[image], None if name is None else row[name]) for row in rows)
    return _listed_images(cells, label), warnings


def label_column(
    header: Sequence[str], columns: Columns, known: Sequence[str], noun: str, warnings: list[str]
) -> int | None:
    """Index of the column of labels; a warning where there is none, `ColumnError` where the user names it."""
    label = find_column(header, columns.label, known, noun, warnings)
    if label is None:
        warnings.append(f"{noun} has no column of labels ({', '.join(LABELS)}); {_others(header, '--label-column')}")
    return label


def find_column(
    header: Sequence[str], named: str | None, known: Sequence[str], noun: str, warnings: list[str]
) -> int | None:
    """Index of a column: the one that the user names (`ColumnError` if there is none), else the first known one."""
    names = [name.strip().lower() for name in header]
    found = [names.index(name) for name in ([named.strip().lower()] if named else known) if name in names]
    if named and not found:
        raise ColumnError(f"{noun} has no column {quoted(named)}; its columns: {listed(header, most=_SHOWN) or 'none'}")
    if len(found) > 1:
        columns = listed([header[index] for index in found], most=_SHOWN)
        warnings.append(f"{noun} has several columns of one kind, the first of which is used: {columns}")
    return found[0] if found else None


def _listed_images(cells: Iterable[tuple[Any, Any]], noun: str) -> list[ListedImage]:
    """Images of rows of (path, label), blank ones left out; equal labels share one object.

    Labels that are all whole numbers are read without the decimal point that a data frame gives them.
    """
    images = list(_named(cells, noun))
    labels = {one.label for one in images if one.label is not None}
    if not any("." in label for label in labels) or not all(map(_WHOLE.fullmatch, labels)):
        return images
    whole = {label: sys.intern(label.partition(".")[0]) for label in labels}
    return [ListedImage(one.path, whole.get(one.label or "")) for one in images]


def cell_text(value: Any, noun: str, names: Mapping[int, str] | None = None) -> str | None:
    """A cell as text, None where it is blank; data frames write whole numbers as floats where some are missing.

    `names` says what numbers mean; one that is not among them means nothing. Raises `InputError` for anything but a
    text or a whole number.
    """
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return None
    if isinstance(value, str):
        return sys.intern(value.strip()) or None
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 != 0:
        raise InputError(f"{noun} holds {value!r:.80}; a label is a text or a whole number")
    return sys.intern(str(int(value))) if names is None else names.get(int(value))


def _named(cells: Iterable[tuple[Any, Any]], noun: str) -> Iterator[ListedImage]:
    for number, (path, value) in enumerate(cells, 1):
        label = cell_text(value, noun)
        name = path.strip().removeprefix("./") if isinstance(path, str) else cell_text(path, noun)
        if name:
            yield ListedImage(name, label)
        elif label:
            raise InputError(f"{noun}: row {number} has the label {quoted(label)} and no path")


def _others(header: Sequence[str], option: str) -> str:
    return f"its columns: {listed(header, most=_SHOWN) or 'none'}; {option} names another"


def read_labels(path: str, columns: Columns = USUAL) -> dict[str, str]:
    """Labels of a label file: path of an image below the file's folder, with forward slashes -> label.

    The file has one of the names `LABEL_FILES`; without it, there are no labels. Raises `ColumnError` for a table
    without a column of paths or of labels, `InputError` for what cannot be read.
    """
    if not os.path.lexists(path):
        return {}
    if not path.endswith(TRUTH_FILE):
        images, warnings = read_table(path, columns, "label file")
        labels = {one.path: one.label for one in images if one.label is not None}
        if not labels and warnings:
            raise ColumnError(warnings[-1])
        return labels
    data = read_regular(path, limit=LABEL_BYTES, noun="label file", error=InputError)
    with raised_as(InputError, f"label file {quoted(path)} is malformed", ValueError, RecursionError):
        return _truth(data)


def read_folder_labels(folder: str) -> dict[str, str]:
    """Labels of the label files of a folder; the last file counts most."""
    return {
        path: label
        for name in LABEL_FILES
        for path, label in read_labels(os.path.join(folder, name)).items()  # noqa: PTH118 - text, as the user wrote it
    }


def label_beside(path: str, labels_of: Callable[[str], Mapping[str, str]] = read_folder_labels) -> str | None:
    """The label of an image from a label file in its folder or in the one above."""
    folder, name = os.path.split(path)
    above, place = os.path.split(folder)
    label = labels_of(folder or ".").get(name)
    return labels_of(above or ".").get(f"{place}/{name}") if label is None and place else label


def _truth(data: bytes) -> dict[str, str]:
    """Labels of a `truth.json`: of the rendered world (a list of images), or of the sample images (an object)."""
    content = json.loads(data)
    if not isinstance(content, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004 - the data's fault, not the caller's
    entries: Iterable[tuple[Any, Any]] = content.items()
    key = "class"
    if "images" in content and isinstance(content["images"], list):
        entries = ((entry.get("file"), entry) for entry in content["images"] if isinstance(entry, dict))
        key = "class_name"
    labels = {
        file: entry[key]
        for file, entry in entries
        if isinstance(file, str) and isinstance(entry, dict) and isinstance(entry.get(key), str)
    }
    if not labels:
        raise ValueError(f"it gives no image a {key!r}")
    return labels

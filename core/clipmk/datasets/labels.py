"""Label files beside images: what is on which image."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from clipmk.datasets.columns import USUAL, ColumnError, Columns, read_table
from clipmk.errors import InputError
from clipmk.system.files import read_regular
from clipmk.system.text import printable, quoted

TRUTH_FILE: Final = "truth.json"
"""Written by `clipmk world export`, and beside the sample images."""
TABLE_FILES: Final = ("metadata.csv", "metadata.jsonl", "labels.csv")
"""Tables of images below their folder and of labels; the last one that is there counts most."""
LABEL_FILES: Final = (TRUTH_FILE, *TABLE_FILES)
LABEL_BYTES: Final = 512 * 2**20
"""Largest label file read."""


def read_labels(path: str, columns: Columns = USUAL) -> dict[str, str]:
    """Labels of a label file: path of an image below the file's folder, with forward slashes -> label.

    Args:
        path: of the file, which has one of the names `LABEL_FILES`; without it, there are no labels.
        columns: of a table, if the user names them.

    Raises:
        ColumnError: it is a table without a column of paths or of labels.
        InputError: it cannot be read or is malformed.
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
    try:
        return _truth(data)
    except (ValueError, RecursionError) as reason:
        raise InputError(f"label file {quoted(path)} is malformed: {printable(str(reason))}") from reason


def read_folder_labels(folder: str) -> dict[str, str]:
    """Labels of the label files of a folder; the last file counts most.

    Raises:
        InputError: as `read_labels`.
    """
    return {
        path: label
        for name in LABEL_FILES
        for path, label in read_labels(os.path.join(folder, name)).items()  # noqa: PTH118 - text, as the user wrote it
    }


def label_beside(path: str, labels_of: Callable[[str], Mapping[str, str]] = read_folder_labels) -> str | None:
    """The label of an image from a label file in its folder or in the one above.

    Raises:
        InputError: as `labels_of` raises.
    """
    folder, name = os.path.split(path)
    above, place = os.path.split(folder)
    label = labels_of(folder or ".").get(name)
    return labels_of(above or ".").get(f"{place}/{name}") if label is None and place else label


def _truth(data: bytes) -> dict[str, str]:
    """Labels of a `truth.json`: of the rendered world (a list of images), or of the sample images (an object).

    Raises:
        ValueError: it is neither.
    """
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

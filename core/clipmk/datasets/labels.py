"""Label files beside images: what is on which image."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable
from typing import Any, Final

from clipmk.errors import InputError
from clipmk.system.files import read_regular
from clipmk.system.text import printable, quoted

TRUTH_FILE: Final = "truth.json"
"""Written by `clipmk world export`, and beside the sample images."""
LABELS_FILE: Final = "labels.csv"
"""Columns `path` (below its folder) and `label`."""
LABEL_BYTES: Final = 512 * 2**20
"""Largest label file read."""


def read_labels(path: str) -> dict[str, str]:
    """Labels of a label file: path of an image below the file's folder, with forward slashes -> label.

    Args:
        path: of the file, which is called `TRUTH_FILE` or `LABELS_FILE`; without it, there are no labels.

    Raises:
        InputError: it cannot be read or is malformed.
    """
    if not os.path.lexists(path):
        return {}
    data = read_regular(path, limit=LABEL_BYTES, noun="label file", error=InputError)
    try:
        return _truth(data) if path.endswith(TRUTH_FILE) else _table(data)
    except (ValueError, RecursionError, csv.Error) as reason:
        raise InputError(f"label file {quoted(path)} is malformed: {printable(str(reason))}") from reason


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


def _table(data: bytes) -> dict[str, str]:
    """Labels of a `labels.csv`.

    Raises:
        ValueError: it is not UTF-8, or lacks the columns `path` and `label`.
    """
    rows = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
    if not {"path", "label"} <= set(rows.fieldnames or ()):
        raise ValueError("its first line must name the columns path and label")
    pairs = [((row["path"] or "").strip(), (row["label"] or "").strip()) for row in rows]
    return {path.removeprefix("./"): label for path, label in pairs if path and label}

"""Datasets in tables: a text or Parquet file with a column of paths and, if known, one of labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from clipmk.datasets.columns import Columns, read_table
from clipmk.datasets.dataset import Dataset
from clipmk.datasets.entries import dataset_of_files, found_by_name
from clipmk.errors import InputError
from clipmk.images.paths import EXTENSIONS
from clipmk.system.text import noted, quoted


def open_table(spec: str, limit: int | None, columns: Columns) -> Dataset:
    """The images that a table names, in its order; other columns are ignored, blank means no label.

    Images that are missing are looked for below the table, where it names them without a folder or an ending.

    Raises:
        InputError: it cannot be read, has no column of paths or no row, or names images that do not exist.
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

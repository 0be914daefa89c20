"""Datasets in tables: a CSV, TSV or Parquet file with a column of paths and optionally one of labels."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from clipmk.datasets.dataset import Dataset
from clipmk.datasets.entries import ListedImage, dataset_of_files
from clipmk.errors import InputError
from clipmk.system.files import read_regular
from clipmk.system.text import counted, printable, quoted

PATHS: Final = ("path", "image", "file", "filename", "filepath", "file_name", "image_path")
"""Names of the column of paths; where a table has several, the first of these counts."""
LABELS: Final = ("label", "class", "class_name", "target")
"""Names of the column of labels, likewise."""

SUFFIXES: Final = (".csv", ".tsv", ".parquet")

_MAX_BYTES = 4 * 2**30
"""Largest table read."""


def open_table(spec: str, limit: int | None) -> Dataset:
    """The images that a table names, in its order; other columns are ignored, blank means no label.

    Raises:
        InputError: it cannot be read, has no column of paths or no row, or names images that do not exist.
    """
    noun = f"table {quoted(spec)}"
    read = _parquet if spec.lower().endswith(".parquet") else _text
    named = read(spec, noun)
    if not named:
        raise InputError(f"{noun} names no image: no row has a path")
    root = os.path.dirname(os.path.abspath(spec))  # noqa: PTH100, PTH120 - leaves links alone
    return dataset_of_files(spec, "manifest", named, root=root, noun="table", limit=limit)


def _text(spec: str, noun: str) -> list[ListedImage]:
    """Rows of a CSV or TSV file."""
    data = read_regular(spec, limit=_MAX_BYTES, noun="table", error=InputError)
    try:
        head = data[:65536].splitlines()[0] if data else b""
        # spreadsheets separate by semicolons in some countries
        delimiter = "\t" if spec.lower().endswith(".tsv") else max(",;\t", key=lambda sign: head.count(sign.encode()))
        lines = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline="")
        rows = csv.reader(lines, delimiter=delimiter, strict=True)
        header = next(rows, [])
        columns = _columns(header, noun)
        return _named(_cells(rows, columns, len(header), noun), noun)
    except UnicodeDecodeError as reason:
        raise InputError(f"{noun} is not UTF-8 text") from reason
    except csv.Error as reason:
        raise InputError(f"{noun} is malformed: {printable(str(reason))}") from reason


def _cells(
    rows: Any, columns: tuple[int, int | None], width: int, noun: str
) -> Iterator[tuple[str | None, str | None]]:
    """(path, label) of each non-blank line."""
    path, label = columns
    for row in rows:
        if not row:
            continue
        if len(row) != width:
            columns_here = counted(len(row), "column")
            raise InputError(f"{noun}: line {rows.line_num} has {columns_here}, the first line {width}")
        yield row[path], None if label is None else row[label]


def _parquet(spec: str, noun: str) -> list[ListedImage]:
    """Rows of a Parquet file; other columns are not read."""
    import pyarrow as pa  # noqa: PLC0415 - not needed for CSV files

    from clipmk.system.parquet import open_parquet  # noqa: PLC0415

    if not Path(spec).is_file():
        raise InputError(f"{noun} is not a regular file")
    try:
        with open_parquet(spec) as file:
            names = file.schema_arrow.names
            path, label = _columns(names, noun)
            table = file.read(columns=[names[path], *([] if label is None else [names[label]])])
            paths = _texts(table, names[path], noun)
            labels = [None] * len(paths) if label is None else _texts(table, names[label], noun, numbers=True)
            return _named(zip(paths, labels, strict=True), noun)
    except (OSError, KeyError, pa.ArrowException) as reason:
        raise InputError(f"{noun} is not a readable Parquet file: {printable(str(reason))}") from reason


def _texts(table: Any, name: str, noun: str, *, numbers: bool = False) -> list[str | None]:
    """A column of texts, or of whole `numbers`, which pandas writes as floats where some are missing."""
    import pyarrow.types as kinds  # noqa: PLC0415

    column, place = table[name], f"{noun}: column {quoted(name)}"
    if kinds.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    values: list[Any] = column.to_pylist()
    if kinds.is_string(column.type) or kinds.is_large_string(column.type) or kinds.is_null(column.type):
        return values
    if not (numbers and (kinds.is_integer(column.type) or kinds.is_floating(column.type))):
        raise InputError(f"{place} is of type {column.type}; text is needed")
    values = [None if value is None or value != value else value for value in values]  # noqa: PLR0124 - NaN
    broken = next((value for value in values if value is not None and value % 1 != 0), None)
    if broken is not None:
        raise InputError(f"{place} holds {broken}; a label is a text or a whole number")
    return [None if value is None else str(int(value)) for value in values]


def _columns(header: Sequence[str], noun: str) -> tuple[int, int | None]:
    """Indices of the columns of paths and labels.

    Raises:
        InputError: there is no column of paths.
    """
    names = [name.strip().lower() for name in header]
    path, label = (next((names.index(name) for name in known if name in names), None) for known in (PATHS, LABELS))
    if path is None:
        columns = ", ".join(quoted(name) for name in header[:8]) or "none"
        raise InputError(f"{noun} has no column of paths ({', '.join(PATHS)}); its columns: {columns}")
    return path, label


def _named(cells: Iterable[tuple[str | None, str | None]], noun: str) -> list[ListedImage]:
    """Images of rows; equal labels share one object, so that 100,000 labels take no memory.

    Raises:
        InputError: a row has a label and no path.
    """
    found: list[ListedImage] = []
    for number, (path, label) in enumerate(cells, 1):
        name, text = (path or "").strip().removeprefix("./"), (label or "").strip()
        if name:
            found.append(ListedImage(name, sys.intern(text) if text else None))
        elif text:
            raise InputError(f"{noun}: row {number} has the label {quoted(text)} and no path")
    return found

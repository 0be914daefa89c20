"""Parquet files with images inside, as hubs publish datasets.

The images are a column of bytes, or of a struct that holds them: `struct<bytes, path>`. They are read when they are
needed, a row group at a time; nothing is unpacked.
"""

import contextlib
import hashlib
import itertools
import json
import os
import threading
from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as kinds

from clipmk.datasets.entries import Dataset, Entry, below_common_folder, evenly_spread, make_dataset
from clipmk.datasets.tables import LABELS, PATHS, Columns, cell_text, label_column
from clipmk.errors import ImageError, InputError, raised_as
from clipmk.images.decoder import Picture, read_picture
from clipmk.system.parquet import open_parquet
from clipmk.system.text import encodable, quoted

ROW_GROUPS: Final = 2  # row groups that stay in memory; hubs write 100 to 1,000 images in each
_BYTES = ("image", "img", "bytes", "image_bytes", "jpg", "jpeg", "png", "webp")  # names of a column of bytes

_READING = threading.Lock()
"""Held while a row group is read, so that threads that want the same one read it once."""


def image_column(spec: str, columns: Columns) -> str | None:
    """The column that holds the images themselves; None where there is none."""
    noun = f"table {quoted(spec)}"
    with _opened(spec, noun) as file:
        wanted = columns.image and columns.image.strip().lower()
        found: list[str] = [
            one.name
            for one in file.schema_arrow
            if _is_struct(one.type) or (kinds.is_binary(one.type) and one.name.strip().lower() in (*_BYTES, wanted))
        ]
        if wanted:
            return next((name for name in found if name.strip().lower() == wanted), None)
        return next((name for name in found if name.strip().lower() in (*PATHS, *_BYTES)), found[0] if found else None)


def open_images(
    spec: str, files: Sequence[str], column: str, limit: int | None, columns: Columns, warnings: Iterable[str] = ()
) -> Dataset:
    """The images in the `column` of Parquet files of one kind, in order; `InputError` if they are damaged or empty."""
    root, places = below_common_folder(files)
    entries: list[Entry] = []
    notes = list(warnings)
    digest = hashlib.sha256()
    for name, place in places:
        noun = f"table {quoted(place)}"
        with _opened(place, noun) as file, open(place, "rb") as handle:  # noqa: PTH123
            entries += _entries(file, noun, name, column, columns, f"dataset {quoted(spec)}", notes)
            handle.seek(-file.metadata.serialized_size - 8, os.SEEK_END)
            digest.update(handle.read())  # the footer: counts, sizes and statistics of all that is before it
    if not entries:
        raise InputError(f"Parquet files {quoted(spec)} hold no image: they have no row")
    chosen = evenly_spread(entries, limit)
    return make_dataset(
        *(spec, "parquet", chosen, ParquetReader(root, column)), warnings=dict.fromkeys(notes), drawn=digest.hexdigest()
    )


@dataclass(frozen=True, slots=True)
class ParquetReader:
    """Reads images inside Parquet files; an entry's offset is the number of its row."""

    root: str
    """Absolute folder that paths are relative to."""
    column: str

    def read(self, entry: Entry) -> Picture:
        """Decode one image; see `Reader`."""
        path = os.path.join(self.root, entry.path or "")  # noqa: PTH118
        unreadable = f"image {quoted(entry.key)} cannot be read from {quoted(path)}"
        with raised_as(ImageError, unreadable, OSError, LookupError, ValueError, pa.ArrowException):
            data = _row(path, os.stat(path).st_mtime_ns, self.column, entry.offset or 0)  # noqa: PTH116
        return read_picture(data or b"", name=entry.key)


def _row(path: str, changed: int, column: str, row: int) -> bytes | None:
    with _READING:
        starts = _starts(path, changed)
        group = bisect(starts, row) - 1
        value: Any = _group(path, changed, column, group)[row - starts[group]].as_py()
    return value.get("bytes") if isinstance(value, dict) else value


@lru_cache(maxsize=4096)
def _starts(path: str, changed: int) -> list[int]:
    """The first row of each row group."""
    with open_parquet(path) as file:
        sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    return list(itertools.accumulate(sizes, initial=0))


@lru_cache(maxsize=ROW_GROUPS)
def _group(path: str, changed: int, column: str, number: int) -> pa.ChunkedArray:
    with open_parquet(path) as file:
        return file.read_row_group(number, columns=[column])[column]


def _entries(
    file: pq.ParquetFile, noun: str, name: str, column: str, columns: Columns, dataset: str, warnings: list[str]
) -> list[Entry]:
    schema = file.schema_arrow
    if column not in schema.names:
        raise InputError(f"{noun} has no column {quoted(column)}, unlike others of the dataset")
    classes = _class_names(schema)
    usual = tuple(dict.fromkeys((*LABELS, *map(str.lower, classes))))
    label = label_column(schema.names, columns, usual, dataset, warnings)
    keys = _keys(file, column) or [f"{row:06d}" for row in range(file.metadata.num_rows)]
    labels: list[Any] = [None] * len(keys)
    if label is not None:
        title = schema.names[label]
        values = file.read(columns=[title])[title].to_pylist()
        labels = [cell_text(value, f"{noun}: column {quoted(title)}", classes.get(title)) for value in values]
    return [
        Entry(key=encodable(f"{name}/{key}"), label=text, path=name, offset=row)
        for row, (key, text) in enumerate(zip(keys, labels, strict=True))
    ]


def _keys(file: pq.ParquetFile, column: str) -> list[str]:
    """The names of the images inside, where all have different ones."""
    kind = file.schema_arrow.field(column).type
    if not (kinds.is_struct(kind) and kind.get_field_index("path") >= 0):
        return []
    paths = [row and row.get("path") for row in file.read(columns=[f"{column}.path"])[column].to_pylist()]
    return paths if all(paths) and len(set(paths)) == len(paths) else []


def _class_names(schema: pa.Schema) -> dict[str, dict[int, str]]:
    """Columns of numbers, and what the numbers mean: written into the schema by the library `datasets`."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        lists = {name: one["names"] for name, one in features.items() if one.get("_type") == "ClassLabel"}
        return {name: dict(enumerate(map(str, names))) for name, names in lists.items()}
    except (LookupError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


@contextlib.contextmanager
def _opened(path: str, noun: str) -> Iterator[pq.ParquetFile]:
    if not os.path.isfile(path):  # noqa: PTH113 - never raises
        raise InputError(f"{noun} is not a regular file")
    unreadable = raised_as(
        InputError, f"{noun} is not a readable Parquet file", OSError, KeyError, ValueError, pa.ArrowException
    )
    with unreadable, open_parquet(path) as file:
        yield file


def _is_struct(kind: pa.DataType) -> bool:
    """Whether a column holds structs with bytes."""
    return bool(kinds.is_struct(kind) and kind.get_field_index("bytes") >= 0)

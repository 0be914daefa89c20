"""Parquet files of a study: read with the schema checked, written whole or not at all.

The same rows give the same bytes: no times, no host names, fixed compression.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from clipmk.errors import InputError
from clipmk.system.files import atomic_write, make_folder
from clipmk.system.text import printable, quoted

_COMPRESSION: Final = "zstd"


def open_parquet(path: str | Path) -> pq.ParquetFile:
    """Open a file by the bytes of its name: pyarrow refuses names that are not UTF-8.

    Raises:
        OSError: it cannot be read.
        pyarrow.ArrowException: it is no Parquet file.
    """
    return pq.ParquetFile(pa.OSFile(os.fsencode(path)))


def read_table(path: Path, schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a file, or some of its columns, one chunk per column.

    Raises:
        InputError: it does not exist, is damaged, or has other columns than `schema`; the message names the file.
    """
    with _opened(path, schema) as file, _told(path):
        return file.read(columns=columns).combine_chunks()


def read_groups(path: Path, schema: pa.Schema, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Read a file one row group at a time.

    Raises:
        InputError: as in `read_table`.
    """
    with _opened(path, schema) as file:
        for number in range(file.num_row_groups):
            with _told(path):
                group = file.read_row_group(number, columns=columns)
            yield group


def read_metadata(path: Path) -> dict[str, str]:
    """What was written beside the columns; empty where there is no such file or it cannot be read."""
    try:
        found = open_parquet(path).schema.to_arrow_schema().metadata or {}
    except (OSError, pa.ArrowException):
        return {}
    return {key.decode(): value.decode() for key, value in found.items() if key != b"ARROW:schema"}


def write_rows(
    rows: Sequence[Mapping[str, Any]], path: Path, schema: pa.Schema, metadata: Mapping[str, str] | None = None
) -> None:
    """Write rows, each with a value (or None) for every column.

    Raises:
        ClipmkError: the file cannot be written.
    """
    table = pa.Table.from_pylist(list(rows), schema=schema.with_metadata(metadata))
    with table_writer(path, table.schema) as writer:
        writer.write_table(table)


@contextlib.contextmanager
def table_writer(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Yield a writer whose file takes the place of `path` only when the block ends well.

    Raises:
        ClipmkError: the file cannot be written.
    """
    make_folder(path.parent)
    with (
        atomic_write(path, private=False) as handle,
        pq.ParquetWriter(handle, schema, compression=_COMPRESSION) as writer,
    ):
        yield writer


@contextlib.contextmanager
def _opened(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetFile]:
    with _told(path):
        file = open_parquet(path)
    with file:
        if not file.schema_arrow.equals(schema):
            raise InputError(f"table {quoted(path)} has other columns than this version of clipmk writes")
        yield file


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Name the file in what goes wrong."""
    try:
        yield
    except FileNotFoundError as reason:
        raise InputError(f"table {quoted(path)} does not exist") from reason
    except (OSError, pa.ArrowException) as reason:
        raise InputError(f"table {quoted(path)} is damaged or cannot be read: {printable(str(reason))}") from reason

"""Parquet files: read with the schema checked, written completely or not at all.

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
        pyarrow.ArrowException: it is not a Parquet file.
    """
    return pq.ParquetFile(pa.OSFile(os.fsencode(path)))


@contextlib.contextmanager
def open_table(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetFile]:
    """Open a file whose columns are known; errors while reading it name the file, too.

    Raises:
        InputError: it does not exist, is damaged, or has other columns than `schema`.
    """
    try:
        with open_parquet(path) as file:
            if not file.schema_arrow.equals(schema):
                raise InputError(f"table {quoted(path)} has other columns than this version of clipmk writes")
            yield file
    except FileNotFoundError as reason:
        raise InputError(f"table {quoted(path)} does not exist") from reason
    except (OSError, pa.ArrowException) as reason:
        raise InputError(f"table {quoted(path)} is damaged or cannot be read: {printable(str(reason))}") from reason


def read_table(path: Path, schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a file, or some of its columns, one chunk per column.

    Raises:
        InputError: as in `open_table`.
    """
    with open_table(path, schema) as file:
        return file.read(columns=columns).combine_chunks()


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of the schema; empty if the file is missing or cannot be read."""
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
    """Yield a writer whose file replaces `path` only when the block succeeds.

    Raises:
        ClipmkError: the file cannot be written.
    """
    make_folder(path.parent)
    with (
        atomic_write(path, private=False) as handle,
        pq.ParquetWriter(handle, schema, compression=_COMPRESSION) as writer,
    ):
        yield writer

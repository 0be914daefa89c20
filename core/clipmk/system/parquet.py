"""Parquet files that prove themselves: written completely or not at all, read with schema and content checked.

The same rows give the same bytes: no times, no host names, fixed compression. The metadata of a file holds its name,
what it was made of (a digest that the caller chooses), and the digest of all its other bytes. So a file in the place of
another and a single flipped bit are found.
"""

import contextlib
import hashlib
import mmap
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from clipmk.errors import InputError
from clipmk.system.files import LFS_HINT, LFS_POINTER, atomic_write, make_folder
from clipmk.system.text import printable, quoted

_COMPRESSION: Final = "zstd"
_BLANK: Final = "0" * 64  # stands in for a file's digest while the file is written


def open_parquet(path: str | Path) -> pq.ParquetFile:
    """Open a file by the bytes of its name: pyarrow refuses names that are not UTF-8."""
    file = pa.OSFile(os.fsencode(path))
    if file.read(len(LFS_POINTER)) == LFS_POINTER:
        raise pa.ArrowInvalid(f"it {LFS_HINT}")
    return pq.ParquetFile(file)


@contextlib.contextmanager
def open_table(
    path: Path, schema: pa.Schema, made_of: str | None = None, newer: Collection[str] = ()
) -> Iterator[pq.ParquetFile]:
    """Open a file whose columns are known; errors while reading it name the file, too.

    Its content is checked against the digest `made_of` unless that is None. Raises `InputError` if it does not exist,
    is damaged, or has other columns than `schema`; those of `newer` it may lack.
    """
    try:
        with open_parquet(path) as file:
            older = pa.schema([column for column in schema if column.name not in newer])
            if not file.schema_arrow.equals(schema) and not file.schema_arrow.equals(older):
                raise InputError(f"table {quoted(path)} has other columns than this version of clipmk writes")
            if made_of is not None and not is_intact(path, made_of):
                raise InputError(
                    f"table {quoted(path)} is damaged or belongs elsewhere; a new run of the study rebuilds it"
                )
            yield file
    except FileNotFoundError as reason:
        raise InputError(f"table {quoted(path)} does not exist") from reason
    except (OSError, UnicodeDecodeError, pa.ArrowException) as reason:
        raise InputError(f"table {quoted(path)} is damaged or cannot be read: {printable(str(reason))}") from reason


def read_table(
    path: Path,
    schema: pa.Schema,
    columns: Sequence[str] | None = None,
    *,
    made_of: str | None = None,
    newer: Collection[str] = (),
) -> pa.Table:
    """Read a file, or some of its columns, one chunk per column; a column of `newer` that it lacks is null."""
    with open_table(path, schema, made_of, newer) as file:
        found = file.read(columns=columns).combine_chunks()
    for column in [schema.field(name) for name in newer if name not in found.column_names]:
        found = found.add_column(schema.get_field_index(column.name), column, pa.nulls(len(found), column.type))
    return found


def is_intact(path: Path, made_of: str) -> bool:
    """Whether a file exists, was made of this, and has the bytes that it was written with."""
    try:
        _, stored, digest = _digests(path, _mark(path, made_of))
    except (OSError, ValueError):
        return False
    return stored == digest


def write_rows(rows: Sequence[Mapping[str, Any]], path: Path, schema: pa.Schema, made_of: str) -> None:
    """Write rows, each with a value (or None) for every column."""
    with table_writer(path, schema, made_of) as writer:
        writer.write_table(pa.Table.from_pylist(list(rows), schema=schema))


@contextlib.contextmanager
def table_writer(path: Path, schema: pa.Schema, made_of: str) -> Iterator[pq.ParquetWriter]:
    """Yield a writer whose file replaces `path` only when the block succeeds; its folder is created.

    `made_of` is a digest of everything that the rows follow from, for `is_intact`. Raises `ClipmkError`.
    """
    make_folder(path.parent)
    with atomic_write(path, private=False) as handle:
        with pq.ParquetWriter(handle, schema, compression=_COMPRESSION) as writer:
            yield writer
            writer.add_key_value_metadata({"clipmk": f"{_mark(path, made_of)}{_BLANK}"})
        handle.flush()
        start, _, digest = _digests(Path(handle.name), _mark(path, made_of))
        handle.seek(start)
        handle.write(digest)


def _mark(path: Path, made_of: str) -> str:
    """What stands before the digest in a file's metadata."""
    return f"{path.name} made of {made_of}, blake2b "


def _digests(path: Path, mark: str) -> tuple[int, bytes, bytes]:
    """Where the digest of a file stands, what stands there, and the digest of all other bytes."""
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        memoryview(data) as view,
    ):
        start = data.rfind(mark.encode()) + len(mark)  # a wrong place where there is no mark: no digest stands there
        end = start + len(_BLANK)
        digest = hashlib.blake2b(view[:start], digest_size=len(_BLANK) // 2)
        digest.update(view[end:])
        return start, data[start:end], digest.hexdigest().encode()

"""Rows of small tables as people and programs write them: CSV and TSV, JSON lines, a JSON list of objects."""

import codecs
import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from clipmk.errors import InputError
from clipmk.system.files import read_regular
from clipmk.system.text import counted, printable, quoted

JSON_ROWS: Final = (".json", ".jsonl", ".ndjson")  # endings of tables that hold an object per row
TABLES: Final = (".csv", ".tsv", *JSON_ROWS, ".parquet")  # endings of tables

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def csv_text(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Rows as CSV; a list becomes its items separated by spaces, a missing value is blank."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: " ".join(map(repr, one)) if isinstance(one, list) else one for name, one in row.items()})
    return text.getvalue()


def read_rows(
    path: str | Path, *, limit: int, noun: str, error: type[InputError]
) -> tuple[list[str], Iterator[list[Any]]]:
    """The columns of a table and its rows, blank ones left out; the cells of CSV and TSV are texts.

    Of Parquet, nested and binary columns are not read. Spreadsheets write a byte order mark, CRLF, UTF-16, and
    semicolons in some countries; blanks around the name of a column and before a cell do not count. The file's ending
    is one of `TABLES`, else commas are expected. What cannot be read raises `error`, also while the rows are read.
    """
    ending = os.path.splitext(path)[1].lower()  # noqa: PTH122 - a name may hold a null character
    if ending == ".parquet":
        named = _named(_parquet(path), f"{noun} {quoted(path)}", error)
        return next(named, []), named
    data = read_regular(path, limit=limit, noun=noun, error=error)
    rows = _objects(data) if ending in JSON_ROWS else _delimited(data, tabs=ending == ".tsv")
    named = _named(rows, f"{noun} {quoted(path)}", error)
    return next(named, []), named


def _named(rows: Iterator[list[Any]], label: str, error: type[InputError]) -> Iterator[list[Any]]:
    """The same rows; what is wrong with them becomes an error that names the table."""
    try:
        yield from rows
    except UnicodeDecodeError as reason:
        raise error(f"{label} is malformed: it is not UTF-8 text; save it as UTF-8") from reason
    except (ValueError, RecursionError, csv.Error) as reason:
        raise error(f"{label} is malformed: {printable(str(reason))}") from reason


def _delimited(data: bytes, *, tabs: bool) -> Iterator[list[Any]]:
    text = io.TextIOWrapper(io.BytesIO(data), encoding=_encoding(data), newline="")
    first = text.readline()
    text.seek(0)
    delimiter = "\t" if tabs else max(",;\t|", key=first.count)
    rows = csv.reader(text, delimiter=delimiter, strict=True, skipinitialspace=True)
    header = [name.strip() for name in next(rows, [])]
    yield header
    for row in rows:
        if row and len(row) != len(header):
            columns = counted(len(row), "column")
            raise ValueError(f"line {rows.line_num} has {columns}, the first line {len(header)}")
        if row:
            yield row


def _objects(data: bytes) -> Iterator[list[Any]]:
    text = data.decode(_encoding(data)).strip()
    lines = [line for line in text.split("\n") if line.strip()]
    try:
        rows = json.loads(text) if text.startswith("[") else [json.loads(line) for line in lines]
    except json.JSONDecodeError as reason:
        raise ValueError(f"a JSON list of objects, or an object in each line, is needed: {reason}") from reason
    wrong = next((row for row in rows if not isinstance(row, dict)), None)
    if wrong is not None:
        raise ValueError(f"a row is {wrong!r:.80}; an object with a value for each column is needed")
    header = list(dict.fromkeys(key for row in rows for key in row))
    yield header
    yield from ([row.get(key) for key in header] for row in rows)


def _parquet(path: str | Path) -> Iterator[list[Any]]:
    import pyarrow as pa  # noqa: PLC0415 - not needed for text

    from clipmk.system.parquet import open_parquet  # noqa: PLC0415

    try:
        with open_parquet(path) as file:
            header = [one.name for one in file.schema_arrow if _is_plain(one.type)]
            yield header
            for batch in file.iter_batches(columns=header):
                yield from map(list, zip(*(batch.column(name).to_pylist() for name in header), strict=True))
    except (OSError, KeyError, pa.ArrowException) as reason:
        raise ValueError(f"it is not a readable Parquet file: {reason}") from reason


def _is_plain(kind: Any) -> bool:
    """Whether a column of Parquet holds texts or numbers, also as a dictionary."""
    return not str(kind).startswith(("struct", "list", "large_list", "fixed_size", "map", "binary", "large_binary"))


def _encoding(data: bytes) -> str:
    return "utf-16" if data.startswith(_UTF16) else "utf-8-sig"

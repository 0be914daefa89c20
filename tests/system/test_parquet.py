"""Parquet files prove themselves: every flipped bit, every cut and every file in the place of another is found."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from clipmk.errors import InputError
from clipmk.system.parquet import is_intact, read_table, table_writer, write_rows

SCHEMA = pa.schema([("number", pa.int64()), ("text", pa.string()), ("list", pa.list_(pa.float64()))])
ROWS = [
    {"number": 1, "text": "table.parquet made of this, blake2b ", "list": [0.5]},
    {"number": 2, "text": None, "list": []},
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_rows(ROWS, tmp_path / "new" / "table.parquet", SCHEMA, "this")
    return tmp_path / "new" / "table.parquet"


def test_what_was_written_is_read_and_intact(path: Path) -> None:
    assert is_intact(path, "this")
    assert read_table(path, SCHEMA, made_of="this").to_pylist() == ROWS
    assert read_table(path, SCHEMA, ["text"]).to_pylist() == [{"text": row["text"]} for row in ROWS]
    before = path.read_bytes()
    write_rows(ROWS, path, SCHEMA, "this")
    assert path.read_bytes() == before


def test_every_flipped_bit_is_found(path: Path) -> None:
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        assert not is_intact(path, "this"), bit


def test_every_cut_is_found_and_so_is_what_was_added(path: Path) -> None:
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert not is_intact(path, "this"), size
    path.write_bytes(whole + b"\n")
    assert not is_intact(path, "this")


@pytest.mark.parametrize("made_of", ["that", "thi", "this-1", ""])
def test_a_file_made_of_something_else_is_found(path: Path, made_of: str) -> None:
    assert not is_intact(path, made_of)
    with pytest.raises(InputError, match="is damaged or belongs elsewhere"):
        read_table(path, SCHEMA, made_of=made_of)


def test_a_file_under_another_name_is_found(path: Path) -> None:
    assert not is_intact(path.rename(path.with_name("other.parquet")), "this")


def test_what_cannot_be_read_is_not_intact(path: Path) -> None:
    assert not is_intact(path.with_name("missing"), "this")
    assert not is_intact(path.parent, "this")
    assert not is_intact(path / "below", "this")
    assert not is_intact(path.with_name("x" * 300), "this")


def test_text_that_is_not_utf8_is_named(path: Path) -> None:
    text = pa.array([b"caf\xe9"], pa.binary()).view(pa.string())
    with table_writer(path, pa.schema([("text", pa.string())]), "this") as writer:
        writer.write_table(pa.table({"text": text}))
    from clipmk.system.parquet import open_table  # noqa: PLC0415

    with (
        pytest.raises(InputError, match=r"table\.parquet' is damaged or cannot be read: 'utf-8' codec"),
        open_table(path, pa.schema([("text", pa.string())])) as file,
    ):
        file.read().to_pylist()

"""Parquet files with images inside, as hubs publish datasets."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipmk.datasets.opening import open_dataset
from clipmk.datasets.tables import Columns
from clipmk.errors import ImageError, InputError, UsageError
from image_files import png, red_of, shown, touch

NAMES = ["cat", "fox", "owl"]
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write(
    path: Path, reds: list[int], labels: Any = None, *, paths: bool = False, names: list[str] | None = None
) -> Path:
    images = [{"bytes": png(red), "path": f"{red}.png" if paths else None} for red in reds]
    columns = {"id": pa.array(range(len(reds))), "image": pa.array(images, IMAGE)}
    table = pa.table({**columns, **({} if labels is None else {"label": pa.array(labels)})})
    if names is not None:
        info = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=2)
    return path


def test_images_are_read_from_rows_and_numbers_mean_the_names_of_the_schema(tmp_path: Path) -> None:
    path = write(tmp_path / "train.parquet", [1, 2, 3, 4, 5], [2, 0, -1, 1, 1], names=NAMES)
    dataset = open_dataset(str(path))
    assert shown(dataset) == [
        (f"train.parquet/{row:06d}", label) for row, label in enumerate(["owl", "cat", None, "fox", "fox"])
    ]
    assert (dataset.info.kind, dataset.info.labelled, dataset.info.classes) == ("parquet", 4, 3)
    assert [red_of(dataset, entry) for entry in reversed(dataset.entries)] == [5, 4, 3, 2, 1]
    reader = pickle.loads(pickle.dumps(dataset.reader))  # noqa: S301 - our own
    assert int(reader.read(dataset.entries[3]).pixels[0, 0, 0]) == 4


def test_a_folder_and_a_pattern_give_the_shards_in_order_and_parts_are_named(tmp_path: Path) -> None:
    write(tmp_path / "hub" / "data" / "train-00000-of-00002.parquet", [1, 2], ["fox", "cat"], paths=True)
    write(tmp_path / "hub" / "data" / "train-00001-of-00002.parquet", [3], ["owl"], paths=True)
    write(tmp_path / "hub" / "data" / "test-00000-of-00001.parquet", [4], ["owl"], paths=True)
    every = open_dataset(str(tmp_path / "hub"))
    assert [red_of(every, entry) for entry in every.entries] == [4, 1, 2, 3]
    assert every.warnings == ("shards of 'test', 'train' are used together; a pattern names some of them",)
    some = open_dataset(str(tmp_path / "hub" / "data" / "train-*.parquet"))
    assert [key.rpartition("/")[2] for key, _ in shown(some)] == ["1.png", "2.png", "3.png"]
    assert some.warnings == ()
    names = sorted(map(str, (tmp_path / "hub" / "data").glob("train-*")))
    assert open_dataset(names).entries == some.entries
    assert len(open_dataset(names, limit=2).entries) == 2


@pytest.mark.parametrize(
    ("column", "kind", "columns"),
    [
        ("image", pa.binary(), Columns()),
        ("jpg", pa.binary(), Columns()),
        ("picture", IMAGE, Columns()),
        ("odd", pa.binary(), Columns(image="ODD")),
    ],
)
def test_a_column_of_images_is_known_by_its_type(
    column: str, kind: pa.DataType, columns: Columns, tmp_path: Path
) -> None:
    value: Any = png(7) if kind == pa.binary() else {"bytes": png(7), "path": None}
    pq.write_table(pa.table({"species": ["fox"], column: pa.array([value], kind)}), tmp_path / "x.parquet")
    dataset = open_dataset(str(tmp_path / "x.parquet"), columns=columns)
    assert [label for _, label in shown(dataset)] == ["fox"]
    assert red_of(dataset, dataset.entries[0]) == 7


def test_other_content_is_another_dataset(tmp_path: Path) -> None:
    one, two = (open_dataset(str(write(tmp_path / "x.parquet", reds))).info.fingerprint for reds in ([1, 2], [1, 3]))
    assert one != two


def test_a_missing_column_of_labels_is_one_note_for_all_files(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"{number}.parquet", [number])
    (warning,) = open_dataset(str(tmp_path)).warnings
    assert "has no column of labels" in warning
    assert "its columns: 'id', 'image'; --label-column names another" in warning


def test_a_row_without_bytes_is_an_error_of_its_image(tmp_path: Path) -> None:
    images = pa.array([{"bytes": None, "path": "a.png"}, {"bytes": b"nothing", "path": "b.png"}], IMAGE)
    pq.write_table(pa.table({"image": images}), tmp_path / "x.parquet")
    dataset = open_dataset(str(tmp_path / "x.parquet"))
    for entry, message in zip(dataset.entries, ("a.png' is empty", "b.png' is not an image"), strict=True):
        with pytest.raises(ImageError, match=message):
            dataset.reader.read(entry)
    (tmp_path / "x.parquet").unlink()
    with pytest.raises(ImageError, match=r"a\.png' cannot be read from '.*x\.parquet': No such file"):
        dataset.reader.read(dataset.entries[0])


def test_several_tables_of_paths_and_files_of_several_kinds_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        pq.write_table(pa.table({"path": ["1.png"]}), tmp_path / f"{name}.parquet")
    with pytest.raises(InputError, match="hold no images; of tables of paths, name one"):
        open_dataset(str(tmp_path / "*.parquet"))
    touch(tmp_path, "x.png")
    with pytest.raises(
        UsageError, match=r"3 files, 3 of them not a tar shard: .*; a dataset is one folder, one table, or"
    ):
        open_dataset(str(tmp_path / "*.*"))

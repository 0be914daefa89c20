"""Tables of paths as datasets: which columns count, and what is refused before work starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipmk.datasets.entries import Dataset
from clipmk.datasets.opening import open_dataset
from clipmk.datasets.tables import Columns
from clipmk.errors import InputError
from image_files import png, shown, touch


def opened(folder: Path, content: str | bytes, name: str = "table.csv", **options: Any) -> Dataset:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return open_dataset(str(path), **options)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return touch(tmp_path, "a.png", "sub/b.png", "c, d.png")


def test_paths_are_relative_to_the_table(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (images / "sub" / "b.png").write_bytes(png(50))
    monkeypatch.chdir(images / "sub")
    content = (
        'id,path,label,split\r\n1,./sub/b.png, fox ,val\r\n\r\n2,"c, d.png",,val\r\n,,,\r\n3,a.png,"cat, tabby",val\r\n'
    )
    dataset = opened(images, content)
    assert shown(dataset) == [("sub/b.png", "fox"), ("c, d.png", None), ("a.png", "cat, tabby")]
    info = dataset.info
    assert (info.kind, info.images, info.labelled, info.classes) == ("manifest", 3, 2, 2)
    assert dataset.warnings == ("1 of 3 images has no label; accuracy is over the others",)
    assert dataset.reader.read(dataset.entries[0]).pixels[0, 0, 0] == 50


def test_absolute_paths_are_taken_as_they_are(images: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    dataset = opened(tmp_path_factory.mktemp("elsewhere"), f"path\n{images / 'a.png'}\n")
    assert shown(dataset) == [(str(images / "a.png"), None)]
    assert dataset.reader.read(dataset.entries[0]).info.width == 4


@pytest.mark.parametrize("path", ["path", "image", "file", "filename", "filepath", " Path ", "\ufefffile_name"])
@pytest.mark.parametrize("label", ["label", "class", "class_name", "target"])
def test_columns_have_several_names(path: str, label: str, images: Path) -> None:
    assert shown(opened(images, f"{label},{path}\nfox,a.png\n")) == [("a.png", "fox")] if path[0] != "\ufeff" else True
    assert shown(opened(images, f"{path},{label}\na.png,fox\n")) == [("a.png", "fox")]


def test_of_several_columns_of_paths_the_first_known_one_counts(images: Path) -> None:
    assert shown(opened(images, "file,path\nzzz,a.png\n")) == [("a.png", None)]


@pytest.mark.parametrize(("name", "sign"), [("t.tsv", "\t"), ("t.csv", ";"), ("t.csv", "\t"), ("t.CSV", ",")])
def test_the_separator_of_columns_is_detected(name: str, sign: str, images: Path) -> None:
    content = f"path{sign}label\na.png{sign}fox\n"
    assert shown(opened(images, content, name)) == [("a.png", "fox")]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (pa.array(["fox", None]), ["fox", None]),
        (pa.array(["fox", "cat"]).dictionary_encode(), ["fox", "cat"]),
        (pa.array(["fox", "cat"], pa.large_string()), ["fox", "cat"]),
        (pa.array([7, 0], pa.uint8()), ["7", "0"]),
        (pa.array([7.0, float("nan")]), ["7", None]),
        (pa.nulls(2), [None, None]),
    ],
)
def test_parquet_is_read_like_csv(labels: pa.Array, expected: list[str | None], images: Path) -> None:
    table = pa.table({"x": [1, 2], "class": labels, "filename": ["a.png", "sub/b.png"]})
    pq.write_table(table, images / "t.parquet")
    dataset = open_dataset(str(images / "t.parquet"))
    assert shown(dataset) == list(zip(["a.png", "sub/b.png"], expected, strict=True))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"path": [b"a.png"], "x": [1]}, r"has no column of paths .*; its columns: 'x'"),
        ({"image": [{"path": "a.png"}], "x": [1]}, r"has no column of paths .*; its columns: 'x'"),
        ({"path": ["a.png"], "label": [0.5]}, r"t\.parquet' holds 0\.5; a label is a text or a whole number"),
        ({"path": ["a.png"], "label": [float("inf")]}, r"t\.parquet' holds inf; a label is a text"),
        ({"path": [None], "label": ["fox"]}, r"row 1 has the label 'fox' and no path"),
        ({"url": ["a.png"]}, r"has no column of paths \(path, image, .*\); its columns: 'url'"),
        ({"path": pa.array([], pa.string())}, r"names no image"),
    ],
)
def test_a_parquet_file_without_paths_is_refused(columns: dict[str, Any], message: str, images: Path) -> None:
    pq.write_table(pa.table(columns), images / "t.parquet")
    with pytest.raises(InputError, match=message):
        open_dataset(str(images / "t.parquet"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,label\n", r"table '.*table\.csv' names no image"),
        ("", r"table\.csv' is malformed: it is empty"),
        ("a.png,fox\nb.png,cat\n", r"its columns: 'a\.png', 'fox'"),
        ("path,label\na.png\n", r"line 2 has 1 column, the first line 2"),
        ("path,label\n,fox\n", r"row 1 has the label 'fox' and no path"),
        ('path\n"a.png\n', r"table\.csv' is malformed: unexpected end"),
        (b"path\n\xff.png\n", r"is not UTF-8 text"),
        ("path\na.png\n./a.png\nsub/b.png\n", r"1 image is named more than once: 'a\.png'"),
    ],
)
def test_a_malformed_table_is_refused(content: str | bytes, message: str, images: Path) -> None:
    with pytest.raises(InputError, match=message):
        opened(images, content)


def test_missing_images_are_counted_before_work_starts(images: Path) -> None:
    names = ["a.png", "sub", *(f"gone{k}.png" for k in range(4)), "sub/b.png"]
    message = (
        r"table '.*': 5 of 7 images are missing or not regular files: 'sub', 'gone0\.png', 'gone1\.png', \.\.\.; paths"
    )
    with pytest.raises(InputError, match=message):
        opened(images, "\n".join(["path", *names]))
    assert shown(opened(images, "\n".join(["path", *names]), limit=1)) == [("a.png", None)]


def test_a_file_that_is_not_parquet_is_refused(images: Path) -> None:
    with pytest.raises(InputError, match=r"t\.parquet' is not a readable Parquet file"):
        opened(images, b"PAR1 not really", "t.parquet")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", b"\xef\xbb\xbfpath;label\r\na.png;fox\r\nsub/b.png;\r\n"),
        ("t.csv", b'"path", "label"\n"a.png", "fox"\n"sub/b.png", ""\n'),
        ("t.csv", b"path|label\na.png|fox\nsub/b.png|\n"),
        ("t.txt.csv", "path\tlabel\r\na.png\tfox\r\nsub/b.png\t\r\n".encode("utf-16")),
        ("t.jsonl", b'{"path": "a.png", "label": "fox"}\n\n{"path": "./sub/b.png"}\n'),
        (
            "t.ndjson",
            b'\xef\xbb\xbf{"label": "fox", "file_name": "a.png", "box": [1]}\r\n{"file_name": "sub/b.png"}\r\n',
        ),
        ("t.json", b'[{"image": "a.png", "class": "fox"},\n {"image": "sub/b.png", "class": null}]'),
    ],
)
def test_a_table_is_read_in_the_form_that_programs_write(name: str, content: bytes, images: Path) -> None:
    assert shown(opened(images, content, name)) == [("a.png", "fox"), ("sub/b.png", None)]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["1.0", "0.0"], ["1", "0"]),
        (["1.", "2"], ["1", "2"]),
        (["1.0", "fox"], ["1.0", "fox"]),
        (["1.5", "2.0"], ["1.5", "2.0"]),
        (["1", "2"], ["1", "2"]),
    ],
)
def test_whole_numbers_of_a_data_frame_lose_their_point(labels: list[str], expected: list[str], images: Path) -> None:
    content = f"path,label\na.png,{labels[0]}\nsub/b.png,{labels[1]}\n"
    assert [label for _, label in shown(opened(images, content))] == expected


def test_what_a_table_leaves_open_is_guessed_and_named(images: Path) -> None:
    (warning,) = opened(images, "file,path,label\nzzz,a.png,fox\n").warnings
    assert "several columns of one kind, the first of which is used: 'path', 'file'" in warning
    (warning,) = opened(images, "path,kind\na.png,fox\n").warnings
    assert "has no column of labels" in warning
    assert "its columns: 'path', 'kind'; --label-column names another" in warning
    assert opened(images, "path,kind\na.png,fox\n", columns=Columns(label="Kind")).entries[0].label == "fox"
    assert shown(opened(images, "x,path\na.png,fox\n", columns=Columns("x", "path"))) == [("a.png", "fox")]
    with pytest.raises(InputError, match=r"has no column 'y'; its columns: 'x', 'path'"):
        opened(images, "x,path\na.png,fox\n", columns=Columns("y"))


def test_images_are_found_by_a_bare_name_without_folder_and_ending(images: Path) -> None:
    touch(images, "train/x1.jpg", "train/twice.png", "val/twice.png", "val/x1.png/y.png")
    (images / "link").symlink_to("train")
    dataset = opened(images, "image_id,label\nx1,fox\nb.png,cat\na.png,owl\n")
    assert shown(dataset) == [("train/x1.jpg", "fox"), ("sub/b.png", "cat"), ("a.png", "owl")]
    assert dataset.warnings == ("2 images are found below by their names: 'x1', 'b.png'",)
    with pytest.raises(InputError, match=r"2 of 3 images are missing or not regular files: 'twice', 'sub/a\.png'"):
        opened(images, "path\na.png\ntwice\nsub/a.png\n")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"path,label\na.png,\xe9\n", "is malformed: it is not UTF-8 text; save it as UTF-8"),
        (
            "t.jsonl",
            b'{"path": "a.png"}\n["b.png"]\n',
            r"a row is \['b\.png'\]; an object with a value for each column",
        ),
        (
            "t.jsonl",
            b'{"path": \n',
            r"t\.jsonl' is malformed: a JSON list of objects, or an object in each line, is needed",
        ),
        ("coco.json", b'{\n "images": []\n}', r"json' is malformed: a JSON list of objects, or an object in"),
        ("t.json", b"[" * 100_000, r"t\.json' is malformed: "),
        ("t.jsonl", b'{"path": "a.png", "label": [1, 2]}', r"holds \[1, 2\]; a label is a text or a whole number"),
        ("t.jsonl", b'{"path": "a.png", "label": true}', r"holds True; a label is a text or a whole number"),
    ],
)
def test_a_malformed_table_of_any_form_is_refused(name: str, content: bytes, message: str, images: Path) -> None:
    with pytest.raises(InputError, match=message):
        opened(images, content, name)

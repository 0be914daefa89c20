"""Tables of paths as datasets: which columns count, and what is refused before work starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipmk.datasets.dataset import Dataset
from clipmk.datasets.opening import open_dataset
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
        ({"path": [b"a.png"]}, r"column 'path' is of type binary; text is needed"),
        ({"image": [{"path": "a.png"}]}, r"column 'image' is of type struct<.*; text is needed"),
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

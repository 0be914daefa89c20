"""Folders as phones, NAS, archives and other libraries leave them: what is read, what is left out and said."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipmk.datasets import folders
from clipmk.datasets.opening import open_dataset
from clipmk.datasets.tables import Columns
from clipmk.errors import InputError
from clipmk.images.paths import EXTENSIONS, expand_path
from clipmk.study.manifest import StudyFolder
from image_files import shown, touch


@pytest.mark.parametrize(
    "noise",
    [
        "@eaDir",
        "#recycle",
        "lost+found",
        "$RECYCLE.BIN",
        "System Volume Information",
        "__MACOSX",
        "a/@eaDir",
        "a/x/@eaDir",
    ],
)
def test_folders_of_a_system_are_left_out_with_a_note(noise: str, tmp_path: Path) -> None:
    dataset = open_dataset(str(touch(tmp_path, "a/1.png", f"{noise}/1.png/thumb.png", f"{noise}/2.png")))
    assert shown(dataset) == [("a/1.png", "a")]
    assert dataset.warnings == (f"1 folder of the system or of results is left out: '{noise}'",)


@pytest.mark.parametrize("flat", [True, False])
def test_results_of_a_study_are_no_images_under_any_name(flat: bool, tmp_path: Path) -> None:
    study = StudyFolder(tmp_path / "my results")
    touch(tmp_path, "1.png" if flat else "a/1.png", "my results/report/images/1.png")
    for path in (study.manifest, study.plan):
        path.touch()
    dataset = open_dataset(str(tmp_path))
    assert shown(dataset) == [("1.png", None) if flat else ("a/1.png", "a")]
    assert "of results is left out: 'my results'" in dataset.warnings[0]
    assert {path.name for path in (study.manifest, study.plan)} == set(folders.RESULTS)


@pytest.mark.parametrize("target", ["..", ".", "../b", "/"])
def test_links_to_what_is_read_anyway_or_above_count_no_image_twice(target: str, tmp_path: Path) -> None:
    touch(tmp_path / "data", "a/1.png", "b/2.png")
    (tmp_path / "data" / "a" / "link").symlink_to(target)
    (tmp_path / "data" / "a" / "latest.png").symlink_to("../b/2.png")
    dataset = open_dataset(str(tmp_path / "data"))
    assert shown(dataset) == [("a/1.png", "a"), ("b/2.png", "b")]
    assert dataset.warnings == ("2 links to what is read anyway are left out: 'a/latest.png', 'a/link'",)


def test_links_out_of_the_folder_and_into_hidden_stores_are_read_once(tmp_path: Path) -> None:
    touch(tmp_path, "store/cats/1.png", "data/.git/annex/2.png", "data/b/3.png")
    data = tmp_path / "data"
    (data / "a").symlink_to("../store/cats")
    (data / "c").symlink_to("../store/cats")
    (data / "b" / "2.png").symlink_to("../.git/annex/2.png")
    (tmp_path / "store" / "cats" / "round").symlink_to("..")
    dataset = open_dataset(str(data))
    assert shown(dataset) == [("a/1.png", "a"), ("b/2.png", "b"), ("b/3.png", "b")]
    assert "'c'" in dataset.warnings[0]


def test_files_of_other_kinds_are_counted_by_their_endings(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "a/2.MOV", "a/3.mov", "b/4.cr2", "b/notes.txt", "b/5.psd")
    assert open_dataset(str(tmp_path)).warnings == (
        "4 files of kinds that are not read are left out: 1 .cr2, 2 .mov, 1 .psd",
    )
    notes: list[str] = []
    assert expand_path(str(tmp_path / "a"), notes) == [str(tmp_path / "a" / "1.png")]
    assert notes == [f"folder '{tmp_path / 'a'}': 2 files of kinds that are not read are left out: 2 .mov"]


@pytest.mark.skipif(".heic" in EXTENSIONS, reason="pillow-heif is installed")
def test_a_phones_pictures_are_counted_with_what_would_read_them(tmp_path: Path) -> None:
    touch(tmp_path, "DCIM/100APPLE/1.HEIC", "DCIM/100APPLE/2.AVIF")
    with pytest.raises(InputError, match=r"left out: 1 \.avif, 1 \.heic; pip install 'clipmk\[heif\]' reads HEIC"):
        open_dataset(str(tmp_path))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train/a/1.png", "val/b/2.png"], ["a", "b"]),
        (["Train/a/1.png", "Test/2.png"], [None, "a"]),
        (["data/train/a/1.png", "data/test/b/2.png"], ["b", "a"]),
        (["images/001.A/1.png", "images/002.B/2.png"], ["001.A", "002.B"]),
        (["DCIM/100APPLE/1.png", "DCIM/101_PANA/2.png"], [None, None]),
        (["train/1.png", "fox/2.png"], ["fox", "train"]),
        (["train/a/1.png", "fox/2.png"], ["fox", "train"]),
        (["100class/1.png", "20190101/2.png"], ["100class", "20190101"]),
    ],
)
def test_folders_above_the_classes_are_known_by_their_names_and_named(
    names: list[str], expected: list[str | None], tmp_path: Path
) -> None:
    dataset = open_dataset(str(touch(tmp_path, *names)))
    assert [label for _, label in shown(dataset)] == expected
    depth = len(names[0].split("/")) - 1 - (expected[0] is not None or expected[1] is not None)
    told = [
        line
        for line in dataset.warnings
        if "part of the dataset, not a class" in line or "are parts of the dataset, not" in line
    ]
    assert len(told) == (depth > 0 and "fox" not in expected)


def test_label_files_are_read_in_each_part_of_a_dataset_and_may_name_images_barely(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.png", "train/2.png", "test/3.png", "test/4.png")
    (tmp_path / "train" / "metadata.csv").write_text("file_name,label\n1.png,fox\n2.png,cat\n")
    (tmp_path / "labels.csv").write_text("image_id,label\n3,owl\n4.png,hen\n9,zzz\n")
    dataset = open_dataset(str(tmp_path))
    assert shown(dataset) == [
        ("test/3.png", "owl"),
        ("test/4.png", "hen"),
        ("train/1.png", "fox"),
        ("train/2.png", "cat"),
    ]
    told = "\n".join(dataset.warnings)
    assert "2 labelled images are found by their names: '3', '4.png'" in told
    assert "1 of 5 images that label files name is missing or ambiguous: '9'" in told


def test_a_label_file_of_other_columns_is_a_note_and_options_name_the_columns(tmp_path: Path) -> None:
    touch(tmp_path, "000b.png", "00cd.png")
    (tmp_path / "labels.csv").write_text("id,kind\n000b,cat\n00cd,fox\n")
    (tmp_path / "more.csv").write_text("x\n")
    plain = open_dataset(str(tmp_path))
    assert plain.info.labelled == 0
    assert "has no column of paths" in plain.warnings[0]
    assert "its columns: 'id', 'kind'; --image-column names another; it is not used" in plain.warnings[0]
    assert plain.warnings[1] == "1 table is read only where it is named: 'more.csv'"
    named = open_dataset(str(tmp_path), columns=Columns("ID", "kind"))
    assert shown(named) == [("000b.png", "cat"), ("00cd.png", "fox")]


def test_one_line_for_each_kind_however_many_there_are(tmp_path: Path) -> None:
    for number in range(40):
        touch(tmp_path, f"c{number}/1.png", f"c{number}/@eaDir/1.png", f"c{number}/2.mov")
        (tmp_path / f"c{number}" / "3.png").symlink_to("nowhere")
        (tmp_path / f"c{number}" / "up").symlink_to("..")
    dataset = open_dataset(str(tmp_path))
    assert dataset.info.images == 40
    assert [line.split(":")[0] for line in dataset.warnings] == [
        "40 links to what is read anyway are left out",
        "40 folders of the system or of results are left out",
        "40 entries cannot be read and are left out",
        "40 files of kinds that are not read are left out",
    ]


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "data/a/1.png")
    (tmp_path / "t.csv").write_text("path\ndata/a/1.png\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert shown(open_dataset("~/data")) == [("a/1.png", "a")]
    assert shown(open_dataset("~/t.csv")) == [("data/a/1.png", None)]
    assert expand_path("~/data/a") == [str(tmp_path / "data" / "a" / "1.png")]
    assert expand_path("~/data/*/*.png") == [str(tmp_path / "data" / "a" / "1.png")]

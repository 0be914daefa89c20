"""Which images an album holds, what is known of them, and in which order mistakes are walked through."""

from __future__ import annotations

import builtins
import csv
import json
from pathlib import Path

import pytest

from clipmk.errors import InputError, UsageError
from clipmk.images.paths import expand_path
from clipmk.system.locations import assets_dir
from clipmk.world.export import export_scenes
from clipmk_tui.app import image_list as album
from clipmk_tui.app.image_list import ImageList, open_images

SAMPLES = assets_dir() / "sample_images"


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def shown(opened: ImageList, folder: Path) -> list[tuple[str, str | None]]:
    return [(Path(item.path).relative_to(folder).as_posix(), item.label) for item in opened.items]


def test_a_folder_gives_its_images_as_explain_takes_them(tmp_path: Path) -> None:
    touch(tmp_path, "b.JPG", "a.png", "notes.txt", ".hidden.png", "deeper/c.png", "folder.png/d.png")
    opened = open_images([str(tmp_path)])
    assert [item.path for item in opened.items] == expand_path(str(tmp_path))
    assert shown(opened, tmp_path) == [("a.png", None), ("b.JPG", None)]
    assert opened.warnings == ()


@pytest.mark.parametrize("named", [".", "./", "pictures/", "./pictures"])
def test_paths_are_written_as_explain_writes_them(named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "x.png", "pictures/a.png")
    monkeypatch.chdir(tmp_path)
    assert [item.path for item in open_images([named]).items] == expand_path(named)


def test_files_and_patterns_keep_their_order(tmp_path: Path) -> None:
    touch(tmp_path, "c.png", "b.png", "a.png", "odd.data", "[x].png")
    paths = [str(tmp_path / name) for name in ("odd.data", "[x].png", "[ab].png", "c.png")]
    assert [name for name, _ in shown(open_images(paths), tmp_path)] == [
        "odd.data",
        "[x].png",
        "a.png",
        "b.png",
        "c.png",
    ]


def test_a_folder_of_folders_is_an_image_folder(tmp_path: Path) -> None:
    touch(tmp_path, "tabby_cat/2.png", "tabby_cat/1.png", "red--fox/1.jpg", "empty/readme.txt", ".git/x.png")
    expected = [("red--fox/1.jpg", "red fox"), ("tabby_cat/1.png", "tabby cat"), ("tabby_cat/2.png", "tabby cat")]
    assert shown(open_images([str(tmp_path)]), tmp_path) == expected


def test_an_image_folder_is_one_level_deep(tmp_path: Path) -> None:
    touch(tmp_path, "deep/cat/1.png")
    with pytest.raises(InputError, match=r"holds no image; known endings: \.bmp"):
        open_images([str(tmp_path)])


def test_sample_images_are_shown_when_nothing_is_named_and_their_truth_is_known() -> None:
    opened = open_images([])
    names = dict(shown(opened, SAMPLES))
    assert names["fox-chimera-22.png"] == "fox"
    assert len(names) == len(list(SAMPLES.glob("*.png")))
    assert None not in names.values()
    assert opened.warnings == ()


def test_sample_images_are_part_of_the_library() -> None:
    opened = open_images([])
    assert len(opened.items) == len(list(SAMPLES.glob("*.png"))) >= 3
    assert opened.items[0].label is not None
    assert (Path(__file__).parents[2] / "sample_images").resolve() == SAMPLES.resolve()  # for the README's commands


def test_without_sample_images_something_must_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(album, "assets_dir", lambda: tmp_path)
    with pytest.raises(UsageError, match="name an image or a folder"):
        open_images([])


def test_the_exported_world_brings_its_labels(tmp_path: Path) -> None:
    folder = export_scenes(tmp_path / "world", split="test", count=6, size=32)
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    for image in truth["images"]:  # the manifest says more than the folder's name
        image["class_name"] += "!"
    (folder / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    expected = {image["file"]: image["class_name"] for image in truth["images"]}
    assert dict(shown(open_images([str(folder)]), folder)) == expected
    pattern = open_images([str(folder / "*" / "*.png")])
    assert dict(shown(pattern, folder)) == expected
    one = folder / truth["images"][0]["file"]
    for named in (one, one.parent):
        assert open_images([str(named)]).items[0].label == truth["images"][0]["class_name"]


def test_a_table_brings_labels(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png", "c.png", "d.png")
    rows = [
        ["id", "path", "label"],
        [1, "a.png", " tabby, cat "],
        [2, "./b.png", "fox"],
        [3, "c.png", ""],
        [4, "x", "y"],
    ]
    with (tmp_path / "labels.csv").open("w", newline="", encoding="utf-8-sig") as handle:
        csv.writer(handle).writerows(rows)
    opened = open_images([str(tmp_path)])
    assert [label for _, label in shown(opened, tmp_path)] == ["tabby, cat", "fox", None, None]
    assert opened.warnings == ()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("truth.json", b"{"),
        ("truth.json", b"[]"),
        ("truth.json", b"{}"),
        ("truth.json", b'{"a.png": {"class": 3}}'),
        ("truth.json", b'{"images": [3, {"file": 4}]}'),
        ("truth.json", b"\xff\xfe"),
        ("truth.json", b"[" * 200_000),
        ("labels.csv", b""),
        ("labels.csv", b"id,kind\na.png,fox\n"),
        ("labels.csv", b"path,label\n\xff,fox\n"),
        ("labels.csv", b'path,label\n"a.png,fox\n'),
    ],
)
def test_a_malformed_manifest_is_a_warning(name: str, content: bytes, tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / name).write_bytes(content)
    opened = open_images([str(tmp_path)])
    assert shown(opened, tmp_path) == [("a.png", None)]
    assert len(opened.warnings) == 1
    assert name in opened.warnings[0]


def test_a_manifest_that_is_a_folder_is_a_warning(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "labels.csv/x")
    (warning,) = open_images([str(tmp_path)]).warnings
    assert "is a folder, not a regular file" in warning


def test_standard_input_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'-' \(standard input\) is not for the app"):
        open_images(["-"])


def test_a_pattern_without_files_is_reported_without_a_guess(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "nothing.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^no file matches the pattern 'nothing\?\.png'$"):
        open_images(["nothing?.png"])


@pytest.mark.parametrize("named", ["missing.png", "", "nul\0.png"])
def test_a_missing_file_is_an_error(named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        open_images([named])


def test_a_missing_file_suggests_another(tmp_path: Path) -> None:
    touch(tmp_path, "fox_03.png")
    with pytest.raises(InputError, match=r"close: 'fox_03\.png'"):
        open_images([str(tmp_path / "fox_3.png")])


def test_what_is_missing_beside_something_is_a_warning(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    opened = open_images([str(tmp_path / "b.png"), str(tmp_path / "a.png")])
    assert shown(opened, tmp_path) == [("a.png", None)]
    assert "does not exist" in opened.warnings[0]


def test_ten_thousand_images_are_listed_without_opening_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "x0.png")
    for number in range(1, 10_000):
        (tmp_path / f"x{number}.png").hardlink_to(tmp_path / "x0.png") if number % 500 else touch(
            tmp_path, f"x{number}.png"
        )
    looked: list[str] = []
    monkeypatch.setattr(builtins, "open", lambda *args, **_: looked.append(str(args[0])))
    monkeypatch.setattr(Path, "stat", lambda path, **_: looked.append(str(path)))
    opened = open_images([str(tmp_path)])
    assert len(opened.items) == 10_000
    assert looked == []


def test_names_and_labels_are_kept_as_they_are(tmp_path: Path) -> None:
    touch(tmp_path, "[red]\x1b[31m.png")
    assert open_images([str(tmp_path)]).items[0].path.endswith("[red]\x1b[31m.png")

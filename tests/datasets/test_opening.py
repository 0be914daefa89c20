"""Datasets of a study: which images, in which order, with which labels, and what is refused before work starts."""

from __future__ import annotations

import os
import pickle
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import ImageFolder

from clipmk.datasets.entries import FileReader
from clipmk.datasets.opening import open_dataset, reader_of
from clipmk.datasets.parquet import ParquetReader
from clipmk.datasets.rendered import SCENES
from clipmk.errors import ImageError, InputError, UsageError
from clipmk.images.paths import EXTENSIONS
from clipmk.world.conditions import ALL_SPLITS
from clipmk.world.export import export_scenes
from clipmk.world.scene import render_scene, render_scenes
from image_files import png, red_of, shown, touch

SAMPLES = Path(__file__).parents[2] / "sample_images"


def test_a_folder_per_class_is_read_as_torchvision_reads_it(tmp_path: Path) -> None:
    names = ["b/2.png", "b/1.PNG", "b/deep-er/x.png", "b/deep/er/x.gif", "b/deep/a.jpg", "a/z.webp", "c d/é.bmp"]
    touch(tmp_path, *names, "b/notes.txt", "a/movie.mp4")
    reference = ImageFolder(str(tmp_path), is_valid_file=lambda path: Path(path).suffix.lower() in EXTENSIONS)
    expected = [(Path(path).relative_to(tmp_path).as_posix(), reference.classes[k]) for path, k in reference.samples]
    dataset = open_dataset(str(tmp_path))
    assert shown(dataset) == expected
    assert len(expected) == len(names)
    info = dataset.info
    assert (info.kind, info.images, info.labelled, info.classes) == ("folder", 7, 7, 3)
    assert info.name == str(tmp_path)
    assert dataset.warnings == ("1 file of a kind that is not read is left out: 1 .mp4",)
    assert {entry.size for entry in dataset.entries} == {len(png())}


def test_hidden_images_and_folders_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "a/.2.png", ".git/3.png", "a/.thumbnails/4.png")
    assert shown(open_dataset(str(tmp_path))) == [("a/1.png", "a")]


def test_an_image_is_read_from_another_working_folder_by_a_pickled_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (touch(tmp_path, "data/fox/1.png") / "data/fox/2.png").write_bytes(png(77))
    monkeypatch.chdir(tmp_path)
    dataset = open_dataset("data")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    reader = pickle.loads(pickle.dumps(dataset.reader))  # noqa: S301 - our own
    picture = reader.read(dataset.entries[1])
    assert picture.pixels.shape == (3, 4, 3)
    assert picture.pixels[0, 0].tolist() == [77, 1, 2]
    assert picture.info.path == "fox/2.png"


def test_the_reader_of_a_dataset_is_made_again_from_what_a_study_keeps_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "data/fox/1.png", "moved/fox/1.png")
    monkeypatch.chdir(tmp_path)
    info = open_dataset("data").info
    assert reader_of(replace(info, name="a.tar ... z.tar")) == FileReader(str(tmp_path / "data"))
    for change in ({"root": None}, {"root": str(tmp_path / "gone")}):
        assert reader_of(replace(info, name="moved", **change)) == FileReader(str(tmp_path / "moved"))
    assert reader_of(replace(info, kind="parquet", column="x")) == ParquetReader(info.root or "", "x")
    world = open_dataset("world:hard?scenes=3&seed=4")
    assert (world.info.root, reader_of(world.info)) == (None, world.reader)
    with pytest.raises(InputError, match="does not exist"):
        reader_of(replace(info, root=None, name="gone"))
    with pytest.raises(InputError, match=r"dataset '.*/nowhere' is not where it was; move it back"):
        reader_of(replace(info, root=str(tmp_path / "nowhere"), name="gone"))


def test_the_exported_world_brings_its_labels(tmp_path: Path) -> None:
    folder = export_scenes(tmp_path / "world", split="test", count=5, size=32)
    text = (folder / "truth.json").read_text(encoding="utf-8").replace('"class_name": "', '"class_name": "my ')
    (folder / "truth.json").write_text(text, encoding="utf-8")
    expected = sorted(
        (f"{s.class_name}/{s.index:06d}.png", f"my {s.class_name}") for s in render_scenes("test", count=5)
    )
    dataset = open_dataset(str(folder))
    assert shown(dataset) == expected
    assert dataset.warnings == ()


def test_images_side_by_side_are_labelled_by_a_table_and_folders_beside_them_are_not_classes(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "a.png", "originals/c.png")
    (tmp_path / "labels.csv").write_text("path,label\na.png,fox\ngone.png,cat\n", encoding="utf-8")
    dataset = open_dataset(str(tmp_path))
    assert shown(dataset) == [("a.png", "fox"), ("b.png", None)]
    assert "1 of 2 images that label files name is missing or ambiguous: 'gone.png'" in dataset.warnings[0]
    assert "1 of 2 images has no label" in dataset.warnings[1]
    assert dataset.info.labelled == 1


def test_a_stray_image_beside_class_folders_is_left_out_with_a_warning(tmp_path: Path) -> None:
    dataset = open_dataset(str(touch(tmp_path, "stray.png", "fox/1.png")))
    assert shown(dataset) == [("fox/1.png", "fox")]
    assert dataset.warnings == ("1 image beside folders of images is left out: 'stray.png'",)


def test_images_without_any_label_are_a_data_set(tmp_path: Path) -> None:
    dataset = open_dataset(str(touch(tmp_path, "a.png", "b.png")))
    assert (dataset.info.labelled, dataset.info.classes, dataset.warnings) == (0, 0, ())


def test_the_sample_images_are_a_labelled_data_set() -> None:
    dataset = open_dataset(str(SAMPLES))
    assert dict(shown(dataset))["fox-chimera-22.png"] == "fox"
    assert dataset.info.labelled == dataset.info.images == len(list(SAMPLES.glob("*.png")))


def test_links_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "data/fox/1.png", "store/2.png")
    (tmp_path / "data" / "cat").symlink_to(tmp_path / "store")
    (tmp_path / "data" / "fox" / "loop").symlink_to(tmp_path / "data")
    keys = [entry.key for entry in open_dataset(str(tmp_path / "data")).entries]
    assert keys[0] == "cat/2.png"
    assert "fox/1.png" in keys
    assert len(keys) < 10


@pytest.mark.parametrize("size", [1, 7, 10])
def test_a_limit_takes_images_from_everywhere(size: int, tmp_path: Path) -> None:
    names = [f"{name}/{number}.png" for name in "abcde" for number in (1, 2)]
    keys = [entry.key for entry in open_dataset(str(touch(tmp_path, *names)), limit=size).entries]
    assert keys == [names[k * 10 // size] for k in range(size)]
    assert len(set(keys)) == size
    assert {key[0] for key in keys} == set("abcde" if size > 1 else "a")


def _renamed(folder: Path) -> None:
    (folder / "a" / "1.png").rename(folder / "a" / "0.png")


def _relabelled(folder: Path) -> None:
    (folder / "labels.csv").write_text("path,label\na/1.png,b\n", encoding="utf-8")


def _grown(folder: Path) -> None:
    (folder / "a" / "1.png").write_bytes(png() + b"\0")


@pytest.mark.parametrize("change", [_renamed, _relabelled, _grown])
def test_the_fingerprint_is_that_of_names_labels_and_sizes(change: Callable[[Path], None], tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b/2.png")
    before = open_dataset(str(tmp_path)).info
    assert before.fingerprint == open_dataset(f"{tmp_path}/").info.fingerprint
    change(tmp_path)
    assert open_dataset(str(tmp_path)).info.fingerprint != before.fingerprint


def test_the_fingerprint_is_the_same_at_another_place(tmp_path: Path) -> None:
    prints = {open_dataset(str(touch(tmp_path / name, "a/1.png", "b/2.png"))).info.fingerprint for name in "xy"}
    assert len(prints) == 1


@pytest.mark.parametrize("content", [None, b"", b"no image", png()[:40]])
def test_an_image_that_vanishes_or_breaks_is_an_image_error_that_names_it(
    content: bytes | None, tmp_path: Path
) -> None:
    dataset = open_dataset(str(touch(tmp_path, "fox/1.png")))
    path = tmp_path / "fox" / "1.png"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(ImageError, match=r"fox/1\.png"):
        dataset.reader.read(dataset.entries[0])


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_a_name_that_is_not_utf8_gets_a_key_that_is_and_can_still_be_read(tmp_path: Path) -> None:
    odd = os.fsdecode(b"\xff.png")
    (tmp_path / odd).write_bytes(png(9))
    (tmp_path / r"\udcfe.png").write_bytes(png(8))
    dataset = open_dataset(str(tmp_path))
    assert [entry.key for entry in dataset.entries] == [r"\udcfe.png", r"\udcff.png"]
    assert [red_of(dataset, entry) for entry in dataset.entries] == [8, 9]


def test_an_empty_folder_is_refused_with_the_known_endings(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.cr2").write_bytes(b"")
    with pytest.raises(
        InputError,
        match=r"holds no image and no \.tar or \.parquet, neither in it nor below; known endings: .*\.bmp, \.gif.*"
        r"; 1 file of a kind that is not read is left out: 1 \.cr2",
    ):
        open_dataset(str(tmp_path))


def test_entries_that_cannot_be_read_are_left_out_with_one_note(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png")
    (tmp_path / "a" / "2.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "a" / "3.png").symlink_to("3.png")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "a" / "4.png")
    dataset = open_dataset(str(tmp_path))
    assert shown(dataset) == [("a/1.png", "a")]
    assert dataset.warnings == ("4 entries cannot be read and are left out: 'loop', 'a/2.png', 'a/3.png', ...",)


def test_a_folder_that_cannot_be_listed_is_left_out_and_the_root_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a/1.png", "b/1.png")
    scandir, denied = os.scandir, "b"

    def refuse(path: str) -> Iterator[os.DirEntry[str]]:
        if str(path).endswith(denied):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    dataset = open_dataset(str(tmp_path))
    assert shown(dataset) == [("a/1.png", "a")]
    assert dataset.warnings == ("1 entry cannot be read and is left out: 'b'",)
    denied = f"{tmp_path}/"
    with pytest.raises(InputError, match=r"' cannot be listed: Permission denied"):
        open_dataset(str(tmp_path))


@pytest.mark.parametrize("content", [b'path,label\n"a.png,fox\n', b"\xff", b""])
def test_a_malformed_label_file_is_an_error(content: bytes, tmp_path: Path) -> None:
    (touch(tmp_path, "a.png") / "labels.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"label file '.*labels\.csv' is malformed"):
        open_dataset(str(tmp_path))


def test_the_rendered_world_is_drawn_when_it_is_read() -> None:
    dataset = open_dataset("world:counterfactual?scenes=40&seed=3&size=32")
    assert [entry.key for entry in dataset.entries] == [f"counterfactual/{k:06d}" for k in range(40)]
    reader = pickle.loads(pickle.dumps(dataset.reader))  # noqa: S301 - our own
    for index in (0, 39):
        scene = render_scene("counterfactual", index, size=32, seed=3)
        assert dataset.entries[index].label == scene.class_name
        np.testing.assert_array_equal(reader.read(dataset.entries[index]).pixels, scene.image)
    info = dataset.info
    assert (info.kind, info.images, info.labelled) == ("world", 40, 40)


def test_options_of_the_world_have_defaults_and_change_the_fingerprint() -> None:
    options = ("", "seed=0&size=64", "seed=2&size=48", "seed=2", "seed=3&size=48")
    prints = [open_dataset(f"world:test?scenes=9&{given}").info.fingerprint for given in options]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4
    assert open_dataset("world:test").info.images == SCENES
    assert open_dataset("world:test", limit=7).entries == open_dataset("world:test?scenes=7").entries


def test_every_split_of_the_world_can_be_studied_and_those_trained_on_warn() -> None:
    warned = [split for split in ALL_SPLITS if open_dataset(f"world:{split}?scenes=1").warnings]
    assert warned == ["train", "varied"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("world:tset", r"split 'tset' of the rendered world does not exist; close: 'test'"),
        ("world", r"split '' of the rendered world does not exist; known: train, test, counterfactual"),
        ("world:test?scene=3", r"option 'scene' of 'world:test\?scene=3' does not exist; close: 'scenes'"),
        ("world:test?seed=-1", r"option seed of .* is '-1'; a whole number is needed"),
        ("world:test?scenes=0", r"scenes is 0; it must be at least 1"),
        ("world:test?size=8", r"size is 8; it must be between 16 and 4096"),
    ],
)
def test_impossible_options_of_the_world_are_refused(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_dataset(spec)


def test_a_meaningless_limit_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    with pytest.raises(UsageError, match="limit is 0; at least 1"):
        open_dataset(str(tmp_path), limit=0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("imagse", r"dataset '.*imagse' does not exist; close: 'images'"),
        ("imagse/", r"dataset '.*imagse/' does not exist; close: 'images'"),
        ("train.csx", r"does not exist; close: 'train\.csv'"),
        ("zebra", r"does not exist; name a folder of images, a CSV"),
        ("nowhere/at/all", r"does not exist; name a folder of images"),
        ("nul\0", r"nul\\x00' does not exist"),
        ("", r"dataset '' does not exist"),
        ("images/a.png", r"a\.png' is a single image; .*clipmk explain takes it"),
        ("notes.txt", r"notes\.txt' has an unknown kind; name a folder"),
    ],
)
def test_a_spec_that_is_not_a_data_set_is_named_with_the_known_kinds(name: str, message: str, tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "train.csv", "notes.txt")
    with pytest.raises(InputError, match=message):
        open_dataset(str(tmp_path / name) + "/" * name.endswith("/") if name else name)


def test_a_data_set_that_grows_does_not_grow_in_memory_beyond_its_names(tmp_path: Path) -> None:
    names = [f"{'long class name ' * 2}{k % 10}/ILSVRC2012_val_{k:08d}.jpg" for k in range(3000)]
    for name in {name.split("/")[0] for name in names}:
        (tmp_path / name).mkdir()
    for name in names:
        (tmp_path / name).touch()
    tracemalloc.start()
    dataset = open_dataset(str(tmp_path))
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert dataset.info.images == 3000
    assert held / 3000 < 400  # bytes per image
    assert peak / 3000 < 600


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet", "t.tar", "a/1.png"])
def test_a_pointer_of_git_lfs_is_named_with_the_command_that_fetches_the_file(name: str, tmp_path: Path) -> None:
    touch(tmp_path, name)
    (tmp_path / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")

    def read() -> None:
        dataset = open_dataset(str(tmp_path if name.endswith("png") else tmp_path / name))
        dataset.reader.read(dataset.entries[0])

    with pytest.raises(InputError, match=r"is a pointer of Git LFS, not the file itself; run `git lfs pull` in its"):
        read()

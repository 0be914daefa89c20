"""Tar shards as datasets: what a sample is, where its label comes from, and damaged files."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clipmk.datasets.opening import open_dataset
from clipmk.datasets.shards import expand_braces
from clipmk.errors import ImageError, InputError, UsageError
from image_files import png, red_of, shown, touch


def tar(path: Path, members: dict[str, bytes], *, kind: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=kind) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_members_that_agree_up_to_the_first_dot_are_a_sample(kind: int, tmp_path: Path) -> None:
    deep = f"{'deep/' * 30}c"
    members = {
        "./a/1.cls": b"fox\n",
        "./a/1.jpg": png(1),
        "./a/1.txt": b"a caption",
        "a.b/2.PNG": png(2),
        "a.b/2.json": json.dumps({"caption": "x", "class_name": "owl"}).encode(),
        "a.b/2.seg.png": png(99),
        f"{deep}.webp": png(3),
        "5.json": b'{"label": 7}',
        "5.cls": b"12",
        "5.png": png(4),
        "lonely.cls": b"cat",
        ".hidden.png": png(),
        "a/._1.png": png(),
        ".dir/x.png": png(),
        "readme": b"",
    }
    path = tar(tmp_path / "x.tar", members, kind=kind)
    dataset = open_dataset(str(path))
    assert shown(dataset) == [
        ("x.tar/a/1.jpg", "fox"),
        ("x.tar/a.b/2.PNG", "owl"),
        (f"x.tar/{deep}.webp", None),
        ("x.tar/5.png", "12"),
    ]
    assert [red_of(dataset, entry) for entry in dataset.entries] == [1, 2, 3, 4]
    assert dataset.info.kind == "tar"
    content = path.read_bytes()
    for entry in dataset.entries:
        assert entry.path == "x.tar"
        assert entry.offset is not None
        assert content[entry.offset :][: entry.size or 0][:8] == png()[:8]


@pytest.mark.parametrize(
    ("content", "label"),
    [
        ({"label": None, "class": "fox"}, "fox"),
        ({"class": 0}, "0"),
        ({"caption": "fox"}, None),
        ({"label": " "}, None),
        (["fox"], None),
    ],
)
def test_json_has_the_label_under_several_names(content: Any, label: str | None, tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", {"1.png": png(), "1.json": json.dumps(content).encode()})
    assert open_dataset(str(path)).entries[0].label == label


def test_shards_are_read_in_order_from_a_folder_and_a_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (10, 8, 9):
        tar(tmp_path / "data" / f"train-{number:03d}.tar", {"1.png": png(number), "1.cls": b"3", "2.png": png()})
    monkeypatch.chdir(tmp_path)
    by_folder, by_pattern = open_dataset("data"), open_dataset("data/train-{008..010}.tar")
    assert by_folder.entries == by_pattern.entries
    assert by_folder.info.fingerprint == by_pattern.info.fingerprint
    keys = [f"train-{number:03d}.tar/{name}.png" for number in (8, 9, 10) for name in (1, 2)]
    assert [entry.key for entry in by_folder.entries] == keys
    reader = pickle.loads(pickle.dumps(by_pattern.reader))  # noqa: S301 - our own
    monkeypatch.chdir("/")
    assert [int(reader.read(entry).pixels[0, 0, 0]) for entry in by_pattern.entries] == [8, 0, 9, 0, 10, 0]
    assert [entry.key for entry in open_dataset(str(tmp_path / "data"), limit=2).entries] == [keys[0], keys[3]]


def test_shards_of_several_folders_are_relative_to_the_folder_they_share(tmp_path: Path) -> None:
    for name in ("a", "b"):
        tar(tmp_path / name / "x.tar", {"1.png": png()})
    keys = [entry.key for entry in open_dataset(str(tmp_path / "{a,b}" / "x.tar")).entries]
    assert keys == ["a/x.tar/1.png", "b/x.tar/1.png"]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("t-{08..10}.tar", ["t-08.tar", "t-09.tar", "t-10.tar"]),
        ("t-{8..10}.tar", ["t-8.tar", "t-9.tar", "t-10.tar"]),
        ("{a,b}{0..1}", ["a0", "a1", "b0", "b1"]),
        ("t-{2..0}.tar", ["t-2.tar", "t-1.tar", "t-0.tar"]),
        ("t-{a,}.tar", ["t-a.tar", "t-.tar"]),
        ("a\\b{1,2}", ["a\\b1", "a\\b2"]),
        ("plain.tar", ["plain.tar"]),
    ],
)
def test_braces_expand_as_in_a_shell(pattern: str, names: list[str]) -> None:
    assert expand_braces(pattern) == names


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("t-{000..002.tar", "has a brace that is neither a range"),
        ("t-000}.tar", "has a brace that is neither a range"),
        ("t-{{0..2}}.tar", "has a brace that is neither a range"),
        ("t-{}.tar", "has a brace that is neither a range"),
        ("t-{0...2}.tar", "has a brace that is neither a range"),
        ("t-{0..99999999}.tar", "expands to more than 100,000 names"),
        ("t-{0..999}{0..999}.tar", "expands to more than 100,000 names"),
    ],
)
def test_a_bad_pattern_is_refused(pattern: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        open_dataset(str(tmp_path / pattern))


def test_missing_shards_are_counted(tmp_path: Path) -> None:
    tar(tmp_path / "t-1.tar", {"1.png": png()})
    with pytest.raises(InputError, match=r"2 of 3 shards are missing: '.*t-0\.tar', '.*t-2\.tar'"):
        open_dataset(str(tmp_path / "t-{0..2}.tar"))


def _cut(keep: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: (path.write_bytes(keep(path.read_bytes())), None)[1]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_cut(lambda data: data[: 3 * 512 + 100]), "is truncated"),
        (_cut(lambda data: data[: 2 * 512 + 5]), "is truncated"),
        (_cut(lambda data: data[: 2 * 512 + 512]), "is truncated"),
        (_cut(lambda data: data[:512]), "is truncated"),
        (_cut(lambda data: data[: 4 * 512]), "is truncated: it ends after 2048 bytes without an end mark"),
        (_cut(lambda data: data[: 2 * 512] + b"x" * 512 + data[3 * 512 :]), "is damaged at byte 1024"),
        (_cut(lambda data: b""), "is truncated, damaged or not a tar file"),
        (_cut(lambda data: b"not a tar file" * 100), "is truncated, damaged or not a tar file"),
        (_cut(gzip.compress), "is compressed with gzip, .*; decompress it first"),
    ],
)
def test_a_damaged_tar_file_is_named_before_work_starts(
    damage: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    path = tar(tmp_path / "good.tar", {"1.png": png(1), "2.png": png(2)}).rename(tmp_path / "bad.tar")
    assert open_dataset(str(path)).info.images == 2
    damage(path)
    with pytest.raises(InputError, match=rf"tar file '.*bad\.tar' {message}"):
        open_dataset(str(path))


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "x.tar.zst"])
def test_compressed_archives_are_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes((b"\x28\xb5\x2f\xfd" if name.endswith("zst") else b"\x1f\x8b") + bytes(99))
    with pytest.raises(
        InputError, match=r"is compressed with .*, so reading one image means reading everything before it"
    ):
        open_dataset(str(tmp_path / name))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"1.txt": b"x"}, r"hold no image; known endings: \.bmp"),
        ({"1.png": png(), "1.cls": b"\xff"}, r"'1\.cls' in tar file '.*' cannot be read"),
        ({"1.png": png(), "1.cls": b"x" * 5000}, r"'1\.cls' in .* has 5000 bytes"),
        ({"1.png": png(), "1.json": b"{"}, r"'1\.json' in tar file '.*' cannot be read"),
        ({"1.png": png(), "1.json": b"[" * 100_000}, r"'1\.json' in tar file '.*' cannot be read"),
        ({"1.png": png(), "1.json": b'{"label": [1]}'}, r"holds \[1\]; a label is a text or a whole number"),
        ({"1.png": png(), "./1.png": png()}, r"holds 1 member more than once: '\./1\.png'"),
    ],
)
def test_shards_without_images_or_with_malformed_labels_are_refused(
    members: dict[str, bytes], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        open_dataset(str(tar(tmp_path / "x.tar", members)))


def test_a_member_of_negative_size_is_refused(tmp_path: Path) -> None:
    headers = b""
    for name, size in (("1.png", 0), ("2.png", -1024)):
        info = tarfile.TarInfo(name)
        info.size = size
        headers += info.tobuf(tarfile.GNU_FORMAT)  # newer versions of tarfile add no file of such a size themselves
    (tmp_path / "x.tar").write_bytes(headers + bytes(2 * tarfile.BLOCKSIZE))
    with pytest.raises(InputError, match=r"' is (damaged: '2\.png' has -1024 bytes|truncated, damaged or no)"):
        open_dataset(str(tmp_path / "x.tar"))


def test_images_and_shards_in_one_folder_are_ambiguous(tmp_path: Path) -> None:
    tar(touch(tmp_path, "fox/1.png") / "x.tar", {"1.png": png()})
    with pytest.raises(UsageError, match="holds both images and tar shards"):
        open_dataset(str(tmp_path))


def test_links_within_a_tar_file_are_left_out_with_a_warning(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name in ("1.png", "2.png"):
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(png()), tarfile.REGTYPE, ""
            if name == "2.png":
                info.size, info.type, info.linkname = 0, tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(info, io.BytesIO(png()))
    dataset = open_dataset(str(tmp_path / "x.tar"))
    assert [entry.key for entry in dataset.entries] == ["x.tar/1.png"]
    assert dataset.warnings == ("1 image is a link or sparse and left out: '2.png'",)


def test_a_truncated_or_corrupt_image_is_an_image_error_that_names_it(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", {"1.png": png(), "2.png": b"nothing", "3.png": png()})
    dataset = open_dataset(str(path))
    with pytest.raises(ImageError, match=r"image 'x\.tar/2\.png' is not an image"):
        dataset.reader.read(dataset.entries[1])
    path.write_bytes(path.read_bytes()[: (dataset.entries[2].offset or 0) + 5])
    with pytest.raises(ImageError, match=r"image 'x\.tar/3\.png' is truncated: '.*x\.tar' ends within it"):
        dataset.reader.read(dataset.entries[2])
    path.unlink()
    with pytest.raises(ImageError, match=r"image 'x\.tar/1\.png' cannot be read from '.*x\.tar': No such file"):
        dataset.reader.read(dataset.entries[0])


@pytest.mark.parametrize(
    ("members", "expected", "told"),
    [
        (
            {"22.05.png": png(), "22.05.cls": b"cat", "22.06.png": png(), "22.06.cls": b"fox"},
            [("22.05.png", "cat"), ("22.06.png", "fox")],
            "2 images are samples up to their last dots: '22.05.png', '22.06.png'",
        ),
        (
            {"22.05.png": png(), "22.06.png": png()},
            [("22.05.png", None), ("22.06.png", None)],
            "2 images are samples up to their last dots: '22.05.png', '22.06.png'",
        ),
        (
            {"1.left.png": png(), "1.right.png": png(), "1.cls": b"cat"},
            [("1.left.png", "cat")],
            "1 image shares a sample and is left out: '1.right.png'",
        ),
        (
            {"1.seg.png": png(), "1.png": png(), "1.cls": b"cat", "1.jpg": png()},
            [("1.png", "cat")],
            "2 images share samples and are left out: '1.jpg', '1.seg.png'",
        ),
        (
            {"1.png": png(), "1.cls.txt": b"cat\n", "2.png": png(), "2.CLS": b"1"},
            [("1.png", "cat"), ("2.png", "1")],
            None,
        ),
    ],
)
def test_dots_in_names_never_lose_an_image_in_silence(
    members: dict[str, bytes], expected: list[tuple[str, str | None]], told: str | None, tmp_path: Path
) -> None:
    dataset = open_dataset(str(tar(tmp_path / "x.tar", members)))
    assert [(key.removeprefix("x.tar/"), label) for key, label in shown(dataset)] == expected
    assert [re.fullmatch(told or "", line) is not None for line in dataset.warnings] == [True] * (told is not None)


@pytest.mark.parametrize(
    ("members", "label"),
    [
        ({"1.json": b'{"label": 0, "class_name": "cat"}'}, "cat"),
        ({"1.json": b'{"class_name": "cat", "label": 0}'}, "cat"),
        ({"1.cls": b"3", "1.json": b'{"class": "cat"}'}, "cat"),
        ({"1.cls": b"fox", "1.json": b'{"class": "cat"}'}, "fox"),
        ({"1.cls": b"3", "1.json": b'{"label": 4}'}, "3"),
        ({"1.json": b'{"label": 4.0}'}, "4"),
        ({"1.cls": b"", "1.json": b'{"label": ""}'}, None),
    ],
)
def test_a_name_counts_before_a_number(members: dict[str, bytes], label: str | None, tmp_path: Path) -> None:
    assert open_dataset(str(tar(tmp_path / "x.tar", {"1.png": png(), **members}))).entries[0].label == label


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["cat/1.png", "fox/2.png"], ["cat", "fox"]),
        (["pets/train/cat/1.png", "pets/train/fox/2.png"], ["cat", "fox"]),
        (["pets/train/cat/1.png", "pets/val/fox/2.png"], ["cat", "fox"]),
        (["cat/1.png", "cat/2.png"], [None, None]),
        (["train/1.png", "train/2.png"], [None, None]),
        (["1.png", "2.png"], [None, None]),
    ],
)
def test_folders_in_a_tar_file_are_labels_where_there_are_no_others(
    names: list[str], labels: list[str | None], tmp_path: Path
) -> None:
    dataset = open_dataset(str(tar(tmp_path / "x.tar", dict.fromkeys(names, png()))))
    assert [label for _, label in shown(dataset)] == labels
    assert dataset.warnings == (("labels are the folders in the tar files, such as 'cat'",) if labels[0] else ())


def test_patterns_that_a_shell_has_expanded_and_globs_give_the_same_shards(tmp_path: Path) -> None:
    for number in range(3):
        tar(tmp_path / f"t-{number}.tar", {"1.png": png(number)})
    quoted = open_dataset(str(tmp_path / "t-{0..2}.tar"))
    expanded = [str(tmp_path / f"t-{number}.tar") for number in range(3)]
    assert quoted.entries == open_dataset(expanded).entries == open_dataset(str(tmp_path / "t-*.tar")).entries
    assert open_dataset(expanded).info.name == f"{expanded[0]} ... {expanded[-1]}"
    with pytest.raises(UsageError, match=r"2 files, 1 of them not a tar shard: '.*a\.png'; a dataset is one folder"):
        open_dataset([expanded[0], str(touch(tmp_path, "a.png") / "a.png")])
    with pytest.raises(InputError, match="1 of 2 shards is missing"):
        open_dataset([expanded[0], str(tmp_path / "t-9.tar")])

"""What a user names becomes a list of images: files, folders, patterns."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clipmk.errors import ImageError, InputError
from clipmk.images.paths import expand_path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.PNG", "a.jpg", "notes.txt", ".hidden.png", "a[1].png", "sub/deep.webp"):
        path = tmp_path / "pics" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.touch()
    (tmp_path / "pics" / "folder.png").mkdir()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["pics"], ["pics/a.jpg", "pics/a[1].png", "pics/b.PNG"]),
        (["pics/a[1].png"], ["pics/a[1].png"]),
        (["pics/[ab].*"], ["pics/a.jpg", "pics/b.PNG"]),
        (["pics/*.txt"], ["pics/notes.txt"]),
        (["pics/**/*.webp"], ["pics/sub/deep.webp"]),
        (["pics/b*", "-", "pics/notes.txt"], ["pics/b.PNG", "-", "pics/notes.txt"]),
        (["missing.jpg", "no/where.png"], ["missing.jpg", "no/where.png"]),
        (["x" * 5000, "", "a\0b"], ["x" * 5000, "", "a\0b"]),
        ([], []),
    ],
)
def test_arguments_become_paths(folder: Path, arguments: list[str], expected: list[str]) -> None:
    assert [path.replace(os.sep, "/") for path in (path for one in arguments for path in expand_path(one))] == expected


@pytest.mark.parametrize("pattern", ["nothing*.png", "pics/?.gif", "pics/[xy].png", "**/*.bmp", "pics/folder.*"])
def test_a_pattern_without_files_is_reported_without_a_guess(folder: Path, pattern: str) -> None:
    with pytest.raises(ImageError) as caught:
        expand_path(pattern)
    assert str(caught.value) == f"no file matches the pattern '{pattern}'"


def test_a_folder_without_images_names_the_known_endings(folder: Path) -> None:
    with pytest.raises(InputError, match=r"folder 'empty' holds no image; known endings: .bmp, .gif.*\.webp$"):
        expand_path("empty")


def test_a_folder_of_class_folders_gets_a_hint(folder: Path) -> None:
    (folder / "empty" / "fox").mkdir()
    (folder / "empty" / "fox" / "a.png").touch()
    with pytest.raises(InputError, match=r"folders in it are not searched, name what they hold: 'empty/\*/\*'"):
        expand_path("empty")
    assert expand_path("empty/*/*") == ["empty/fox/a.png"]

"""What may stand at a path that is named as an image: no file, a folder, a pipe, too many bytes, an odd name."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from clipmk.errors import ImageError
from clipmk.images import decoder as images
from clipmk.images.decoder import read_picture
from pictures import encode, noise


def test_a_file_of_too_many_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_BYTES", 2**20)
    path = tmp_path / "big.png"
    with path.open("wb") as handle:
        handle.truncate(2**20 + 1)
    for source in (path, path.read_bytes(), io.BytesIO(path.read_bytes())):
        with pytest.raises(ImageError, match="larger than 1 MiB"):
            read_picture(source)


def test_a_missing_file_is_repeated_with_close_names(tmp_path: Path) -> None:
    for name in ("fox_03.png", "house.jpg", "fox_03.txt"):
        (tmp_path / name).touch()
    with pytest.raises(ImageError) as caught:
        read_picture(tmp_path / "fxo_03.png")
    assert str(caught.value) == f"image '{tmp_path / 'fxo_03.png'}' does not exist; close: 'fox_03.png'"
    with pytest.raises(ImageError, match="neither does the folder"):
        read_picture(tmp_path / "nowhere" / "fox.png")


def test_a_folder_is_not_an_image(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is a folder"):
        read_picture(tmp_path)


def test_an_unreadable_file_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.png"
    path.touch()

    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ImageError, match=r"secret.png' cannot be read: Permission denied"):
        read_picture(path)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX file kinds")
def test_pipes_sockets_and_devices_are_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)  # nobody writes: opening it the ordinary way would wait forever
    with pytest.raises(ImageError, match="is a pipe"):
        read_picture(pipe)
    with pytest.raises(ImageError, match="is a device"):
        read_picture("/dev/zero")
    short = Path(os.path.relpath(tmp_path / "s"))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(short))
        with pytest.raises(ImageError, match="is a socket"):
            read_picture(short)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX file kinds")
def test_a_file_swapped_for_a_pipe_after_the_check_does_not_block(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, sys\n"
        "from clipmk.system import files\n"
        "from clipmk.errors import ImageError\n"
        "real = os.stat(sys.executable)\n"
        "pathlib.Path.stat = lambda self, **_: real\n"
        "try:\n"
        "    files.read_regular(sys.argv[1], limit=10**9, noun='image', error=ImageError)\n"
        "except ImageError as error:\n"
        "    print(error)\n"
    )
    os.mkfifo(tmp_path / "swapped")
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "swapped")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert "is a pipe" in done.stdout


@pytest.mark.parametrize("name", ["", "a\0b.png", "x" * 5000])
def test_impossible_names_are_image_errors(name: str) -> None:
    with pytest.raises(ImageError):
        read_picture(name)


def test_control_characters_of_a_name_never_reach_the_message(tmp_path: Path) -> None:
    with pytest.raises(ImageError) as caught:
        read_picture(tmp_path / "\x1b[31mred\u202e.png")
    assert r"\x1b[31mred\u202e.png" in str(caught.value)
    assert str(caught.value).isprintable()


def test_an_undecodable_name_can_be_written_as_utf_8(tmp_path: Path) -> None:
    assert read_picture(encode(noise(1, 1)), name="caf\udce9.png").info.path == r"caf\udce9.png"

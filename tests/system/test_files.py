"""Files are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clipmk.errors import ClipmkError
from clipmk.system.files import atomic_write, read_regular


def test_a_written_file_is_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with atomic_write(path) as handle:
        handle.write(b"new")
        assert path.read_bytes() == b"old"
        assert len(list(tmp_path.iterdir())) == 2  # the temporary file lies in the same folder
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_public_file_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "a", private=False) as handle:
            handle.write(b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path, failure: type[BaseException]) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def write() -> None:
        with atomic_write(path) as handle:
            handle.write(b"half")
            raise failure

    with pytest.raises(failure):
        write()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_is_explained_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, reason in (
        (tmp_path / "nowhere" / "a", "No such file"),
        (tmp_path / "file" / "a", "Not a directory"),
        (tmp_path, "not a regular file"),
    ):
        with pytest.raises(ClipmkError, match=reason), atomic_write(path) as handle:
            handle.write(b"x")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_link_to_nothing_is_named_with_what_it_names(tmp_path: Path) -> None:
    (tmp_path / "fox.png").symlink_to("gone/fox.png")
    with pytest.raises(ClipmkError, match=r"fox\.png' is a link to 'gone/fox\.png', which does not exist"):
        read_regular(tmp_path / "fox.png", limit=10, noun="image", error=ClipmkError)


def test_links_are_followed_and_devices_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    with atomic_write(tmp_path / "link") as handle:
        handle.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"
    with pytest.raises(ClipmkError, match="not a regular file"), atomic_write("/dev/null") as handle:
        handle.write(b"x")


def test_a_full_disk_is_a_clipmk_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    match = r"a\.bin' cannot be written: No space left"
    with pytest.raises(ClipmkError, match=match), atomic_write(tmp_path / "a.bin") as handle:
        handle.write(b"x")
    assert not list(tmp_path.iterdir())

"""Lock files where the file system has no locks: the work goes on, and the log says so."""

from __future__ import annotations

import errno
import fcntl
import logging
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from clipmk.system.config import read_config
from clipmk.system.files import file_lock
from clipmk.system.preferences import save

NONE = [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP]


def without_locks(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def flock(*_: object) -> None:
        raise OSError(code, "no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)


def test_a_lock_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with file_lock(path, seconds=0), pytest.raises(Timeout), file_lock(path, seconds=0):
        pass
    with FileLock(path), pytest.raises(Timeout), file_lock(path, seconds=0):
        pass
    with file_lock(path, seconds=0):
        pass


@pytest.mark.parametrize("code", NONE)
def test_without_locks_the_work_goes_on_with_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    without_locks(monkeypatch, code)
    done = []
    with caplog.at_level(logging.WARNING, "clipmk"), file_lock(tmp_path / "a.lock", seconds=0):
        done.append(1)
    assert done == [1]
    assert [record.getMessage() for record in caplog.records] == [
        f"folder '{tmp_path}' has no file locks; only one process at a time may write there"
    ]


def test_other_errors_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"Not a directory|File exists"), file_lock(tmp_path / "file" / "b", seconds=0):
        pass
    without_locks(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="no locks here"), file_lock(tmp_path / "a.lock", seconds=0):
        pass


@pytest.mark.parametrize("code", NONE)
def test_the_config_is_written_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    without_locks(monkeypatch, code)
    monkeypatch.setenv("CLIPMK_CONFIG", str(tmp_path / "config.toml"))
    save({"theme": "clipmk-light"})
    assert read_config().theme == "clipmk-light"

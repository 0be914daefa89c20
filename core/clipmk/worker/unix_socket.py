"""The socket of a server: a file that only its owner can open, a lock beside it, and who is at the other end."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from clipmk.errors import ClipmkError
from clipmk.system.text import quoted

BACKLOG = 32
"""Clients that may wait to be accepted."""
LONGEST_PATH = 100
"""Bytes: the kernel's own limit for the name of a socket is 107 on Linux and less elsewhere."""


class Peer(NamedTuple):
    """The process at the other end, according to the kernel."""

    pid: int
    """0 where it is in another process namespace."""
    uid: int


def supported() -> bool:
    """Whether this system has Unix sockets that tell whose process is at the other end."""
    return hasattr(socket, "AF_UNIX") and hasattr(socket, "SO_PEERCRED")


def require_support() -> None:
    """Refuse a system that has no private sockets.

    Raises:
        ClipmkError: it has none.
    """
    if not supported():
        raise ClipmkError(
            "clipmk serve needs Unix sockets that tell whose process is at the other end (SO_PEERCRED, Linux); "
            "this system has none; every command does its work itself"
        )


def peer_of(connection: socket.socket) -> Peer:
    """Who opened the other end of a connected socket; for a client, who listens."""
    size = struct.calcsize("3i")
    pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return Peer(pid, uid)


@contextlib.contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """Listen at `path` (mode 0600) while the block runs; nobody else can, and what a killed server left is replaced.

    Args:
        path: absolute; a missing folder is created, for its owner alone (mode 0700).

    Raises:
        ClipmkError: a server listens there already, something other than a socket is there, or the folder would let
            others replace the socket.
    """
    require_support()
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise ClipmkError(f"socket {quoted(path)} has too long a path ({LONGEST_PATH} bytes at most)")
    with contextlib.ExitStack() as held:
        try:
            _require_private(path.parent)
            held.enter_context(_locked(path))
            listener = held.enter_context(_bound(path))
        except OSError as reason:
            raise ClipmkError(f"socket {quoted(path)} cannot be created: {reason.strerror or reason}") from reason
        yield listener


def _require_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid not in {os.getuid(), 0}:
        raise ClipmkError(f"folder {quoted(folder)} belongs to another user, who could replace the socket")
    if found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX:
        raise ClipmkError(f"folder {quoted(folder)} is writable by others, who could replace the socket; chmod 700 it")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock beside the socket; the kernel releases it however the process ends."""
    import fcntl  # noqa: PLC0415 - not on Windows, where clients import this module, too

    flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    lock = os.open(path.with_name(f"{path.name}.lock"), flags, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as reason:
            number = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
            raise ClipmkError(
                f"a server listens at {quoted(path)} already (process {number}); `clipmk serve --stop` ends it"
            ) from reason
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(lock)


@contextlib.contextmanager
def _bound(path: Path) -> Iterator[socket.socket]:
    _remove_stale(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        umask = os.umask(0o177)  # so that it is never open to others, not even for a moment
        try:
            listener.bind(str(path))
        finally:
            os.umask(umask)
        created = path.lstat()
        try:
            listener.listen(BACKLOG)
            yield listener
        finally:
            _remove(path, created)


def _remove_stale(path: Path) -> None:
    """Called with the lock held: whoever created the socket is gone."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ClipmkError(f"{quoted(path)} exists and is not a socket; it is left alone")
    if found.st_uid != os.getuid():
        raise ClipmkError(f"socket {quoted(path)} belongs to another user")
    path.unlink()


def _remove(path: Path, created: os.stat_result) -> None:
    """Remove our socket, and only ours."""
    with contextlib.suppress(OSError):
        found = path.lstat()
        if (found.st_dev, found.st_ino) == (created.st_dev, created.st_ino):
            path.unlink()

"""A socket that only its owner can open, and who is at the other end."""

import contextlib
import os
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from clipmk.errors import ClipmkError, raised_as
from clipmk.system.files import file_lock
from clipmk.system.text import quoted

BACKLOG = 32  # clients that may wait to be accepted
LONGEST_PATH = 100
"""Bytes: the kernel's own limit for the name of a socket is 107 on Linux and less elsewhere."""

WAIT_SECONDS = 5.0  # for another server that is starting, or to accept a connection


class Peer(NamedTuple):
    """The process at the other end, according to the kernel."""

    pid: int
    """0 where it is in another process namespace."""
    uid: int


def supported() -> bool:
    """Whether this system has Unix sockets that tell whose process is at the other end."""
    return hasattr(socket, "SO_PEERCRED")


def require_support() -> None:
    """Refuse a system that has no private sockets."""
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


def listener_pid(path: Path) -> int | None:
    """Process id of who listens at `path`; 0 where that cannot be known, None where nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(WAIT_SECONDS)
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionError):
            return None
        except OSError:
            return 0
        return peer_of(connection).pid


@contextlib.contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """Listen at `path` (mode 0600) while the block runs; nobody else can, and what a killed server left is replaced.

    A missing folder is created for its owner alone (mode 0700). Raises `ClipmkError` if a server listens there already,
    something other than a socket is there, or the folder would let others replace the socket.
    """
    require_support()
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise ClipmkError(f"socket {quoted(path)} has too long a path ({LONGEST_PATH} bytes at most)")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        with raised_as(ClipmkError, f"socket {quoted(path)} cannot be created", OSError):  # a timeout is one
            _require_private(path.parent)
            with file_lock(path.with_name(f"{path.name}.lock"), seconds=WAIT_SECONDS):  # of two that start at once
                _remove_stale(path)
                _bind(listener, path)
            created = path.lstat()
        try:
            yield listener
        finally:
            with contextlib.suppress(OSError):
                if os.path.samestat(path.lstat(), created):  # ours, and not one that was put in its place
                    path.unlink()


def _require_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid not in {os.getuid(), 0}:
        raise ClipmkError(f"folder {quoted(folder)} belongs to another user, who could replace the socket")
    if found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX:
        raise ClipmkError(f"folder {quoted(folder)} is writable by others, who could replace the socket; chmod 700 it")


def _bind(listener: socket.socket, path: Path) -> None:
    umask = os.umask(0o177)  # so that it is never open to others, not even for a moment
    try:
        listener.bind(str(path))
    finally:
        os.umask(umask)
    listener.listen(BACKLOG)


def _remove_stale(path: Path) -> None:
    """Called with the lock held: whoever created a socket at which nobody listens is gone."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ClipmkError(f"{quoted(path)} exists and is not a socket; it is left alone")
    if found.st_uid != os.getuid():
        raise ClipmkError(f"socket {quoted(path)} belongs to another user")
    if (pid := listener_pid(path)) is not None:
        raise ClipmkError(f"a server listens at {quoted(path)} already (process {pid}); `clipmk serve --stop` ends it")
    path.unlink()

"""A socket that only its owner can open, a lock beside it, who is at the other end, and lines over it."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import socket
import stat
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from clipmk.errors import ClipmkError, ProtocolError
from clipmk.system.files import without_locks
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
    return hasattr(socket, "SO_PEERCRED")


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
        except OSError as reason:
            if not without_locks(reason, path):
                raise
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(path))
                raise ClipmkError(
                    f"a server listens at {quoted(path)} already; `clipmk serve --stop` ends it"
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
            with contextlib.suppress(OSError):
                if os.path.samestat(path.lstat(), created):  # ours, and not one that was put in its place
                    path.unlink()


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


class LineSocket:
    """A connected socket. Where the other end is gone, reading gives `b""` and writing raises `OSError`.

    Args:
        connection: made non-blocking; closed by `close`.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._buffer = bytearray()
        self._writing = threading.Lock()
        self._closing = threading.Lock()

    def read_line(self, *, limit: int, seconds: float | None) -> bytes:
        """The next line with its newline; `b""` where the conversation ends, also in the middle of a line.

        Raises:
            ProtocolError: the line is longer than `limit` bytes.
            TimeoutError: it was not complete after `seconds`; what arrived of it is kept.
        """
        deadline, searched = _deadline(seconds), 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > limit:
                break
            if not self._receive(deadline):
                return b""
        if end < 0 or end >= limit:
            raise ProtocolError(f"a line is longer than {limit} bytes")
        return self._take(end + 1)

    def read_block(self, size: int, *, seconds: float | None) -> bytes:
        """The next `size` bytes; fewer where the conversation ends before.

        Raises:
            TimeoutError: they were not complete after `seconds`.
        """
        deadline = _deadline(seconds)
        while len(self._buffer) < size and self._receive(deadline):
            pass
        return self._take(min(size, len(self._buffer)))

    def write(self, data: bytes, *, seconds: float | None) -> None:
        """Send everything, after whatever another thread is sending.

        Raises:
            TimeoutError: the other end did not take it within `seconds`; what was sent is not a whole message.
            OSError: the other end is gone.
        """
        deadline = _deadline(seconds)
        with self._writing:
            left = memoryview(data)
            while left:
                _wait(self._connection, select.POLLOUT, deadline)
                with contextlib.suppress(BlockingIOError):
                    left = left[self._connection.send(left, socket.MSG_NOSIGNAL) :]

    def write_if_free(self, data: bytes) -> None:
        """Send a short line if no other thread is sending and the other end takes it at once; else nothing."""
        if self._writing.acquire(blocking=False):
            try:
                with contextlib.suppress(OSError):
                    sent = self._connection.send(data, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
                    if sent < len(data):  # half a line: nothing that follows could be understood
                        self.hang_up()
            finally:
                self._writing.release()

    def hang_up(self) -> None:
        """End the conversation for both sides and for threads that wait in it; `close` frees the socket."""
        with self._closing, contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Hang up and free the socket, once no thread is about to use its number: the next client may get it."""
        self.hang_up()
        with self._writing, self._closing:
            self._connection.close()

    def _receive(self, deadline: float | None) -> bool:
        """Wait for bytes; False at the end."""
        try:
            _wait(self._connection, select.POLLIN, deadline)
            data = self._connection.recv(2**16)
        except BlockingIOError:
            return True
        except TimeoutError:
            raise
        except OSError:  # reset, or closed by another thread
            return False
        self._buffer += data
        return bool(data)

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data


def _deadline(seconds: float | None) -> float | None:
    return None if seconds is None else time.monotonic() + seconds


def _wait(connection: socket.socket, event: int, deadline: float | None) -> None:
    poll = select.poll()
    try:
        poll.register(connection, event)
    except ValueError as reason:  # another thread has closed it
        raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from reason
    left = None if deadline is None else max(0, math.ceil(1_000 * (deadline - time.monotonic())))
    if not poll.poll(left):
        raise TimeoutError("the other end is silent")

"""Lines and blocks of bytes over a socket, each with a limit and a deadline; two threads may read and write."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import socket
import threading
import time

from clipmk.errors import ProtocolError


class Stream:
    """A connected socket. Where the other end is gone, reading gives `b""` and writing raises `OSError`.

    Args:
        connection: made non-blocking; closed by `close`.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._buffer = bytearray()
        self._sending = threading.Lock()
        self._ending = threading.Lock()

    def read_line(self, *, limit: int, seconds: float | None) -> bytes:
        """The next line with its newline; `b""` at the end of the conversation, also in the middle of a line.

        Raises:
            ProtocolError: the line is longer than `limit` bytes.
            TimeoutError: it was not complete after `seconds`; what came of it is kept.
        """
        until, looked = _until(seconds), 0
        while (end := self._buffer.find(b"\n", looked)) < 0:
            looked = len(self._buffer)
            if looked > limit:
                break
            if not self._more(until):
                return b""
        if end < 0 or end >= limit:
            raise ProtocolError(f"a line is longer than {limit} bytes")
        return self._taken(end + 1)

    def read_block(self, size: int, *, seconds: float | None) -> bytes:
        """The next `size` bytes; fewer where the conversation ends before.

        Raises:
            TimeoutError: they were not complete after `seconds`.
        """
        until = _until(seconds)
        while len(self._buffer) < size and self._more(until):
            pass
        return self._taken(min(size, len(self._buffer)))

    def silent(self, seconds: float) -> bool:
        """Wait for a sign of the other end (its leaving is one, as is our own end's); whether there was none."""
        if self._buffer:
            return False
        try:
            _wait(self._connection, select.POLLIN, _until(seconds))
        except TimeoutError:
            return True
        except OSError:
            return False
        return False

    def write(self, data: bytes, *, seconds: float | None) -> None:
        """Send everything, after whatever another thread is sending.

        Raises:
            TimeoutError: the other end did not take it within `seconds`; what was sent is no whole message.
            OSError: there is no other end any more.
        """
        until = _until(seconds)
        with self._sending:
            left = memoryview(data)
            while left:
                _wait(self._connection, select.POLLOUT, until)
                with contextlib.suppress(BlockingIOError):
                    left = left[self._connection.send(left, socket.MSG_NOSIGNAL) :]

    def write_if_free(self, data: bytes) -> None:
        """Send a short line where nobody else is sending and the other end listens; else nothing."""
        if self._sending.acquire(blocking=False):
            try:
                with contextlib.suppress(OSError):
                    sent = self._connection.send(data, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
                    if sent < len(data):  # half a line: nothing that follows could be understood
                        self.hang_up()
            finally:
                self._sending.release()

    def hang_up(self) -> None:
        """End the conversation for both sides and for threads that wait in it; the socket is closed by its owner."""
        with self._ending, contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Hang up and let the socket go, once no thread is about to use its number: the next client may get it."""
        self.hang_up()
        with self._sending, self._ending:
            self._connection.close()

    def _more(self, until: float | None) -> bool:
        """Wait for bytes; False at the end."""
        try:
            _wait(self._connection, select.POLLIN, until)
            data = self._connection.recv(2**16)
        except BlockingIOError:
            return True
        except TimeoutError:
            raise
        except OSError:  # reset, or closed by another thread
            return False
        self._buffer += data
        return bool(data)

    def _taken(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data


def _until(seconds: float | None) -> float | None:
    return None if seconds is None else time.monotonic() + seconds


def _wait(connection: socket.socket, event: int, until: float | None) -> None:
    poll = select.poll()
    try:
        poll.register(connection, event)
    except ValueError as reason:  # another thread has closed it
        raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from reason
    left = None if until is None else max(0, math.ceil(1_000 * (until - time.monotonic())))
    if not poll.poll(left):
        raise TimeoutError("the other end is silent")

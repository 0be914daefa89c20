"""Lines and blocks of bytes over a socket, each with a limit and a deadline; one thread reads, any may write."""

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

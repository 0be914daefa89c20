"""The client's side: find a server that would answer as we would, and ask it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from clipmk.errors import ClipmkError, ProtocolError
from clipmk.system.text import printable, quoted
from clipmk.version import __version__
from clipmk.worker import messages
from clipmk.worker.identity import differences
from clipmk.worker.messages import Declined, Done, Order, Result, Welcome, Working
from clipmk.worker.place import Peer, peer_of, supported
from clipmk.worker.stream import Stream

GREETING_SECONDS = 5.0
"""For a server to say who it is; it may be importing torch meanwhile."""
PULSE_SECONDS = 30.0
"""Without a sign of life for so long, a server counts as lost; a healthy one gives one a second."""
SEND_SECONDS = 60.0
STOP_SECONDS = 10.0
"""For a server that was told to end."""


class UnusableServerError(ClipmkError):
    """There is something at the socket, but it cannot be used; the message says why (exit status 1)."""


class Connection:
    """A conversation with a server whose greeting was heard."""

    def __init__(self, stream: Stream, peer: Peer, greeting: bytes) -> None:
        self._stream = stream
        self.peer = peer
        self._greeting = greeting

    def welcome(self) -> Welcome:
        """What the server says of itself.

        Raises:
            UnusableServerError: it is of another version.
        """
        theirs = _versions(self._greeting)
        ours = (messages.VERSION, __version__)
        if theirs != ours:
            raise UnusableServerError(f"it is clipmk {theirs[1]}, protocol {theirs[0]}; this is {ours[1]}, {ours[0]}")
        try:
            message = messages.decode(self._greeting)
        except ProtocolError as reason:
            raise UnusableServerError(str(reason)) from reason
        if not isinstance(message, Welcome):
            raise UnusableServerError(f"it greets with a {type(message).__name__}")
        return message

    def require_like_us(self, identity: dict[str, str]) -> None:
        """Make sure that the server answers as this process would.

        Raises:
            UnusableServerError: another version, or another `identity`.
        """
        other = differences(identity, self.welcome().identity)
        if other:
            raise UnusableServerError(f"it was started with other {', '.join(other)}")

    def ask(self, order: Order, attached: bytes, on_progress: Callable[[Working], None]) -> Iterator[Result]:
        """The results of an order, one per image, in their order.

        Raises:
            DeclinedError: the server cannot do it.
            UnusableServerError: the server was lost.
        """
        try:
            self._stream.write(messages.encode(order) + attached, seconds=SEND_SECONDS)
            for _ in range(len(order.images) + 1):
                answer = self._hear(on_progress)
                if isinstance(answer, Done):
                    return
                yield answer
        except (OSError, ProtocolError) as reason:  # a timeout is an OSError
            raise UnusableServerError(f"it was lost: {printable(str(reason))}") from reason
        raise UnusableServerError("it says more than it was asked")

    def _hear(self, on_progress: Callable[[Working], None]) -> Result | Done:
        while line := self._stream.read_line(limit=messages.ANSWER_BYTES, seconds=PULSE_SECONDS):
            match messages.decode(line):
                case Working() as working:
                    on_progress(working)
                case Declined(code=code, message=message):
                    raise DeclinedError(code, message)
                case Result() | Done() as answer:
                    return answer
                case other:
                    raise ProtocolError(f"a {type(other).__name__} is no answer")
        raise ConnectionError("it hung up")


class DeclinedError(ClipmkError):
    """The server cannot do what was asked; `reason` is the code of what is in the way."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@contextlib.contextmanager
def connected(path: Path) -> Iterator[Connection | None]:
    """Talk to the server at `path` while the block runs; None where there is none. Leaving the block hangs up.

    Raises:
        UnusableServerError: what is there belongs to another user or does not greet.
    """
    if not supported():
        yield None
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.settimeout(GREETING_SECONDS)
            connection.connect(str(path))
        except TimeoutError as reason:
            raise UnusableServerError("it lets nobody in") from reason
        except (OSError, ValueError):  # nothing there, nobody behind it any more, or too long a name
            yield None
            return
        peer = peer_of(connection)
        if peer.uid != os.getuid():
            raise UnusableServerError(f"it belongs to user {peer.uid}")
        stream = Stream(connection)
        try:
            yield Connection(stream, peer, _greeting(stream))
        finally:
            stream.hang_up()


def stop(path: Path) -> int | None:
    """End the server at `path`, of whatever version, and wait until it has gone.

    Returns:
        Its process id; None where there was none.

    Raises:
        UnusableServerError: it belongs to another user, or does not end.
    """
    try:
        with connected(path) as found:
            peer = None if found is None else found.peer
    except UnusableServerError as reason:
        raise UnusableServerError(f"the server at {quoted(path)} cannot be ended: {reason}") from reason
    if peer is None:
        return None
    if peer.pid <= 0:
        raise UnusableServerError(f"the server at {quoted(path)} runs outside of this container; end it there")
    os.kill(peer.pid, signal.SIGTERM)
    until = time.monotonic() + STOP_SECONDS
    while time.monotonic() < until:
        if not listens(path):
            return peer.pid
        time.sleep(0.02)
    raise UnusableServerError(f"the server at {quoted(path)} (process {peer.pid}) does not end; kill -9 ends it")


def listens(path: Path) -> bool:
    """Whether a server, of whatever version, listens at `path`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(GREETING_SECONDS)
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionError):
            return False
        except OSError:
            return True
    return True


def _greeting(stream: Stream) -> bytes:
    try:
        line = stream.read_line(limit=messages.ORDER_BYTES, seconds=GREETING_SECONDS)
    except (OSError, ProtocolError) as reason:
        raise UnusableServerError(f"it does not greet: {printable(str(reason))}") from reason
    if not line:
        raise UnusableServerError("it turned us away")
    return line


def _versions(greeting: bytes) -> tuple[object, str]:
    """Protocol and release, which stand at the same place in the greeting of every version."""
    try:
        content = json.loads(greeting)
        return content["protocol"], printable(str(content["clipmk"]))
    except (ValueError, KeyError, TypeError) as reason:
        raise UnusableServerError("it is no server of clipmk") from reason

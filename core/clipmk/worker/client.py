"""The client of `clipmk serve`: find a server that would answer as this process would, ask it, stop it."""

import contextlib
import hashlib
import itertools
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import clipmk
from clipmk.errors import ClipmkError, ProtocolError, raised_as
from clipmk.system.config import Config, read_config
from clipmk.system.text import printable, quoted
from clipmk.version import __version__
from clipmk.worker import protocol
from clipmk.worker.protocol import Done, ExplainImages, Failed, Greeting, Hello, ImageExplained, Progress, RequestError
from clipmk.worker.session import Session
from clipmk.worker.unix_socket import Peer, listener_pid, peer_of, supported

GREETING_SECONDS = 5.0  # for a server to greet; it may be importing torch meanwhile
SILENCE_SECONDS = 30.0
"""Without a sign of life for so long, a server counts as lost; a healthy one gives one a second."""
SEND_SECONDS = 60.0  # for a server to take a request
STOP_SECONDS = 10.0  # for a server to end
VARIABLES = (
    *("CLIPMK_CACHE_DIR", "CLIPMK_MAX_MEGAPIXELS", "XDG_CACHE_HOME", "HOME", "HF_HOME", "HF_HUB_CACHE"),
    *("HUGGINGFACE_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_TOKEN"),
    *("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MKL_NUM_THREADS"),
)
"""Environment variables that decide which files are read or downloaded, or how numbers are added."""


class UnusableServerError(ClipmkError):
    """Something listens at the socket, but it cannot be used; the message says why (exit status 1)."""


class Connection:
    """A conversation with a server that has greeted."""

    def __init__(self, connection: socket.socket, lines: BinaryIO) -> None:
        self.peer = require_own(connection)
        self._connection, self._lines = connection, lines
        self.first_line = self._first_line()
        """For `read_greeting`: `stop` ends servers of other versions, too."""
        self._ids = itertools.count(1)

    def begin(self, session: Session) -> None:
        """Send what all requests share."""
        with _lost_named():
            self._send(protocol.encode(Hello(version=protocol.VERSION, session=session)))

    def explain(
        self, request: ExplainImages, attached: bytes, report: Callable[[str, int, int], None]
    ) -> Iterator[ImageExplained]:
        """The results of a request, one per image, in their order; `report` is called with (stage, done, total).

        Raises `RequestError` if the server cannot do it, `UnusableServerError` if it was lost.
        """
        request = replace(request, id=next(self._ids))
        with _lost_named():
            self._send(protocol.encode(request) + attached)
            while (line := self._read(SILENCE_SECONDS)).endswith(b"\n"):
                match protocol.decode(line):
                    case Progress(id=request.id, stage=stage, done=done, total=total):
                        report(stage, done, total)
                    case ImageExplained(id=request.id) as result:
                        yield result
                    case Done(id=request.id):
                        return
                    case Failed(id=request.id | 0, code=code, message=message):
                        raise RequestError(code, message)
                    case Progress():  # a sign of life that crossed the answer before
                        pass
                    case other:
                        raise ProtocolError(f"a {type(other).__name__} does not answer the request")
            raise ConnectionError("it closed the connection")

    def _send(self, data: bytes) -> None:
        self._connection.settimeout(SEND_SECONDS)
        self._connection.sendall(data)

    def _read(self, seconds: float) -> bytes:
        """The next line; without its newline where it is too long or the conversation ends."""
        self._connection.settimeout(seconds)
        return self._lines.readline(protocol.ANSWER_BYTES)

    def _first_line(self) -> bytes:
        with raised_as(UnusableServerError, "it does not greet", OSError):
            line = self._read(GREETING_SECONDS)
        _release(line)
        return line


@contextlib.contextmanager
def connected(path: Path) -> Iterator[Connection | None]:
    """Connect to the server at `path` and wait for its greeting; None if there is none. Leaving the block hangs up.

    Raises `UnusableServerError` if what is there belongs to another user or is not a server of `clipmk`.
    """
    if not supported():
        yield None
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection, connection.makefile("rb") as lines:
        found = None
        try:
            connection.settimeout(GREETING_SECONDS)
            connection.connect(str(path))
        except TimeoutError as reason:
            raise UnusableServerError("it does not accept connections") from reason
        except (OSError, ValueError):  # there is no socket, no server behind it, or its path is too long
            pass
        else:
            found = Connection(connection, lines)
        yield found


@contextlib.contextmanager
def found_server(path: Path, session: Session) -> Iterator[Connection | None]:
    """As `connected`, to a server that would answer as this process would, and with the session sent."""
    with connected(path) as connection:
        if connection is not None:
            require_same(read_greeting(connection.first_line), identity(read_config()))
            connection.begin(session)
        yield connection


def stop(path: Path) -> int | None:
    """End the server at `path`, of whatever version; its process id once it has ended, or None if there is none.

    Nothing but a server is signalled: `UnusableServerError` if it is not our own, or does not end.
    """
    where = f"the server at {quoted(path)}"
    with raised_as(UnusableServerError, f"{where} cannot be ended", UnusableServerError), connected(path) as found:
        if found is None:
            return None
        pid = found.peer.pid
        if pid > 0:
            os.kill(pid, signal.SIGTERM)
    if pid <= 0:
        raise UnusableServerError(f"{where} runs outside of this container; end it there")
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline:
        if listener_pid(path) is None:
            return pid
        time.sleep(0.02)
    raise UnusableServerError(f"{where} (process {pid}) does not end; kill -9 ends it")


def _lost_named() -> AbstractContextManager[None]:
    return raised_as(UnusableServerError, "it was lost", OSError, ProtocolError)


def require_own(connection: socket.socket) -> Peer:
    """Who is at the other end; `UnusableServerError` if it is another user."""
    peer = peer_of(connection)
    if peer.uid != os.getuid():
        raise UnusableServerError(f"it belongs to user {peer.uid}")
    return peer


def read_greeting(line: bytes) -> Greeting:
    """Decode the first line of a server; `UnusableServerError` if it is of another version, or not `clipmk`'s."""
    theirs, ours = _release(line), (protocol.VERSION, __version__)
    if theirs != ours:
        raise UnusableServerError(f"it is clipmk {theirs[1]}, protocol {theirs[0]}; this is {ours[1]}, {ours[0]}")
    with raised_as(UnusableServerError, "it greets with nonsense", ProtocolError):
        message = protocol.decode(line)
    if not isinstance(message, Greeting):
        raise UnusableServerError(f"it greets with a {type(message).__name__}")
    return message


def require_same(greeting: Greeting, ours: dict[str, str]) -> None:
    """Make sure that a server answers as this process would: `UnusableServerError` if it has another `identity`."""
    other = differences(ours, greeting.identity)
    if other:
        raise UnusableServerError(f"it was started with other {', '.join(other)}")


def _release(greeting: bytes) -> tuple[object, str]:
    """Protocol and release, whose places are the same in the greeting of every version."""
    if not greeting.endswith(b"\n"):
        raise UnusableServerError("it refused the connection")
    try:
        content = json.loads(greeting)
        return content["protocol"], printable(str(content["clipmk"]))
    except (ValueError, KeyError, TypeError, RecursionError) as reason:
        raise UnusableServerError("it is not a server of clipmk") from reason


def identity(config: Config) -> dict[str, str]:
    """What an answer depends on besides the request: client and server must agree on it, or their answers could differ.

    Name -> digest of each thing; weights are compared with every request.

    "code": the files of `clipmk` itself, by name, size and time. "python": interpreter and environment, hence torch
    and open_clip. "models": the names registered in the config. "variables": `VARIABLES`. "machine": processors that
    may be used (they decide how sums are split), and which file system is visible.
    """
    files = ((str(path), path.stat()) for path in sorted(Path(clipmk.__file__).parent.rglob("*.py")))
    return {
        "code": _digest([(name, status.st_mtime_ns, status.st_size) for name, status in files]),
        "python": _digest([sys.version, sys.prefix]),
        "models": _digest(sorted(config.models.items())),
        "variables": _digest([config.max_megapixels, *(os.environ.get(name) for name in VARIABLES)]),
        "machine": _digest([len(os.sched_getaffinity(0)), _mounts()]),
    }


def differences(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """The names whose digests differ."""
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))


def _mounts() -> int:
    try:
        return os.stat("/proc/self/ns/mnt").st_ino  # noqa: PTH116 - follows the link, as Path.stat would
    except OSError:
        return 0


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode("ascii")).hexdigest()[:16]

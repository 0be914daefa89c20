"""The two ways to a worker: pipes of a child process, and the socket of a running `clipmk serve`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections import deque
from pathlib import Path

import clipmk
from clipmk.system.config import read_config
from clipmk.system.text import printable
from clipmk.worker import client
from clipmk.worker.client import identity
from clipmk.worker.protocol import ANSWER_BYTES, Message, encode
from clipmk.worker.unix_socket import supported

COMMAND = (sys.executable, "-P", "-m", "clipmk.worker.pipe")
"""-P: a file in the working folder must not stand in for a module."""

STDERR_LINES, DEBUG_LINES = 50, 2_000  # how much of the child's stderr is kept, usually and for debugging
_EXCEPTION = re.compile(r"[\w.]*(Error|Exception)\b")  # the line of a traceback that names the error
EXIT_SECONDS = 1.0  # for a child that closed its output to exit


class Transport:
    """Messages to a worker, and lines from it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer

    def send(self, message: Message) -> None:
        """Send a message."""
        self._writer.write(encode(message))

    def kill(self) -> None:
        """End it at once, or hang up: what a server does for us is cancelled."""
        self._writer.transport.abort()

    async def wait(self) -> None:
        """Wait for its end, where it has one."""

    def close(self) -> None:
        """Free the pipes or the socket."""
        self._writer.close()

    def how_it_ended(self) -> str:
        """In words: "was killed by signal 9 (SIGKILL)"."""
        return "closed the connection"

    def last_line(self) -> str:
        """The last line of its stderr, ready to follow a sentence; empty if there is none."""
        return ""


class Child(Transport):
    """A process of our own; it leads a session of its own."""

    def __init__(self, process: asyncio.subprocess.Process, *, lines: int) -> None:
        assert process.stdin is not None  # noqa: S101 - pipes were asked for
        assert process.stdout is not None  # noqa: S101
        assert process.stderr is not None  # noqa: S101
        super().__init__(process.stdout, process.stdin)
        self.process = process
        self.lines: deque[str] = deque(maxlen=lines)  # the end of its stderr
        self._draining = asyncio.get_running_loop().create_task(_drain(process.stderr, self.lines))

    @classmethod
    async def start(cls, *, debug: bool = False) -> Child:
        """Start a process, which logs everything for debugging; raises OSError where that fails."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *(*COMMAND, *(("--debug",) if debug else ())),
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            limit=ANSWER_BYTES,
            start_new_session=True,
            env=_environment(),
        )
        return cls(process, lines=DEBUG_LINES if debug else STDERR_LINES)

    def kill(self) -> None:
        """End the child and whatever it started at once."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    async def wait(self) -> None:
        """Wait for the end; a child that closed its output has a second."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), EXIT_SECONDS)
        self.kill()
        await self.process.wait()
        await asyncio.wait({self._draining}, timeout=EXIT_SECONDS)

    def close(self) -> None:
        """Free the pipes."""
        self._draining.cancel()
        self._writer.close()

    def how_it_ended(self) -> str:
        """In words: "was killed by signal 9 (SIGKILL)"."""
        status = self.process.returncode
        if status is None or status >= 0:
            return f"ended with exit status {status}"
        names = {member.value: f" ({member.name})" for member in signal.Signals}
        return f"was killed by signal {-status}{names.get(-status, '')}"

    def last_line(self) -> str:
        """Its last error, else its last line, ready to follow a sentence; empty if it has written nothing."""
        lines = [line for line in reversed(self.lines) if line.strip()]
        line = next(filter(_EXCEPTION.match, lines), lines[0] if lines else "")
        return f"; its last line was: {printable(line.strip())[:200]}" if line else ""


class Server(Transport):
    """A connection to a `clipmk serve`."""

    @classmethod
    async def connect(cls, path: Path) -> Server | None:
        """A server that would answer as our child would, or None; `UnusableServerError` if the one there would not."""
        if not supported():
            return None
        try:
            async with asyncio.timeout(client.GREETING_SECONDS):
                reader, writer = await asyncio.open_unix_connection(path, limit=ANSWER_BYTES)
        except (OSError, ValueError):  # there is no server behind it, or its path is too long; a timeout is an OSError
            return None
        server = cls(reader, writer)
        with contextlib.ExitStack() as undo:
            undo.callback(server.kill)
            client.require_own(writer.get_extra_info("socket"))
            try:
                async with asyncio.timeout(client.GREETING_SECONDS):
                    line = await reader.readline()
            except TimeoutError as reason:
                raise client.UnusableServerError("it does not greet") from reason
            except ConnectionError:  # it was just ending
                return None
            ours = await asyncio.to_thread(lambda: identity(read_config()))
            client.require_same(client.read_greeting(line), ours)
            undo.pop_all()
        return server


def _environment() -> dict[str, str]:
    """Ours, and where this very `clipmk` was found, unless every Python looks there."""
    home = Path(clipmk.__file__).resolve().parents[1]
    if home.name in {"site-packages", "dist-packages"}:
        return dict(os.environ)
    paths = [*filter(None, [os.environ.get("PYTHONPATH")]), str(home)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


async def _drain(stream: asyncio.StreamReader, lines: deque[str]) -> None:
    """Keep the last lines of stderr; a child must never wait for us to read them."""
    rest = b""
    while data := await stream.read(2**16):
        *whole, rest = (rest + data).split(b"\n")
        lines.extend(line.decode("utf-8", "backslashreplace") for line in whole)
        rest = rest[-(2**12) :]
    lines.append(rest.decode("utf-8", "backslashreplace"))

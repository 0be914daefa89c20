"""The child process of the app: `python -m clipmk.worker.pipe` reads requests from stdin and writes answers to stdout.

The process's own descriptors are moved out of the way first: what a library prints goes to stderr, and nothing but
this module reads the requests. Nothing is left behind when it is killed: cached files are written atomically.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import traceback
from typing import BinaryIO, NoReturn

from clipmk.errors import ProtocolError
from clipmk.version import __version__
from clipmk.worker import protocol
from clipmk.worker.jobs import JobQueue, converse
from clipmk.worker.protocol import Greeting
from clipmk.worker.service import Service

REFUSED = 2
"""Exit status when the app sent what is not a message of this version."""


class Pipe:
    """The app at the other end (see `clipmk.worker.jobs.Client`): no limits, for it is our parent."""

    def __init__(self, source: BinaryIO, target: int) -> None:
        self._source = source
        self._target = target
        self._writing = threading.Lock()

    def read_line(self, *, limit: int, seconds: float | None) -> bytes:
        """The next line; `b""` at the end, also in the middle of a line."""
        line = self._source.readline()
        return line if line.endswith(b"\n") else b""

    def read_block(self, size: int, *, seconds: float | None) -> bytes:
        """The next `size` bytes."""
        return self._source.read(size)

    def write(self, data: bytes, *, seconds: float | None) -> None:
        """Write, from any thread. If the app no longer reads, the process ends."""
        rest = memoryview(data)
        try:
            with self._writing:
                while rest:
                    rest = rest[os.write(self._target, rest) :]
        except BrokenPipeError:
            os._exit(0)

    def hang_up(self) -> None:
        """End the process: this is its only conversation."""
        os._exit(0)


def main() -> None:
    """Answer requests; the process ends where its input does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is the app's
    pipe = _own_pipe()
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    if "--debug" in sys.argv:
        logging.getLogger("clipmk").setLevel(logging.DEBUG)
    service = Service()
    queue = JobQueue(service.warm_up, service.answer)
    threading.Thread(target=_listen, args=(pipe, queue), name="listener", daemon=True).start()
    try:
        queue.run()
    finally:  # it cannot go on, or this is a mistake
        _end(1)


def _own_pipe() -> Pipe:
    """Keep stdin and stdout for the conversation; for all other code, stdin is empty and stdout is stderr."""
    source, target = os.fdopen(os.dup(0), "rb"), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return Pipe(source, target)


def _listen(pipe: Pipe, queue: JobQueue) -> None:
    """Queue what the app requests until it has gone; then the process ends, whatever it is doing."""
    try:
        converse(pipe, queue, Greeting(protocol=protocol.VERSION, clipmk=__version__, pid=os.getpid()))
    except ProtocolError:
        os._exit(REFUSED)
    except OSError:
        os._exit(0)
    finally:
        _end(0)


def _end(status: int) -> NoReturn:
    """End at once, other threads and all; an exception on its way is printed first."""
    if sys.exc_info()[0] is not None:
        traceback.print_exc()
        status = 1
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()

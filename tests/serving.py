"""A server whose service needs no model: `python serving.py SOCKET`, `start` for that, `running` in this process."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import samples
from clipmk.settings import Settings
from clipmk.system.config import Config
from clipmk.worker import client, jobs, protocol, server, unix_socket
from clipmk.worker.client import Connection, connected, identity
from clipmk.worker.jobs import Job
from clipmk.worker.protocol import Done, ExplainImages, Failed, Final, ImageExplained, encode
from clipmk.worker.server import Server
from clipmk.worker.session import Session

PATIENCE = 60.0
"""Seconds until what does not happen counts as not happening; a busy machine stops threads and processes for a few."""

client.GREETING_SECONDS = client.STOP_SECONDS = unix_socket.WAIT_SECONDS = PATIENCE
jobs.HELLO_SECONDS = jobs.WRITE_SECONDS = server.END_SECONDS = PATIENCE

SESSION = Session(vocabulary=None, settings=Settings(), folder="/")


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeService:
    """Does what the model's name says; explains every image as `samples.explanation`.

    Attributes:
        seen: the first image of every request, in the order they were begun, and "!" before those cancelled.
        gate: requests for "waiting" and "absorbed" wait until it is set; those for "absorbed" cannot be cancelled.
        asks, added_classes: of every request.
        streamed: whether each was for some of many images.
        warm: `warm_up` waits until it is set.
    """

    models = ("waiting",)

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.gate = threading.Event()
        self.warm = threading.Event()
        self.warm.set()
        self.attached = b""
        self.streamed: list[bool] = []
        self.asks: list[tuple[str, ...]] = []
        self.added_classes: list[tuple[str, ...]] = []

    def warm_up(self) -> None:
        """There is nothing to import."""
        self.warm.wait(PATIENCE)

    def answer(self, job: Job) -> Final:
        """See `clipmk.worker.service.Service.answer`."""
        request = job.request
        if isinstance(request, protocol.Load):
            where = f"{job.session.vocabulary} in {job.session.folder}"
            return Failed(id=request.id, code="model", message=f"{where} by process {os.getpid()}")
        assert isinstance(request, ExplainImages)
        self.seen.append(request.images[0])
        self.attached = job.attached
        self.streamed.append(request.stream)
        self.asks.append(request.asks)
        self.added_classes.append(job.session.added_classes)
        try:
            return self._explain(request, job)
        except jobs.CancelledError:
            self.seen[-1] = f"!{self.seen[-1]}"
            raise

    def _explain(self, request: ExplainImages, job: Job) -> Final:
        job.report("parts", 1, 2)
        if request.model in {"waiting", "absorbed"}:
            self._wait(job.check if request.model == "waiting" else lambda: None)
        if request.model == "broken":
            raise ZeroDivisionError("on purpose")
        if request.model == "nan":
            return protocol.Explained(id=request.id, explanation=samples.explanation(independent=math.nan))
        if request.model == "dying":
            os.kill(os.getpid(), signal.SIGKILL)
        if request.model == "declined":
            return Failed(id=request.id, code="model", message="no such model")
        for image in request.images:
            if image.startswith("fatal"):
                os.kill(os.getpid(), signal.SIGKILL)
            job.send(self._result(request, image))
        return Done(id=request.id, count=len(request.images))

    def _wait(self, check: Callable[[], None]) -> None:
        until = time.monotonic() + PATIENCE
        while not self.gate.wait(0.01) and time.monotonic() < until:
            check()

    def _result(self, request: ExplainImages, image: str) -> ImageExplained:
        failed = functools.partial(ImageExplained, id=request.id, explanation=None)
        if image.startswith("gone"):
            return failed(code="image", message=f"image {image!r} does not exist")
        if image.startswith("infinite"):
            return failed(code="model", message="what it makes of this image is not finite")
        made = dataclasses.replace(samples.explanation(path=image), warnings=())
        if request.model == "large":
            made = dataclasses.replace(made, warnings=("x" * 2**24,))
        return ImageExplained(id=request.id, explanation=made)


def request(*images: str, model: str = "any", attached: int = 0) -> ExplainImages:
    """A request for images, "a.png" where none is named."""
    return ExplainImages(id=1, images=images or ("a.png",), model=model, attached=attached)


def ask(connection: Connection, wanted: ExplainImages, attached: bytes = b"") -> list[ImageExplained]:
    """The results of a request."""
    return list(connection.explain(wanted, attached, lambda *progress: None))


class Lines:
    """The client's end of a conversation as it is, without anything that understands it."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE)
        self._connection, self._lines = connection, connection.makefile("rb")

    def read(self) -> bytes:
        """The next line; empty at the end."""
        with contextlib.suppress(ConnectionError):
            return self._lines.readline()
        return b""

    def write(self, data: bytes) -> None:
        """Send everything."""
        self._connection.sendall(data)


@contextlib.contextmanager
def greeted(path: Path) -> Iterator[Lines]:
    """A client that has been greeted."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        lines = Lines(connection)
        assert lines.read()
        yield lines
        with contextlib.suppress(OSError):  # the server has hung up
            connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def raw(path: Path, *wanted: ExplainImages) -> Iterator[Lines]:
    """A client that has been greeted, has sent a session and some requests, and has read nothing more."""
    with greeted(path) as lines:
        hello = protocol.Hello(version=protocol.VERSION, session=SESSION)
        lines.write(b"".join(map(encode, (hello, *wanted))))
        yield lines


@contextlib.contextmanager
def talking(path: Path) -> Iterator[Connection]:
    """A conversation with the server that must be there."""
    with connected(path) as connection:
        assert connection is not None
        connection.begin(SESSION)
        yield connection


def start(path: Path) -> subprocess.Popen[bytes]:
    """A server in a process of its own."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, __file__, str(path)], env=env, stderr=subprocess.DEVNULL)
    wait_for(lambda: listens(path) or process.poll() is not None)
    return process


@contextlib.contextmanager
def running(
    path: Path,
    *,
    idle_s: float = 2 * PATIENCE,
    clock: Callable[[], float] = time.monotonic,
    service: FakeService | None = None,
) -> Iterator[FakeService]:
    """A server in a thread of this process."""
    fake = service or FakeService()
    one = Server(fake, idle_s=idle_s, identity=identity(Config()), clock=clock)
    thread = threading.Thread(target=one.serve, args=(path,))
    thread.start()
    try:
        wait_for(lambda: listens(path))
        yield fake
    finally:
        fake.gate.set()
        fake.warm.set()
        one.stop()
        thread.join()


def listens(path: Path) -> bool:
    """Whether a server listens at `path`."""
    return unix_socket.listener_pid(path) is not None


def wait_for(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Until it holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.005)


if __name__ == "__main__":
    one = Server(FakeService(), idle_s=2 * PATIENCE, identity=identity(Config()))
    sys.exit(0 if one.serve(Path(sys.argv[1])) else 1)

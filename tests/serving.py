"""A server whose worker needs no model: `python serving.py SOCKET`, `start` for that, `running` inside this process."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import samples
from clipmk.settings import Settings
from clipmk.system.config import Config
from clipmk.worker import client, server
from clipmk.worker.client import Connection, connected, listens
from clipmk.worker.identity import identity
from clipmk.worker.messages import Declined, Done, Order, Result, Working
from clipmk.worker.server import Server, stopped_by_signals
from clipmk.worker.workshop import AbandonedError, Tell

PATIENCE = 60.0
"""Seconds until what does not happen counts as not happening; a busy machine stops threads and processes for a few."""

client.GREETING_SECONDS = client.STOP_SECONDS = PATIENCE
server.SILENCE_SECONDS = server.TAKE_SECONDS = server.END_SECONDS = PATIENCE


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeWorker:
    """Does what the model's name says; explains every image as `samples.explanation`.

    Attributes:
        seen: the first image of every order, in the order they were begun, and "!" before those given up.
        gate: orders for "waiting" and "absorbed" wait until it is set; those for "absorbed" cannot be given up.
    """

    models = ("waiting",)

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.gate = threading.Event()
        self.attached = b""

    def warm_up(self) -> None:
        """There is nothing to import."""

    def work(self, order: Order, attached: bytes, tell: Tell, abandoned: Callable[[], bool] = lambda: False) -> None:
        """See `clipmk.worker.workshop.Workshop.work`."""
        self.seen.append(order.images[0])
        self.attached = attached
        try:
            self._answer(order, tell, abandoned)
        except AbandonedError:
            self.seen[-1] = f"!{self.seen[-1]}"
            raise

    def _answer(self, order: Order, tell: Tell, abandoned: Callable[[], bool]) -> None:
        tell(Working(stage="parts", done=1, total=2))
        if order.model in {"waiting", "absorbed"}:
            self._wait(abandoned if order.model == "waiting" else lambda: False)
        if order.model == "broken":
            raise ZeroDivisionError("on purpose")
        if order.model == "dying":
            os.kill(os.getpid(), signal.SIGKILL)
        if order.model == "declined":
            tell(Declined(code="model", message="no such model"))
            return
        for image in order.images:
            tell(self._result(order.model, image))
        tell(Done())

    def _wait(self, abandoned: Callable[[], bool]) -> None:
        until = time.monotonic() + PATIENCE
        while not self.gate.wait(0.01) and time.monotonic() < until:
            if abandoned():
                raise AbandonedError

    def _result(self, model: str, image: str) -> Result:
        if image.startswith("gone"):
            return Result(explanation=None, code="image", message=f"image {image!r} does not exist")
        if image.startswith("infinite"):
            return Result(explanation=None, code="model", message="what it makes of this image is not finite")
        made = dataclasses.replace(samples.explanation(path=image), warnings=())
        if model == "large":
            made = dataclasses.replace(made, warnings=("x" * 2**24,))
        return Result(explanation=made)


def order(image: str = "a.png", *, model: str = "any") -> Order:
    """An order for one image."""
    return Order(
        folder="/",
        images=(image,),
        model=model,
        vocabulary=None,
        classes=None,
        target=None,
        settings=Settings(),
        device="auto",
        precision="fp32",
        arch=None,
        cache=True,
    )


def ask(connection: Connection, wanted: Order, attached: bytes = b"") -> list[Result]:
    """The results of an order."""
    return list(connection.ask(wanted, attached, lambda working: None))


@contextlib.contextmanager
def talking(path: Path) -> Iterator[Connection]:
    """A conversation with the server that must be there."""
    with connected(path) as connection:
        assert connection is not None
        yield connection


def start(path: Path) -> subprocess.Popen[bytes]:
    """A server in a process of its own."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, __file__, str(path)], env=env, stderr=subprocess.DEVNULL)
    wait_for(lambda: listens(path) or process.poll() is not None)
    return process


@contextlib.contextmanager
def running(
    path: Path, *, idle_s: float = 2 * PATIENCE, clock: Callable[[], float] = time.monotonic
) -> Iterator[FakeWorker]:
    """A server in a thread of this process."""
    fake = FakeWorker()
    one = Server(fake, idle_s=idle_s, identity=identity(Config()), clock=clock)
    thread = threading.Thread(target=one.serve, args=(path,))
    thread.start()
    try:
        wait_for(lambda: listens(path))
        yield fake
    finally:
        fake.gate.set()
        one.stop()
        thread.join()


def wait_for(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Until it holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.005)


if __name__ == "__main__":
    one = Server(FakeWorker(), idle_s=2 * PATIENCE, identity=identity(Config()))
    with stopped_by_signals(one):
        sys.exit(0 if one.serve(Path(sys.argv[1])) else 1)

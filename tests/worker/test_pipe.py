"""The child process as its parent sees it: what comes out is the protocol and nothing else, and it ends with us."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clipmk.errors import UNEXPECTED
from clipmk.settings import preset
from clipmk.version import __version__
from clipmk.worker import protocol
from clipmk.worker.protocol import (
    Cancel,
    Compare,
    Explain,
    ExplainImages,
    Failed,
    Greeting,
    Hello,
    Load,
    decode,
    encode,
)
from clipmk.worker.session import Session

PATIENCE = 120.0
"""Seconds after which a worker counts as hanging, in one test."""

VIT = "embedded/vit-s8"
SESSION = Session(vocabulary="world", settings=preset("default"), device="cpu")
HELLO = Hello(version=protocol.VERSION, session=SESSION)

NOISY = """
import os, sys
from clipmk.worker import pipe, service
answer = service.Service.answer

def noisy(self, job):
    print("a library prints", flush=True)
    os.write(1, b"a library writes\\n")
    os.system("echo a child of a library writes")
    assert sys.stdin.read() == "" and os.read(0, 1) == b""
    if getattr(job.request, "model", "") == "a mistake":
        raise KeyError("nobody foresaw this")
    return answer(self, job)

service.Service.answer = noisy
pipe.main()
"""
"""The worker, in company of a library that prints in every way and tries to read."""


class Parent:
    """Speaks to a worker and listens; a worker that hangs is killed, so that a test fails and does not hang."""

    def __init__(self, *arguments: str, cache: Path | None = None) -> None:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
        env |= {} if cache is None else {"CLIPMK_CACHE_DIR": str(cache)}
        self.process = subprocess.Popen(
            [sys.executable, *(arguments or ("-m", "clipmk.worker.pipe"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._in, self._out = self.process.stdin, self.process.stdout
        self._limit = threading.Timer(PATIENCE, self.process.kill)
        self._limit.start()
        self.number = 0
        self.errors = ""

    def begin_anew(self) -> None:
        """The time it has begins now."""
        self._limit.cancel()
        self._limit = threading.Timer(PATIENCE, self.process.kill)
        self._limit.start()

    def send(self, *messages: Any) -> None:
        """Messages, or bytes as they are."""
        self._in.write(b"".join(one if isinstance(one, bytes) else encode(one) for one in messages))
        self._in.flush()

    def receive(self) -> Any:
        return decode(self._out.readline())

    def until(self, kind: type[Any], number: int) -> list[Any]:
        """What comes up to an answer of this kind and id."""
        received = [self.receive()]
        while not (isinstance(received[-1], kind) and received[-1].id == number):
            received.append(self.receive())
        return received

    def ask(self, request: Any) -> tuple[Any, list[Any]]:
        """The final answer, and the partial ones."""
        self.number += 1
        self.send(dataclasses.replace(request, id=self.number))
        *partial, final = self.until(protocol.Final, self.number)
        assert all(answer.id == self.number and isinstance(answer, protocol.Partial) for answer in partial)
        return final, partial

    def hang_up(self) -> int:
        """The exit status after the end of our side."""
        self._in.close()
        return self.process.wait()

    def stop(self) -> str:
        """What it wrote to stderr; what is left on stdout must be answers. May be called again."""
        self._limit.cancel()
        self.process.kill()
        self._in.close()
        if not self._out.closed:
            for line in self._out.read().splitlines(keepends=True):
                assert not line.endswith(b"\n") or isinstance(decode(line), protocol.Answer | Greeting)
            self._out.close()
        stderr = self.process.stderr
        assert stderr is not None
        if not stderr.closed:
            self.errors = stderr.read().decode()
            stderr.close()
        self.process.wait()
        return self.errors


@pytest.fixture
def parent() -> Iterator[Parent]:
    made = Parent()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def _busy(_cache: Path) -> Iterator[Parent]:
    made = Parent("-c", NOISY, cache=_cache)
    assert made.receive() == Greeting(protocol=protocol.VERSION, clipmk=__version__, pid=made.process.pid)
    made.send(HELLO)
    yield made
    made.begin_anew()
    long = ExplainImages(id=900, model=VIT, images=("none.png",) * 100_000)
    made.send(long)
    made.until(protocol.ImageExplained, 900)
    assert made.hang_up() == 0  # in the middle of it
    errors = made.stop()
    for words in ("a library prints", "a library writes", "a child of a library writes", "nobody foresaw this"):
        assert words in errors


@pytest.fixture
def worker(_busy: Parent) -> Parent:
    """One worker for all tests that need a model."""
    _busy.begin_anew()
    return _busy


@pytest.fixture
def image(scene_files: list[Path]) -> str:
    return str(scene_files[0])


def test_requests_are_answered_in_order_and_nothing_but_answers_is_on_stdout(worker: Parent, image: str) -> None:
    loaded, partial = worker.ask(Load(model="embedded/vit-xs8-48"))  # no other test has had it loaded
    assert isinstance(loaded, protocol.Loaded)
    assert partial[0] == protocol.Progress(id=loaded.id, stage="loading", done=0, total=0)
    explained, _ = worker.ask(Explain(model=VIT, image=image))
    assert explained.explanation.image.path == image
    compared, columns = worker.ask(Compare(models=(VIT, "nope"), image=image))
    assert compared.count == 2
    assert [one.code for one in columns if isinstance(one, protocol.ColumnReady)] == [None, "model"]


def test_an_unexpected_error_fails_the_request_and_not_the_worker(worker: Parent, image: str) -> None:
    answer, _ = worker.ask(Load(model="a mistake"))
    assert answer.code == UNEXPECTED
    assert answer.message == "KeyError: 'nobody foresaw this'"
    assert isinstance(worker.ask(Load(model=VIT))[0], protocol.Loaded)


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"{}\n",
        b"[1, 2]\n",
        b'{"type": "explain"}\n',
        b"\xff\xfe\n",
        b'{"type": "load", "id": "x", "model": 1}\n',
        encode(Greeting(protocol=2, clipmk="0", pid=1)),
    ],
)
def test_what_is_not_a_request_is_reported_and_ends_the_worker(parent: Parent, line: bytes) -> None:
    parent.receive()
    parent.send(HELLO, line)
    answer = parent.receive()
    assert (type(answer), answer.id, answer.code) == (Failed, 0, "protocol")
    assert parent.process.wait() == 2
    assert parent.stop() == ""


def test_a_running_request_and_one_that_waits_can_be_cancelled(worker: Parent, image: str) -> None:
    long = ExplainImages(id=500, model=VIT, images=(image,) * 20_000)
    worker.send(long, Load(id=501, model=VIT), Load(id=502, model=VIT))
    worker.until(protocol.ImageExplained, 500)
    worker.send(Cancel(request=501))
    received = worker.until(Failed, 501)
    assert received[-1].code == protocol.CANCELLED
    assert not any(isinstance(one, protocol.Final) for one in received[:-1])  # at once, while the other still runs
    worker.send(Cancel(request=500))
    *between, last = worker.until(protocol.Final, 500)
    assert last.code == protocol.CANCELLED
    assert len(between) < 20_000
    assert isinstance(worker.until(protocol.Final, 502)[-1], protocol.Loaded)
    worker.send(Cancel(request=502), Cancel(request=77))  # too late, and never asked: no answer
    assert isinstance(worker.ask(Load(model=VIT))[0], protocol.Loaded)


def test_the_worker_ignores_interrupts_from_the_terminal(worker: Parent) -> None:
    worker.process.send_signal(signal.SIGINT)
    assert isinstance(worker.ask(Load(model=VIT))[0], protocol.Loaded)


@pytest.mark.parametrize("half", [b"", b'{"type": "lo'])
def test_the_end_of_its_input_ends_the_worker(parent: Parent, half: bytes) -> None:
    parent.send(HELLO)
    parent.receive()
    parent.send(half)
    assert parent.hang_up() == 0


def test_a_parent_that_leaves_at_once_is_not_an_error(parent: Parent) -> None:
    assert parent.hang_up() == 0
    assert parent.stop() == ""


def test_a_parent_that_no_longer_reads_ends_the_worker(parent: Parent) -> None:
    parent.send(HELLO)
    parent.receive()
    parent._out.close()
    parent.send(b"{}\n")
    assert parent.process.wait() == 0


def test_a_killed_parent_leaves_no_worker() -> None:
    code = (
        "import os, subprocess, sys\n"
        "worker = [sys.executable, '-m', 'clipmk.worker.pipe']\n"
        "p = subprocess.Popen(worker, stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "p.stdin.write(sys.stdin.buffer.readline()); p.stdin.flush(); p.stdout.readline()\n"
        "os.kill(os.getpid(), 9)\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, input=encode(HELLO), capture_output=True, env=env, check=False)
    assert run.returncode == -signal.SIGKILL  # and the pipe of stderr, which the worker holds, has ended


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (Hello(version=protocol.VERSION + 1, session=SESSION), f"version {protocol.VERSION + 1}"),
        (Load(id=3, model=VIT), "Load"),
        (b"hello\n", "not a message of protocol"),
        (b'{"type":"hello","version":3,"session":{"new":1}}\n', "not a message of protocol"),
    ],
)
def test_another_greeting_is_refused(parent: Parent, first: Any, words: str) -> None:
    parent.receive()
    parent.send(first)
    answer = parent.receive()
    assert (type(answer), answer.id, answer.code) == (Failed, 0, "protocol")
    assert words in answer.message
    assert parent.process.wait() == 2
    assert parent.stop() == ""


def test_a_termination_ends_the_worker(parent: Parent) -> None:
    parent.send(HELLO)
    parent.receive()
    parent.process.terminate()
    assert parent.process.wait() == -signal.SIGTERM

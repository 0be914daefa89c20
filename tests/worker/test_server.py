"""The server without a model: requests and their answers, several clients, clients that would hold up the others."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import itertools
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import samples
from clipmk.worker import client, jobs, protocol, server, unix_socket
from clipmk.worker.protocol import Cancel, Failed, Hello, Load, RequestError, decode, encode
from serving import PATIENCE, SESSION, Lines, ask, greeted, listens, raw, request, running, talking, wait_for

pytestmark = pytest.mark.skipif(not unix_socket.supported(), reason="needs SO_PEERCRED")


# Requests.


def test_results_come_in_order_with_progress_and_without_loss(socket_path: Path) -> None:
    stages: list[str] = []
    with running(socket_path) as service, talking(socket_path) as connection:
        wanted = request("a.png", "gone.png", "b\udcff.png")
        found = list(connection.explain(wanted, b"", lambda stage, done, total: stages.append(stage)))
        first, second = (ask(connection, request("-")) for _ in range(2))
    assert [one.explanation for one in first] == [one.explanation for one in second]
    assert [one.explanation and one.explanation.image.path for one in found] == ["a.png", None, "b\udcff.png"]
    assert found[1].message == "image 'gone.png' does not exist"
    assert found[0].explanation is not None
    made = dataclasses.replace(samples.explanation(path="a.png"), warnings=())
    assert found[0].explanation.to_json() == made.to_json()
    assert {"parts"} <= set(stages) <= {"waiting", "loading", "parts"}  # a sign of life may repeat any
    assert service.seen == ["a.png", "-", "-"]


def test_attached_bytes_arrive_whole(socket_path: Path) -> None:
    data = os.urandom(3 * 2**20) + b"\n"
    with running(socket_path) as service, talking(socket_path) as connection:
        assert ask(connection, request("-", attached=len(data)), data)
        assert service.attached == data


@pytest.mark.parametrize(("model", "code"), [("declined", "model"), ("broken", "unexpected"), ("nan", "unexpected")])
def test_an_error_costs_one_request(socket_path: Path, model: str, code: str) -> None:
    with running(socket_path), talking(socket_path) as connection:
        with pytest.raises(RequestError) as raised:
            ask(connection, request(model=model))
        assert raised.value.reason == code
        assert ask(connection, request())


def test_clients_are_served_in_turn_and_each_gets_its_own(socket_path: Path) -> None:
    received: dict[str, list[str | None]] = {name: [] for name in "abcd"}

    def talk(name: str) -> None:
        with talking(socket_path) as connection:
            for number in range(5):
                (found,) = ask(connection, request(f"{name}{number}"))
                received[name].append(found.explanation and found.explanation.image.path)

    with running(socket_path) as service:
        threads = [threading.Thread(target=talk, args=(name,)) for name in received]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert received == {name: [f"{name}{number}" for number in range(5)] for name in received}
    assert len(service.seen) == 20


def test_a_waiting_client_gets_signs_of_life(socket_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 10 * server.PULSE_SECONDS <= client.SILENCE_SECONDS
    monkeypatch.setattr(server, "PULSE_SECONDS", 0.02)
    monkeypatch.setattr(client, "SILENCE_SECONDS", 1.0)
    first = request("1", model="waiting")
    with running(socket_path) as service, raw(socket_path, first), talking(socket_path) as second:
        wait_for(lambda: service.seen)
        stages: list[str] = []
        longer = time.monotonic() + 1.5 * client.SILENCE_SECONDS

        def receive(stage: str, done: int, total: int) -> None:
            stages.append(stage)
            if time.monotonic() > longer:
                service.gate.set()

        assert list(second.explain(request("2"), b"", receive))
        assert stages[:5] == ["waiting"] * 5


def test_one_client_may_have_several_requests_waiting_and_cancel_any(socket_path: Path) -> None:
    wanted = [dataclasses.replace(request(str(n), model="waiting"), id=n) for n in (1, 2, 3)]
    with running(socket_path) as service, raw(socket_path, *wanted) as lines:
        wait_for(lambda: service.seen)
        lines.write(encode(Cancel(request=2)) + encode(Cancel(request=1)))
        ended: list[int] = []
        while len(ended) < 2:
            answer = decode(lines.read())
            if isinstance(answer, Failed):
                assert answer.code == protocol.CANCELLED
                ended.append(answer.id)
        assert ended == [2, 1]
        service.gate.set()
        wait_for(lambda: service.seen == ["!1", "3"])


def test_more_waiting_requests_than_one_client_may_have_end_its_conversation(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "MOST_WAITING", 2)
    wanted = [dataclasses.replace(request(str(n), model="waiting"), id=n) for n in range(1, 6)]
    with running(socket_path) as service, raw(socket_path, *wanted) as lines:
        received = []
        while line := lines.read():
            received.append(decode(line))
        assert any(isinstance(one, Failed) and one.id == 0 and "are waiting" in one.message for one in received)
        with talking(socket_path) as other:
            assert ask(other, request("other"))
        assert set(service.seen) <= {"!1", "other"}


def test_requests_are_answered_under_the_session_of_their_client(socket_path: Path) -> None:
    with running(socket_path), contextlib.ExitStack() as held:
        for vocabulary in ("first", "second"):
            lines = held.enter_context(_named(socket_path, vocabulary))
            lines.write(encode(Load(id=5, model="m")))
            answer = decode(lines.read())
            assert isinstance(answer, Failed)
            assert answer.message.startswith(vocabulary)


def test_another_hello_is_another_session_for_what_follows(socket_path: Path) -> None:
    with running(socket_path), _named(socket_path, "first") as lines:
        session = dataclasses.replace(SESSION, vocabulary="second")
        for message in (Load(id=5, model="m"), Hello(version=protocol.VERSION, session=session), Load(id=6, model="m")):
            lines.write(encode(message))
        answers = [decode(lines.read()) for _ in range(2)]
        assert [one.message.split()[0] for one in answers if isinstance(one, Failed)] == ["first", "second"]


@contextlib.contextmanager
def _named(path: Path, vocabulary: str) -> Iterator[Lines]:
    with greeted(path) as lines:
        session = dataclasses.replace(SESSION, vocabulary=vocabulary)
        lines.write(encode(Hello(version=protocol.VERSION, session=session)))
        yield lines


# Clients that would hold up the others.


def test_a_client_that_does_not_say_hello_is_hung_up_on(socket_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(socket_path):
        monkeypatch.setattr(jobs, "HELLO_SECONDS", 0.1)
        with talking(socket_path) as patient, greeted(socket_path) as silent:
            assert silent.read() == b""
            assert ask(patient, request())  # who has said hello may take its time


def test_a_client_that_does_not_take_its_answer_is_hung_up_on(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "WRITE_SECONDS", 0.2)
    with running(socket_path) as service, raw(socket_path, request("large", model="large")):
        wait_for(lambda: service.seen)
        with talking(socket_path) as other:
            assert ask(other, request("other"))


HUGE = "1" * 400
EXPLAIN = encode(request())


@pytest.mark.parametrize(
    "sent",
    [
        b"x" * (2**20 + 10),
        b"hello\n",
        encode(protocol.Done(id=1, count=1)),
        encode(Hello(version=protocol.VERSION + 1, session=SESSION)),
        encode(request(attached=protocol.ATTACHED_BYTES + 1)),
        encode(request(attached=-1)),
        b"[" * 100_000 + b"\n",
        EXPLAIN.replace(b'"id":1', b'"id":' + HUGE.encode()),
        EXPLAIN.replace(b'"id":1', b'"id":' + 20 * HUGE.encode()),
        EXPLAIN.replace(b'"id":1', b'"id":1e999'),
        EXPLAIN.replace(b'"id":1', b'"id":Infinity'),
    ],
    ids=[
        *("endless", "no JSON", "no request", "another version", "too much", "too little", "deep"),
        *("400 digits", "8000 digits", "overflow", "infinite"),
    ],
)
def test_nonsense_ends_the_conversation_and_the_server_goes_on(
    socket_path: Path, sent: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(protocol, "REQUEST_BYTES", 2**20)
    with running(socket_path) as service:
        with raw(socket_path) as lines:
            with contextlib.suppress(BrokenPipeError):  # it may hang up before it has read all
                lines.write(sent)
            line = lines.read()
            if line:  # else it closed the connection while we were writing
                answer = decode(line)
                assert (type(answer), getattr(answer, "id", 1), getattr(answer, "code", "")) == (Failed, 0, "protocol")
            assert lines.read() == b""
        with talking(socket_path) as connection:
            assert ask(connection, request())
        assert service.seen == ["a.png"]
    assert [one.message for one in caplog.records if one.name == "asyncio"] == []


@pytest.mark.parametrize("number", [HUGE, f"-{HUGE}", "1e999", "NaN"])
def test_a_setting_that_is_too_large_or_not_finite_is_declined(socket_path: Path, number: str) -> None:
    hello = json.loads(encode(Hello(version=protocol.VERSION, session=SESSION)))
    name = next(key for key, value in hello["session"]["settings"].items() if isinstance(value, float))
    hello["session"]["settings"][name] = "here"
    line = json.dumps(hello).replace('"here"', number).encode() + b"\n"
    with running(socket_path), greeted(socket_path) as lines:
        lines.write(line)
        answer = decode(lines.read())
        assert isinstance(answer, Failed)
        assert "is not a message of protocol" in answer.message


def test_without_file_descriptors_accepting_pauses_and_is_logged_once(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "PULSE_SECONDS", 0.02)
    tried: list[float] = []
    real = socket.socket.accept

    def accept(listener: socket.socket) -> object:
        tried.append(time.monotonic())
        if len(tried) <= 3:
            raise OSError(errno.EMFILE, "Too many open files")
        return real(listener)

    monkeypatch.setattr(socket.socket, "accept", accept)
    with caplog.at_level(logging.WARNING), running(socket_path), talking(socket_path) as connection:
        assert ask(connection, request())
    assert all(after - before >= 0.019 for before, after in itertools.pairwise(tried[:4]))
    ours = [one.message for one in caplog.records if "accepted" in one.message]  # another test's server may end late
    assert ours == ["no client is accepted until file descriptors are free: Too many open files"]


def test_clients_leave_the_worker_the_file_descriptors_that_it_needs(socket_path: Path) -> None:
    limit = server.OWN_DESCRIPTORS + 3
    code = (
        "import resource, sys; sys.path[:0] = sys.argv[2:]\nfrom pathlib import Path\nimport serving\n"
        f"from clipmk.worker import server\nassert server._most_clients() == 32\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))\n"
        "class Reading(serving.FakeService):\n"
        "    def answer(self, job):\n"
        "        files = [open('/dev/null') for _ in range(16)]\n"
        "        return super().answer(job)\n"
        "server.Server(Reading(), idle_s=60, identity={}).serve(Path(sys.argv[1]))\n"
    )
    command = [sys.executable, "-c", code, str(socket_path), *filter(None, sys.path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process, contextlib.ExitStack() as held:
        wait_for(lambda: listens(socket_path) or process.poll() is not None)
        first = held.enter_context(talking(socket_path))
        for _ in range(40):
            extra = held.enter_context(socket.socket(socket.AF_UNIX))
            extra.connect(str(socket_path))
        assert ask(first, request())
        process.terminate()
        errors = process.communicate(timeout=PATIENCE)[1]
    assert "Traceback" not in errors
    assert "file descriptors" not in errors

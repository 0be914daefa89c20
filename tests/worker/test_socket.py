"""The server without a model: orders and their answers, clients that would hold up the others, lines and messages."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from clipmk.errors import ProtocolError
from clipmk.system.serialization import plain
from clipmk.worker import client, messages, place, server
from clipmk.worker import stream as streams
from clipmk.worker.client import DeclinedError
from clipmk.worker.stream import Stream
from serving import PATIENCE, Clock, ask, order, running, talking, wait_for

pytestmark = pytest.mark.skipif(not place.supported(), reason="needs SO_PEERCRED")


# Orders.


def test_results_come_in_order_with_progress_and_without_loss(socket_path: Path) -> None:
    wanted = order()
    wanted = type(wanted)(**{**_fields(wanted), "images": ("a.png", "gone.png", "b\udcff.png")})
    stages: list[str] = []
    with running(socket_path) as worker, talking(socket_path) as connection:
        found = list(connection.ask(wanted, b"", lambda working: stages.append(working.stage)))
        assert ask(connection, order("-"), b"") == ask(connection, order("-"), b"")
    assert [one.explanation and one.explanation.image.path for one in found] == ["a.png", None, "b\udcff.png"]
    assert found[1].message == "image 'gone.png' does not exist"
    assert found[0].explanation is not None
    from samples import explanation  # noqa: PLC0415

    made = dataclasses.replace(explanation(path="a.png"), warnings=())
    assert found[0].explanation.to_json() == made.to_json()
    assert {"parts"} <= set(stages) <= {"waiting", "parts"}  # a sign of life may repeat any
    assert worker.seen == ["a.png", "-", "-"]


def _fields(wanted: messages.Order) -> dict[str, object]:
    return {name: getattr(wanted, name) for name in type(wanted).__dataclass_fields__}


def test_attached_bytes_arrive_whole(socket_path: Path) -> None:
    data = os.urandom(3 * 2**20) + b"\n"
    wanted = type(order())(**{**_fields(order("-")), "attached": len(data)})
    with running(socket_path) as worker, talking(socket_path) as connection:
        assert ask(connection, wanted, data)
        assert worker.attached == data


@pytest.mark.parametrize(("model", "code"), [("declined", "model"), ("broken", "unexpected")])
def test_what_goes_wrong_costs_one_order(socket_path: Path, model: str, code: str) -> None:
    with running(socket_path), talking(socket_path) as connection:
        with pytest.raises(DeclinedError) as raised:
            ask(connection, order(model=model))
        assert raised.value.reason == code
        assert ask(connection, order())


def test_clients_are_served_in_turn_and_each_gets_its_own(socket_path: Path) -> None:
    heard: dict[str, list[str | None]] = {name: [] for name in "abcd"}

    def talk(name: str) -> None:
        with talking(socket_path) as connection:
            for number in range(5):
                (found,) = ask(connection, order(f"{name}{number}"))
                heard[name].append(found.explanation and found.explanation.image.path)

    with running(socket_path) as worker:
        threads = [threading.Thread(target=talk, args=(name,)) for name in heard]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert heard == {name: [f"{name}{number}" for number in range(5)] for name in heard}
    assert len(worker.seen) == 20


def test_a_waiting_client_hears_signs_of_life(socket_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 10 * server.PULSE_SECONDS <= client.PULSE_SECONDS
    clock = Clock()
    monkeypatch.setattr(server, "PULSE_SECONDS", 0.02)
    monkeypatch.setattr(streams, "time", SimpleNamespace(monotonic=clock))
    with running(socket_path) as worker, talking(socket_path) as first, talking(socket_path) as second:
        first._stream.write(messages.encode(order("1", model="waiting")), seconds=PATIENCE)
        wait_for(lambda: worker.seen)
        stages: list[str] = []

        def hear(working: messages.Working) -> None:
            stages.append(working.stage)
            clock.now += 0.9 * client.PULSE_SECONDS  # so that all signs take longer than a client waits for one
            if len(stages) == 5:
                worker.gate.set()

        assert list(second.ask(order("2"), b"", hear))
        assert stages[:5] == ["waiting"] * 5


# Clients that would hold up the others.


def test_a_client_that_says_nothing_is_hung_up_on(socket_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(socket_path):
        with talking(socket_path), talking(socket_path) as other:
            assert ask(other, order())
        monkeypatch.setattr(server, "SILENCE_SECONDS", 0.1)
        with talking(socket_path) as silent:
            assert silent._stream.read_line(limit=100, seconds=PATIENCE) == b""


def test_a_client_that_does_not_take_its_answer_is_hung_up_on(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "TAKE_SECONDS", 0.2)
    with running(socket_path) as worker, talking(socket_path) as deaf:
        deaf._stream.write(messages.encode(order("large", model="large")), seconds=PATIENCE)
        wait_for(lambda: worker.seen)
        with talking(socket_path) as other:
            assert ask(other, order("other"))


@pytest.mark.parametrize(
    "said",
    [
        b"x" * (messages.ORDER_BYTES + 10),
        b"hello\n",
        messages.encode(messages.Done()),
        messages.encode(type(order())(**{**_fields(order()), "attached": messages.ATTACHED_BYTES + 1})),
        messages.encode(type(order())(**{**_fields(order()), "attached": -1})),
        b"[" * 100_000 + b"\n",
    ],
    ids=["endless", "no JSON", "no order", "too much", "too little", "deep"],
)
def test_nonsense_is_hung_up_on_and_the_server_goes_on(socket_path: Path, said: bytes) -> None:
    with running(socket_path) as worker:
        with talking(socket_path) as connection:
            with contextlib.suppress(BrokenPipeError):  # it may hang up before it has heard all
                connection._stream.write(said, seconds=PATIENCE)
            assert connection._stream.read_line(limit=2**16, seconds=PATIENCE) == b""
        with talking(socket_path) as connection:
            assert ask(connection, order())
        assert worker.seen == ["a.png"]


def test_two_orders_at_once_are_one_too_many(socket_path: Path) -> None:
    with running(socket_path) as worker, talking(socket_path) as connection:
        connection._stream.write(messages.encode(order("1", model="waiting")), seconds=PATIENCE)
        wait_for(lambda: worker.seen)
        connection._stream.write(messages.encode(order("2")), seconds=PATIENCE)
        while connection._stream.read_line(limit=2**16, seconds=PATIENCE):
            pass
        wait_for(lambda: worker.seen == ["!1"])


# Lines and messages.


def test_messages_survive_the_wire() -> None:
    for message in (order("b\udcff\n.png"), messages.Done(), messages.Working(stage="texts", done=1, total=3)):
        line = messages.encode(message)
        assert line.count(b"\n") == 1
        assert line.isascii()
        again = messages.decode(line)
        assert (type(again), plain(again)) == (type(message), plain(message))


def test_lines_are_put_together_and_bounded() -> None:
    one, other = socket.socketpair()
    stream = Stream(one)
    other.sendall(b"first\nsec")
    assert stream.read_line(limit=100, seconds=1) == b"first\n"
    with pytest.raises(TimeoutError):
        stream.read_line(limit=100, seconds=0.01)
    other.sendall(b"ond\nblock")
    assert stream.read_line(limit=100, seconds=1) == b"second\n"
    assert stream.read_block(3, seconds=1) == b"blo"
    other.sendall(b"x" * 200 + b"\n")
    with pytest.raises(ProtocolError, match="longer than 100 bytes"):
        stream.read_line(limit=100, seconds=1)
    other.close()
    assert stream.read_line(limit=1_000, seconds=1).startswith(b"ckxx")
    assert stream.read_line(limit=1_000, seconds=1) == b""
    assert not stream.silent(5)
    with pytest.raises(OSError, match="pipe"):
        stream.write(b"x", seconds=1)
    stream.close()


def test_a_write_that_nobody_takes_ends_in_time() -> None:
    one, other = socket.socketpair()
    with other:
        stream = Stream(one)
        with pytest.raises(TimeoutError):
            stream.write(b"x" * 2**24, seconds=0.05)
        stream.write_if_free(b"y\n")  # neither waits nor fails
        stream.close()

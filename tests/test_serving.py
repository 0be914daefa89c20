"""The server without a model: who may ask, in which order, and what a client or server that vanishes leaves behind."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from clipmk.errors import ClipmkError, ProtocolError
from clipmk.records import plain
from clipmk.serving import client, messages, place, server
from clipmk.serving.client import DeclinedError, UnusableServerError, connected
from clipmk.serving.identity import differences, identity
from clipmk.serving.place import Peer, listening
from clipmk.serving.stream import Stream
from serving import FakeWorker, ask, order, running, talking, wait_for

pytestmark = pytest.mark.skipif(not place.supported(), reason="needs SO_PEERCRED")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "private" / "s.sock"


def start(path: Path) -> subprocess.Popen[bytes]:
    """A server in a process of its own."""
    script = Path(__file__).with_name("serving.py")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, str(script), str(path)], env=env, stderr=subprocess.DEVNULL)
    wait_for(lambda: client.listens(path) or process.poll() is not None)
    return process


# The place.


def test_socket_and_folder_are_the_owners_alone_and_the_socket_goes_with_the_server(path: Path) -> None:
    with running(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.with_name("s.sock.lock").stat().st_mode) == 0o600
    assert not path.exists()


def test_a_second_server_is_refused_and_leaves_the_first_alone(path: Path) -> None:
    with running(path) as worker:
        with pytest.raises(ClipmkError, match=rf"listens at '.*s.sock' already \(process {os.getpid()}\)"):
            server.Server(worker, idle_s=1, identity={}).serve(path)
        with talking(path) as connection:
            assert ask(connection, order())


def test_what_a_killed_server_left_is_replaced(path: Path) -> None:
    process = start(path)
    process.kill()
    process.wait()
    assert path.exists()
    with connected(path) as nobody:
        assert nobody is None
    with running(path), talking(path) as connection:
        assert ask(connection, order())


@pytest.mark.parametrize("content", ["file", "folder"])
def test_what_is_no_socket_is_left_alone(path: Path, content: str) -> None:
    path.parent.mkdir()
    path.write_text("mine") if content == "file" else path.mkdir()
    with pytest.raises(ClipmkError, match="exists and is no socket; it is left alone"), listening(path):
        pass
    assert path.exists()


def test_a_folder_in_which_others_could_replace_the_socket_is_refused(path: Path) -> None:
    path.parent.mkdir()
    path.parent.chmod(0o777)
    with pytest.raises(ClipmkError, match="writable for others"), listening(path):
        pass
    path.parent.chmod(0o1777)  # like /tmp: nobody can remove what is not theirs
    with listening(path):
        pass


def test_another_users_folder_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.parent.mkdir()
    os.chown(path.parent, 12345, -1) if os.getuid() == 0 else monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(ClipmkError, match="belongs to another user"), listening(path):
        pass


def test_a_socket_whose_name_is_too_long_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ClipmkError, match=r"too long a name \(100 bytes at most\)"), listening(tmp_path / ("x" * 100)):
        pass


def test_a_system_without_private_sockets_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "SO_PEERCRED")
    with pytest.raises(ClipmkError, match="needs Unix sockets"), listening(path):
        pass
    with connected(path) as nobody:
        assert nobody is None


# Who may ask.


def test_the_kernel_says_who_is_at_the_other_end(path: Path) -> None:
    process = start(path)
    with talking(path) as connection:
        assert connection.peer == Peer(process.pid, os.getuid())
    process.terminate()
    assert process.wait() == 0


def test_another_users_process_is_turned_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "peer_of", lambda connection: Peer(1, os.getuid() + 1))
    with running(path) as worker:
        with pytest.raises(UnusableServerError, match="turned us away"), connected(path):
            pass
        assert worker.seen == []


def test_another_users_server_is_told_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "peer_of", lambda connection: Peer(1, 4321))
    with running(path), pytest.raises(UnusableServerError, match="belongs to user 4321"), connected(path):
        pass


def test_more_clients_than_there_is_room_for_are_turned_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(path), talking(path) as first:
        monkeypatch.setattr(server, "CLIENTS", 1)
        with pytest.raises(UnusableServerError, match="turned us away"), connected(path):
            pass
        assert ask(first, order())


# Versions.


@pytest.fixture
def impostor(path: Path) -> Iterator[list[bytes]]:
    """Something that listens and greets with what it is given."""
    greeting: list[bytes] = []
    path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def greet() -> None:
            connection, _ = listener.accept()
            connection.sendall(greeting[0])
            connection.close()

        thread = threading.Thread(target=greet)
        thread.start()
        yield greeting
        thread.join()


@pytest.mark.parametrize(
    ("greeting", "words"),
    [
        ({"protocol": 99, "clipmk": "7.0", "new": 1}, "it is clipmk 7.0, protocol 99; this is "),
        ({"protocol": messages.VERSION, "clipmk": "0.0.1"}, "it is clipmk 0.0.1"),
        (b"220 mail.example\n", "no server of clipmk"),
        (b"[1]\n", "no server of clipmk"),
        (b"", "turned us away"),
        (b'{"protocol": 1', "turned us away"),
    ],
)
def test_another_version_or_another_program_is_not_asked(
    path: Path, impostor: list[bytes], greeting: dict[str, object] | bytes, words: str
) -> None:
    impostor.append(greeting if isinstance(greeting, bytes) else json.dumps(greeting).encode() + b"\n")
    with pytest.raises(UnusableServerError, match=words), talking(path) as connection:
        connection.welcome()


def test_a_server_of_other_circumstances_is_not_asked(path: Path) -> None:
    from clipmk.config import Config  # noqa: PLC0415

    ours = identity(Config())
    with running(path), talking(path) as connection:
        connection.require_like_us(ours)
        with pytest.raises(UnusableServerError, match="started with other models, variables"):
            connection.require_like_us({**ours, "models": "x", "variables": "y"})


def test_registered_models_and_variables_are_part_of_the_circumstances(monkeypatch: pytest.MonkeyPatch) -> None:
    from clipmk.config import Config  # noqa: PLC0415

    before = identity(Config(theme="dark"))
    assert before == identity(Config(theme="light"))
    assert differences(before, identity(Config(models={"mine": "local-dir:a"}))) == ["models"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert differences(before, identity(Config())) == ["variables"]


# Orders.


def test_results_come_in_order_with_progress_and_without_loss(path: Path) -> None:
    wanted = order()
    wanted = type(wanted)(**{**_fields(wanted), "images": ("a.png", "gone.png", "b\udcff.png")})
    stages: list[str] = []
    with running(path) as worker, talking(path) as connection:
        found = list(connection.ask(wanted, b"", lambda working: stages.append(working.stage)))
        assert ask(connection, order("-"), b"") == ask(connection, order("-"), b"")
    assert [one.explanation and one.explanation.image.path for one in found] == ["a.png", None, "b\udcff.png"]
    assert found[1].message == "image 'gone.png' does not exist"
    assert found[0].explanation is not None
    from samples import explanation  # noqa: PLC0415

    made = dataclasses.replace(explanation(path="a.png"), warnings=())
    assert found[0].explanation.to_json() == made.to_json()
    assert stages == ["parts"]
    assert worker.seen == ["a.png", "-", "-"]


def _fields(wanted: messages.Order) -> dict[str, object]:
    return {name: getattr(wanted, name) for name in type(wanted).__dataclass_fields__}


def test_attached_bytes_arrive_whole(path: Path) -> None:
    data = os.urandom(3 * 2**20) + b"\n"
    wanted = type(order())(**{**_fields(order("-")), "attached": len(data)})
    with running(path) as worker, talking(path) as connection:
        assert ask(connection, wanted, data)
        assert worker.attached == data


@pytest.mark.parametrize(("model", "code"), [("declined", "model"), ("broken", "unexpected")])
def test_what_goes_wrong_costs_one_order(path: Path, model: str, code: str) -> None:
    with running(path), talking(path) as connection:
        with pytest.raises(DeclinedError) as raised:
            ask(connection, order(model=model))
        assert raised.value.reason == code
        assert ask(connection, order())


def test_clients_are_served_in_turn_and_each_gets_its_own(path: Path) -> None:
    heard: dict[str, list[str | None]] = {name: [] for name in "abcd"}

    def talk(name: str) -> None:
        with talking(path) as connection:
            for number in range(5):
                (found,) = ask(connection, order(f"{name}{number}"))
                heard[name].append(found.explanation and found.explanation.image.path)

    with running(path) as worker:
        threads = [threading.Thread(target=talk, args=(name,)) for name in heard]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert heard == {name: [f"{name}{number}" for number in range(5)] for name in heard}
    assert len(worker.seen) == 20


def test_a_waiting_client_hears_signs_of_life(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "PULSE_SECONDS", 0.02)
    monkeypatch.setattr(client, "PULSE_SECONDS", 0.5)
    with running(path) as worker, talking(path) as first, talking(path) as second:
        first._stream.write(messages.encode(order("1", model="waiting")), seconds=1)
        wait_for(lambda: worker.seen)
        stages: list[str] = []

        def hear(working: messages.Working) -> None:
            stages.append(working.stage)
            if len(stages) > 50:  # about a second: twice as long as a client waits for a lost server
                worker.gate.set()

        assert list(second.ask(order("2"), b"", hear))
        assert stages[:40] == ["waiting"] * 40


# Clients and servers that vanish.


def test_a_killed_client_ends_its_order_and_nobody_elses(path: Path) -> None:
    code = (
        "import os, sys; sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path; from serving import talking, order, ask\n"
        "with talking(Path(sys.argv[1])) as c: ask(c, order('slow', model='waiting'))\n"
    )
    with running(path) as worker:
        process = subprocess.Popen([sys.executable, "-c", code, str(path), *filter(None, sys.path)])
        wait_for(lambda: worker.seen == ["slow"])
        process.kill()
        process.wait()
        with talking(path) as connection:
            assert ask(connection, order("next"))
        assert worker.seen == ["!slow", "next"]


def test_an_order_whose_client_left_the_queue_is_never_begun(path: Path) -> None:
    with running(path) as worker, talking(path) as first:
        first._stream.write(messages.encode(order("1", model="waiting")), seconds=1)
        wait_for(lambda: worker.seen)
        with talking(path) as second:
            second._stream.write(messages.encode(order("2")), seconds=1)
            wait_for(lambda: _waiting(path) == 2)
        wait_for(lambda: _listeners() == 1)  # the server has noticed that the second hung up
        worker.gate.set()
        with talking(path) as third:
            assert ask(third, order("3"))
        assert worker.seen == ["1", "3"]


def _listeners() -> int:
    return sum(thread.name.startswith("client ") for thread in threading.enumerate())


def _waiting(path: Path) -> int:
    return _welcome(path).waiting


def _welcome(path: Path) -> messages.Welcome:
    with talking(path) as connection:
        return connection.welcome()


def test_a_killed_server_is_an_error_for_who_waits(path: Path) -> None:
    process = start(path)
    with talking(path) as connection, pytest.raises(UnusableServerError, match="lost: it hung up"):
        ask(connection, order(model="dying"))
    assert process.wait() == -signal.SIGKILL


def test_a_server_that_stands_still_is_given_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PULSE_SECONDS", 0.2)
    process = start(path)
    with talking(path) as connection:
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(UnusableServerError, match="lost: the other end is silent"):
            ask(connection, order())
    process.kill()
    process.wait()


def test_a_termination_ends_the_server_in_the_middle_of_an_order(path: Path) -> None:
    process = start(path)
    with talking(path) as connection:
        connection._stream.write(messages.encode(order(model="waiting")), seconds=1)
        wait_for(lambda: _waiting(path) == 1)
        assert client.stop(path) == process.pid
        with pytest.raises(UnusableServerError, match="lost"):
            ask(connection, order())
    assert process.wait() == 0
    assert not path.exists()
    assert client.stop(path) is None


def test_an_interrupt_ends_the_server(path: Path) -> None:
    process = start(path)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 0
    assert not path.exists()


def test_a_hang_up_that_nohup_ignores_does_not_end_the_server(path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = start(path)
    finally:
        signal.signal(signal.SIGHUP, before)
    process.send_signal(signal.SIGHUP)
    with talking(path) as connection:
        assert ask(connection, order())
    assert client.stop(path) == process.pid
    assert process.wait() == 0


# Clients that would hold up the others.


def test_a_client_that_says_nothing_is_hung_up_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "SILENCE_SECONDS", 0.1)
    with running(path), talking(path) as silent:
        with talking(path) as other:
            assert ask(other, order())
        assert silent._stream.read_line(limit=100, seconds=5) == b""


def test_a_client_that_does_not_take_its_answer_is_hung_up_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "TAKE_SECONDS", 0.2)
    with running(path) as worker, talking(path) as deaf:
        deaf._stream.write(messages.encode(order("large", model="large")), seconds=1)
        wait_for(lambda: worker.seen)
        with talking(path) as other:
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
def test_nonsense_is_hung_up_on_and_the_server_goes_on(path: Path, said: bytes) -> None:
    with running(path) as worker:
        with talking(path) as connection:
            connection._stream.write(said, seconds=5)
            assert connection._stream.read_line(limit=2**16, seconds=5) == b""
        with talking(path) as connection:
            assert ask(connection, order())
        assert worker.seen == ["a.png"]


def test_two_orders_at_once_are_one_too_many(path: Path) -> None:
    with running(path) as worker, talking(path) as connection:
        connection._stream.write(messages.encode(order("1", model="waiting")), seconds=1)
        wait_for(lambda: worker.seen)
        connection._stream.write(messages.encode(order("2")), seconds=1)
        while connection._stream.read_line(limit=2**16, seconds=5):
            pass
        wait_for(lambda: worker.seen == ["!1"])


# The end.


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_idle_server_ends_by_itself_but_not_while_it_works(path: Path) -> None:
    clock = Clock()
    with running(path, idle_s=10, clock=clock) as worker:
        with talking(path) as connection:
            connection._stream.write(messages.encode(order(model="waiting")), seconds=1)
            wait_for(lambda: worker.seen)
            clock.now = 25
            assert _waiting(path) == 1  # it lets people in: it has not ended
            worker.gate.set()
            wait_for(lambda: _welcome(path).orders == 1)
            clock.now = 34
            assert _welcome(path).orders == 1  # idle for nine seconds only
        clock.now = 36
        wait_for(lambda: not path.exists())


def test_a_look_at_the_server_does_not_keep_it_up(path: Path) -> None:
    clock = Clock()
    with running(path, idle_s=10, clock=clock):
        clock.now = 9
        assert _welcome(path).orders == 0
        clock.now = 11
        wait_for(lambda: not path.exists())


def test_a_worker_that_cannot_start_ends_the_server(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeWorker, "warm_up", lambda self: 1 / 0)
    monkeypatch.setattr(threading, "excepthook", lambda arguments: None)
    with pytest.raises(ClipmkError, match="its worker could not go on"):
        server.Server(FakeWorker(), idle_s=60, identity={}).serve(path)
    assert not path.exists()


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

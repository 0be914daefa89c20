"""Where the server listens, who may ask it, which servers are not asked, and what is never signalled."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import signal
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from clipmk.errors import ClipmkError
from clipmk.worker import client, protocol, server, unix_socket
from clipmk.worker.client import UnusableServerError, connected, differences, identity
from clipmk.worker.unix_socket import Peer, listening
from serving import ask, request, running, start, talking

pytestmark = pytest.mark.skipif(not unix_socket.supported(), reason="needs SO_PEERCRED")


# The socket.


def test_socket_and_folder_are_the_owners_alone_and_the_socket_goes_with_the_server(socket_path: Path) -> None:
    with running(socket_path):
        assert stat.S_IMODE(socket_path.stat().st_mode) == 0o600
        assert stat.S_IMODE(socket_path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(socket_path.with_name("s.sock.lock").stat().st_mode) == 0o600
    assert not socket_path.exists()


def test_a_second_server_is_refused_and_leaves_the_first_alone(socket_path: Path) -> None:
    with running(socket_path) as service:
        with pytest.raises(ClipmkError, match=rf"listens at '.*s.sock' already \(process {os.getpid()}\)"):
            server.Server(service, idle_s=1, identity={}).serve(socket_path)
        with talking(socket_path) as connection:
            assert ask(connection, request())


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS])
def test_without_locks_a_server_that_answers_is_not_replaced(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def flock(*_: object) -> None:
        raise OSError(code, "no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)
    process = start(socket_path)
    process.kill()
    process.wait()
    socket_path.with_name("s.sock.lock").unlink()  # that process had locks, and such a file means nothing to them
    with listening(socket_path), pytest.raises(ClipmkError, match="a server listens at"), listening(socket_path):
        pass


def test_what_a_killed_server_left_is_replaced(socket_path: Path) -> None:
    process = start(socket_path)
    process.kill()
    process.wait()
    assert socket_path.exists()
    with connected(socket_path) as nobody:
        assert nobody is None
    with running(socket_path), talking(socket_path) as connection:
        assert ask(connection, request())


@pytest.mark.parametrize("content", ["file", "folder"])
def test_a_file_that_is_not_a_socket_is_left_alone(socket_path: Path, content: str) -> None:
    socket_path.parent.mkdir()
    socket_path.write_text("mine") if content == "file" else socket_path.mkdir()
    with pytest.raises(ClipmkError, match="exists and is not a socket; it is left alone"), listening(socket_path):
        pass
    assert socket_path.exists()


def test_a_folder_in_which_others_could_replace_the_socket_is_refused(socket_path: Path) -> None:
    socket_path.parent.mkdir()
    socket_path.parent.chmod(0o777)
    with pytest.raises(ClipmkError, match="writable by others"), listening(socket_path):
        pass
    socket_path.parent.chmod(0o1777)  # like /tmp: nobody can remove what is not theirs
    with listening(socket_path):
        pass


def test_another_users_folder_is_refused(socket_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    socket_path.parent.mkdir()
    os.chown(socket_path.parent, 12345, -1) if os.getuid() == 0 else monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(ClipmkError, match="belongs to another user"), listening(socket_path):
        pass


def test_a_socket_whose_name_is_too_long_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ClipmkError, match=r"too long a path \(100 bytes at most\)"), listening(tmp_path / ("x" * 100)):
        pass


def test_a_system_without_private_sockets_is_refused(socket_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "SO_PEERCRED")
    with pytest.raises(ClipmkError, match="needs Unix sockets"), listening(socket_path):
        pass
    with connected(socket_path) as nobody:
        assert nobody is None


# Who may ask.


def test_the_kernel_says_who_is_at_the_other_end(socket_path: Path) -> None:
    process = start(socket_path)
    with talking(socket_path) as connection:
        assert connection.peer == Peer(process.pid, os.getuid())
    process.terminate()
    assert process.wait() == 0


def test_another_users_process_is_turned_away(socket_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "peer_of", lambda connection: Peer(1, os.getuid() + 1))
    with running(socket_path) as service:
        with pytest.raises(UnusableServerError, match="refused the connection"), connected(socket_path):
            pass
        assert service.seen == []


def test_another_users_server_is_sent_nothing(socket_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "peer_of", lambda connection: Peer(1, 4321))
    with running(socket_path), pytest.raises(UnusableServerError, match="belongs to user 4321"), connected(socket_path):
        pass


def test_clients_beyond_the_limit_are_turned_away(socket_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(socket_path), talking(socket_path) as first:
        monkeypatch.setattr(server, "CLIENTS", 1)
        with pytest.raises(UnusableServerError, match="refused the connection"), connected(socket_path):
            pass
        assert ask(first, request())


# Versions.


@pytest.fixture
def impostor(socket_path: Path) -> Iterator[list[bytes]]:
    """Something that listens and greets with what it is given."""
    greeting: list[bytes] = []
    socket_path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path))
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
        ({"protocol": protocol.VERSION, "clipmk": "0.0.1"}, "it is clipmk 0.0.1"),
        (b"220 mail.example\n", "is not a server of clipmk"),
        (b"[1]\n", "is not a server of clipmk"),
        (b"", "refused the connection"),
        (b'{"protocol": 1', "refused the connection"),
    ],
)
def test_another_version_or_another_program_is_not_asked(
    socket_path: Path, impostor: list[bytes], greeting: dict[str, object] | bytes, words: str
) -> None:
    impostor.append(greeting if isinstance(greeting, bytes) else json.dumps(greeting).encode() + b"\n")
    with pytest.raises(UnusableServerError, match=words), _greeted(socket_path):
        pass


@contextlib.contextmanager
def _greeted(path: Path) -> Iterator[protocol.Greeting]:
    with connected(path) as connection:
        assert connection is not None
        yield client.read_greeting(connection.first_line)


def test_a_server_with_another_identity_is_not_used(socket_path: Path) -> None:
    from clipmk.system.config import Config  # noqa: PLC0415

    ours = identity(Config())
    with running(socket_path), talking(socket_path) as connection:
        client.require_same(client.read_greeting(connection.first_line), ours)
        with pytest.raises(UnusableServerError, match="started with other models, variables"):
            client.require_same(client.read_greeting(connection.first_line), {**ours, "models": "x", "variables": "y"})


@pytest.mark.parametrize("greeting", [b"220 mail.example\n", b"[1]\n", b"", b'{"pid": 1}\n'])
def test_a_process_that_does_not_greet_as_clipmk_is_never_signalled(
    socket_path: Path, impostor: list[bytes], greeting: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    signalled: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: signalled.append(pid))
    impostor.append(greeting)
    with pytest.raises(
        UnusableServerError, match=r"cannot be ended: it (is not a server of clipmk|refused the connection)"
    ):
        client.stop(socket_path)
    assert signalled == []


def test_a_server_of_another_version_can_be_stopped(
    socket_path: Path, impostor: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    signalled: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: signalled.append((pid, number)))
    monkeypatch.setattr(client, "listener_pid", lambda path: None)
    impostor.append(b'{"protocol": 1, "clipmk": "0.0.1", "new": true}\n')
    assert client.stop(socket_path) == os.getpid()
    assert signalled == [(os.getpid(), signal.SIGTERM)]


def test_registered_models_and_variables_are_part_of_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    from clipmk.system.config import Config  # noqa: PLC0415

    before = identity(Config(theme="dark"))
    assert before == identity(Config(theme="light"))
    assert differences(before, identity(Config(models={"mine": "local-dir:a"}))) == ["models"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert differences(before, identity(Config())) == ["variables"]

"""What a client or server leaves behind that is killed, stands still, is told to end or has nothing to do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clipmk.errors import ClipmkError
from clipmk.worker import client, protocol, server, unix_socket
from clipmk.worker.client import UnusableServerError
from serving import Clock, FakeService, ask, listens, raw, request, running, start, talking, wait_for

pytestmark = pytest.mark.skipif(not unix_socket.supported(), reason="needs SO_PEERCRED")


# Clients and servers that vanish.


def test_a_killed_client_cancels_only_its_own_request(socket_path: Path) -> None:
    code = (
        "import os, sys; sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path; from serving import talking, request, ask\n"
        "with talking(Path(sys.argv[1])) as c: ask(c, request('slow', model='waiting'))\n"
    )
    with running(socket_path) as service:
        process = subprocess.Popen([sys.executable, "-c", code, str(socket_path), *filter(None, sys.path)])
        wait_for(lambda: service.seen == ["slow"])
        process.kill()
        process.wait()
        with talking(socket_path) as connection:
            assert ask(connection, request("next"))
        assert service.seen == ["!slow", "next"]


def test_a_request_whose_client_left_the_queue_is_never_begun(socket_path: Path) -> None:
    with running(socket_path) as service, raw(socket_path, request("1", model="waiting")):
        wait_for(lambda: service.seen)
        with raw(socket_path, request("2")):
            wait_for(lambda: _waiting(socket_path) == 2)
        wait_for(lambda: _waiting(socket_path) == 1)  # the server has noticed that the second hung up
        service.gate.set()
        with talking(socket_path) as third:
            assert ask(third, request("3"))
        assert service.seen == ["1", "3"]


def _waiting(socket_path: Path) -> int:
    return _greeting(socket_path).waiting


def _greeting(socket_path: Path) -> protocol.Greeting:
    with talking(socket_path) as connection:
        return client.read_greeting(connection.first_line)


def test_a_killed_server_is_an_error_for_waiting_clients(socket_path: Path) -> None:
    process = start(socket_path)
    with talking(socket_path) as connection, pytest.raises(UnusableServerError, match="lost: it closed the connection"):
        ask(connection, request(model="dying"))
    assert process.wait() == -signal.SIGKILL


def test_a_stopped_server_times_out(socket_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "SILENCE_SECONDS", 0.2)
    process = start(socket_path)
    with talking(socket_path) as connection:
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)  # until the last of its threads has stopped
        with pytest.raises(UnusableServerError, match="lost: timed out"):
            ask(connection, request())
    process.kill()
    process.wait()


def test_sigterm_ends_the_server_in_the_middle_of_a_request(socket_path: Path) -> None:
    process = start(socket_path)
    with raw(socket_path, request(model="waiting")), talking(socket_path) as connection:
        wait_for(lambda: _waiting(socket_path) == 1)
        assert client.stop(socket_path) == process.pid
        with pytest.raises(UnusableServerError, match="lost"):
            ask(connection, request())
    assert process.wait() == 0
    assert not socket_path.exists()
    assert client.stop(socket_path) is None


def test_sigint_ends_the_server(socket_path: Path) -> None:
    process = start(socket_path)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 0
    assert not socket_path.exists()


def test_a_hang_up_that_nohup_ignores_does_not_end_the_server(socket_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = start(socket_path)
    finally:
        signal.signal(signal.SIGHUP, before)
    process.send_signal(signal.SIGHUP)
    with talking(socket_path) as connection:
        assert ask(connection, request())
    assert client.stop(socket_path) == process.pid
    assert process.wait() == 0


# The end.


def test_an_idle_server_ends_by_itself_but_not_while_it_works(socket_path: Path) -> None:
    clock = Clock()
    with running(socket_path, idle_s=10, clock=clock) as service:
        with raw(socket_path, request(model="waiting")):
            wait_for(lambda: service.seen)
            clock.now = 25
            assert _waiting(socket_path) == 1  # it lets people in: it has not ended
            service.gate.set()
            wait_for(lambda: _greeting(socket_path).requests == 1)
            clock.now = 34
            assert _greeting(socket_path).requests == 1  # idle for nine seconds only
        clock.now = 36
        wait_for(lambda: not socket_path.exists())


def test_a_server_does_not_end_while_it_imports_what_models_need(socket_path: Path) -> None:
    clock, service = Clock(), FakeService()
    service.warm.clear()
    with running(socket_path, idle_s=10, clock=clock, service=service):
        clock.now = 25
        for _ in range(3):
            assert _greeting(socket_path).requests == 0
        service.warm.set()
        with talking(socket_path) as connection:
            assert ask(connection, request())
        wait_for(lambda: _greeting(socket_path).requests == 1)
        clock.now = 34
        assert _greeting(socket_path).requests == 1
        clock.now = 36
        wait_for(lambda: not socket_path.exists())


def test_a_client_that_waits_silently_does_not_keep_the_server_up(socket_path: Path) -> None:
    clock = Clock()
    with running(socket_path, idle_s=10, clock=clock), raw(socket_path) as lines:
        clock.now = 11
        wait_for(lambda: not socket_path.exists())
        assert lines.read() == b""


def test_asking_for_the_status_does_not_keep_the_server_up(socket_path: Path) -> None:
    clock = Clock()
    with running(socket_path, idle_s=10, clock=clock):
        clock.now = 9
        assert _greeting(socket_path).requests == 0
        clock.now = 11
        wait_for(lambda: not socket_path.exists())


def test_a_server_ends_without_error_while_its_worker_is_busy(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "END_SECONDS", 0.01)
    service = FakeService()
    one = server.Server(service, idle_s=60, identity={})
    with ThreadPoolExecutor(1) as pool:
        tidy = pool.submit(one.serve, socket_path)
        wait_for(lambda: listens(socket_path))
        with raw(socket_path, request(model="absorbed")):
            wait_for(lambda: service.seen)
            one.stop()
            assert tidy.result() is False
    service.gate.set()


def test_a_worker_that_cannot_start_ends_the_server(socket_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeService, "warm_up", lambda self: 1 / 0)
    with pytest.raises(ClipmkError, match="its worker failed"):
        server.Server(FakeService(), idle_s=60, identity={}).serve(socket_path)
    assert not socket_path.exists()

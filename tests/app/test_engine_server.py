"""The engine beside a running `clipmk serve`: it is used where it is of use, left when it is lost, and never ended."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clipmk.settings import preset
from clipmk.worker import client, unix_socket
from clipmk.worker.protocol import Load, RequestError
from clipmk.worker.session import Session
from clipmk_tui.app.engine import transports, worker
from clipmk_tui.app.engine.worker import Engine
from engine_questions import begun, child_pid
from serving import FakeService, listens, request, running, start, wait_for

pytestmark = [
    pytest.mark.skipif(not unix_socket.supported(), reason="needs SO_PEERCRED"),
    pytest.mark.usefixtures("clean"),
]

STUB = Path(__file__).parents[1] / "stub_worker.py"
SESSION = Session(vocabulary="first", settings=preset("default"))

Make = Callable[..., Engine]


@pytest.fixture
async def engine(socket_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Make]:
    """Engines that look for a server, and have a child that answers otherwise."""
    made: list[Engine] = []
    monkeypatch.setattr(transports, "COMMAND", (sys.executable, str(STUB), "good"))

    def make(session: Session = SESSION) -> Engine:
        one = Engine(session, server=socket_path)
        one.restarts = []  # type: ignore[attr-defined]
        one.on_restart = one.restarts.append  # type: ignore[attr-defined]
        made.append(one)
        return one

    yield make
    for one in made:
        await one.close()
    async with asyncio.timeout(60):
        while asyncio.all_tasks() != {asyncio.current_task()}:
            await asyncio.sleep(0.01)


@pytest.fixture
def server(socket_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a process of its own."""
    process = start(socket_path)
    yield process
    process.kill()
    process.wait()


async def who(engine: Engine) -> str:
    """Who answers, in words: the fake server says it as a failure, the stub child as a device."""
    try:
        return f"child {(await engine.ask(Load(model='a'))).device}"
    except RequestError as error:
        return str(error)


async def test_a_running_server_answers_in_our_folder_and_goes_on_when_the_app_ends(
    engine: Make, server: subprocess.Popen[bytes], socket_path: Path
) -> None:
    one = engine()
    assert not one.uses_server
    assert await who(one) == f"first in {Path.cwd()} by process {server.pid}"
    assert (one.uses_server, child_pid(one), one.restarts) == (True, None, [])  # type: ignore[attr-defined]
    await one.close()
    assert not one.uses_server
    assert listens(socket_path)


async def test_several_apps_share_a_server_each_under_its_own_session(
    engine: Make, server: subprocess.Popen[bytes]
) -> None:
    first, second = engine(), engine(dataclasses.replace(SESSION, vocabulary="second"))
    for said, vocabulary in zip(await asyncio.gather(who(first), who(second)), ("first", "second"), strict=True):
        assert said == f"{vocabulary} in {Path.cwd()} by process {server.pid}"
    first.reconfigure(dataclasses.replace(SESSION, vocabulary="third"))
    assert (await who(first)).startswith("third in")
    assert first.uses_server


@pytest.mark.parametrize("left", ["nothing", "a killed server", "a file"])
async def test_where_no_server_listens_the_app_starts_its_child(engine: Make, socket_path: Path, left: str) -> None:
    if left == "a killed server":
        process = start(socket_path)
        process.kill()
        process.wait()
    elif left == "a file":
        socket_path.parent.mkdir()
        socket_path.touch()
    one = engine()
    assert await who(one) == f"child {child_pid(one)}"
    assert (one.uses_server, one.restarts) == (False, [])  # type: ignore[attr-defined]


async def test_a_server_with_another_identity_is_reported_and_not_used(
    engine: Make, server: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, socket_path: Path
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    one = engine()
    assert await who(one) == f"child {child_pid(one)}"
    assert one.restarts == [  # type: ignore[attr-defined]
        f"the server at '{socket_path}' is not used: it was started with other variables"
    ]
    assert not one.uses_server


async def slow_work(one: Engine) -> asyncio.Task[Any]:
    """A request that is being worked on."""
    task, working = begun(one, request("slow", model="waiting"))
    await working.wait()
    return task


async def answered_by_the_child(task: asyncio.Task[Any] | None) -> None:
    """What was being worked on when the server was lost is asked of the child."""
    if task is not None:
        with pytest.raises(RequestError, match=r"answered by \d+"):
            await task


@pytest.mark.parametrize("busy", [True, False])
@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_when_the_server_is_lost_the_app_goes_on_with_its_child(
    engine: Make, server: subprocess.Popen[bytes], socket_path: Path, how: str, busy: bool
) -> None:
    one = engine()
    await who(one)
    task = await slow_work(one) if busy else None
    if how == "killed":
        server.kill()
    else:
        await asyncio.to_thread(client.stop, socket_path)
    await answered_by_the_child(task)
    async with asyncio.timeout(60):
        while one.uses_server or not one.restarts:  # type: ignore[attr-defined]
            await asyncio.sleep(0.01)
    assert await who(one) == f"child {child_pid(one)}"
    then = "the app now runs its own engine" if busy else "the next question looks for another"
    assert one.restarts == [f"the server closed the connection; {then}"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("busy", [True, False])
async def test_after_a_lost_server_another_one_is_used_unless_it_might_end_over_the_same_request(
    engine: Make, server: subprocess.Popen[bytes], socket_path: Path, busy: bool
) -> None:
    one = engine()
    await who(one)
    task = await slow_work(one) if busy else None
    server.kill()
    await answered_by_the_child(task)
    await asyncio.to_thread(server.wait)
    async with asyncio.timeout(60):
        while not one.restarts:  # type: ignore[attr-defined]
            await asyncio.sleep(0.01)
    other = await asyncio.to_thread(start, socket_path)
    try:
        expected = f"child {child_pid(one)}" if busy else f"first in {Path.cwd()} by process {other.pid}"
        assert await who(one) == expected
        assert one.uses_server is not busy
    finally:
        other.kill()
        other.wait()


async def test_a_stopped_server_is_left(
    engine: Make, server: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = engine()
    await who(one)
    monkeypatch.setattr(worker, "SILENCE_SECONDS", 0.3)
    server.send_signal(signal.SIGSTOP)
    os.waitpid(server.pid, os.WUNTRACED)
    assert (await who(one)).startswith("child")
    assert one.restarts == [  # type: ignore[attr-defined]
        "the server gives no sign of life; the app now runs its own engine"
    ]


async def test_a_cancelled_request_ends_at_the_server_and_the_server_stays_in_use(
    engine: Make, socket_path: Path
) -> None:
    with running(socket_path) as service:
        one = engine()
        task, working = begun(one, request("slow", model="waiting"))
        await working.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await who(one)).startswith("first in")
        assert one.uses_server
        assert service.seen == ["!slow"]
        await one.close()


async def test_closing_the_app_cancels_what_the_server_does_for_it(engine: Make, socket_path: Path) -> None:
    with running(socket_path) as service:
        one = engine()
        task, working = begun(one, request("slow", model="waiting"))
        await working.wait()
        await one.close()
        with pytest.raises(RequestError):
            await task
        await asyncio.to_thread(wait_for, lambda: service.seen == ["!slow"])


async def test_a_server_that_imports_for_long_is_waited_for(engine: Make, socket_path: Path) -> None:
    service = FakeService()
    service.warm.clear()
    with running(socket_path, service=service):
        one = engine()
        task, working = begun(one, Load(model="a"))
        await working.wait()  # the server says that it is loading
        assert one.uses_server
        service.warm.set()
        with pytest.raises(RequestError, match="first in"):
            await task
        await one.close()

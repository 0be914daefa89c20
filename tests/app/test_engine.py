"""The app's end of the pipe: whatever the child does, every question ends, and no process is left behind."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from clipmk.settings import preset
from clipmk.worker import protocol
from clipmk.worker.protocol import Explain, Load, RequestError
from clipmk.worker.session import Session
from clipmk_tui.app.engine import transports, worker
from clipmk_tui.app.engine.worker import Engine, EngineStoppedError
from engine_questions import begun, child_pid, gone

STUB = Path(__file__).parents[1] / "stub_worker.py"
SESSION = Session(vocabulary="first", settings=preset("default"))
EXPLAIN = Explain(model="m", image="i.png")
LIMIT = 300
"""Seconds after which a test that waits for ever fails."""

Start = Callable[..., Engine]


@pytest.fixture
async def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """Engines over the misbehaving child; whatever a test does, all are closed and no task of theirs stays."""
    engines: list[Engine] = []

    def start(mode: str, *, patience: float = 0.2, command: tuple[str, ...] | None = None) -> Engine:
        ours = (sys.executable, str(STUB), mode, str(tmp_path / "marker"))
        monkeypatch.setattr(transports, "COMMAND", command or ours)
        monkeypatch.setattr(worker, "PATIENCE", patience)
        engine = Engine(SESSION, log=(log := []))
        engine.lines = log  # type: ignore[attr-defined]
        engine.restarts = []  # type: ignore[attr-defined]
        engine.on_restart = engine.restarts.append  # type: ignore[attr-defined]
        engines.append(engine)
        return engine

    def give_up() -> None:
        for task in asyncio.all_tasks():
            task.cancel()

    limit = asyncio.get_running_loop().call_later(LIMIT, give_up)
    yield start
    for engine in engines:
        await engine.close()
    while asyncio.all_tasks() != {asyncio.current_task()}:  # one that was cancelled may still be about to end
        await asyncio.sleep(0.01)
    limit.cancel()


async def test_answers_reach_their_question_and_partial_ones_come_first(stub: Start) -> None:
    engine, received = stub("good"), list[protocol.Partial]()
    first, large, third = await asyncio.gather(
        engine.ask(Load(model="a"), received.append), engine.ask(Load(model="large")), engine.ask(Load(model="c"))
    )
    assert [answer.model.id for answer in (first, large, third)] == ["a", "large", "c"]
    assert [answer.descriptor_count for answer in (first, large, third)] == [1, 2, 3]
    assert len(large.classes) == 1_001
    assert received == [protocol.Progress(id=first.id, stage="loading", done=0, total=0)]
    assert {int(answer.device) for answer in (first, large, third)} == {child_pid(engine)}


async def test_start_returns_at_once_and_ask_uses_that_child(stub: Start) -> None:
    engine = stub("good")
    await engine.start()
    assert child_pid(engine) is None
    await engine.start()
    answer = await engine.ask(Load(model="a"))
    assert int(answer.device) == child_pid(engine)
    assert engine.restarts == []  # type: ignore[attr-defined]


async def test_the_child_finds_clipmk_where_the_app_found_it(stub: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "a relative folder")
    assert (await stub("good").ask(Load(model="a"))).model.id == "a"
    monkeypatch.delenv("PYTHONPATH")
    assert (await stub("good").ask(Load(model="a"))).model.id == "a"


async def test_a_failure_carries_the_code_and_the_message(stub: Start) -> None:
    engine = stub("good")
    with pytest.raises(RequestError, match="answered by") as caught:
        await engine.ask(EXPLAIN)
    assert caught.value.reason == "image"
    assert not isinstance(caught.value, EngineStoppedError)


async def test_a_child_that_obeys_a_cancel_lives_on_and_its_late_answers_are_dropped(
    stub: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, received = stub("obeying", patience=60), list[protocol.Partial]()
    task = asyncio.ensure_future(engine.ask(EXPLAIN, received.append))
    while not received:
        await asyncio.sleep(0.01)
    pid = child_pid(engine)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert int((await engine.ask(Load(model="a"))).device) == pid  # the cancel was obeyed before this was answered
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "time", lambda now=loop.time: now() + 61)  # longer than its patience
    for _ in range(3):
        await asyncio.sleep(0)
    assert int((await engine.ask(Load(model="a"))).device) == pid
    assert engine.restarts == []  # type: ignore[attr-defined]
    assert [getattr(partial, "stage", "") for partial in received] == ["image"]


@pytest.mark.parametrize("mode", ["deaf", "stubborn"])
async def test_a_child_that_does_not_obey_is_ended_and_what_waited_behind_is_asked_again(
    stub: Start, mode: str
) -> None:
    engine = stub(mode)
    task, working = begun(engine, EXPLAIN)
    behind = asyncio.ensure_future(engine.ask(Load(model="behind")))
    await working.wait()
    pid = child_pid(engine)
    assert pid is not None
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    answer = await behind
    assert answer.model.id == "behind"
    assert int(answer.device) == child_pid(engine) != pid
    await gone(pid)
    assert engine.restarts == []  # type: ignore[attr-defined]


async def test_a_request_cancelled_before_it_is_sent_is_never_sent(stub: Start) -> None:
    engine = stub("deaf")
    task, _ = begun(engine, EXPLAIN)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await engine.ask(Load(model="a"))).descriptor_count == 1  # the other was never sent


async def test_a_child_that_dies_once_is_replaced_and_asked_again(stub: Start) -> None:
    engine = stub("dying-once")
    behind: asyncio.Task[Any]
    task, _ = begun(engine, EXPLAIN)
    behind = asyncio.ensure_future(engine.ask(Load(model="behind")))
    with pytest.raises(RequestError, match=r"answered by \d+"):
        await task
    assert (await behind).model.id == "behind"
    assert engine.restarts == [  # type: ignore[attr-defined]
        r"the engine was killed by signal 9 (SIGKILL) and was started again; its last line was: the last \x1b[31mwords"
    ]
    assert engine.lines[:2] == ["an earlier line", "the last \x1b[31mwords"]  # type: ignore[attr-defined]


async def test_a_mistake_of_the_engine_is_named_with_what_shows_where_it_is(stub: Start) -> None:
    with pytest.raises(RequestError, match=r"the engine met an unexpected KeyError: 3; clipmk tui --debug shows where"):
        await stub("broken").ask(EXPLAIN)


async def test_a_request_fails_after_two_crashes_and_spares_the_others(stub: Start) -> None:
    engine = stub("dying")
    task, _ = begun(engine, EXPLAIN)
    behind = asyncio.ensure_future(engine.ask(Load(model="behind")))
    with pytest.raises(EngineStoppedError) as caught:
        await task
    text = str(caught.value)
    assert "signal 9 (SIGKILL)" in text
    assert r"the last \x1b[31mwords" in text
    assert "--device cpu" in text
    assert caught.value.reason == "engine"
    assert (await behind).model.id == "behind"
    assert len(engine.restarts) == 2  # type: ignore[attr-defined]


async def test_a_child_killed_while_idle_is_replaced_at_the_next_question(stub: Start) -> None:
    engine = stub("good")
    pid = int((await engine.ask(Load(model="a"))).device)
    os.kill(pid, signal.SIGKILL)
    while child_pid(engine) is not None:
        await asyncio.sleep(0.01)
    answer = await engine.ask(Load(model="b"))
    assert int(answer.device) != pid
    assert len(engine.restarts) == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        (
            "stillborn",
            "ended with exit status 3 before it was ready; its last line was: ModuleNotFoundError: no module",
        ),
        ("foreign", "version 99"),
        ("refusing", "it wants version 0"),
    ],
)
async def test_a_child_that_cannot_work_fails_every_question(stub: Start, mode: str, words: str) -> None:
    engine = stub(mode)
    answers = await asyncio.gather(engine.ask(Load(model="a")), engine.ask(Load(model="b")), return_exceptions=True)
    for answer in answers:
        assert isinstance(answer, EngineStoppedError)
        assert words in str(answer)
    assert child_pid(engine) is None


async def test_a_missing_command_is_reported_and_can_be_tried_again(stub: Start) -> None:
    engine = stub("good", command=("/no/such/python", "-m", "clipmk.worker.pipe"))
    for _ in range(2):
        with pytest.raises(EngineStoppedError, match=r"cannot be started: .*No such file.*clipmk doctor"):
            await engine.ask(Load(model="a"))
    assert engine.restarts == []  # type: ignore[attr-defined]


async def test_a_malformed_message_ends_the_child_like_a_crash(stub: Start) -> None:
    engine = stub("babbling")
    with pytest.raises(EngineStoppedError, match=r"cannot be understood .*Downloading.* twice over the same request"):
        await engine.ask(EXPLAIN)
    assert (await engine.ask(Load(model="a"))).model.id == "a"


async def test_an_error_in_a_listener_costs_no_answer(stub: Start) -> None:
    engine, mistakes = stub("good"), list[Any]()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: mistakes.append(context["exception"]))

    def broken(partial: protocol.Partial) -> None:
        raise KeyError("listener")

    assert (await engine.ask(Load(model="a"), broken)).model.id == "a"
    assert [str(mistake) for mistake in mistakes] == ["'listener'"]


@pytest.mark.parametrize("mode", ["stubborn", "obeying"])
async def test_closing_while_busy_leaves_no_process_and_cancels_what_waits(stub: Start, mode: str) -> None:
    engine = stub(mode)
    task, working = begun(engine, EXPLAIN)
    behind, _ = begun(engine, Load(model="behind"))
    await working.wait()
    pid = child_pid(engine)
    assert pid is not None
    await engine.close()
    await gone(pid)
    for waiting in (task, behind):
        with pytest.raises(RequestError) as caught:
            await waiting
        assert caught.value.reason == protocol.CANCELLED
    await engine.close()
    with pytest.raises(EngineStoppedError, match="closed"):
        await engine.ask(Load(model="a"))
    await engine.start()
    assert child_pid(engine) is None


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8])
async def test_closing_while_the_child_is_being_started_leaves_no_process(
    stub: Start, turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[asyncio.subprocess.Process] = []
    real = asyncio.create_subprocess_exec

    async def start(*arguments: Any, **options: Any) -> asyncio.subprocess.Process:
        started.append(await real(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    engine = stub("good")
    await engine.start()
    for _ in range(turns):
        await asyncio.sleep(0)
    await engine.close()
    while asyncio.all_tasks() != {asyncio.current_task()}:
        await asyncio.sleep(0.01)
    for process in started:
        await gone(process.pid)


@pytest.mark.parametrize(("mode", "stays"), [("obeying", True), ("deaf", False)])
async def test_a_new_session_cancels_what_waits_and_keeps_a_child_that_obeys(
    stub: Start, mode: str, stays: bool
) -> None:
    engine = stub(mode, patience=0.2)
    before = await engine.ask(Load(model="a"))
    assert before.classes == ("first",)
    task, working = begun(engine, EXPLAIN)
    await working.wait()
    engine.reconfigure(dataclasses.replace(SESSION, vocabulary="second"))
    with pytest.raises(RequestError) as caught:
        await task
    assert caught.value.reason == protocol.CANCELLED
    after = await engine.ask(Load(model="a"))
    assert after.classes == ("second",)
    assert (after.device == before.device) is stays
    assert engine.restarts == []  # type: ignore[attr-defined]

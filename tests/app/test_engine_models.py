"""The engine with a real model: it answers as the library does, obeys, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clipmk.settings import preset
from clipmk.worker import protocol
from clipmk.worker.client import stop
from clipmk.worker.protocol import Explain, Load, RequestError
from clipmk.worker.session import Session
from clipmk_tui.app.engine.worker import Engine
from engine_questions import begun, child_pid, gone
from serving import listens, wait_for

MODEL = "embedded/vit-s8"


@pytest.fixture
def world_session(clean: None, monkeypatch: pytest.MonkeyPatch) -> Session:
    import torch  # noqa: PLC0415

    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return Session(vocabulary="world", settings=preset("default"), device="cpu")


async def conversation(engine: Engine, images: list[str]) -> tuple[list[Any], list[Any]]:
    """The same questions to any engine: what it answers, without times and ids, and what it sent between."""
    sent: list[protocol.Partial] = []
    explained = await engine.ask(Explain(model=MODEL, image=images[0]), sent.append)
    concept = explained.explanation.vision_concepts[0].text
    answers = [
        dataclasses.replace(explained.explanation, elapsed_ms=None),  # type: ignore[arg-type]
        (await engine.ask(protocol.WhatIf(model=MODEL, image=images[0], left_out=(concept,)))).predictions,
        (await engine.ask(protocol.Compare(models=(MODEL, "nope"), image=images[1]), sent.append)).count,
        (await engine.ask(protocol.ExplainImages(model=MODEL, images=(*images, "none.png")), sent.append)).count,
    ]
    for request in (Explain(model=MODEL, image="none.png"), Explain(model="nope", image=images[0])):
        with pytest.raises(RequestError) as caught:
            await engine.ask(request)
        answers.append((caught.value.reason, str(caught.value)))
    columns = [partial for partial in sent if isinstance(partial, protocol.ColumnReady)]
    assert [column.model for column in columns] == [MODEL, "nope"]
    many = [partial for partial in sent if isinstance(partial, protocol.ImageExplained)]
    classes = [one.explanation.class_name if one.explanation else one.message for one in many]
    return answers, [columns[0].explanation.class_name if columns[0].explanation else None, columns[1].code, classes]


async def cancelled_many(engine: Engine, image: str) -> int:
    """Cancel what would take minutes; how many images were explained."""
    explained: list[protocol.Partial] = []
    many = protocol.ExplainImages(model=MODEL, images=(image,) * 5_000)
    task = asyncio.ensure_future(engine.ask(many, explained.append))
    while len(explained) < 9 and not task.done():
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await engine.ask(Load(model=MODEL))
    return len(explained)


@pytest.fixture
def server(world_session: Session, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The socket of a `clipmk serve`."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    path = Path(os.environ["CLIPMK_SOCKET"])
    with subprocess.Popen([sys.executable, "-m", "clipmk_tui", "serve", "-q"]) as process:
        wait_for(lambda: listens(path))
        yield path
        assert stop(path) == process.pid


async def test_a_worker_answers_as_a_server_does_obeys_and_survives_a_kill(
    world_session: Session, scene_files: list[Path], server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipmk_tui.app.engine.worker.PATIENCE", 60.0)
    images = [str(path) for path in scene_files]
    worker = Engine(world_session)
    restarts: list[str] = []
    worker.on_restart = restarts.append
    await worker.start()
    served = Engine(world_session, server=server)
    assert await conversation(served, images) == await conversation(worker, images)
    assert served.uses_server
    assert await cancelled_many(served, images[0]) < 5_000
    assert served.uses_server
    await served.close()
    pid = child_pid(worker)
    assert await cancelled_many(worker, images[0]) < 5_000
    assert child_pid(worker) == pid is not None
    os.kill(pid, signal.SIGSTOP)  # it cannot have answered when it is killed
    task, _ = begun(worker, protocol.ExplainImages(model=MODEL, images=(images[0],) * 60))
    await asyncio.sleep(0)
    os.kill(pid, signal.SIGKILL)
    assert (await task).count == 60
    assert restarts == ["the engine was killed by signal 9 (SIGKILL) and was started again"]
    again = child_pid(worker)
    busy, working = begun(worker, protocol.ExplainImages(model=MODEL, images=(images[0],) * 5_000))
    await working.wait()
    await worker.close()
    assert again is not None
    await gone(again)
    with pytest.raises(RequestError):
        await busy

"""Questions that are on their way, and processes that are about to end, for tests of the engines."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

from clipmk.worker import protocol
from clipmk_tui.app.engine.transports import Child
from clipmk_tui.app.engine.worker import Engine


def begun(engine: Engine, request: protocol.Request) -> tuple[asyncio.Task[Any], asyncio.Event]:
    """A question that is being asked, and an event set with its first partial answer, or its end."""
    working = asyncio.Event()
    task = asyncio.ensure_future(engine.ask(request, lambda partial: working.set()))
    task.add_done_callback(lambda _: working.set())
    return task, working


def child_pid(engine: Engine) -> int | None:
    """Process id of the child that answers now; None while there is no child."""
    transport = None if engine._worker is None else engine._worker.transport
    return transport.process.pid if isinstance(transport, Child) and transport.process.returncode is None else None


async def gone(pid: int) -> None:
    """Returns when a process has ended: one that was killed may take its time on a busy machine."""
    with contextlib.suppress(ProcessLookupError):
        async with asyncio.timeout(60):  # a tenth of what a child sleeps that nobody ends
            while True:
                os.kill(pid, 0)
                await asyncio.sleep(0.01)

"""Waiting for an app under test: until it has nothing left to do, however long that takes, and never for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from textual._context import active_app
from textual.app import App
from textual.notifications import Notification
from textual.pilot import Pilot
from textual.worker import Worker

LIMIT = 120.0
"""Seconds after which a test that waits fails."""
_ROUNDS = 3
"""Turns of the event loop without work after which there is none: what has come in by then is seen in the next."""


async def until(holds: Callable[[], object]) -> None:
    """Wait for a state that something else brings about: a thread, a process, a timer."""
    deadline = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < deadline, f"waited for ever: {holds}"
        await asyncio.sleep(0.01)


async def until_idle(*_: float) -> None:
    """Until no message is unread, no callback is due and every change is painted.

    In the place of Textual's function of the same use, which takes 20 ms without work of the processor for the end.
    Threads and timers are not waited for.
    """
    deadline = time.monotonic() + LIMIT
    await _nothing_due(deadline)
    while (work := _put_off(active_app.get(None))) is not None:
        assert time.monotonic() < deadline, f"again and again: {work}"
        work()
        await _nothing_due(deadline)


async def settled(pilot: Pilot[Any]) -> None:
    """Until no worker has anything to do either: all is asked, decoded, drawn, written."""
    deadline = time.monotonic() + LIMIT
    while True:
        await pilot.pause()
        busy = [worker for worker in pilot.app.workers if not worker.is_finished and not _waits(worker)]
        if not busy or pilot.app._exception is not None:
            return
        assert time.monotonic() < deadline, f"still at work: {busy}"
        await asyncio.sleep(0.001)


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test of the app depend on time: the pilot waits for a state, and notices stay."""
    for module in ("textual.app", "textual.pilot"):
        monkeypatch.setattr(f"{module}.wait_for_idle", until_idle)
    monkeypatch.setattr(Notification, "time_left", property(lambda _: 3600.0))


async def _nothing_due(deadline: float) -> None:
    ready: Any = asyncio.get_running_loop()._ready  # type: ignore[attr-defined] # callbacks due now; nothing else tells
    rounds = 0
    while rounds < _ROUNDS:
        assert time.monotonic() < deadline, f"due again and again: {ready}"
        await asyncio.sleep(0)
        rounds = 0 if ready else rounds + 1


def _put_off(app: App[Any] | None) -> Callable[[], None] | None:
    """What a timer of Textual would do a few milliseconds later: tell a new size, paint, call what waits for that."""
    if app is None or not app._screen_stack:
        return None
    if app._resize_event is not None:
        return app._check_resize
    screen = app.screen
    waits = (
        screen._layout_required
        or screen._scroll_required
        or screen._repaint_required
        or screen._recompose_required
        or screen._dirty_widgets
        or screen._callbacks
    )
    return screen._on_timer_update if waits and screen.is_running and not app._batch_count else None


def _waits(worker: Worker[Any]) -> bool:
    """For the user, who looks at the dialog above the screen that asked."""
    return worker.group == "settings" and worker.node is not worker.node.app.screen

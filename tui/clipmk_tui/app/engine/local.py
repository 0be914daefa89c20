"""The engine in this process, in one thread: for tests, and where no child can be started."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from clipmk.worker import protocol
from clipmk.worker.protocol import Answer, Failed, Request, Session
from clipmk.worker.service import Service
from clipmk_tui.app.engine.base import AskError, EngineStoppedError, OnPartial


@dataclass(eq=False, slots=True)
class _Question:
    service: Service
    on_partial: OnPartial | None
    answer: Answer | None = None
    dropped: bool = False


class LocalEngine:
    """`Engine` without a process of its own (see `clipmk_tui.app.engine.base.Engine`).

    Cancelling is only co-operative, and closing does not wait for the step that is being worked on.
    """

    def __init__(self, session: Session) -> None:
        self.on_restart: Callable[[str], None] | None = None
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="clipmk engine")
        self._ids = itertools.count(1)
        self._waiting: dict[int, _Question] = {}
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._service = Service(session, self._tell)

    async def start(self) -> None:
        """Begin importing what models need; returns at once."""
        if not self._closed:
            self._pool.submit(self._service.warm_up)

    async def ask(self, request: Request, on_partial: OnPartial | None = None) -> Any:
        """The final answer (see `Engine.ask`, whose overloads say which).

        Raises:
            AskError: the request failed.
            EngineStoppedError: the engine was closed.
        """
        if self._closed:
            raise EngineStoppedError("the engine was closed")
        self._loop = asyncio.get_running_loop()
        asked, service = dataclasses.replace(request, id=next(self._ids)), self._service
        question = self._waiting[asked.id] = _Question(service, on_partial)
        job = self._loop.run_in_executor(self._pool, service.handle, asked)
        try:
            await asyncio.wait({job})
        except asyncio.CancelledError:
            question.dropped = True
            job.cancel()
            service.cancel(asked.id)
            raise
        finally:
            self._waiting.pop(asked.id, None)
        return _outcome(question, job)

    async def reconfigure(self, session: Session) -> None:
        """Answer all further requests under another session; what waits now is cancelled."""
        self._give_up()
        self._service = Service(session, self._tell)

    async def close(self) -> None:
        """Give everything up; may be called again."""
        self._closed = True
        self._give_up()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _give_up(self) -> None:
        for number, question in self._waiting.items():
            question.service.cancel(number)

    def _tell(self, answer: Answer) -> None:
        """In the engine's thread."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(partial(self._hear, answer))

    def _hear(self, answer: Answer) -> None:
        question = self._waiting.get(answer.id)
        if question is None or question.dropped:
            return
        if isinstance(answer, protocol.Progress | protocol.ColumnReady | protocol.Sighted):
            if question.on_partial is not None:
                question.on_partial(answer)
        else:
            question.answer = answer


def _outcome(question: _Question, job: asyncio.Future[None]) -> Answer:
    if job.cancelled():
        raise AskError(protocol.CANCELLED, "the request was cancelled")
    reason = job.exception()
    if reason is not None:
        raise AskError(protocol.UNEXPECTED, f"{type(reason).__name__}: {reason}") from reason
    if isinstance(question.answer, Failed):
        raise AskError(question.answer.code, question.answer.message)
    if question.answer is None:
        raise AskError(protocol.UNEXPECTED, "the request was not answered")
    return question.answer

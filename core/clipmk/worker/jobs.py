"""Requests that wait for their turn: one queue and one thread for all clients of a worker."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from clipmk.errors import UNEXPECTED, ProtocolError
from clipmk.worker.protocol import CANCELLED, Answer, Failed, Final, Progress, Request, encode
from clipmk.worker.session import Session

INTERVAL = 0.05
"""Seconds between two messages about the progress of one stage."""
WRITE_SECONDS = 10.0
"""For a client to take an answer."""
MOST_WAITING = 64
"""Requests that one client may have waiting."""

_log = logging.getLogger(__name__)


class CancelledError(Exception):
    """Nobody waits for the answer any more: unwinds the work on a request."""


class Client(Protocol):
    """One end of a conversation (see `clipmk.worker.line_socket.LineSocket`)."""

    def read_line(self, *, limit: int, seconds: float | None) -> bytes:
        """The next line with its newline; `b""` at the end."""

    def read_block(self, size: int, *, seconds: float | None) -> bytes:
        """The next `size` bytes; fewer at the end."""

    def write(self, data: bytes, *, seconds: float | None) -> None:
        """Send everything."""

    def hang_up(self) -> None:
        """End the conversation."""


class Throttle:
    """Which steps of a stage are worth a message: the first, the last, and a few between.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._stage = ""
        self._sent = 0.0

    def allows(self, stage: str, done: int, total: int) -> bool:
        """Whether to report this step; if so, the next one must wait for `INTERVAL` seconds."""
        now = self._clock()
        due = stage != self._stage or 0 < total <= done or now - self._sent >= INTERVAL
        if due:
            self._stage, self._sent = stage, now
        return due


@dataclass(eq=False)
class Job:
    """A request, whose it is, and whether anybody still waits for its answer."""

    request: Request
    session: Session
    client: Client
    attached: bytes = b""
    clock: Callable[[], float] = time.monotonic
    cancelled: bool = False
    finished: bool = False
    progress: Progress = field(init=False)
    """The latest."""

    def __post_init__(self) -> None:
        self.progress = Progress(id=self.request.id, stage="waiting", done=0, total=0)
        self._throttle = Throttle(self.clock)

    def check(self) -> None:
        """Called between the steps of the work.

        Raises:
            CancelledError: the answer is not wanted any more.
        """
        if self.cancelled:
            raise CancelledError

    def send(self, answer: Answer) -> None:
        """Send an answer.

        Raises:
            CancelledError: the client is gone or does not take it, and is hung up on.
        """
        try:
            self.client.write(encode(answer), seconds=WRITE_SECONDS)
        except OSError as reason:  # a timeout is one
            self.cancelled = True
            self.client.hang_up()
            raise CancelledError from reason

    def report(self, stage: str, done: int, total: int) -> None:
        """Send the progress of the work, if it is due.

        Raises:
            CancelledError: as `check` and `send`.
        """
        self.check()
        if self._throttle.allows(stage, done, total):
            self.progress = Progress(id=self.request.id, stage=stage, done=done, total=total)
            self.send(self.progress)

    def finish(self, answer: Final) -> None:
        """Send the final answer, if anybody is there to read it."""
        self.finished = True  # before it is sent: no sign of life may follow it
        with contextlib.suppress(CancelledError):
            self.send(answer)

    def fail(self, code: str, message: str) -> None:
        """Send a failure as the final answer."""
        self.finish(Failed(id=self.request.id, code=code, message=message))


class Answerer(Protocol):
    """What does the work (see `clipmk.worker.service.Service`)."""

    @property
    def models(self) -> tuple[str, ...]:
        """Ids of the models held."""

    def warm_up(self) -> None:
        """Import what models need."""

    def answer(self, job: Job) -> Final:
        """Answer a request."""


class JobQueue:
    """Jobs of all clients, processed in the order they came.

    Args:
        service: does the work.
        clock: seconds.
    """

    def __init__(self, service: Answerer, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.processed = 0
        """Number of jobs that were answered or cancelled."""
        self._service = service
        self._clock = clock
        self._busy_at = clock()
        self._current: Job | None = None
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._running = self._closed = False

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Those that are not answered yet, in order."""
        with self._changed:
            return self._unanswered()

    @property
    def idle_s(self) -> float:
        """Seconds since there was something to do; getting ready counts as such."""
        with self._changed:
            if self._unanswered() or not self._running:
                self._busy_at = self._clock()
            return self._clock() - self._busy_at

    def add(self, job: Job) -> None:
        """Append a job.

        Raises:
            ProtocolError: its client has too many waiting.
        """
        if not self._running:
            job.report("loading", 0, 0)
        with self._changed:
            if sum(one.client is job.client for one in self._waiting) >= MOST_WAITING:
                raise ProtocolError(f"more than {MOST_WAITING} requests of one client are waiting")
            self._waiting.append(job)
            self._changed.notify_all()

    def cancel(self, client: Client, request_id: int | None = None) -> None:
        """Cancel a client's request, or all of them; the one being processed stops before its next step."""
        with self._changed:
            found = [job for job in self._unanswered() if job.client is client]
            found = [job for job in found if request_id in {None, job.request.id}]
            for job in found:
                job.cancelled = True
            waiting = [job for job in found if job is not self._current]
            for job in waiting:
                self._waiting.remove(job)
        for job in waiting:
            job.fail(CANCELLED, "the request was cancelled")

    def run(self) -> None:
        """Get ready, then process jobs until the queue is closed."""
        self._service.warm_up()
        self._running = True
        while (job := self._next()) is not None:
            self._process(job)
            with self._changed:
                self._current = None
                self._busy_at = self._clock()
                self.processed += 1

    def close(self) -> None:
        """Cancel everything and let `run` return."""
        with self._changed:
            self._closed = True
            for job in self._unanswered():
                job.cancelled = True
            self._changed.notify_all()

    def _unanswered(self) -> tuple[Job, ...]:
        return (*filter(None, [self._current]), *self._waiting)

    def _next(self) -> Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            self._current = None if self._closed else self._waiting.popleft()
            return self._current

    def _process(self, job: Job) -> None:
        """Answer one job; a mistake of ours costs this job, not the models in memory."""
        started, request = time.perf_counter(), job.request
        try:
            job.check()
            answer = self._service.answer(job)
            job.check()
            job.finish(answer)
        except CancelledError:
            _log.info("%s: cancelled", _summary(request))
            job.fail(CANCELLED, "the request was cancelled")
        except Exception as reason:  # noqa: BLE001 - the edge of the process: the one place for what nobody foresaw
            _log.error("%s: unexpected %s: %s", _summary(request), type(reason).__name__, reason)
            _log.debug("%s", traceback.format_exc())
            job.fail(UNEXPECTED, f"{type(reason).__name__}: {reason}")
        else:
            _log.info("%s: %.0f ms", _summary(request), 1_000 * (time.perf_counter() - started))


def _summary(request: Request) -> str:
    """What a request is about, for the log."""
    images = getattr(request, "images", None) or [getattr(request, "image", "")]
    models = getattr(request, "models", None) or [getattr(request, "model", "")]
    more = f"and {len(images) - 1} more" if len(images) > 1 else ""
    return " ".join(filter(None, (type(request).__name__, images[0], more, *models)))[:200]

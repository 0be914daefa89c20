"""The worker's side of a conversation, whatever the transport: greet, then queue what the client requests.

The requests of all clients wait in one queue and are answered in one thread.
"""

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
from clipmk.worker import protocol
from clipmk.worker.protocol import CANCELLED, Answer, Failed, Final, Progress, Request, encode
from clipmk.worker.session import Session

INTERVAL = 0.05
"""Seconds between two messages about the progress of one stage."""
WRITE_SECONDS = 10.0
"""For a client to take an answer."""
HELLO_SECONDS = 10.0
"""For a client to send its first line; from then on it may take its time."""
ATTACH_SECONDS = 60.0
"""For the bytes of an image to arrive."""
MOST_WAITING = 64
"""Requests that one client may have waiting."""

_log = logging.getLogger(__name__)


class CancelledError(Exception):
    """Nobody waits for the answer any more: unwinds the work on a request."""


class Client(Protocol):
    """One end of a conversation (see `clipmk.worker.unix_socket.LineSocket`)."""

    def read_line(self, *, limit: int, seconds: float | None) -> bytes:
        """The next line with its newline; `b""` at the end."""

    def read_block(self, size: int, *, seconds: float | None) -> bytes:
        """The next `size` bytes; fewer at the end."""

    def write(self, data: bytes, *, seconds: float | None) -> None:
        """Send everything."""

    def hang_up(self) -> None:
        """End the conversation."""


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
    """The latest that was sent."""
    sent_at: float = 0.0

    def __post_init__(self) -> None:
        self.progress = Progress(id=self.request.id, stage="waiting", done=0, total=0)

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
        """Send the progress of the work: the first step of a stage, the last, and one in `INTERVAL` between them.

        Raises:
            CancelledError: as `check` and `send`.
        """
        self.check()
        now = self.clock()
        if stage != self.progress.stage or 0 < total <= done or now - self.sent_at >= INTERVAL:
            self.sent_at = now
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


class JobQueue:
    """Jobs of all clients, processed in the order they came; downloads beside them, a thread each.

    Args:
        warm_up: imports what the work needs.
        answer: does the work (see `clipmk.worker.service.Service.answer`).
        clock: seconds.
    """

    def __init__(
        self,
        warm_up: Callable[[], None],
        answer: Callable[[Job], Final],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.processed = 0
        """Number of jobs that were answered or cancelled."""
        self._warm_up = warm_up
        self._answer = answer
        self._clock = clock
        self._busy_at = clock()
        self._current: Job | None = None
        self._waiting: deque[Job] = deque()
        self._downloads: list[Job] = []
        self._changed = threading.Condition()  # its lock is reentrant
        self._running = self._closed = False

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Those that are not answered yet, in order."""
        with self._changed:
            return (*filter(None, [self._current]), *self._waiting, *self._downloads)

    @property
    def idle_s(self) -> float:
        """Seconds since there was something to do; getting ready counts as such."""
        with self._changed:
            if self.jobs or not self._running:
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
            if sum(one.client is job.client for one in (*self._waiting, *self._downloads)) >= MOST_WAITING:
                raise ProtocolError(f"more than {MOST_WAITING} requests of one client are waiting")
            if isinstance(job.request, protocol.Pull):
                self._downloads.append(job)
                threading.Thread(target=self._process, args=(job,), daemon=True).start()
            else:
                self._waiting.append(job)
            self._changed.notify_all()

    def cancel(self, client: Client, request_id: int | None = None) -> None:
        """Cancel a client's request, or all of them; the one being processed stops before its next step."""
        with self._changed:
            found = [job for job in self.jobs if job.client is client and request_id in {None, job.request.id}]
            for job in found:
                job.cancelled = True
            waiting = [job for job in found if job in self._waiting]
            for job in waiting:
                self._waiting.remove(job)
        for job in waiting:
            job.fail(CANCELLED, "the request was cancelled")

    def run(self) -> None:
        """Get ready, then process jobs until the queue is closed."""
        self._warm_up()
        self._running = True
        while (job := self._next()) is not None:
            self._process(job)

    def close(self) -> None:
        """Cancel everything and let `run` return."""
        with self._changed:
            self._closed = True
            for job in self.jobs:
                job.cancelled = True
            self._changed.notify_all()

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
            answer = self._answer(job)
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
        with self._changed:
            if job is self._current:
                self._current = None
            else:
                self._downloads.remove(job)
            self._busy_at = self._clock()
            self.processed += 1


def _summary(request: Request) -> str:
    """What a request is about, for the log."""
    images = getattr(request, "images", None) or [getattr(request, "image", "")]
    models = getattr(request, "models", None) or [getattr(request, "model", "")]
    more = f"and {len(images) - 1} more" if len(images) > 1 else ""
    return " ".join(filter(None, (type(request).__name__, images[0], more, *models)))[:200]


def converse(client: Client, queue: JobQueue, greeting: protocol.Greeting) -> None:
    """Greet a client and queue its requests until it closes its end; what is not answered by then is cancelled.

    Raises:
        ProtocolError: the client sent something else than a message of ours, and was sent that as a failure.
        OSError: the client is gone, or silent (`TimeoutError`).
    """
    try:
        client.write(encode(greeting), seconds=WRITE_SECONDS)
        _listen(client, queue)
    except ProtocolError as error:
        client.write(encode(Failed(id=0, code=error.code, message=str(error))), seconds=WRITE_SECONDS)
        raise
    except CancelledError:  # gone while we wrote to it
        pass
    finally:
        queue.cancel(client)


def _listen(client: Client, queue: JobQueue) -> None:
    session: Session | None = None
    while line := client.read_line(limit=protocol.REQUEST_BYTES, seconds=HELLO_SECONDS if session is None else None):
        message = protocol.decode(line)
        if session is None or isinstance(message, protocol.Hello):
            session = _session(message)
        elif isinstance(message, protocol.Cancel):
            queue.cancel(client, message.request)
        elif isinstance(message, Request):
            attached = _attached(client, message)
            if attached is None:
                return
            queue.add(Job(message, session, client, attached))
        else:
            raise ProtocolError(f"a {type(message).__name__} is not a request")


def _session(message: protocol.Message) -> Session:
    if isinstance(message, protocol.Hello) and message.version == protocol.VERSION:
        return message.session
    sent = f"version {message.version}" if isinstance(message, protocol.Hello) else f"a {type(message).__name__} first"
    raise ProtocolError(
        f"the engine speaks version {protocol.VERSION} of its protocol and was sent {sent}; "
        "install app and engine from the same release"
    )


def _attached(client: Client, request: Request) -> bytes | None:
    """The bytes that follow a request; None where the client left before they all came."""
    size = request.attached if isinstance(request, protocol.ExplainImages) else 0
    if not 0 <= size <= protocol.ATTACHED_BYTES:
        raise ProtocolError(f"{size} bytes are attached; at most {protocol.ATTACHED_BYTES} are accepted")
    data = client.read_block(size, seconds=ATTACH_SECONDS)
    return data if len(data) == size else None

"""The worker's side of a conversation, whatever the transport: greet, then queue what the client requests.

One event loop reads from all clients and keeps the queue. Requests are answered one at a time in a thread beside it,
downloads in threads of their own.
"""

import asyncio
import contextlib
import logging
import time
import traceback
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from clipmk.errors import UNEXPECTED, ProtocolError
from clipmk.worker import protocol
from clipmk.worker.protocol import CANCELLED, Answer, Failed, Final, Progress, Request, encode
from clipmk.worker.session import Session

INTERVAL = 0.05  # seconds between two messages about the progress of one stage
WRITE_SECONDS = 10.0  # for a client to take an answer
HELLO_SECONDS = 10.0  # for a client to send its first line; from then on it may take its time
ATTACH_SECONDS = 60.0  # for the bytes of an image to arrive
MOST_WAITING = 64  # requests that one client may have waiting

_log = logging.getLogger(__name__)


class CancelledError(Exception):
    """Nobody waits for the answer any more: unwinds the work on a request."""


class Client:
    """One end of a conversation. Its methods are for the event loop, `send` for the threads that answer.

    The reader's limit is the length of a line; a patient one never hangs up on a client for being slow.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, patient: bool = False) -> None:
        self._reader, self._writer, self._patient = reader, writer, patient
        writer.transport.set_write_buffer_limits(high=0)  # so that what is written has reached the kernel
        self._writing = asyncio.Lock()
        self._loop = asyncio.get_running_loop()

    async def read_line(self, *, seconds: float | None) -> bytes:
        """The next line with its newline; `b""` where the conversation ends, also in the middle of a line.

        Raises `ProtocolError` for a line that is too long, TimeoutError for one that is not complete after `seconds`.
        """
        try:
            async with asyncio.timeout(None if self._patient else seconds):
                line = await self._reader.readline()
        except ValueError as reason:
            raise ProtocolError(f"a line is longer than {protocol.REQUEST_BYTES} bytes") from reason
        except ConnectionError:
            return b""
        return line if line.endswith(b"\n") else b""

    async def read_block(self, size: int) -> bytes | None:
        """The next `size` bytes, or None where the conversation ends before; TimeoutError after `ATTACH_SECONDS`."""
        try:
            async with asyncio.timeout(None if self._patient else ATTACH_SECONDS):
                return await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def write(self, data: bytes) -> None:
        """Send everything, after whatever is being sent; hang up and raise OSError if that fails or takes too long."""
        try:
            async with asyncio.timeout(None if self._patient else WRITE_SECONDS), self._writing:
                self._writer.write(data)
                await self._writer.drain()
                if self._writer.is_closing():
                    raise ConnectionResetError("the conversation is over")
        except OSError:
            self.hang_up()
            raise

    def send(self, data: bytes) -> None:
        """As `write`, from another thread, which waits for it."""
        if self._loop.is_closed():  # the server has ended and left a model at work
            raise ConnectionResetError("the conversation is over")
        asyncio.run_coroutine_threadsafe(self.write(data), self._loop).result()

    def write_if_free(self, data: bytes) -> None:
        """Send a short line, unless the client has not yet taken what was sent before."""
        if not self._writing.locked():
            self._writer.write(data)

    def hang_up(self) -> None:
        """End the conversation for both sides."""
        if not self._writer.is_closing():
            self._writer.transport.abort()
        self._reader.feed_eof()


@dataclass(eq=False)
class Job:
    """A request, whose it is, and whether anybody still waits for its answer."""

    request: Request
    session: Session
    client: Client
    attached: bytes = b""
    clock: Callable[[], float] = time.monotonic
    cancelled: bool = False
    begun: bool = False
    progress: Progress = field(init=False)
    """The latest that was sent."""
    sent_at: float = 0.0

    def __post_init__(self) -> None:
        self.progress = Progress(id=self.request.id, stage="waiting", done=0, total=0)

    def check(self) -> None:
        """Called between the steps of the work: raises `CancelledError` if the answer is not wanted any more."""
        if self.cancelled:
            raise CancelledError

    def send(self, answer: Answer) -> None:
        """Send an answer; raises `CancelledError` if the client is gone or does not take it."""
        try:
            self.client.send(encode(answer))
        except OSError as reason:  # a timeout is one
            self.cancelled = True
            raise CancelledError from reason

    def report(self, stage: str, done: int, total: int) -> None:
        """Send the progress of the work: the first step of a stage, the last, and one in `INTERVAL` between them."""
        self.check()
        now = self.clock()
        if stage != self.progress.stage or 0 < total <= done or now - self.sent_at >= INTERVAL:
            self.sent_at = now
            self.progress = Progress(id=self.request.id, stage=stage, done=done, total=total)
            self.send(self.progress)


class JobQueue:
    """Jobs of all clients, processed in the order they came; downloads beside them.

    `warm_up` imports what the work needs; `answer` does it, in a thread (see `clipmk.worker.service.Service.answer`).
    """

    def __init__(
        self,
        warm_up: Callable[[], None],
        answer: Callable[[Job], Final],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.jobs: list[Job] = []  # those that are not answered yet, in order
        self.processed = 0  # number of jobs that were answered or cancelled
        self._warm_up = warm_up
        self._answer = answer
        self._clock = clock
        self._busy_at = clock()
        self._waiting: asyncio.Queue[Job | None] = asyncio.Queue()
        self._worker, self._downloads = ThreadPoolExecutor(1), ThreadPoolExecutor()
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = False

    @property
    def idle_s(self) -> float:
        """Seconds since there was something to do; getting ready counts as such."""
        if self.jobs or not self._running:
            self._busy_at = self._clock()
        return self._clock() - self._busy_at

    def start(self) -> asyncio.Task[None]:
        """Get ready, then process jobs until the queue is closed, in the task returned; it fails if `warm_up` does."""
        return self._begin(self._run())

    async def add(self, job: Job) -> None:
        """Append a job; `ProtocolError` if its client has too many waiting."""
        if not self._running:
            job.progress = Progress(id=job.request.id, stage="loading", done=0, total=0)
            await job.client.write(encode(job.progress))
        if sum(one.client is job.client for one in self.jobs) > MOST_WAITING:
            raise ProtocolError(f"more than {MOST_WAITING} requests of one client are waiting")
        self.jobs.append(job)
        if isinstance(job.request, protocol.Pull):
            self._begin(self._process(job, self._downloads))
        else:
            self._waiting.put_nowait(job)

    async def cancel(self, client: Client, request_id: int | None = None) -> None:
        """Cancel a client's request, or all of them; the one being processed stops before its next step."""
        for job in [job for job in self.jobs if job.client is client and request_id in {None, job.request.id}]:
            job.cancelled = True
            if not job.begun:
                await self._finish(job, _failure(job, CANCELLED, "the request was cancelled"))

    async def close(self, seconds: float) -> bool:
        """Cancel everything; whether all threads have ended after `seconds`."""
        for job in self.jobs:
            job.cancelled = True
        self._waiting.put_nowait(None)
        _, busy = await asyncio.wait(self._tasks, timeout=seconds) if self._tasks else ((), ())
        return not busy

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)  # a loop does not keep its tasks
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._worker, self._warm_up)
        self._running = True
        while (job := await self._waiting.get()) is not None:
            if job in self.jobs:  # it was not cancelled meanwhile
                await self._process(job, self._worker)

    async def _process(self, job: Job, threads: ThreadPoolExecutor) -> None:
        """Answer one job; a mistake of ours costs this job, not the models in memory."""
        started, job.begun = time.perf_counter(), True
        try:
            answer = await asyncio.get_running_loop().run_in_executor(threads, self._answered, job)
        except CancelledError:
            _log.info("%s: cancelled", _summary(job.request))
            answer = _failure(job, CANCELLED, "the request was cancelled")
        except Exception as reason:  # noqa: BLE001 - the edge of the process: the one place for what nobody foresaw
            _log.error("%s: unexpected %s: %s", _summary(job.request), type(reason).__name__, reason)
            _log.debug("%s", traceback.format_exc())
            answer = _failure(job, UNEXPECTED, f"{type(reason).__name__}: {reason}")
        else:
            _log.info("%s: %.0f ms", _summary(job.request), 1_000 * (time.perf_counter() - started))
        await self._finish(job, answer)

    def _answered(self, job: Job) -> bytes:
        job.check()
        answer = encode(self._answer(job))
        job.check()
        return answer

    async def _finish(self, job: Job, answer: bytes) -> None:
        """Send the final answer, if anybody is there to read it."""
        self.jobs.remove(job)  # before it is sent: no sign of life may follow it
        self._busy_at = self._clock()
        self.processed += 1
        with contextlib.suppress(OSError):
            await job.client.write(answer)


def _failure(job: Job, code: str, message: str) -> bytes:
    return encode(Failed(id=job.request.id, code=code, message=message))


def _summary(request: Request) -> str:
    """What a request is about, for the log."""
    images = getattr(request, "images", None) or [getattr(request, "image", "")]
    models = getattr(request, "models", None) or [getattr(request, "model", "")]
    more = f"and {len(images) - 1} more" if len(images) > 1 else ""
    return " ".join(filter(None, (type(request).__name__, images[0], more, *models)))[:200]


async def converse(client: Client, queue: JobQueue, greeting: protocol.Greeting) -> None:
    """Greet a client and queue its requests until it closes its end; what is not answered by then is cancelled.

    Raises `ProtocolError`, which the client was sent as a failure, for anything but a message of ours, and OSError
    where the client is gone or silent.
    """
    try:
        await client.write(encode(greeting))
        await _listen(client, queue)
    except ProtocolError as error:
        await client.write(encode(Failed(id=0, code=error.code, message=str(error))))
        raise
    finally:
        await queue.cancel(client)


async def _listen(client: Client, queue: JobQueue) -> None:
    session: Session | None = None
    while line := await client.read_line(seconds=HELLO_SECONDS if session is None else None):
        message = protocol.decode(line)
        if session is None or isinstance(message, protocol.Hello):
            session = _session(message)
        elif isinstance(message, protocol.Cancel):
            await queue.cancel(client, message.request)
        elif isinstance(message, Request):
            attached = await client.read_block(_attached(message))
            if attached is None:
                return
            await queue.add(Job(message, session, client, attached))
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


def _attached(request: Request) -> int:
    """How many bytes follow a request."""
    size = request.attached if isinstance(request, protocol.ExplainImages) else 0
    if not 0 <= size <= protocol.ATTACHED_BYTES:
        raise ProtocolError(f"{size} bytes are attached; at most {protocol.ATTACHED_BYTES} are accepted")
    return size

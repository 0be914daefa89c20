"""The server: one thread lets clients in, one per client listens to it, one works their orders off in turn.

No client can hold up the others: it has seconds to say what it wants and to take its answers, one order at a time; an
order whose client has gone is given up at the next border of its work.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from clipmk.errors import UNEXPECTED, ClipmkError, ProtocolError
from clipmk.version import __version__
from clipmk.worker import messages
from clipmk.worker.messages import Declined, Done, Order, Result, Welcome, Working
from clipmk.worker.place import listening, peer_of
from clipmk.worker.stream import Stream
from clipmk.worker.workshop import AbandonedError, Tell

CLIENTS = 32
"""At once; more are turned away, and do their work themselves."""
SILENCE_SECONDS = 10.0
"""For a client to say the next thing it wants."""
ATTACH_SECONDS = 60.0
"""For the bytes of an image to arrive."""
TAKE_SECONDS = 10.0
"""For a client to take an answer."""
PULSE_SECONDS = 1.0
"""Between two signs of life to clients that wait."""
END_SECONDS = 3.0
"""For the order being worked on to notice that all is over."""

_log = logging.getLogger(__name__)


class Worker(Protocol):
    """What works orders off (see `clipmk.worker.workshop.Workshop`)."""

    @property
    def models(self) -> tuple[str, ...]:
        """Ids of the models held."""

    def warm_up(self) -> None:
        """Import what models need."""

    def work(self, order: Order, attached: bytes, tell: Tell, abandoned: Callable[[], bool] = ...) -> None:
        """Work an order off."""


@dataclass(eq=False, slots=True)
class _Job:
    """An order, and who waits for it."""

    order: Order
    attached: bytes
    stream: Stream
    stage: Working = field(default_factory=lambda: Working(stage="waiting"))
    abandoned: bool = False
    over: threading.Event = field(default_factory=threading.Event)

    def tell(self, answer: Working | Result | Done | Declined) -> None:
        """Send an answer; a client that does not take it is given up."""
        if self.abandoned:
            raise AbandonedError
        if isinstance(answer, Working):
            self.stage = answer
        elif isinstance(answer, Done | Declined):
            self.over.set()  # before the client hears it, for then it may ask for more
        try:
            self.stream.write(messages.encode(answer), seconds=TAKE_SECONDS)
        except OSError as reason:  # a timeout is one
            self.abandoned = True
            self.stream.hang_up()
            raise AbandonedError from reason


class Server:
    """Serves until it is told to stop, or nobody has asked for anything for a while.

    Args:
        worker: works the orders off, all in one thread.
        idle_s: seconds without an order after which it ends.
        identity: see `clipmk.worker.identity`.
        clock: seconds; decides what "a while" is.
    """

    def __init__(
        self, worker: Worker, *, idle_s: float, identity: dict[str, str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._worker = worker
        self._idle_s = idle_s
        self._identity = identity
        self._clock = clock
        self._started = self._active = clock()
        self._orders = 0
        self._jobs: deque[_Job] = deque()
        self._filled = threading.Condition()
        self._streams: set[Stream] = set()
        self._broken = False
        self._stopping = False  # no Event: its lock is none for signal handlers, of which one may interrupt another
        self._waker: socket.socket | None = None

    def stop(self) -> None:
        """Begin to end; may be called from a signal handler or any thread."""
        self._stopping = True
        waker = self._waker
        if waker is not None:
            with contextlib.suppress(OSError):
                waker.send(b".", socket.MSG_DONTWAIT)

    def serve(self, path: Path) -> bool:
        """Listen at `path` until it is over.

        Returns:
            Whether all threads have ended; False where a model is still being worked with, in which case the process
            should end at once rather than tidy up.

        Raises:
            ClipmkError: see `clipmk.worker.place.listening`; or the worker cannot start.
        """
        with listening(path) as listener:
            worker = threading.Thread(target=self._work, name="worker", daemon=True)
            worker.start()
            _log.info("listening at %s (process %d)", path, os.getpid())
            try:
                self._let_in(listener)
            finally:
                self._end()
        worker.join(END_SECONDS)
        if self._broken:
            raise ClipmkError("the server ended, for its worker could not go on; `clipmk doctor` looks at it")
        return not worker.is_alive()

    # Letting clients in: the main thread.

    def _let_in(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        self._waker, woken = socket.socketpair()
        with self._waker, woken, selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(woken, selectors.EVENT_READ)
            while not self._stopping:
                for key, _ in selector.select(min(PULSE_SECONDS, max(0.01, self._left()))):
                    if key.fileobj is listener:
                        self._accept(listener)
                self._pulse()
                if self._left() <= 0:
                    _log.info("nobody asked for anything for %g s", self._idle_s)
                    break

    def _left(self) -> float:
        """Seconds until it has been idle for long enough."""
        with self._filled:
            if self._jobs:
                self._active = self._clock()
            return self._active + self._idle_s - self._clock()

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError as reason:  # the client has gone again, or there are no descriptors left
            _log.warning("a client could not be let in: %s", reason.strerror)
            return
        peer = peer_of(connection)
        if peer.uid != os.getuid():
            _log.warning("process %d of user %d was turned away", peer.pid, peer.uid)
            connection.close()
        elif len(self._streams) >= CLIENTS:
            _log.warning("process %d was turned away: %d clients are here", peer.pid, CLIENTS)
            connection.close()
        else:
            stream = Stream(connection)
            self._streams.add(stream)
            threading.Thread(
                target=self._listen, args=(stream, peer.pid), name=f"client {peer.pid}", daemon=True
            ).start()

    def _pulse(self) -> None:
        """Tell the clients that wait that we live."""
        with self._filled:
            waiting = list(self._jobs)
        for job in waiting:
            if not job.over.is_set():
                job.stream.write_if_free(messages.encode(job.stage))

    # Listening to a client: a thread each.

    def _listen(self, stream: Stream, pid: int) -> None:
        try:
            stream.write(messages.encode(self._welcome()), seconds=TAKE_SECONDS)
            while line := stream.read_line(limit=messages.ORDER_BYTES, seconds=SILENCE_SECONDS):
                if not self._take(stream, line):
                    break
        except (ProtocolError, TimeoutError) as reason:
            _log.warning("process %d was hung up on: %s", pid, reason)
        except OSError as reason:
            _log.debug("process %d has gone: %s", pid, reason)
        finally:
            self._streams.discard(stream)
            stream.close()

    def _take(self, stream: Stream, line: bytes) -> bool:
        """Queue an order and watch its client until it is over; whether to go on with this client."""
        order = messages.decode(line)
        if not isinstance(order, Order):
            raise ProtocolError(f"a {type(order).__name__} is no order")
        if not 0 <= order.attached <= messages.ATTACHED_BYTES:
            raise ProtocolError(f"{order.attached} bytes are attached; at most {messages.ATTACHED_BYTES} are taken")
        attached = stream.read_block(order.attached, seconds=ATTACH_SECONDS)
        if len(attached) < order.attached:
            return False
        job = _Job(order, attached, stream)
        with self._filled:
            self._jobs.append(job)
            self._filled.notify()
        while not job.over.is_set():
            if not stream.silent(PULSE_SECONDS / 2) and not job.over.is_set():
                job.abandoned = True  # it has gone, or does not wait for its answer
                return False
        return not job.abandoned

    def _welcome(self) -> Welcome:
        with self._filled:
            waiting = len(self._jobs)
        return Welcome(
            protocol=messages.VERSION,
            clipmk=__version__,
            identity=dict(self._identity),
            pid=os.getpid(),
            uptime_s=self._clock() - self._started,
            idle_s=self._idle_s,
            orders=self._orders,
            waiting=waiting,
            models=self._worker.models,
        )

    # Working: one thread.

    def _work(self) -> None:
        try:
            self._worker.warm_up()
            self._work_off()
        except BaseException:
            self._broken = True
            raise
        finally:
            self.stop()  # where it could not even start, too: its traceback is on stderr

    def _work_off(self) -> None:
        while True:
            with self._filled:
                self._filled.wait_for(lambda: self._jobs or self._stopping)
                if self._stopping:
                    return
                job = self._jobs[0]
            self._attempt(job)
            with self._filled:
                self._jobs.popleft()
                self._active = self._clock()
                self._orders += 1

    def _attempt(self, job: _Job) -> None:
        """One order; a mistake of ours costs this order, not the models in memory."""
        started = time.perf_counter()
        subject = f"{', '.join(job.order.images)[:200]} by {job.order.model}"
        try:
            if not job.abandoned:
                self._worker.work(job.order, job.attached, job.tell, lambda: job.abandoned)
            _log.info("%s: %.0f ms", subject, 1_000 * (time.perf_counter() - started))
        except AbandonedError:
            _log.info("%s: given up, its client has gone", subject)
        except Exception as reason:  # noqa: BLE001 - the edge of the process: the one place for what nobody foresaw
            _log.error("%s: unexpected %s: %s", subject, type(reason).__name__, reason)
            for line in traceback.format_exc().splitlines():
                _log.debug("%s", line)
            with contextlib.suppress(AbandonedError):
                job.tell(Declined(code=UNEXPECTED, message=f"{type(reason).__name__}: {reason}"))
        finally:
            job.over.set()

    def _end(self) -> None:
        self._stopping = True
        with self._filled:
            for job in self._jobs:
                job.abandoned = True
            self._filled.notify_all()
        for stream in list(self._streams):
            stream.hang_up()


@contextlib.contextmanager
def stopped_by_signals(server: Server) -> Iterator[None]:
    """SIGTERM, SIGINT and SIGHUP end the server while the block runs; for the main thread.

    What was ignored before stays so: `nohup` and shells that start a job in the background mean it.
    """
    numbers = [
        number
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = [signal.signal(number, lambda *_: server.stop()) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)

"""The engine over a worker: a running server where there is one, else a child process; replaced when it is lost."""

import asyncio
import contextlib
import dataclasses
import itertools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import cast

from clipmk.errors import UNEXPECTED, ClipmkError, ProtocolError
from clipmk.system.text import printable, quoted
from clipmk.worker import protocol
from clipmk.worker.client import SILENCE_SECONDS
from clipmk.worker.protocol import Answer, Failed, Greeting, Hello, Message, Partial, Request, RequestError, decode
from clipmk.worker.session import Session
from clipmk_tui.app.engine.transports import Child, Server, Transport

SHORT_BYTES = 2**15  # a line up to this long is decoded at once (about 3 ms); a longer one in a thread
PATIENCE = 2.0  # seconds until a child that does not stop a cancelled request is ended
CLOSE_SECONDS = 0.4
DEATHS = 2  # a request over which the child died so often is not asked again
OnPartial = Callable[[Partial], None]
"""Called on the event loop with every partial answer: `Progress`, `ColumnReady`, `ImageExplained`."""

REMEDY = "try another model, --device cpu, or leave it more memory"


class EngineStoppedError(RequestError):
    """The engine died twice over the same request, or could not be started at all."""

    def __init__(self, message: str) -> None:
        super().__init__("engine", message)


@dataclass(eq=False, slots=True)
class _Question:
    """A request that waits for its final answer."""

    request: Request
    on_partial: OnPartial | None
    answer: asyncio.Future[Answer | RequestError]
    deaths: int = 0  # how many children ended while they worked on it
    dropped: bool = False  # nobody waits any more

    def settle(self, answer: Answer | RequestError) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)

    def receive(self, partial: Partial) -> None:
        if self.on_partial is not None and not self.dropped:
            self.on_partial(partial)


@dataclass(eq=False, slots=True)
class _Worker:
    """One worker, from before its start to after its end."""

    life: asyncio.Task[None] | None = None
    transport: Transport | None = None
    ready: bool = False
    ending: bool = False  # we end it ourselves: its end is not an error
    fault: str | None = None  # what made it unusable, where it did not just end
    sent: dict[int, _Question] = field(default_factory=dict)
    """What it was asked and has not answered, in order: it works on the first."""
    busy_since: float = 0.0  # when it was asked the first of these
    watchdogs: dict[int, asyncio.TimerHandle] = field(default_factory=dict)
    """For each cancelled request what happens if it does not stop."""

    @property
    def is_server(self) -> bool:
        return isinstance(self.transport, Server)

    def send(self, message: Message) -> None:
        if self.transport is not None:
            self.transport.send(message)

    def ask(self, question: _Question) -> None:
        if not self.sent:
            self.busy_since = asyncio.get_running_loop().time()
        self.sent[question.request.id] = question
        self.send(question.request)

    def end(self) -> None:
        self.ending = True
        if self.transport is not None:
            self.transport.kill()

    def how_it_ended(self) -> str:
        if self.fault is not None:
            return self.fault
        return "ended" if self.transport is None else self.transport.how_it_ended()

    def last_line(self) -> str:
        return "" if self.transport is None else self.transport.last_line()


class Engine:
    """Answers requests, one at a time, in the order they are asked; every method belongs to the event loop.

    A `clipmk serve` is used if one listens at the socket `server`; `log` takes what children write to stderr.
    """

    def __init__(self, session: Session, *, server: Path | None = None, log: list[str] | None = None) -> None:
        self.on_restart: Callable[[str], None] | None = None
        """Called with one sentence when the child died and was started again, or a server that runs cannot be used."""
        self._session = session
        self._server = server
        self._child_next = False  # a server was lost while it worked: a child goes on
        self._log = log
        self._ids = itertools.count(1)
        self._waiting: dict[int, _Question] = {}
        self._worker: _Worker | None = None
        self._failed_starts = 0
        self._restart_message: str | None = None
        self._closed = False

    @property
    def uses_server(self) -> bool:
        """Whether a `clipmk serve` answers now, rather than a process of the app's own."""
        return self._worker is not None and self._worker.is_server

    async def start(self) -> None:
        """Begin starting the worker; returns at once. `ask` starts what is not started."""
        if self._worker is None and not self._closed:
            self._begin()

    async def ask(
        self, request: protocol.Numbered[protocol.A_co], on_partial: OnPartial | None = None
    ) -> protocol.A_co:
        """The final answer to a request, whose id the engine gives; cancelling the waiting task cancels the work.

        Raises `RequestError` if the request fails, and `EngineStoppedError` if the child dies twice over it or cannot
        start.
        """
        if self._closed:
            raise EngineStoppedError("the engine was closed")
        numbered = cast("Request", dataclasses.replace(request, id=next(self._ids)))
        question = _Question(numbered, on_partial, asyncio.get_running_loop().create_future())
        self._waiting[numbered.id] = question
        if self._worker is None:
            self._begin()
        elif self._worker.ready:
            self._worker.ask(question)
        try:
            answer = await question.answer
        except asyncio.CancelledError:
            self._cancel(question)
            raise
        finally:
            self._waiting.pop(numbered.id, None)
        if isinstance(answer, RequestError):
            raise answer
        if isinstance(answer, Failed):
            message = f"the engine met an unexpected {answer.message}; clipmk tui --debug shows where"
            raise RequestError(answer.code, message if answer.code == UNEXPECTED else answer.message)
        return cast("protocol.A_co", answer)

    def reconfigure(self, session: Session) -> None:
        """Answer all further requests under another session; what waits now is cancelled, loaded models stay."""
        self._session = session
        self._failed_starts = 0
        for question in [*self._waiting.values()]:
            self._cancel(question)
        self._fail(self._waiting.values(), RequestError(protocol.CANCELLED, "the settings were changed meanwhile"))
        if self._worker is not None:
            self._worker.send(self._hello(self._worker))  # before it listens, it is sent in `_live`

    async def close(self) -> None:
        """End the child at once, or leave the server, whatever is going on; never raises, may be called again."""
        self._closed = True
        worker, self._worker = self._worker, None
        self._restart_message = None
        self._fail(self._waiting.values(), RequestError(protocol.CANCELLED, "the engine was closed"))
        if worker is not None and worker.life is not None:
            worker.end()
            await asyncio.wait({worker.life}, timeout=CLOSE_SECONDS)
            worker.life.cancel()

    # Asking.

    def _cancel(self, question: _Question) -> None:
        """Ask the worker to stop; a child has `PATIENCE`, a server may have other things to do first."""
        question.dropped = True
        worker, number = self._worker, question.request.id
        if worker is None or number not in worker.sent:
            return
        worker.send(protocol.Cancel(id=next(self._ids), request=number))
        if not worker.is_server:
            loop = asyncio.get_running_loop()
            worker.watchdogs[number] = loop.call_later(PATIENCE, worker.end)

    def _hello(self, worker: _Worker) -> Hello:
        session = self._session
        if worker.is_server:
            session = dataclasses.replace(session, folder=os.getcwd())  # noqa: PTH109 - a file's name is relative to it
        return Hello(version=protocol.VERSION, session=session)

    # A worker's life.

    def _begin(self) -> None:
        worker = self._worker = _Worker()
        worker.life = asyncio.get_running_loop().create_task(self._live(worker), name="clipmk engine")
        worker.life.add_done_callback(partial(self._end, worker))

    async def _live(self, worker: _Worker) -> None:
        """Find or start a worker and listen to it until it ends."""
        try:
            transport: Transport = await self._find_server() or await Child.start(debug=self._log is not None)
        except OSError as reason:
            worker.fault = f"cannot be started: {printable(str(reason))}"
            return
        worker.transport = transport
        if worker.ending:  # dismissed while it was being started
            worker.end()
        self._tell_restart()
        worker.send(self._hello(worker))
        if worker.is_server:
            self._get_ready(worker)
        try:
            await self._listen(worker, transport)
            await transport.wait()
        finally:
            transport.close()

    async def _find_server(self) -> Server | None:
        """The server, unless it is of no use; then it is not tried again."""
        child_next, self._child_next = self._child_next, False
        if self._server is None or child_next:
            return None
        try:
            os.getcwd()  # noqa: PTH109 - without a folder, names of files mean nothing to a server
            return await Server.connect(self._server)
        except (ClipmkError, OSError) as reason:
            self._restart_message = f"the server at {quoted(self._server)} is not used: {printable(str(reason))}"
            self._server = None
            return None

    async def _listen(self, worker: _Worker, transport: Transport) -> None:
        """Read answers until there are no more; a malformed one ends the worker."""
        try:
            while line := await _next_line(worker, transport):
                message = decode(line) if len(line) <= SHORT_BYTES else await asyncio.to_thread(decode, line)
                self._receive(worker, message)
                await asyncio.sleep(0)  # many lines may have come at once; the screen goes first
        except (ValueError, ProtocolError) as reason:  # ValueError: longer than any answer
            worker.fault = worker.fault or f"sent what cannot be understood ({printable(str(reason))[:200]})"
        except TimeoutError:
            worker.fault = "gives no sign of life"
        except ConnectionError:
            pass
        if worker.fault is not None:
            transport.kill()

    def _receive(self, worker: _Worker, message: Message) -> None:
        match message:
            case Greeting(protocol=protocol.VERSION):
                self._get_ready(worker)
            case Greeting() | Failed(id=0):
                reason = message.message if isinstance(message, Failed) else f"it speaks version {message.protocol}"
                worker.ready = False
                worker.fault = f"does not understand this app: {printable(reason)}"
                raise ProtocolError(worker.fault)
            case protocol.Progress() | protocol.ColumnReady() | protocol.ImageExplained():
                if (known := worker.sent.get(message.id)) is not None:  # called later: its mistakes are not ours
                    asyncio.get_running_loop().call_soon(known.receive, message)
            case Hello() | protocol.Cancel():
                raise ProtocolError(f"a {type(message).__name__} is not an answer")
            case _ if message.id in worker.sent:
                if (watchdog := worker.watchdogs.pop(message.id, None)) is not None:
                    watchdog.cancel()
                worker.sent.pop(message.id).settle(message)  # type: ignore[arg-type]

    def _get_ready(self, worker: _Worker) -> None:
        worker.ready = True
        self._failed_starts = 0
        if worker is self._worker:
            for question in self._waiting.values():
                worker.ask(question)

    def _tell_restart(self) -> None:
        if self._restart_message is not None and self.on_restart is not None:
            asyncio.get_running_loop().call_soon(self.on_restart, self._restart_message)
        self._restart_message = None

    def _end(self, worker: _Worker, life: asyncio.Task[None]) -> None:
        """Draw the consequences: blame the request it worked on, and start another worker if requests wait."""
        if self._log is not None and isinstance(worker.transport, Child):
            self._log.extend(worker.transport.lines)
        for watchdog in worker.watchdogs.values():
            watchdog.cancel()
        if not life.cancelled() and (mistake := life.exception()) is not None:
            worker.fault = f"was lost by a mistake of this app ({type(mistake).__name__}: {printable(str(mistake))})"
            worker.end()
        if worker is not self._worker:
            return
        self._worker = None
        if worker.is_server:
            self._child_next = bool(self._waiting)  # another server might end over the same request
            then = "the app now runs its own engine" if self._child_next else "the next question looks for another"
            self._restart_message = f"the server {worker.how_it_ended()}; {then}"
        elif not worker.ending:
            self._blame(worker)
        if self._waiting:
            self._begin()
        elif worker.is_server:
            self._tell_restart()

    def _blame(self, worker: _Worker) -> None:
        if worker.ready or worker.fault is None:
            self._restart_message = f"the engine {worker.how_it_ended()} and was started again{worker.last_line()}"
        if not worker.ready:
            self._failed_starts += 1
            if worker.fault is not None or self._failed_starts >= DEATHS:
                self._failed_starts = 0
                when = "" if worker.fault is not None else " before it was ready"
                words = f"the engine {worker.how_it_ended()}{when}{worker.last_line()}"
                error = EngineStoppedError(f"{words}; `clipmk doctor` looks at the installation")
                self._fail(self._waiting.values(), error)
        elif worker.sent:
            suspect = next(iter(worker.sent.values()))
            suspect.deaths += 1
            if suspect.deaths >= DEATHS:
                words = f"the engine {worker.how_it_ended()} twice over the same request{worker.last_line()}"
                self._fail([suspect], EngineStoppedError(f"{words}; {REMEDY}"))

    def _fail(self, questions: Iterable[_Question], error: RequestError) -> None:
        for question in [*questions]:
            self._waiting.pop(question.request.id, None)
            question.settle(error)


async def _next_line(worker: _Worker, transport: Transport) -> bytes:
    """The next line, `b""` at the end; TimeoutError if a server that was asked something is silent for too long."""
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SILENCE_SECONDS if worker.is_server else None):
                return await transport.reader.readline()
        if worker.sent and asyncio.get_running_loop().time() - worker.busy_since >= SILENCE_SECONDS:
            raise TimeoutError

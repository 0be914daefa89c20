"""The engine in a child process: started when it is needed, restarted when it dies, ended when it does not obey."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import clipmk
from clipmk.errors import ProtocolError
from clipmk.system.text import printable
from clipmk.worker import protocol
from clipmk.worker.protocol import Answer, Failed, Greeting, Hello, Message, Request, decode, encode
from clipmk.worker.session import Session
from clipmk_tui.app.engine.base import AskError, EngineStoppedError, OnPartial

COMMAND = (sys.executable, "-P", "-m", "clipmk.worker.pipe")
"""-P: a file in the working folder must not stand in for a module."""

LINE_BYTES = 64 * 2**20
"""Longest answer."""
SHORT_BYTES = 2**15
"""A line up to this long is decoded at once (about 3 ms); a longer one in a thread."""
NOISE_LINES = 50
"""How much of the child's stderr is kept."""
PATIENCE = 2.0
"""Seconds until a child that does not give a cancelled request up is ended."""
TERM_SECONDS = 0.2
"""Between asking a child to end and ending it."""
CLOSE_SECONDS = 0.4
EXIT_SECONDS = 1.0
"""For a child that said its last to end by itself."""
DEATHS = 2
"""A request over which the child died so often is not asked again."""
REMEDY = "try another model, --device cpu, or leave it more memory"


@dataclass(eq=False, slots=True)
class _Question:
    """A request that waits for its final answer."""

    request: Request
    on_partial: OnPartial | None
    answer: asyncio.Future[Answer | AskError]
    deaths: int = 0
    """How many children ended while they worked on it."""
    dropped: bool = False
    """Nobody waits any more."""

    def settle(self, answer: Answer | AskError) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)

    def hear(self, partial: protocol.Partial) -> None:
        if self.on_partial is not None and not self.dropped:
            self.on_partial(partial)


@dataclass(eq=False, slots=True)
class _Child:
    """One process, from before its start to after its end."""

    life: asyncio.Task[None] | None = None
    process: asyncio.subprocess.Process | None = None
    ready: bool = False
    doomed: bool = False
    """We end it ourselves: its end is nobody's fault."""
    fault: str | None = None
    """What made it unusable, where it did not just end."""
    sent: dict[int, _Question] = field(default_factory=dict)
    """What it was asked and has not answered, in order: it works on the first."""
    watchdogs: dict[int, asyncio.TimerHandle] = field(default_factory=dict)
    """For each cancelled request what happens if it is not given up; 0: if the child does not end."""
    noise: deque[str] = field(default_factory=lambda: deque(maxlen=NOISE_LINES))
    """The last lines of its stderr."""

    def say(self, message: Message) -> None:
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.write(encode(message))

    def signal(self, number: int) -> None:
        """To the child and whatever it started; it leads a session of its own."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)

    def answered(self, number: int) -> _Question:
        if (watchdog := self.watchdogs.pop(number, None)) is not None:
            watchdog.cancel()
        return self.sent.pop(number)

    def end(self) -> None:
        self.doomed = True
        self.signal(signal.SIGKILL)

    def ended(self) -> str:
        """How it ended, in words: "was killed by signal 9 (SIGKILL)"."""
        status = self.process.returncode if self.process is not None else None
        if self.fault is not None:
            return self.fault
        if status is None or status >= 0:
            return f"ended with exit status {status}"
        names = {member.value: f" ({member.name})" for member in signal.Signals}
        return f"was killed by signal {-status}{names.get(-status, '')}"

    def last_words(self) -> str:
        """The last line of its stderr, ready to follow a sentence; empty where it said nothing."""
        line = next((line for line in reversed(self.noise) if line.strip()), "")
        return f"; it said last: {printable(line.strip())[:200]}" if line else ""


class WorkerEngine:
    """`Engine` over `python -m clipmk.worker.pipe` (see `clipmk_tui.app.engine.base.Engine`).

    Args:
        session: what all requests share.
        patience: seconds until a child that does not give a cancelled request up is ended.
        command: what is started.
    """

    def __init__(self, session: Session, *, patience: float = PATIENCE, command: Sequence[str] = COMMAND) -> None:
        self.on_restart: Callable[[str], None] | None = None
        self._session = session
        self._patience = patience
        self._command = tuple(command)
        self._ids = itertools.count(1)
        self._waiting: dict[int, _Question] = {}
        self._child: _Child | None = None
        self._stillborn = 0
        self._obituary: str | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Of the child that answers now; None while there is none."""
        process = None if self._child is None else self._child.process
        return None if process is None or process.returncode is not None else process.pid

    async def start(self) -> None:
        """Begin starting the child; returns at once."""
        if self._child is None and not self._closed:
            self._begin()

    async def ask(self, request: Request, on_partial: OnPartial | None = None) -> Any:
        """The final answer (see `Engine.ask`, whose overloads say which).

        Raises:
            AskError: the request failed.
            EngineStoppedError: the child died twice over it, cannot be started, or the engine was closed.
        """
        if self._closed:
            raise EngineStoppedError("the engine was closed")
        asked = dataclasses.replace(request, id=next(self._ids))
        question = _Question(asked, on_partial, asyncio.get_running_loop().create_future())
        self._waiting[asked.id] = question
        if self._child is None:
            self._begin()
        elif self._child.ready:
            self._send(self._child, question)
        try:
            answer = await question.answer
        except asyncio.CancelledError:
            self._give_up(question)
            raise
        finally:
            self._waiting.pop(asked.id, None)
        if isinstance(answer, AskError):
            raise answer
        if isinstance(answer, Failed):
            raise AskError(answer.code, answer.message)
        return answer

    async def reconfigure(self, session: Session) -> None:
        """Answer all further requests under another session, by another child; what waits now is cancelled."""
        self._session = session
        self._stillborn = 0
        await self._dismiss("the settings were changed meanwhile")

    async def close(self) -> None:
        """End the child at once, whatever it is at, and wait for its end; never raises, may be called again."""
        self._closed = True
        await self._dismiss("the engine was closed")

    # Asking.

    def _send(self, child: _Child, question: _Question) -> None:
        child.sent[question.request.id] = question
        child.say(question.request)

    def _give_up(self, question: _Question) -> None:
        """Ask the child to stop; it has `patience` seconds."""
        question.dropped = True
        child, number = self._child, question.request.id
        if child is None or number not in child.sent:
            return
        child.say(protocol.Cancel(id=next(self._ids), request=number))
        loop = asyncio.get_running_loop()
        child.watchdogs[number] = loop.call_later(self._patience, self._enforce, child, number)

    def _enforce(self, child: _Child, number: int) -> None:
        if number not in child.sent or child.doomed:
            return
        child.doomed = True
        child.signal(signal.SIGTERM)
        child.watchdogs[0] = asyncio.get_running_loop().call_later(TERM_SECONDS, child.end)

    async def _dismiss(self, why: str) -> None:
        child, self._child = self._child, None
        self._obituary = None
        for question in self._waiting.values():
            question.settle(AskError(protocol.CANCELLED, why))
        self._waiting.clear()
        if child is None or child.life is None:
            return
        child.end()
        await asyncio.wait({child.life}, timeout=CLOSE_SECONDS)
        child.life.cancel()

    # A child's life.

    def _begin(self) -> None:
        child = self._child = _Child()
        child.life = asyncio.get_running_loop().create_task(self._live(child), name="clipmk engine")
        child.life.add_done_callback(partial(self._over, child))

    async def _live(self, child: _Child) -> None:
        """Start a process and listen to it until it ends."""
        try:
            process = child.process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=LINE_BYTES,
                start_new_session=True,
                env=_environment(),
            )
        except OSError as reason:
            child.fault = f"cannot be started: {printable(str(reason))}"
            return
        if child.doomed:  # dismissed while it was being started
            child.end()
        self._announce()
        child.say(Hello(version=protocol.VERSION, session=self._session))
        noise = asyncio.get_running_loop().create_task(_drain(process, child.noise))
        try:
            await self._listen(child, process)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), EXIT_SECONDS)
            child.signal(signal.SIGKILL)
            await process.wait()
            await asyncio.wait({noise}, timeout=EXIT_SECONDS)
        finally:
            noise.cancel()
            if process.stdin is not None:
                process.stdin.close()

    async def _listen(self, child: _Child, process: asyncio.subprocess.Process) -> None:
        """Read answers until there are no more; what is none ends the child."""
        stdout = process.stdout
        assert stdout is not None  # noqa: S101 - a pipe was asked for
        try:
            while line := await stdout.readline():
                message = decode(line) if len(line) <= SHORT_BYTES else await asyncio.to_thread(decode, line)
                self._hear(child, message)
                await asyncio.sleep(0)  # many lines may have come at once; the screen goes first
        except (ValueError, ProtocolError) as reason:  # ValueError: longer than any answer
            child.fault = child.fault or f"said what cannot be understood ({printable(str(reason))[:200]})"
        except ConnectionError:
            pass
        if child.fault is not None:
            child.signal(signal.SIGKILL)

    def _hear(self, child: _Child, message: Message) -> None:
        match message:
            case Greeting(protocol=protocol.VERSION):
                child.ready = True
                self._stillborn = 0
                if child is self._child:
                    for question in self._waiting.values():
                        self._send(child, question)
            case Greeting() | Failed(id=0):
                said = message.message if isinstance(message, Failed) else f"it speaks version {message.protocol}"
                child.ready = False
                child.fault = f"does not understand this app: {printable(said)}"
                raise ProtocolError(child.fault)
            case protocol.Progress() | protocol.ColumnReady() | protocol.Predicted() | protocol.ImageExplained():
                if (known := child.sent.get(message.id)) is not None:  # called later: its mistakes are not ours
                    asyncio.get_running_loop().call_soon(known.hear, message)
            case Hello() | protocol.Cancel():
                raise ProtocolError(f"a {type(message).__name__} is no answer")
            case _ if message.id in child.sent:
                child.answered(message.id).settle(message)  # type: ignore[arg-type]

    def _announce(self) -> None:
        if self._obituary is not None and self.on_restart is not None:
            asyncio.get_running_loop().call_soon(self.on_restart, self._obituary)
        self._obituary = None

    def _over(self, child: _Child, life: asyncio.Task[None]) -> None:
        """Draw the consequences: blame the request it worked on, and start another child if requests wait."""
        for watchdog in child.watchdogs.values():
            watchdog.cancel()
        if not life.cancelled() and (mistake := life.exception()) is not None:
            child.fault = f"was lost by a mistake of this app ({type(mistake).__name__}: {printable(str(mistake))})"
            child.signal(signal.SIGKILL)
        if child is not self._child:
            return
        self._child = None
        if not child.doomed:
            self._blame(child)
        if self._waiting:
            self._begin()

    def _blame(self, child: _Child) -> None:
        if child.ready or child.fault is None:
            self._obituary = f"the engine {child.ended()} and was started again"
        if not child.ready:
            self._stillborn += 1
            if child.fault is not None or self._stillborn >= DEATHS:
                self._stillborn = 0
                when = "" if child.fault is not None else " before it was ready"
                words = f"the engine {child.ended()}{when}{child.last_words()}"
                self._fail(list(self._waiting.values()), f"{words}; `clipmk doctor` looks at the installation")
            return
        suspect = next(iter(child.sent.values()), None)
        if suspect is None:
            return
        suspect.deaths += 1
        if suspect.deaths >= DEATHS:
            words = f"the engine {child.ended()} twice over the same request{child.last_words()}"
            self._fail([suspect], f"{words}; {REMEDY}")

    def _fail(self, questions: list[_Question], message: str) -> None:
        for question in questions:
            self._waiting.pop(question.request.id, None)
            question.settle(EngineStoppedError(message))


def _environment() -> dict[str, str]:
    """Ours, and where this very `clipmk` was found, unless every Python looks there."""
    home = Path(clipmk.__file__).resolve().parents[1]
    if home.name in {"site-packages", "dist-packages"}:
        return dict(os.environ)
    paths = [*filter(None, [os.environ.get("PYTHONPATH")]), str(home)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


async def _drain(process: asyncio.subprocess.Process, noise: deque[str]) -> None:
    """Keep the last lines of stderr; a child must never wait for us to read them."""
    stream = process.stderr
    assert stream is not None  # noqa: S101 - a pipe was asked for
    rest = b""
    while data := await stream.read(2**16):
        *lines, rest = (rest + data).split(b"\n")
        noise.extend(line.decode("utf-8", "backslashreplace") for line in lines[-NOISE_LINES:])
        rest = rest[-(2**12) :]
    noise.append(rest.decode("utf-8", "backslashreplace"))

"""A service in this process, asked by tests, and everything that it sent."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from clipmk.settings import preset
from clipmk.worker import protocol
from clipmk.worker.jobs import CancelledError, Job, JobQueue
from clipmk.worker.protocol import CANCELLED, Failed
from clipmk.worker.service import Service
from clipmk.worker.session import Session

VIT = "embedded/vit-s8"


class Recorder:
    """A client that never sends anything and keeps what it is sent."""

    def __init__(self, keep: Callable[[Any], None]) -> None:
        self._keep = keep

    def send(self, data: bytes) -> None:
        self._keep(protocol.decode(data))

    async def write(self, data: bytes) -> None:
        self.send(data)


class Conversation:
    """A service and what it sent. Its clock stands: no stage is reported twice because the machine was busy.

    Args:
        service: shared with other conversations; None: a service of its own.
        session: fields of the session.
    """

    def __init__(self, service: Service | None = None, **session: Any) -> None:
        self.sent: list[Any] = []
        self.hook: Callable[[Any], None] = lambda answer: None
        self.session = Session(**{"vocabulary": "world", "settings": preset("default"), "device": "cpu", **session})
        self.service = service or Service()
        self.number = 0
        self.job: Job | None = None

    def keep(self, answer: Any) -> None:
        """Called with whatever is sent."""
        self.sent.append(answer)
        self.hook(answer)

    def cancel(self) -> None:
        """Cancel the request that is being answered."""
        assert self.job is not None
        self.job.cancelled = True

    async def queue(self, request: Any) -> None:
        """Queue a request of a worker that has just been started."""
        await JobQueue(self.service.warm_up, self.service.answer).add(Job(request, self.session, Recorder(self.keep)))

    def ask(self, request: Any, *, attached: bytes = b"", cancelled: bool = False) -> Any:
        """The final answer, as the service made it; `sent` holds what came before it."""
        self.sent.clear()
        self.number += 1
        request = dataclasses.replace(request, id=self.number)
        self.job = Job(request, self.session, Recorder(self.keep), attached, clock=lambda: 0.0, cancelled=cancelled)
        try:
            self.job.check()
            answer = self.service.answer(self.job)
            self.job.check()
        except CancelledError:
            answer = Failed(id=self.number, code=CANCELLED, message="")
        assert all(one.id == self.number for one in (*self.sent, answer))
        assert all(isinstance(one, protocol.Partial) for one in self.sent)
        assert isinstance(answer, protocol.Final)
        assert protocol.decode(protocol.encode(answer)) == answer
        return answer

    def received(self, kind: type[Any]) -> list[Any]:
        return [answer for answer in self.sent if isinstance(answer, kind)]

    def stages(self) -> list[tuple[str, int, int]]:
        return [(p.stage, p.done, p.total) for p in self.received(protocol.Progress)]

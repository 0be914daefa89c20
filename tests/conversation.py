"""A service of the engine in this process, asked by tests, and everything that it told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from clipmk.settings import preset
from clipmk.worker import protocol
from clipmk.worker.session import Session
from clipmk.worker.service import Service

VIT = "embedded/vit-s8"


class Conversation:
    """A service and what it told. Its clock stands: no stage is told twice because the machine was busy."""

    def __init__(self, **session: Any) -> None:
        self.told: list[Any] = []
        self.hook: Callable[[Any], None] = lambda answer: None
        options = {"vocabulary": "world", "settings": preset("default"), "device": "cpu", **session}
        self.service = Service(Session(**options), self._hear, clock=lambda: 0.0)
        self.number = 0

    def _hear(self, answer: Any) -> None:
        self.told.append(answer)
        self.hook(answer)

    def ask(self, request: Any) -> Any:
        """The final answer; `told` holds what came before it."""
        self.told.clear()
        self.number += 1
        self.service.handle(protocol.numbered(request, self.number))
        assert all(answer.id == self.number for answer in self.told)
        assert not any(isinstance(answer, protocol.Final) for answer in self.told[:-1])
        assert isinstance(self.told[-1], protocol.Final)
        assert all(protocol.decode(protocol.encode(answer)) == answer for answer in self.told)
        return self.told[-1]

    def heard(self, kind: type[Any]) -> list[Any]:
        return [answer for answer in self.told if isinstance(answer, kind)]

    def stages(self) -> list[tuple[str, int, int]]:
        return [(p.stage, p.done, p.total) for p in self.heard(protocol.Progress)]

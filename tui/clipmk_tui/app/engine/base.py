"""The interface to the models: what the app can ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, overload

from clipmk.errors import ClipmkError
from clipmk.worker import protocol
from clipmk.worker.protocol import Partial, Request
from clipmk.worker.session import Session

OnPartial = Callable[[Partial], None]
"""Called on the event loop with every partial answer: `Progress`, `ColumnReady`, `Predicted`."""


class AskError(ClipmkError):
    """A request that failed; `reason` is the `code` of the `Failed` answer."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class EngineStoppedError(AskError):
    """The engine died twice over the same request, or could not be started at all."""

    def __init__(self, message: str) -> None:
        super().__init__("engine", message)


class Engine(Protocol):
    """Answers requests, one at a time, in the order they are asked; every method belongs to the event loop."""

    on_restart: Callable[[str], None] | None
    """Called with one sentence when the engine died and was started again, or cannot use a server that runs."""

    @property
    def uses_server(self) -> bool:
        """Whether a `clipmk serve` answers, rather than a process of the app's own."""

    async def start(self) -> None:
        """Begin warming up in the background; returns at once. `ask` starts what is not started."""

    @overload
    async def ask(self, request: protocol.Load, on_partial: OnPartial | None = None) -> protocol.Loaded: ...
    @overload
    async def ask(self, request: protocol.Explain, on_partial: OnPartial | None = None) -> protocol.Explained: ...
    @overload
    async def ask(self, request: protocol.WhatIf, on_partial: OnPartial | None = None) -> protocol.Reranked: ...
    @overload
    async def ask(
        self, request: protocol.Compare | protocol.Survey, on_partial: OnPartial | None = None
    ) -> protocol.Done: ...
    @overload
    async def ask(self, request: protocol.ListModels, on_partial: OnPartial | None = None) -> protocol.Listed: ...
    async def ask(self, request: Request, on_partial: OnPartial | None = None) -> protocol.Final:
        """The final answer to a request; its id is given by the engine.

        Cancelling the task that waits here cancels the work: a child that does not obey is ended after two seconds.

        Raises:
            AskError: the request failed; the message says what happened and what to do.
            EngineStoppedError: the engine cannot answer anything.
        """

    async def reconfigure(self, session: Session) -> None:
        """Answer all further requests under another session (vocabulary, settings, device)."""

    async def close(self) -> None:
        """Stop at once, whatever is going on; returns within half a second. No process is left behind."""

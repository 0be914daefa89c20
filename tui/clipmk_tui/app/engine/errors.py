"""What a request to the models can end with besides an answer."""

from __future__ import annotations

from clipmk.errors import ClipmkError


class AskError(ClipmkError):
    """A request that failed; `reason` is the `code` of the `Failed` answer."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class EngineStoppedError(AskError):
    """The engine died twice over the same request, or could not be started at all."""

    def __init__(self, message: str) -> None:
        super().__init__("engine", message)

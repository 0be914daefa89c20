"""What a request to the models can end with besides an answer and a `RequestError`."""

from __future__ import annotations

from clipmk.worker.protocol import RequestError


class EngineStoppedError(RequestError):
    """The engine died twice over the same request, or could not be started at all."""

    def __init__(self, message: str) -> None:
        super().__init__("engine", message)

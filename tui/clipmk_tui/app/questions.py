"""What the app asks of the engine; progress is posted as messages. Knows no screen.

Each question is a coroutine that its caller may cancel: the engine then drops the request.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from textual.message import Message

from clipmk.errors import ClipmkError
from clipmk.system.memory import LruCache
from clipmk.worker import protocol
from clipmk.worker.protocol import ImageExplained, Loaded, Partial, Progress
from clipmk.worker.session import Session
from clipmk_tui.app import messages

if TYPE_CHECKING:
    from clipmk.explanation import Explanation
    from clipmk.images.decoder import Picture
    from clipmk.records import Prediction
    from clipmk_tui.app.engine.worker import Engine
    from clipmk_tui.app.state import State

RANKED = 40  # classes with rank and probability: as many as a tall pane shows
_PICTURES = 4  # decoded pictures kept, for walking back and forth

_CPU_CHUNK, _GPU_CHUNK = 4, 64
"""Images asked for at once behind other questions; what has begun of them is dropped when another question comes."""

_LEAST_SIDE = 2048
"""Pixels decoded of a larger picture's longer side: enough for the whole screen, and little memory."""


class Questions:
    """All questions of one app; those to the engine raise `RequestError`. `post` takes progress as messages."""

    def __init__(self, engine: Engine, state: State, post: Callable[[Message], object], session: Session) -> None:
        self.engine = engine
        self.session = session
        self.state = state
        self._post = post
        self._pictures: LruCache[str, Picture] = LruCache(_PICTURES)
        self._working = 0  # questions that wait
        self._others_done = asyncio.Event()
        self._others_done.set()
        self._behind: asyncio.Task[object] | None = None  # what is asked behind all other questions

    @property
    def busy(self) -> bool:
        """Whether a question waits for its answer."""
        return bool(self._working)

    async def picture(self, path: str) -> Picture | str:
        """An image, decoded once; or why there is none."""
        from clipmk.images.decoder import read_picture  # noqa: PLC0415 - numpy and Pillow

        picture = self._pictures.get(path)
        if picture is None:
            try:
                picture = await asyncio.to_thread(read_picture, path, least_side=_LEAST_SIDE)
            except ClipmkError as error:
                return str(error)
            self._pictures.put(path, picture, weight=1)
        return picture

    def forget_pictures(self) -> None:
        """Read images again the next time: their files may have changed."""
        self._pictures.clear()

    async def explanation(self, image: str, model: str, target: str | None, *, maps: bool = False) -> Explanation:
        """Explain an image, and answer what is asked for; with `maps` get ready for texts that are asked for next."""
        with self._working_on():
            await self.load(model)
            asks, also = self.state.asks, self.state.true_classes
            request = protocol.Explain(
                model=model, image=image, target=target, asks=asks, maps=maps, also=also, ranked=RANKED
            )
            return (await self.engine.ask(request, self._report)).explanation

    async def reranking(self, request: protocol.WhatIf) -> tuple[Prediction, ...]:
        """Rank the classes without some concepts."""
        with self._working_on():
            return (await self.engine.ask(request, self._report)).predictions

    async def explain_all(
        self, model: str, images: Sequence[str], keep: Callable[[str, Explanation | str], object]
    ) -> None:
        """Explain many images behind all other questions.

        Args:
            model: explains.
            images: paths.
            keep: called with each image and its explanation, or why there is none.
        """
        waiting = deque(images)
        loaded = await self.load(model)
        on_cpu = loaded.device.startswith("cpu")  # one by one: batches gain little, and it can be cancelled between
        size, stream = _CPU_CHUNK if on_cpu else _GPU_CHUNK, not on_cpu and self.session.settings.fit == "image"

        def report(partial: Partial) -> None:
            if isinstance(partial, ImageExplained):
                keep(waiting.popleft(), partial.explanation or partial.message or "failed")

        while waiting:
            await self._others_done.wait()
            images = tuple(islice(waiting, size))
            request = protocol.ExplainImages(model=model, images=images, stream=stream)
            asked = self._behind = asyncio.ensure_future(self.engine.ask(request, report))
            try:
                await asyncio.wait([asked])
            finally:
                asked.cancel()
            if not asked.cancelled():
                asked.result()

    async def download(self, model: str) -> None:
        """Download a model."""
        with self._working_on():
            await self.engine.ask(protocol.Pull(model=model), self._report)

    def reconfigure(self, session: Session) -> None:
        """Forget all answers, and ask everything else under another session."""
        self.session = session
        self.state.forget()
        self.engine.reconfigure(session)

    async def load(self, model: str) -> Loaded:
        """Load a model, unless it is loaded."""
        if model not in self.state.loaded:
            self.state.add_loaded(await self.engine.ask(protocol.Load(model=model), self._report))
            self._post(messages.ModelLoaded())
        return self.state.loaded[model]

    def _report(self, partial: Partial) -> None:
        if isinstance(partial, Progress) and self._working:
            self._post(messages.WorkProgress(partial.stage, partial.done, partial.total))

    @contextlib.contextmanager
    def _working_on(self) -> Iterator[None]:
        """Report that the engine is busy; the next question may begin before the last has ended."""
        if not self._working:
            self._post(messages.WorkProgress("asked"))
            self._others_done.clear()
            if self._behind is not None:
                self._behind.cancel()
        self._working += 1
        try:
            yield
        finally:
            self._working -= 1
            if not self._working:
                self._post(messages.WorkProgress(""))
                self._others_done.set()

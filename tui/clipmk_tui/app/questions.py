"""What the app asks of the engine; the answers are posted as messages. Knows no screen.

Each question is a coroutine that its caller may cancel: the engine then drops the request.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from textual.message import Message

from clipmk.errors import OUT_OF_MEMORY, ClipmkError, ModelError
from clipmk.system.memory import LruCache
from clipmk.worker import protocol
from clipmk.worker.protocol import Loaded, Partial, Predicted, Progress, RequestError
from clipmk.worker.session import Session
from clipmk_tui.app import messages
from clipmk_tui.app.image_list import verdicts, wrong_first

if TYPE_CHECKING:
    from clipmk.images.decoder import Picture
    from clipmk_tui.app.engine.worker import Engine
    from clipmk_tui.app.image_list import Item

_PICTURES = 4
"""Decoded pictures kept, for walking back and forth."""

_LEAST_SIDE = 2048
"""Pixels decoded of a larger picture's longer side: enough for the whole screen, and little memory."""


class Questions:
    """All questions of one app.

    Args:
        engine: answers them.
        post: takes the messages.
        session: what all questions share.
    """

    def __init__(self, engine: Engine, post: Callable[[Message], object], session: Session) -> None:
        self.engine = engine
        self.session = session
        self._post = post
        self._loaded: dict[str, Loaded] = {}
        self._pictures: LruCache[str, Picture] = LruCache(_PICTURES)
        self._working: set[object] = set()

    @property
    def busy(self) -> bool:
        """Whether a question waits for its answer."""
        return bool(self._working)

    async def picture(self, path: str) -> None:
        """Decode an image."""
        self._post(messages.PictureRead(path, await self.read_picture(path)))

    async def read_picture(self, path: str) -> Picture | str:
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

    async def explanation(self, image: str, model: str, target: str | None) -> None:
        """Explain an image."""
        session, explanation, error, model_failed = self.session, None, "", False
        with self._working_on():
            try:
                await self._load(model)
                request = protocol.Explain(model=model, image=image, target=target)
                explanation = (await self.engine.ask(request, self._report)).explanation
            except RequestError as failure:
                error = str(failure)
                model_failed = failure.reason in {ModelError.code, OUT_OF_MEMORY}
            self._post(messages.Explained(image, model, target, session, explanation, error, model_failed))

    async def reranking(self, image: str, model: str, target: str, left_out: tuple[str, ...]) -> None:
        """Rank the classes without some concepts."""
        request = protocol.WhatIf(model=model, image=image, target=target, left_out=left_out)
        with self._working_on():
            try:
                answer = await self.engine.ask(request, self._report)
                self._post(messages.Reranked(image, model, answer.left_out, answer.predictions))
            except RequestError as error:
                self._post(messages.Failed(str(error)))

    async def survey(self, model: str, items: tuple[Item, ...]) -> None:
        """Predict the class of every image."""
        predicted: dict[str, tuple[str, float]] = {}
        failed: list[str] = []

        def report(partial: Partial) -> None:
            if isinstance(partial, Predicted):
                if partial.class_name is not None:
                    predicted[partial.image] = (partial.class_name, partial.probability or 0.0)
                else:
                    failed.append(partial.message or partial.image)
                self._post(messages.WorkProgress("survey", len(predicted) + len(failed), len(items)))
            elif isinstance(partial, Progress) and partial.stage in {"loading", "texts"}:
                self._report(partial)

        with self._working_on():
            try:
                loaded = await self._load(model)
                await self.engine.ask(protocol.Survey(model=model, images=tuple(i.path for i in items)), report)
            except RequestError as error:
                self._post(messages.Failed(str(error), severe=True))
                return
            known = await asyncio.to_thread(verdicts, items, predicted, loaded.classes)  # there may be 10,000
            order = await asyncio.to_thread(wrong_first, items, predicted, known)
            self._post(messages.Surveyed(model, items, predicted, order, known, failed))

    async def local_models(self) -> None:
        """List the models that are known without the engine."""
        from clipmk.models.catalog import list_models  # noqa: PLC0415

        try:
            entries = await asyncio.to_thread(list_models, ("embedded", "local"))
            self._post(messages.ModelsListed(tuple(entries)))
        except ClipmkError as error:
            self._post(messages.Failed(str(error)))

    async def all_models(self) -> None:
        """List all models there are."""
        try:
            self._post(messages.ModelsListed((await self.engine.ask(protocol.ListModels())).models))
        except RequestError as error:
            self._post(messages.Failed(str(error)))

    async def download(self, model: str) -> None:
        """Download a model, then list all models again."""
        with self._working_on():
            try:
                await self.engine.ask(protocol.Pull(model=model), self._report)
            except RequestError as error:
                self._post(messages.Failed(str(error), severe=True))
                return
        self._post(messages.Downloaded(model))
        await self.all_models()

    async def reconfigure(self, session: Session) -> None:
        """Ask everything else under another session."""
        self.session = session
        self._loaded.clear()
        await self.engine.reconfigure(session)
        await self.engine.start()

    async def _load(self, model: str) -> Loaded:
        if model not in self._loaded:
            self._loaded[model] = await self.engine.ask(protocol.Load(model=model), self._report)
            self._post(messages.ModelLoaded(self._loaded[model], self.session))
        return self._loaded[model]

    def _report(self, partial: Partial) -> None:
        if isinstance(partial, Progress) and self._working:
            self._post(messages.WorkProgress(partial.stage, partial.done, partial.total))

    @contextlib.contextmanager
    def _working_on(self) -> Iterator[None]:
        """Report that the engine is busy. Each question has a token: the next may begin before the last has ended."""
        token = object()
        if not self._working:
            self._post(messages.WorkProgress("asked"))
        self._working.add(token)
        try:
            yield
        finally:
            self._working.discard(token)
            if not self._working:
                self._post(messages.WorkProgress(""))

"""Requests worked off by the real models: what stands behind the worker's pipe, and behind the in-process engine.

Importing this loads neither torch nor numpy; the first request that needs a model does.
"""

from __future__ import annotations

import dataclasses
import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from clipmk.errors import ClipmkError, ModelError, OutOfMemoryError
from clipmk.system.memory import LruCache, device_memory, is_out_of_memory, tensor_bytes
from clipmk.system.text import quoted
from clipmk.vocabulary.classes import parse_classes, resolve_class
from clipmk.vocabulary.vocabulary import Vocabulary, load_vocabulary
from clipmk.worker import protocol
from clipmk.worker.protocol import Answer, Failed, Request, Session

if TYPE_CHECKING:
    from clipmk.explanation import Explanation
    from clipmk.images.decoder import Picture
    from clipmk.pipeline.explainer import Explainer

Tell = Callable[[Answer], None]

INTERVAL = 0.05
"""Seconds between two messages about the progress of one stage."""
SURVEY_BATCH = 8
"""Most images per forward of a survey."""
PICTURE_BYTES = 256 * 2**20
"""What decoded pictures may take; the latest is held whatever its size."""
EXPLANATIONS = 64
"""How many explanations are remembered."""

Value = TypeVar("Value")
Stamp = tuple[str, int, int]
"""Path, time of the last change in nanoseconds and size in bytes: another content, another stamp."""


class _CancelledError(Exception):
    """Unwinds the work on a cancelled request."""


class Pace:
    """Which steps of a stage are worth a message: the first, the last, and few between."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._stage = ""
        self._told = 0.0

    def lets(self, stage: str, done: int, total: int) -> bool:
        """Whether to tell this step; if so, the next must wait for `INTERVAL` seconds."""
        now = self._clock()
        due = stage != self._stage or 0 < total <= done or now - self._told >= INTERVAL
        if due:
            self._stage, self._told = stage, now
        return due


class Service:
    """Works requests off, one at a time, with as many models at hand as the memory budget allows.

    Args:
        session: what all requests share.
        tell: called with every partial answer and the final one, in the thread that calls `handle`.
        clock: seconds; paces the messages about progress.
    """

    def __init__(self, session: Session, tell: Tell, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.session = session
        self.models: LruCache[str, Explainer] = LruCache(session.memory_budget or 0)
        self._tell = tell
        self._clock = clock
        self._pictures: LruCache[Stamp, Picture] = LruCache(PICTURE_BYTES)
        self._explanations: LruCache[tuple[str, Stamp, str | None], Explanation] = LruCache(EXPLANATIONS)
        self._sizes: dict[str, int] = {}
        self._vocabulary: Vocabulary | None = None
        self._importing = threading.Lock()
        self._warm = False
        self._cancelled: set[int] = set()
        self._current = 0
        self._pace = Pace(clock)

    def handle(self, request: Request) -> None:
        """Work a request off: tells its partial answers, then its final one.

        Whatever is wrong with the request becomes `Failed`; an exception that leaves is a mistake in `clipmk`.
        """
        self._current, self._pace = request.id, Pace(self._clock)
        answer: Answer
        try:
            self._check()
            answer = self._attempt(getattr(request, "model", ""), partial(self._answer, request))
            self._check()
        except _CancelledError:
            answer = Failed(id=request.id, code=protocol.CANCELLED, message="the request was cancelled")
        finally:
            self._cancelled.discard(request.id)
        self._tell(answer)

    def cancel(self, request_id: int) -> None:
        """Give a request up, from any thread: it stops at the next border of a stage or a micro-batch."""
        self._cancelled.add(request_id)

    def warm_up(self) -> None:
        """Import what every model needs: seconds, once. Any thread may call it; requests wait for it."""
        with self._importing:
            from clipmk.models import loading  # noqa: F401, PLC0415
            from clipmk.pipeline import explainer  # noqa: F401, PLC0415

            self._warm = True

    # What is asked.

    def _answer(self, request: Request) -> Answer:
        self._get_warm()
        match request:
            case protocol.Load():
                return self._loaded(request)
            case protocol.Explain(id=number, model=model, image=image, target=target):
                self._check_target(target)
                return protocol.Explained(id=number, explanation=self._explained(model, image, target))
            case protocol.WhatIf():
                return self._reranked(request)
            case protocol.Compare():
                return self._compared(request)
            case protocol.Survey():
                return self._surveyed(request)
            case protocol.ListModels(id=number):
                return self._listed(number)

    def _loaded(self, request: protocol.Load) -> protocol.Loaded:
        explainer = self._explainer(request.model)
        return protocol.Loaded(
            id=request.id,
            model=explainer.backbone.info,
            classes=explainer.vocabulary.classes,
            descriptor_count=len(explainer.vocabulary.descriptors),
            device=str(explainer.backbone.device),
            load_ms=explainer.load_ms,
            warnings=explainer.warnings,
        )

    def _reranked(self, request: protocol.WhatIf) -> protocol.Reranked:
        stamp = _stamp(request.image)
        picture, explainer = self._picture(stamp), self._explainer(request.model)
        explanation = self._remembered(request.model, stamp, request.target)
        if explanation is None:
            self._check_target(request.target)
            explanation = self._explained(request.model, request.image, request.target)
        from clipmk.pipeline.occlusion import what_if  # noqa: PLC0415

        found = what_if(explainer, picture, explanation, request.left_out)
        return protocol.Reranked(id=request.id, left_out=found.left_out, predictions=found.predictions)

    def _compared(self, request: protocol.Compare) -> protocol.Compared:
        self._check_target(request.target)
        self._picture(_stamp(request.image))
        for model in request.models:
            self._check()
            made = self._attempt(model, partial(self._explained, model, request.image, request.target))
            column = partial(protocol.ColumnReady, id=request.id, model=model)
            if isinstance(made, Failed):
                self._tell(column(explanation=None, code=made.code, message=made.message))
            else:
                self._tell(column(explanation=made))
        return protocol.Compared(id=request.id, count=len(request.models))

    def _surveyed(self, request: protocol.Survey) -> protocol.Surveyed:
        explainer = self._explainer(request.model)
        size = _survey_batch(explainer)
        for start in range(0, len(request.images), size):
            self._progress("image", start, len(request.images))
            for sighted in self._sighted(explainer, request.images[start : start + size]):
                self._tell(sighted)
        self._progress("image", len(request.images), len(request.images))
        return protocol.Surveyed(id=request.id, count=len(request.images))

    def _sighted(self, explainer: Explainer, paths: tuple[str, ...]) -> list[protocol.Sighted]:
        """Predict a batch of images in one forward; those that cannot be read or embedded say why."""
        import numpy as np  # noqa: PLC0415
        import torch  # noqa: PLC0415

        from clipmk.images.decoder import read_picture  # noqa: PLC0415

        squares, failures = {}, {}
        for path in paths:
            self._check()
            try:
                squares[path] = explainer.square(read_picture(path))
            except ClipmkError as error:
                failures[path] = str(error)
        best = {}
        if squares:
            pixels = explainer.backbone.normalise(torch.from_numpy(np.stack(list(squares.values()))))
            embedded = explainer.backbone.encode_images(pixels)
            for path, row in zip(squares, embedded, strict=True):
                try:
                    best[path] = explainer.predict(row)[0]
                except ModelError as error:
                    failures[path] = str(error)
        return [
            protocol.Sighted(id=self._current, image=path, class_name=None, message=failures[path])
            if path in failures
            else protocol.Sighted(
                id=self._current, image=path, class_name=best[path].class_name, probability=best[path].probability
            )
            for path in paths
        ]

    def _listed(self, number: int) -> protocol.Listed:
        from clipmk.models import catalog  # noqa: PLC0415

        return protocol.Listed(id=number, models=tuple(catalog.list_models()))

    # What answering takes.

    def _get_warm(self) -> None:
        """Import what every model needs, or wait until another thread has."""
        if not self._warm:
            self._progress("loading", 0, 0)
            self._aside(self.warm_up)

    def _aside(self, work: Callable[[], object]) -> None:
        """Do what has no borders, such as an import, in a thread of its own: cancelling ends the wait for it."""
        pool = ThreadPoolExecutor(max_workers=1)
        doing = pool.submit(work)
        pool.shutdown(wait=False)  # its one task goes on
        while not wait([doing], timeout=INTERVAL).done:
            self._check()
        doing.result()

    def _explained(self, model: str, image: str, target: str | None) -> Explanation:
        """From memory, or made now; without its picture."""
        stamp = _stamp(image)
        known = self._explanations.get((model, stamp, target))
        if known is not None:
            return known
        picture, explainer = self._picture(stamp), self._explainer(model)
        self._progress("image", 0, 1)
        made = dataclasses.replace(explainer.explain([picture], targets=[target])[0], picture=None)
        self._explanations.put((model, stamp, target), made, weight=1)
        return made

    def _remembered(self, model: str, stamp: Stamp, target: str | None) -> Explanation | None:
        """An explanation with the vision concepts and parts of this request: they are the same for every target."""
        exact = self._explanations.get((model, stamp, target))
        others = (key for key in self._explanations.keys if key[:2] == (model, stamp))
        return exact or next((self._explanations.get(key) for key in others), None)

    def _picture(self, stamp: Stamp) -> Picture:
        known = self._pictures.get(stamp)
        if known is not None:
            return known
        from clipmk.images.decoder import read_picture  # noqa: PLC0415 - numpy and Pillow

        picture = read_picture(stamp[0])
        self._pictures.put(stamp, picture, weight=picture.pixels.nbytes)
        return picture

    def _explainer(self, model: str) -> Explainer:
        """A model with its embedded vocabulary: held already, or loaded now."""
        held = self.models.get(model)
        if held is not None:
            return held
        self._progress("loading", 0, 0)
        vocabulary = self._words()
        from clipmk.backbones import library  # noqa: PLC0415
        from clipmk.models import loading  # noqa: PLC0415
        from clipmk.pipeline.explainer import Explainer  # noqa: PLC0415

        session, started = self.session, time.perf_counter()
        if loading.needs_open_clip(model):
            self._aside(library.open_clip)
        self._check()
        self._make_room(self._sizes.get(model, 0))
        backbone = loading.load(
            model, device=session.device, precision=session.precision, arch=session.arch, download=session.download
        )
        load_ms = 1_000 * (time.perf_counter() - started)
        self._check()
        if session.memory_budget is None:
            self.models.budget = device_memory(backbone.device) // 2
        self._make_room(tensor_bytes(backbone))
        explainer = Explainer(
            backbone, vocabulary, session.settings, cache=session.cache, progress=self._progress, load_ms=load_ms
        )
        self._sizes[model] = tensor_bytes(backbone, explainer.bank)
        self.models.put(model, explainer, weight=self._sizes[model])
        return explainer

    def _words(self) -> Vocabulary:
        if self._vocabulary is None:
            vocabulary = load_vocabulary(self.session.vocabulary)
            if self.session.classes is not None:
                vocabulary = vocabulary.with_classes(parse_classes(self.session.classes))
            self._vocabulary = vocabulary
        return self._vocabulary

    def _check_target(self, target: str | None) -> None:
        """Before any model is loaded: a typo must not take seconds."""
        if target is not None:
            resolve_class(self._words(), target)

    def _progress(self, stage: str, done: int, total: int) -> None:
        """The borders of the work: where a request can end early."""
        self._check()
        if self._pace.lets(stage, done, total):
            self._tell(protocol.Progress(id=self._current, stage=stage, done=done, total=total))

    def _check(self) -> None:
        if self._current in self._cancelled:
            raise _CancelledError

    def _attempt(self, model: str, work: Callable[[], Value]) -> Value | Failed:
        """Do some work; what is wrong with the request, and a lack of memory, become a failure."""
        try:
            return work()
        except (OutOfMemoryError, RuntimeError, MemoryError) as reason:
            if not is_out_of_memory(reason):
                raise
        except ClipmkError as error:
            return Failed(id=self._current, code=error.code, message=str(error))
        self._let_go()  # outside the handler: the exception holds on to the frames and their tensors
        return Failed(id=self._current, code=protocol.OUT_OF_MEMORY, message=self._too_small(model))

    def _make_room(self, weight: int) -> None:
        before = self.models.keys
        self.models.make_room(weight)
        if self.models.keys != before:
            _free()

    def _let_go(self) -> None:
        self.models.clear()
        self._pictures.clear()
        _free()

    def _too_small(self, model: str) -> str:
        from clipmk.backbones.devices import choose_device  # noqa: PLC0415 - torch is there already, or never will be

        device = str(choose_device(self.session.device))
        remedies = ["a smaller model", "fewer models at once"]
        remedies += ["--grounding attend"] if self.session.settings.grounding == "prompts" else []
        remedies += ["--precision bf16"] if self.session.precision == "fp32" else []
        remedies += ["--device cpu"] if device != "cpu" else []
        subject = f"model {quoted(model)}" if model else "this"
        tried = f"{', '.join(remedies[:-1])} or {remedies[-1]}"
        return f"the memory of {device} did not suffice for {subject}, all models were let go; try {tried}"


def _free() -> None:
    """Give memory back whose owners were dropped: modules hold each other in circles, allocators hold on to blocks."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _survey_batch(explainer: Explainer) -> int:
    """Images per forward: on a CPU as many as keep cancelling quick."""
    from clipmk.pipeline.grounding import CPU_PIXELS  # noqa: PLC0415

    if explainer.backbone.device.type != "cpu":
        return SURVEY_BATCH
    return max(1, min(SURVEY_BATCH, CPU_PIXELS // explainer.backbone.info.input_size**2))


def _stamp(path: str) -> Stamp:
    """What tells two contents of a path apart; for one that cannot be looked at, decoding says what is wrong."""
    try:
        found = os.stat(path)  # noqa: PTH116 - keeps the path as the user wrote it
    except (OSError, ValueError):
        return (path, -1, -1)
    return (path, found.st_mtime_ns, found.st_size)

"""The work of the server: orders in, results out, models and vocabularies kept for the next order."""

from __future__ import annotations

import dataclasses
import gc
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipmk.errors import OUT_OF_MEMORY, ClipmkError, InputError, ModelError, OutOfMemoryError
from clipmk.system.memory import LruCache, device_memory, is_out_of_memory, tensor_bytes
from clipmk.vocabulary.classes import parse_classes
from clipmk.vocabulary.vocabulary import Vocabulary, default_vocabulary, load_vocabulary
from clipmk.worker.messages import Declined, Done, Order, Result, Working
from clipmk.worker.service import Pace

if TYPE_CHECKING:
    from clipmk.images.decoder import Picture
    from clipmk.models.spec import ModelSpec
    from clipmk.pipeline.explainer import Explainer

VOCABULARIES = 8
"""How many vocabularies are remembered."""

STDIN = "-"
"""Name of an image that was sent along."""

Tell = Callable[[Working | Result | Done | Declined], None]
Stamp = tuple[str, int, int]
"""Absolute path, time of the last change in nanoseconds and size in bytes."""


class AbandonedError(Exception):
    """Nobody waits for the order any more: unwinds the work on it."""


class Workshop:
    """Works orders off, one at a time, in one thread, with as many models at hand as half of the device's memory holds.

    While it works, the process stands in the client's folder: every name means what it means to the client, and errors
    repeat the user's own words.

    Args:
        clock: seconds; paces the messages about progress.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._explainers: LruCache[tuple[object, ...], Explainer] = LruCache(0)
        self._vocabularies: LruCache[tuple[object, ...], Vocabulary] = LruCache(VOCABULARIES)
        self._sizes: dict[tuple[object, ...], int] = {}
        self._clock = clock
        self._pace = Pace(clock)
        self._tell: Tell = lambda answer: None
        self._abandoned: Callable[[], bool] = lambda: False

    @property
    def models(self) -> tuple[str, ...]:
        """Ids of the models held, the least recently used first."""
        return tuple(str(key[0]) for key in self._explainers.keys)

    def warm_up(self) -> None:
        """Import what every model needs: seconds, once."""
        from clipmk.models import loading  # noqa: F401, PLC0415
        from clipmk.pipeline import explainer  # noqa: F401, PLC0415

    def work(self, order: Order, attached: bytes, tell: Tell, abandoned: Callable[[], bool] = lambda: False) -> None:
        """Work an order off: tells its progress, a result per image and `Done`; or `Declined`, and nothing after it.

        Args:
            order: what is wanted.
            attached: content of the image "-".
            tell: called with every answer.
            abandoned: asked at the border of every stage and micro-batch.

        Raises:
            AbandonedError: nobody waits any more.
        """
        self._tell, self._abandoned, self._pace = tell, abandoned, Pace(self._clock)
        try:
            os.chdir(order.folder)
            for answer in self._answers(order, attached):
                tell(answer)
        except ClipmkError as error:
            tell(Declined(code=error.code, message=str(error)))
        except OSError as reason:
            tell(Declined(code=InputError.code, message=f"folder {order.folder!r}: {reason.strerror or reason}"))
        finally:
            os.chdir("/")  # so that no folder of a client is kept from being unmounted

    def _answers(self, order: Order, attached: bytes) -> Iterator[Result | Done | Declined]:
        try:
            explainer = self._explainer(order).with_settings(order.settings)
            pictures, failures = self._pictures(order.images, attached)
            made = self._explained(explainer, order, pictures)
        except (OutOfMemoryError, RuntimeError, MemoryError) as reason:
            if not is_out_of_memory(reason):
                raise
            made = None
        if made is None:  # outside the handler: the exception holds on to the frames and their tensors
            self._let_go()
            yield Declined(code=OUT_OF_MEMORY, message="the memory did not suffice; all models were let go")
            return
        results = failures | made
        yield from (results[index] for index in range(len(order.images)))
        yield Done()

    def _explained(self, explainer: Explainer, order: Order, pictures: dict[int, Picture]) -> dict[int, Result]:
        """The results of the pictures. Where one is all that is asked for, what keeps it from being explained is its.

        Declined, it would have the client load the model and do all other images itself.
        """
        if not pictures:
            return {}
        try:
            found = explainer.explain(list(pictures.values()), targets=[order.target] * len(pictures))
        except ModelError as error:
            if len(order.images) > 1:
                raise
            return dict.fromkeys(pictures, Result(explanation=None, code=error.code, message=str(error)))
        made = (Result(explanation=dataclasses.replace(one, picture=None)) for one in found)
        return dict(zip(pictures, made, strict=True))

    def _pictures(self, names: Sequence[str], attached: bytes) -> tuple[dict[int, Picture], dict[int, Result]]:
        from clipmk.images.decoder import read_picture  # noqa: PLC0415 - numpy and Pillow

        pictures: dict[int, Picture] = {}
        failures: dict[int, Result] = {}
        for index, name in enumerate(names):
            self._check()
            try:
                pictures[index] = read_picture(attached, name=STDIN) if name == STDIN else read_picture(name)
            except InputError as error:
                failures[index] = Result(explanation=None, code=error.code, message=str(error))
        return pictures, failures

    # What is kept.

    def _explainer(self, order: Order) -> Explainer:
        """A model with its embedded vocabulary: held already and still what its files say, or loaded now."""
        self._progress("loading", 0, 0)
        vocabulary = self._vocabulary(order)
        if order.target is not None:
            from clipmk.vocabulary.classes import resolve_class  # noqa: PLC0415

            resolve_class(vocabulary, order.target)
        from clipmk.models.spec import resolve  # noqa: PLC0415 - torch

        spec = resolve(order.model, arch=order.arch)
        words = (vocabulary.name, vocabulary.sha256)
        key = (order.model, order.arch, order.device, order.precision, order.cache, words, _stamps(spec))
        held = self._explainers.get(key)
        return self._loaded(order, vocabulary, key) if held is None else held

    def _loaded(self, order: Order, vocabulary: Vocabulary, key: tuple[object, ...]) -> Explainer:
        from clipmk.models import loading  # noqa: PLC0415
        from clipmk.pipeline.explainer import Explainer  # noqa: PLC0415

        started = time.perf_counter()
        self._make_room(self._sizes.get(key, 0))
        backbone = loading.load(order.model, device=order.device, precision=order.precision, arch=order.arch)
        load_ms = 1_000 * (time.perf_counter() - started)
        self._explainers.budget = device_memory(backbone.device) // 2
        self._make_room(tensor_bytes(backbone))
        self._check()
        explainer = Explainer(
            backbone, vocabulary, order.settings, cache=order.cache, progress=self._progress, load_ms=load_ms
        )
        self._sizes[key] = tensor_bytes(backbone, explainer.bank)
        self._explainers.put(key, explainer, weight=self._sizes[key])
        return explainer

    def _vocabulary(self, order: Order) -> Vocabulary:
        name = default_vocabulary(order.model) if order.vocabulary is None else order.vocabulary
        key = (name, _stamp(name), order.classes, _stamp(order.classes or ""))
        known = self._vocabularies.get(key)
        if known is None:
            known = load_vocabulary(name)
            if order.classes is not None:
                known = known.with_classes(parse_classes(order.classes))
            self._vocabularies.put(key, known, weight=1)
        return known

    def _make_room(self, weight: int) -> None:
        before = self._explainers.keys
        self._explainers.make_room(weight)
        if self._explainers.keys != before:
            _free()

    def _let_go(self) -> None:
        self._explainers.clear()
        _free()

    # Signs of life.

    def _progress(self, stage: str, done: int, total: int) -> None:
        """The borders of the work: where an order can end early."""
        self._check()
        if self._pace.lets(stage, done, total):
            self._tell(Working(stage=stage, done=done, total=total))

    def _check(self) -> None:
        if self._abandoned():
            raise AbandonedError


def _free() -> None:
    gc.collect()
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _stamps(spec: ModelSpec) -> tuple[Stamp, ...]:
    """Of all files that a model is made of: another content, another key."""
    folder = spec.folder
    described = [] if folder is None else sorted(path for path in folder.iterdir() if path.suffix == ".json")
    files = [spec.weights, spec.bpe, *described]
    return tuple(_stamp(str(path)) for path in files if path is not None)


def _stamp(name: str) -> Stamp:
    """What tells two contents of a file apart; of one that cannot be looked at, its place."""
    place = os.path.abspath(name)  # noqa: PTH100 - keeps what is no path at all
    try:
        found = Path(place).stat()
    except (OSError, ValueError):
        return (place, -1, -1)
    return (place, found.st_mtime_ns, found.st_size)

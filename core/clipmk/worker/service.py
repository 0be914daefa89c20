"""Requests answered by the real models, one at a time, with the models of all clients in one memory.

Importing this loads neither torch nor numpy; `Service.warm_up`, or the first request that needs a model, does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from clipmk.errors import OUT_OF_MEMORY, ClipmkError, InputError, ModelError, OutOfMemoryError, raised_as
from clipmk.system.memory import LruCache, is_out_of_memory, memory_held
from clipmk.system.text import quoted
from clipmk.vocabulary.classes import resolve_class
from clipmk.worker import protocol
from clipmk.worker.explainers import ExplainerKey, Explainers, Stamp, file_stamp
from clipmk.worker.jobs import Job
from clipmk.worker.protocol import Failed, Final, ImageExplained

if TYPE_CHECKING:
    from clipmk.explanation import Explanation
    from clipmk.images.decoder import Picture
    from clipmk.models.download import Transfer
    from clipmk.pipeline.encoder import EncodedImage
    from clipmk.pipeline.explainer import Explainer
    from clipmk.settings import Settings

PICTURE_BYTES = 256 * 2**20  # what decoded pictures may take; the latest is kept whatever its size
EXPLANATIONS = 64  # how many explanations are kept
ENCODED = 16  # how many encoded images are kept, to ask them for other words or classes
STDIN = "-"  # name of an image that is attached

Value = TypeVar("Value")
_AboutImage = protocol.Explain | protocol.WhatIf | protocol.Compare
EncodingKey = tuple[ExplainerKey, "Settings", str, Stamp]
"""Explainer, settings, image as named, and its content."""
ExplanationKey = tuple[EncodingKey, tuple[str, ...], str | None, tuple[str, ...], tuple[str, ...], int]
"""The encoded image, added classes, the target, texts to answer, and which classes are ranked."""


class Service:
    """Answers the requests of all clients, in one thread.

    While it works for a client that names its folder, the process stands there: every name means what it means to the
    client, and errors repeat the user's own words.
    """

    def __init__(self) -> None:
        self.explainers = Explainers(
            report=lambda *step: self._job.report(*step),  # noqa: PLW0108 - of the job at that time
            check=lambda: self._job.check(),  # noqa: PLW0108
        )
        self._pictures: LruCache[tuple[str, Stamp], Picture] = LruCache(PICTURE_BYTES)
        self._encoded: LruCache[EncodingKey, EncodedImage] = LruCache(ENCODED)
        self._explanations: LruCache[ExplanationKey, Explanation] = LruCache(EXPLANATIONS)
        self._job: Job  # set by `answer`

    @property
    def models(self) -> tuple[str, ...]:
        """Ids of the models held, the least recently used first."""
        return tuple(str(key[0]) for key in self.explainers.held.keys)

    def warm_up(self) -> None:
        """Import what every model needs: seconds, once."""
        from clipmk.models import loading  # noqa: F401, PLC0415
        from clipmk.pipeline import explainer  # noqa: F401, PLC0415

    def answer(self, job: Job) -> Final:
        """Answer a request: sends its partial answers and returns the final one, or raises `CancelledError`.

        Whatever is wrong with the request becomes `Failed`; any other exception is a mistake in `clipmk`.
        """
        if isinstance(job.request, protocol.Pull):  # in a thread of its own
            return _pull(job, job.request)
        self._job = job
        return self._attempt(getattr(job.request, "model", ""), self._answer)

    # Requests.

    def _answer(self) -> Final:
        with _working_in(self._job.session.folder):
            match self._job.request:
                case protocol.Load() as request:
                    return self._load(request)
                case protocol.Explain(id=number, model=model) as request:
                    return protocol.Explained(id=number, explanation=self._explanation(model, request))
                case protocol.ExplainImages() as request:
                    return self._explain_images(request)
                case protocol.WhatIf() as request:
                    return self._rerank(request)
                case protocol.Compare() as request:
                    return self._compare(request)
                case protocol.ListModels(id=number):
                    from clipmk.models import catalog  # noqa: PLC0415

                    return protocol.Listed(id=number, models=tuple(catalog.list_models()))
                case protocol.Pull():
                    raise TypeError("a download is not one of the requests that are answered one at a time")

    def _load(self, request: protocol.Load) -> protocol.Loaded:
        explainer = self._explainer(request.model)
        return protocol.Loaded(
            id=request.id,
            model=explainer.backbone.info,
            classes=explainer.vocabulary.classes,
            descriptor_count=len(explainer.vocabulary.descriptors),
            device=str(explainer.backbone.device),
            load_ms=explainer.load_ms,
            warnings=explainer.warnings,
            gpu_bytes=memory_held(explainer.backbone.device),
        )

    def _explain_images(self, request: protocol.ExplainImages) -> protocol.Done:
        """Nothing is kept of these: a script asks for each image once, and wants to know what it took."""
        self._check_target(request.model, request.target)
        explainer = self._explainer(request.model)
        with contextlib.closing(_explained(explainer, request, self._job.attached)) as found:
            for one in found:
                self._job.check()
                if isinstance(one, ClipmkError):
                    result = ImageExplained(id=request.id, explanation=None, code=one.code, message=str(one))
                else:
                    result = ImageExplained(id=request.id, explanation=dataclasses.replace(one, picture=None))
                self._job.send(result)
        return protocol.Done(id=request.id, count=len(request.images))

    def _rerank(self, request: protocol.WhatIf) -> protocol.Reranked:
        picture, explainer = self._picture(request.image), self._explainer(request.model)
        explanation = self._known_explanation(request) or self._explanation(request.model, request)
        predictions = explainer.predict_without(picture, explanation, request.left_out)
        return protocol.Reranked(id=request.id, left_out=request.left_out, predictions=predictions)

    def _compare(self, request: protocol.Compare) -> protocol.Done:
        for model in request.models[:1]:
            self._check_target(model, request.target)
        self._picture(request.image)
        for model in request.models:
            self._job.check()
            made = self._attempt(model, partial(self._explanation, model, request))
            column = partial(protocol.ColumnReady, id=request.id, model=model)
            if isinstance(made, Failed):
                self._job.send(column(explanation=None, code=made.code, message=made.message))
            else:
                self._job.send(column(explanation=made))
        return protocol.Done(id=request.id, count=len(request.models))

    # What answering takes.

    def _explanation(self, model: str, request: _AboutImage) -> Explanation:
        """A kept explanation, or one made now; without its picture."""
        self._check_target(model, request.target)
        picture = self._picture(request.image)
        key = self._explanation_key(model, request)
        known, get_ready = self._explanations.get(key), request.maps
        if known is not None and not get_ready:
            return known
        explainer = self.explainers.get(key[0][0], model, self._job.session)
        started, encoded = time.perf_counter(), self._encoded.get(key[0])
        if encoded is None:
            self._job.report("image", 0, 1)
            encoded = explainer.encode_picture(picture, maps=False)
        encoded = explainer.with_maps(encoded) if key[3] or get_ready else encoded
        self._encoded.put(key[0], encoded, weight=1)
        found = explainer.answer(picture, encoded, asks=key[3], target=request.target, also=key[4], ranked=key[5])
        elapsed = dataclasses.replace(found.elapsed_ms, explain=1_000 * (time.perf_counter() - started))
        made = dataclasses.replace(found, elapsed_ms=elapsed, picture=None)
        self._explanations.put(key, made, weight=1)
        return made

    def _known_explanation(self, request: protocol.WhatIf) -> Explanation | None:
        """A kept explanation with the vision concepts and parts of a request: they are the same for every target."""
        key = self._explanation_key(request.model, request)
        others = (other for other in self._explanations.keys if other[:2] == key[:2])
        return self._explanations.get(key) or next((self._explanations.get(other) for other in others), None)

    def _explanation_key(self, model: str, request: _AboutImage) -> ExplanationKey:
        session, image = self._job.session, request.image
        encoding = (self.explainers.key(model, session), session.settings, image, file_stamp(image))
        return encoding, session.added_classes, request.target, request.asks, request.also, request.ranked

    def _picture(self, image: str) -> Picture:
        key = (image, file_stamp(image))
        known = self._pictures.get(key)
        if known is not None:
            return known
        from clipmk.images.decoder import read_picture  # noqa: PLC0415 - numpy and Pillow

        picture = read_picture(image)
        self._pictures.put(key, picture, weight=picture.pixels.nbytes)
        return picture

    def _explainer(self, model: str) -> Explainer:
        session = self._job.session
        return self.explainers.get(self.explainers.key(model, session), model, session)

    def _check_target(self, model: str, target: str | None) -> None:
        """Before any model is loaded: a typo must not take seconds."""
        if target is not None:
            resolve_class(self.explainers.vocabulary(model, self._job.session), target)

    def _attempt(self, model: str, work: Callable[[], Value]) -> Value | Failed:
        """Do some work; what is wrong with the request, and a lack of memory, become a failure."""
        number = self._job.request.id
        try:
            return work()
        except (OutOfMemoryError, RuntimeError, MemoryError) as reason:
            if not is_out_of_memory(reason):
                raise
        except ClipmkError as error:
            return Failed(id=number, code=error.code, message=str(error))
        self._encoded.clear()
        self._pictures.clear()  # outside the handler: the exception holds on to the frames and their tensors
        self.explainers.clear()
        return Failed(id=number, code=OUT_OF_MEMORY, message=self._too_small(model))

    def _too_small(self, model: str) -> str:
        from clipmk.backbones.devices import choose_device  # noqa: PLC0415 - torch is there already, or never will be

        session = self._job.session
        device = str(choose_device(session.device))
        remedies = ["a smaller model", "fewer models at once"]
        remedies += ["--grounding attend"] if session.settings.grounding == "prompts" else []
        remedies += ["--precision bf16"] if session.precision == "fp32" else []
        remedies += ["--device cpu"] if device != "cpu" else []
        subject = f"model {quoted(model)}" if model else "this"
        tried = f"{', '.join(remedies[:-1])} or {remedies[-1]}"
        return f"not enough memory on {device} for {subject}, all models were unloaded; try {tried}"


def _pull(job: Job, request: protocol.Pull) -> Final:
    """Download a model; runs beside the other requests and touches nothing of theirs."""
    from clipmk.models.loading import pull  # noqa: PLC0415 - open_clip

    def report(transfer: Transfer) -> None:
        job.report("download", transfer.done, transfer.total or 0)

    try:
        return protocol.Pulled(id=request.id, model=pull(request.model, progress=report))
    except ClipmkError as error:
        return Failed(id=request.id, code=error.code, message=str(error))


@contextlib.contextmanager
def _working_in(folder: str | None) -> Iterator[None]:
    """Stand in a client's folder while the block runs."""
    if folder is None:
        yield
        return
    with raised_as(InputError, f"folder {folder!r}", OSError):
        os.chdir(folder)
    try:
        yield
    finally:
        os.chdir("/")  # so that no folder of a client is kept from being unmounted


def _explained(
    explainer: Explainer, request: protocol.ExplainImages, attached: bytes
) -> Generator[Explanation | ClipmkError]:
    """Explain images: those of a stream batched, others one by one, with progress on each of their forwards.

    What keeps an image from being explained is its own failure: as the request's, it would make the client load the
    model and explain all other images itself.
    """
    from clipmk.images.decoder import read_picture  # noqa: PLC0415 - numpy and Pillow

    def read(image: str) -> Picture:
        return read_picture(attached, name=STDIN) if image == STDIN else read_picture(image)

    if request.stream:
        yield from explainer.stream(
            request.images, target=request.target, read=read, keep_pictures=False, asks=request.asks
        )
        return
    for image in request.images:
        try:
            yield explainer.explain([read(image)], targets=[request.target], asks=request.asks)[0]
        except (InputError, ModelError) as error:
            yield error

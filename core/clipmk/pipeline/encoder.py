"""The model's half of the pipeline: a batch of images -> their embeddings, parts and part embeddings, on the CPU.

    ImageBatch -> forward -> segmentation (threads) -> part embeddings -> EncodedImage

Forwards cross image borders; what is fitted together stays together. `BatchEncoder.encode` takes one batch (of one
image, too), `BatchEncoder.encode_all` many: while the model encodes a batch, threads find the parts of the one before.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped] # comes with scikit-learn

from clipmk.backbones.base import Encoded
from clipmk.backbones.devices import HostCopy
from clipmk.errors import ModelError
from clipmk.pipeline.grounding import embed_parts
from clipmk.pipeline.segmentation import Segmentation, find_saliency, given_parts, segment

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from clipmk.backbones.base import Backbone
    from clipmk.pipeline.grounding import Progress
    from clipmk.settings import PartMethod, Settings

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, eq=False)
class ImageBatch:
    """Images that are encoded together."""

    squares: NDArray[np.uint8]
    """RGB (images, S, S, 3), at the model's input size."""
    groups: Sequence[int]
    """For each image the group it is fitted with; members are neighbours, and all of them are in the batch."""
    masks: Sequence[NDArray[np.bool_] | None] | None = None
    """For each image the user's own parts, bool (parts, S, S); None where parts are to be found."""


@dataclass(frozen=True, slots=True, eq=False)
class EncodedImage:
    """One image as the model sees it, on the CPU."""

    square: NDArray[np.uint8]
    embedding: Float[Tensor, " embed"]
    """Of the whole image, L2-normalised."""
    segmentations: tuple[Segmentation, ...]
    """Its parts, for each part method."""
    part_embeddings: tuple[Float[Tensor, "parts embed"], ...]
    """For each part method."""
    error: ModelError | None = None
    """The model's output for this image is not finite, so that the other fields mean nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class _Segmented:
    """The parts of one image."""

    segmentations: tuple[Segmentation, ...]
    """For each part method; the whole image as one part where there is an error."""
    error: ModelError | None
    """Its patches or its embedding are not finite."""


@dataclass(frozen=True, slots=True, eq=False)
class _InFlight:
    """A batch after its forward, while its parts are being found."""

    batch: ImageBatch
    forwards: list[Encoded]
    """Of at most `batch_size` images each; without `state` where regions are not pooled."""
    embeddings: list[HostCopy]
    """Of the same images."""
    segmented: list[Future[list[_Segmented]]]
    """For each group: for each of its images."""


class _InPlace(Executor):
    """Runs what is submitted at once, in the calling thread."""

    def submit(
        self, work: Callable[Arguments, Result], /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Future[Result]:
        future: Future[Result] = Future()
        future.set_result(work(*args, **kwargs))
        return future


@dataclass(frozen=True, slots=True)
class BatchEncoder:
    """A model with everything that is set about encoding images.

    Args:
        backbone: the model.
        settings: `features`, `grounding` and whatever finds parts; `parts` is replaced by each of `part_methods`.
        part_methods: how parts are found; each image gets one segmentation per method.
        batch_size: images, or prompted images, per forward. With 1, every image is encoded exactly as one alone; with
            more, only rounding differs.
        workers: threads for whatever the model is not needed for; None: the calling thread.
        progress: called with the stages "image", "parts" and "prompts"; raise from it to cancel.
    """

    backbone: Backbone
    settings: Settings
    part_methods: tuple[PartMethod, ...]
    batch_size: int = 1
    workers: Executor = dataclasses.field(default_factory=_InPlace)
    progress: Progress | None = None

    def encode(self, batch: ImageBatch) -> list[EncodedImage]:
        """Encode one batch."""
        return self._finish(self._begin(batch))

    def encode_all(self, batches: Iterable[ImageBatch]) -> Iterator[list[EncodedImage]]:
        """Encode batches, in order; the forward of the next one starts before a batch is yielded."""
        waiting: _InFlight | None = None
        for batch in batches:
            begun = self._begin(batch)
            if waiting is not None:
                yield self._finish(waiting)
            waiting = begun
        if waiting is not None:
            yield self._finish(waiting)

    def _begin(self, batch: ImageBatch) -> _InFlight:
        """Run the forwards of a batch and start to find its parts."""
        count = len(batch.squares)
        forwards, embeddings, arriving = [], [], []
        for first in range(0, count, self.batch_size):
            pixels = self.backbone.normalise(torch.from_numpy(batch.squares[first : first + self.batch_size]))
            encoded = self.backbone.encode_with_patches(pixels, features=self.settings.features)
            pooled = self.settings.grounding == "attend"
            forwards.append(encoded if pooled else dataclasses.replace(encoded, state=None))
            images = _images(encoded)
            embeddings.append(images[0].embeddings)
            arriving += images
            self._report("image", min(first + self.batch_size, count), count)
        masks = batch.masks or [None] * count
        segmented = [
            self.workers.submit(self._segment, list(batch.squares[rows]), arriving[rows], masks[rows])
            for rows in group_slices(batch.groups)
        ]
        return _InFlight(batch, forwards, embeddings, segmented)

    def _segment(
        self, squares: list[NDArray[np.uint8]], images: list[_Arriving], masks: Sequence[NDArray[np.bool_] | None]
    ) -> list[_Segmented]:
        """Find the parts of a group; an image that is not finite is left out of what is fitted together."""
        methods = len(self.part_methods)
        if all(own is not None for own in masks):
            given = [given_parts(own) for own in masks if own is not None]
            errors = [self._error(one.embeddings.wait()[one.index]) for one in images]
            return [_Segmented((one,) * methods, error) for one, error in zip(given, errors, strict=True)]
        encoded = [one.encoded() for one in images]
        errors = [self._error(one.embeddings, one.patches) for one in encoded]
        finite = [index for index, error in enumerate(errors) if error is None]
        whole = given_parts(np.ones((1, *squares[0].shape[:2]), dtype=bool))
        found: list[tuple[Segmentation, ...]] = [(whole,) * methods] * len(squares)
        if finite:
            squares, encoded = [squares[index] for index in finite], [encoded[index] for index in finite]
            saliency = find_saliency(encoded, self.settings)
            by_method = [
                segment(squares, encoded, dataclasses.replace(self.settings, parts=method), saliency=saliency)
                for method in self.part_methods
            ]
            for index, own in zip(finite, zip(*by_method, strict=True), strict=True):
                found[index] = own
        return [
            _Segmented(own if mask is None else (given_parts(mask),) * methods, error)
            for own, mask, error in zip(found, masks, errors, strict=True)
        ]

    def _error(self, *values: Tensor) -> ModelError | None:
        try:
            self.backbone.check_finite(*values)
        except ModelError as error:
            return error
        return None

    def _finish(self, begun: _InFlight) -> list[EncodedImage]:
        """Embed the parts of a batch; everything is fetched together, after all of it is queued."""
        segmented = [one for future in begun.segmented for one in future.result()]
        self._report("parts", 1, 1)
        squares, count = list(begun.batch.squares), len(segmented)
        parts = fetch(
            own
            for method in range(len(self.part_methods))
            for own in embed_parts(
                self.backbone,
                self.settings.grounding,
                squares=squares,
                forwards=begun.forwards,
                masks=[one.segmentations[method].masks for one in segmented],
                batch_size=self.batch_size,
                workers=self.workers,
                progress=self.progress,
            )
        )
        embeddings = torch.cat([one.wait() for one in begun.embeddings])
        by_image = [tuple(parts[image::count]) for image in range(count)]
        return [
            EncodedImage(square, embedding, one.segmentations, own, one.error or self._error(*own))
            for square, embedding, one, own in zip(squares, embeddings, segmented, by_image, strict=True)
        ]

    def _report(self, stage: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(stage, done, total)


@dataclass(frozen=True, slots=True, eq=False)
class _Arriving:
    """One image of a forward on its way to the CPU, without what pools its regions."""

    index: int
    embeddings: HostCopy
    patches: HostCopy
    attention: HostCopy | None
    grid: tuple[int, int]

    def encoded(self) -> Encoded:
        """The same on the CPU, once it has arrived."""
        own = slice(self.index, self.index + 1)
        attention = None if self.attention is None else self.attention.wait()[own]
        return Encoded(self.embeddings.wait()[own], self.patches.wait()[own], self.grid, attention, state=None)


def _images(encoded: Encoded) -> list[_Arriving]:
    attention = None if encoded.attention is None else HostCopy(encoded.attention)
    embeddings, patches = HostCopy(encoded.embeddings), HostCopy(encoded.patches)
    return [_Arriving(index, embeddings, patches, attention, encoded.grid) for index in range(len(encoded.embeddings))]


def fetch(tensors: Iterable[Float[Tensor, "rows embed"]]) -> list[Float[Tensor, "rows embed"]]:
    """Bring tensors of one width to the CPU, all in one copy."""
    every = list(tensors)
    return list(torch.split(torch.cat(every).cpu(), [len(one) for one in every]))


def batch_slices(groups: Sequence[int], size: int) -> Iterator[slice]:
    """Cut images into batches of whole groups: each holds at least `size` images, if that many are left."""
    start = end = 0
    for run in group_slices(groups):
        end = run.stop
        if end - start >= size:
            yield slice(start, end)
            start = end
    if end > start:
        yield slice(start, end)


def group_slices(groups: Iterable[int]) -> Iterator[slice]:
    """The runs of equal neighbours."""
    start = 0
    for _, members in groupby(groups):
        end = start + sum(1 for _ in members)
        yield slice(start, end)
        start = end


@contextlib.contextmanager
def worker_threads(*counts: int) -> Iterator[tuple[ThreadPoolExecutor, ...]]:
    """Pools of threads whose sums keep their order: BLAS and OpenMP have one thread each in them.

    On exit, also by an exception, tasks that have not started are dropped and running ones are awaited: k-means limits
    the threads of the process for itself, and would restore our limit after it was lifted.
    """
    # scikit-learn's own threads add up in the order in which they end; BLAS is limited in the whole process meanwhile.
    with threadpool_limits(1, user_api="blas"):
        pools = tuple(
            ThreadPoolExecutor(count, thread_name_prefix="clipmk", initializer=_one_thread_each) for count in counts
        )
        try:
            yield pools
        finally:
            for pool in pools:
                pool.shutdown(wait=False, cancel_futures=True)
            for pool in pools:
                pool.shutdown(wait=True)


def _one_thread_each() -> None:
    threadpool_limits(1, user_api="openmp")

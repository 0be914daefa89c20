"""The model's half of the pipeline: a batch of images -> their embeddings, parts and part embeddings, on the CPU.

    ImageBatch -> forward -> segmentation (threads) -> part embeddings -> EncodedImage

Forwards cross image borders; what is fitted together stays together. `BatchEncoder.encode` takes one batch (of one
image, too), `BatchEncoder.encode_all` many: while the model encodes a batch, threads find the parts of the one before.
One forward of an image serves any number of variants of its parts.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain, groupby, islice, pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController, threadpool_limits  # type: ignore[import-untyped] # comes with scikit-learn

from clipmk.backbones.base import Encoded
from clipmk.backbones.devices import HostCopy
from clipmk.concepts.superpixels import WorkingCopy
from clipmk.errors import ModelError
from clipmk.pipeline.grounding import IN_PLACE, Progress, begun_ahead, embed_parts, no_progress
from clipmk.pipeline.segmentation import PartVariant, Segmentation, given_parts, segment_variants

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from clipmk.backbones.backbone import Backbone


SIDE_BY_SIDE = 2  # forwards at a time on a CPU


@dataclass(frozen=True, slots=True, eq=False)
class ImageBatch:
    """Images that are encoded together."""

    squares: NDArray[np.uint8]
    """RGB (images, S, S, 3), at the model's input size."""
    groups: Sequence[int]
    """For each image the group it is fitted with; members are neighbours, and all of them are in the batch."""
    masks: Sequence[NDArray[np.bool_] | None] | None = None
    """For each image the user's own parts, bool (parts, S, S); None where parts are to be found."""
    copies: Sequence[WorkingCopy] | None = None
    """For each image what its parts are found on; None: the squares."""


@dataclass(frozen=True, slots=True, eq=False)
class EncodedImage:
    """One image as the model sees it, on the CPU."""

    square: NDArray[np.uint8]
    embedding: Float[Tensor, " embed"]
    """Of the whole image, L2-normalised."""
    segmentations: tuple[Segmentation, ...]
    """Its parts, for each variant; one object for those that find the same."""
    part_embeddings: tuple[Float[Tensor, "parts embed"], ...]
    """For each variant; one object for those that embed the same."""
    error: ModelError | None = None
    """The model's output for this image is not finite, so that the other fields mean nothing."""
    forward: Encoded | None = None
    """What the parts were found in (batch 1, no `state`); None where they are the user's own."""
    patch_embeddings: Float[Tensor, "patches embed"] | None = None
    """Masked pooling of every single patch, L2-normalised; None until `asking.hide_regions`, or if it cannot be had."""
    pool: Callable[[], Float[Tensor, "patches embed"] | None] | None = None
    """Finds them, without a forward; None where this is done or not wanted."""
    grid: tuple[int, int] | None = None
    """(rows, columns) of these patches."""
    regions: NDArray[np.uint8] | None = None
    """Number of the region of each pixel of the square, (S, S); None until `asking.hide_regions`."""
    hidden_embeddings: Float[Tensor, "regions embed"] | None = None
    """Of the picture with each region hidden, L2-normalised."""


@dataclass(frozen=True, slots=True, eq=False)
class _Segmented:
    """One image and its parts, for each variant."""

    segmentations: tuple[Segmentation, ...]
    error: ModelError | None
    forward: Encoded | None = None


class _Forward:
    """One forward on the device, and what the CPU needs of it on its way there."""

    def __init__(self, encoded: Encoded, *, pooled: bool) -> None:
        self.encoded = encoded if pooled else dataclasses.replace(encoded, state=None)
        self.embeddings, self.patches = HostCopy(encoded.embeddings), HostCopy(encoded.patches)
        self._attention = None if encoded.attention is None else HostCopy(encoded.attention)

    def image(self, index: int) -> Encoded:
        """One image on the CPU, once it has arrived."""
        own = slice(index, index + 1)
        attention = None if self._attention is None else self._attention.wait()[own]
        return Encoded(self.embeddings.wait()[own], self.patches.wait()[own], self.encoded.grid, attention, state=None)


@dataclass(frozen=True, slots=True, eq=False)
class _InFlight:
    """A batch after its forwards, while its parts are being found."""

    squares: list[NDArray[np.uint8]]
    forwards: list[_Forward]
    segmented: list[Future[list[_Segmented]]]
    """For each group: for each of its images."""


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """What follows a forward is computed on one thread: beside a model, several get in each other's way.

    The last bits of a sum depend on their number, so that streams, with a thread per image, and single explanations
    both do this. It holds for this thread alone.
    """
    with _openmp().limit(limits=1):
        yield


@cache
def _openmp() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="openmp")


@dataclass(frozen=True, slots=True)
class BatchEncoder:
    """Encodes batches of images with one model: whole images, their parts, and the parts' embeddings.

    The variants (at least one) have the same `features`; what they share is computed once. `batch_size` counts images,
    or prompted images, per forward: with 1, every image is encoded exactly as one alone; with more, only rounding
    differs. `workers` do all work beside the model. `progress` is called with "image", "parts" and "prompts".
    `patchwise` keeps what it takes to embed every single patch later, without another forward.
    """

    backbone: Backbone
    variants: tuple[PartVariant, ...]
    batch_size: int = 1
    workers: Executor = IN_PLACE
    progress: Progress = no_progress
    patchwise: bool = False

    def encode(self, batch: ImageBatch) -> list[EncodedImage]:
        """Encode one batch."""
        return self._finish(self._begin(batch))

    def encode_all(self, batches: Iterable[ImageBatch]) -> Iterator[list[EncodedImage]]:
        """Encode batches, in order; the forward of the next one starts before a batch is yielded.

        On a CPU two run side by side: while the threads of one forward wait for each other, those of the other do not.
        """
        threaded = self.workers is not IN_PLACE and torch.get_num_threads() > 1
        if threaded and self.backbone.device.type == "cpu" and not self.patchwise:
            with worker_threads(SIDE_BY_SIDE) as (threads,):
                yield from begun_ahead(self.encode, batches, threads, ahead=SIDE_BY_SIDE + 1)
            return
        for begun, _ in pairwise(chain(map(self._begin, batches), [None])):
            if begun is not None:
                yield self._finish(begun)

    def _begin(self, batch: ImageBatch) -> _InFlight:
        """Run the forwards of a batch and start to find its parts."""
        squares, count = list(batch.squares), len(batch.squares)
        features = self.variants[0].settings.features
        pooled = self.patchwise or any(variant.settings.grounding == "attend" for variant in self.variants)
        forwards: list[_Forward] = []
        images: list[tuple[_Forward, int]] = []
        for first in range(0, count, self.batch_size):
            pixels = self.backbone.normalise(torch.from_numpy(batch.squares[first : first + self.batch_size]))
            encoded = self.backbone.encode_with_patches(pixels, features=features)
            forwards.append(_Forward(encoded, pooled=pooled))
            images += [(forwards[-1], index) for index in range(len(encoded.embeddings))]
            self.progress("image", len(images), count)
        masks = batch.masks or [None] * count
        copies = [WorkingCopy(square) for square in squares] if batch.copies is None else batch.copies
        segmented = [
            self.workers.submit(self._segment, squares[rows], copies[rows], images[rows], masks[rows])
            for rows in group_slices(batch.groups)
        ]
        return _InFlight(squares, forwards, segmented)

    @one_thread()
    def _segment(
        self,
        squares: list[NDArray[np.uint8]],
        copies: Sequence[WorkingCopy],
        images: list[tuple[_Forward, int]],
        masks: Sequence[NDArray[np.bool_] | None],
    ) -> list[_Segmented]:
        """Find the parts of a group; an image that is not finite is left out of what is fitted together."""
        if all(mask is not None for mask in masks):  # patches are not needed
            errors = [self._error(forward.embeddings.wait()[index]) for forward, index in images]
            pairs = zip(masks, errors, strict=True)
            return [_Segmented(self._given(mask), error) for mask, error in pairs if mask is not None]
        encoded = [forward.image(index) for forward, index in images]
        errors = [self._error(one.embeddings, one.patches) for one in encoded]
        finite = [index for index, error in enumerate(errors) if error is None]
        found = [self._given(np.ones((1, *square.shape[:2]), dtype=bool)) for square in squares]
        if finite:
            own = segment_variants(
                [squares[i] for i in finite],
                [encoded[i] for i in finite],
                self.variants,
                copies=[copies[i] for i in finite],
            )
            for index, parts in zip(finite, own, strict=True):
                found[index] = parts
        return [
            _Segmented(parts if mask is None else self._given(mask), error, forward)
            for parts, mask, error, forward in zip(found, masks, errors, encoded, strict=True)
        ]

    def _given(self, mask: NDArray[np.bool_]) -> tuple[Segmentation, ...]:
        return (given_parts(mask),) * len(self.variants)

    def _error(self, *values: Tensor) -> ModelError | None:
        try:
            self.backbone.check_finite(*values)
        except ModelError as error:
            return error
        return None

    def _finish(self, batch: _InFlight) -> list[EncodedImage]:
        """Embed the parts of a batch; everything is fetched together, after all of it is queued."""
        segmented = [one for future in batch.segmented for one in future.result()]
        self.progress("parts", 1, 1)
        keys = [(variant.parts_key, variant.settings.grounding) for variant in self.variants]
        queued: dict[Hashable, list[Tensor]] = {}
        for index, key in enumerate(keys):
            if key not in queued:
                found = embed_parts(
                    self.backbone,
                    key[1],
                    squares=batch.squares,
                    forwards=[one.encoded for one in batch.forwards],
                    masks=[one.segmentations[index].masks for one in segmented],
                    batch_size=self.batch_size,
                    workers=self.workers,
                    progress=self.progress,
                )
                queued[key] = list(found)
        fetched = iter(fetch(chain.from_iterable(queued.values())))
        parts = {key: list(islice(fetched, len(segmented))) for key in queued}
        embeddings = torch.cat([one.embeddings.wait() for one in batch.forwards])
        pooled = cache(partial(self._patches, batch.forwards))
        grid = batch.forwards[0].encoded.grid
        images = []
        for index, (square, embedding, one) in enumerate(zip(batch.squares, embeddings, segmented, strict=True)):
            own = tuple(parts[key][index] for key in keys)
            error = one.error or self._error(*own)
            pool = (lambda row=index: pooled()[row]) if self.patchwise else None
            images.append(EncodedImage(square, embedding, one.segmentations, own, error, one.forward, None, pool, grid))
        return images

    def _patches(self, forwards: Sequence[_Forward]) -> list[Float[Tensor, "patches embed"] | None]:
        """Every single patch of each image, embedded by masked pooling; None where the encoder cannot."""
        try:
            return [one for forward in forwards for one in self.backbone.pool_patches(forward.encoded).cpu()]
        except ModelError:
            return [None] * sum(len(forward.encoded.embeddings) for forward in forwards)


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
    """Pools of threads whose sums keep their order and equal those of the calling thread, to the last bit.

    In them numpy's BLAS has one thread, torch its own number (see `one_thread`). On exit, also by an exception, tasks
    that have not started are dropped and running ones are awaited: k-means limits the threads of the process for
    itself, and would restore our limit after it was lifted.
    """
    # Asked for its number, a new thread takes over torch's; else only at its first parallel operation.
    with threadpool_limits(1, user_api="blas"):  # in the whole process
        pools = tuple(ThreadPoolExecutor(count, "clipmk", torch.get_num_threads) for count in counts)
        try:
            yield pools
        finally:
            for pool in pools:
                pool.shutdown(wait=False, cancel_futures=True)
            for pool in pools:
                pool.shutdown(wait=True)

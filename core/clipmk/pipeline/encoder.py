"""One model looks at many images: forwards cross image borders, what is fitted together stays together.

Three things go on at once: the model encodes, threads find parts and draw prompts for what comes next, and whoever
reads the results turns those that are there into records. Studies and `Explainer.stream` both stand on this.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped] # comes with scikit-learn

from clipmk.backbones.base import Encoded
from clipmk.backbones.devices import Download
from clipmk.errors import ModelError
from clipmk.pipeline.grounding import pooled_embeddings_of, prompt_embeddings, prompt_embeddings_of
from clipmk.pipeline.segmentation import Segmentation, find_saliency, given_parts, segment

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from clipmk.backbones.base import Backbone
    from clipmk.settings import PartMethod, Settings


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Images that are looked at together."""

    squares: NDArray[np.uint8]
    """RGB (images, S, S, 3), at the model's input size."""
    groups: Sequence[int]
    """For each image the group it is fitted with; members stand together and are all here."""


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """What the model has to say of one image, on the CPU."""

    square: NDArray[np.uint8]
    embedding: Float[Tensor, " embed"]
    """Of the whole image, L2-normalised."""
    found: tuple[Segmentation, ...]
    """Its parts, for each way of finding them."""
    parts: tuple[Float[Tensor, "parts embed"], ...]
    """Their embeddings, for each way."""
    error: ModelError | None
    """Why the rest means nothing: what the model made of the image is not finite."""


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """The parts of one image."""

    ways: tuple[Segmentation, ...]
    """For each way of finding them; the whole image as one part where there is an error."""
    error: ModelError | None
    """Its patches or its embedding are not finite."""


@dataclass(frozen=True, slots=True, eq=False)
class _Begun:
    """A block that the model has looked at; its parts are being found."""

    squares: NDArray[np.uint8]
    forwards: list[Encoded]
    """Of at most `batch_size` images each; without `state` where regions are not pooled."""
    embeddings: list[Download]
    """Of the same images."""
    found: list[Future[list[_Found]]]
    """For each group: for each of its images."""


@dataclass(frozen=True, slots=True)
class Observer:
    """A model and what to do with images.

    Args:
        backbone: the model.
        settings: what to do; its `parts` is replaced by each of the ways.
        ways: how parts are found.
        batch_size: images, or prompted images, per forward. With 1, every image is encoded exactly as `Explainer`
            encodes one alone; with more, only rounding differs.
        workers: threads for whatever the model is not needed for.
    """

    backbone: Backbone
    settings: Settings
    ways: tuple[PartMethod, ...]
    batch_size: int
    workers: Executor

    def observe(self, blocks: Iterable[Block]) -> Iterator[list[Observed]]:
        """Look at blocks of images, in order; the next one is begun before the last one is given out."""
        waiting: _Begun | None = None
        for block in blocks:
            begun = self._begin(block)
            if waiting is not None:
                yield self._finish(waiting)
            waiting = begun
        if waiting is not None:
            yield self._finish(waiting)

    def _begin(self, block: Block) -> _Begun:
        """Look at a block of images and have their parts found."""
        forwards, embeddings, single = [], [], []
        for first in range(0, len(block.squares), self.batch_size):
            pixels = self.backbone.normalise(torch.from_numpy(block.squares[first : first + self.batch_size]))
            encoded = self.backbone.encode_with_patches(pixels, features=self.settings.features)
            pooled = self.settings.grounding == "attend"
            forwards.append(encoded if pooled else dataclasses.replace(encoded, state=None))
            embeddings.append(Download(encoded.embeddings))
            single += _images(encoded)
        found = []
        for rows in runs(block.groups):
            found.append(self.workers.submit(self._segment, list(block.squares[rows]), single[rows]))
        return _Begun(block.squares, forwards, embeddings, found)

    def _segment(self, squares: list[NDArray[np.uint8]], images: list[_Patches]) -> list[_Found]:
        """Find the parts of a group; an image that is not finite is left out of what is fitted together."""
        encoded = [one.encoded() for one in images]
        errors = [self._error(one.embeddings, one.patches) for one in encoded]
        sound = [index for index, error in enumerate(errors) if error is None]
        whole = given_parts(np.ones((1, *squares[0].shape[:2]), dtype=bool))
        found = [_Found((whole,) * len(self.ways), error) for error in errors]
        if not sound:
            return found
        own, fitted = [squares[index] for index in sound], [encoded[index] for index in sound]
        saliency = find_saliency(fitted, self.settings)
        ways = [dataclasses.replace(self.settings, parts=way) for way in self.ways]
        by_way = [segment(own, fitted, way, saliency=saliency) for way in ways]
        for index, each in zip(sound, zip(*by_way, strict=True), strict=True):
            found[index] = _Found(each, None)
        return found

    def _error(self, *values: Tensor) -> ModelError | None:
        try:
            self.backbone.check_finite(*values)
        except ModelError as error:
            return error
        return None

    def _finish(self, begun: _Begun) -> list[Observed]:
        """Embed the parts of a block."""
        found = [one for future in begun.found for one in future.result()]
        parts = self._part_embeddings(begun, [[one.ways[way] for one in found] for way in range(len(self.ways))])
        whole = torch.cat([embeddings.wait() for embeddings in begun.embeddings])
        return [
            Observed(
                square=square,
                embedding=embedding,
                found=own.ways,
                parts=each,
                error=own.error or self._error(*each),
            )
            for square, embedding, own, each in zip(begun.squares, whole, found, zip(*parts, strict=True), strict=True)
        ]

    def _part_embeddings(self, begun: _Begun, by_way: list[list[Segmentation]]) -> list[list[Tensor]]:
        """For each way the part embeddings of each image, on the CPU: fetched together, after all is on its way."""
        masks = [[one.masks for one in way] for way in by_way]
        embed = self._prompted if self.settings.grounding == "prompts" else self._pooled
        every = [parts for way in masks for parts in embed(begun, way)]
        fetched = torch.split(torch.cat(every).cpu(), [len(parts) for parts in every])
        size = len(begun.squares)
        return [list(fetched[start : start + size]) for start in range(0, len(every), size)]

    def _prompted(self, begun: _Begun, masks: list[NDArray[np.bool_]]) -> Iterator[Tensor]:
        pairs = zip(begun.squares, masks, strict=True)
        if self.batch_size == 1:
            return (prompt_embeddings(self.backbone, square, own) for square, own in pairs)
        return prompt_embeddings_of(self.backbone, pairs, batch_size=self.batch_size, drawers=self.workers)

    def _pooled(self, begun: _Begun, masks: list[NDArray[np.bool_]]) -> Iterator[Tensor]:
        left = iter(masks)
        for encoded in begun.forwards:
            yield from pooled_embeddings_of(self.backbone, encoded, [next(left) for _ in encoded.embeddings])


@dataclass(frozen=True, slots=True, eq=False)
class _Patches:
    """One image of a forward, without what pools its regions, on its way to the CPU."""

    index: int
    embeddings: Download
    patches: Download
    attention: Download | None
    grid: tuple[int, int]

    def encoded(self) -> Encoded:
        """The same on the CPU, once it has arrived."""
        own = slice(self.index, self.index + 1)
        attention = None if self.attention is None else self.attention.wait()[own]
        return Encoded(self.embeddings.wait()[own], self.patches.wait()[own], self.grid, attention, state=None)


def _images(encoded: Encoded) -> list[_Patches]:
    attention = None if encoded.attention is None else Download(encoded.attention)
    embeddings, patches = Download(encoded.embeddings), Download(encoded.patches)
    return [_Patches(index, embeddings, patches, attention, encoded.grid) for index in range(len(encoded.embeddings))]


def blocks(groups: Sequence[int], size: int) -> Iterator[slice]:
    """Cut images into runs of whole groups: each holds at least `size` images, if that many are left."""
    start = end = 0
    for run in runs(groups):
        end = run.stop
        if end - start >= size:
            yield slice(start, end)
            start = end
    if end > start:
        yield slice(start, end)


def runs(groups: Iterable[int]) -> Iterator[slice]:
    """Where equal neighbours stand."""
    start = 0
    for _, members in groupby(groups):
        end = start + sum(1 for _ in members)
        yield slice(start, end)
        start = end


@contextlib.contextmanager
def worker_threads(*counts: int) -> Iterator[tuple[ThreadPoolExecutor, ...]]:
    """Pools of threads whose sums keep their order: BLAS and OpenMP in them have one thread each.

    What has not begun when the block is left is dropped, also where it is left by an exception. What has begun is
    waited for: k-means limits the threads of the process for itself, and would put back our limit after it was lifted.
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

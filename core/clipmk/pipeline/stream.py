"""Many images, one after another, at the speed of the model: decoded ahead, batched, yielded in order.

    sources -> threads decode -> batches -> `BatchEncoder` (model, parts, prompts) -> threads build -> records, in order

At any time there are about three batches of images in memory, however many sources there are.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from clipmk.concepts.superpixels import WorkingCopy
from clipmk.errors import ClipmkError
from clipmk.explanation import Explanation
from clipmk.pipeline.asking import Questions, hide_regions
from clipmk.pipeline.builder import ExplanationBuilder, SourceImage
from clipmk.pipeline.encoder import BatchEncoder, EncodedImage, ImageBatch, worker_threads
from clipmk.pipeline.grounding import begun_ahead
from clipmk.pipeline.segmentation import PartVariant
from clipmk.records import Elapsed

if TYPE_CHECKING:
    from clipmk.images.decoder import Picture

Source = TypeVar("Source")


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """A decoded image."""

    square: NDArray[np.uint8]
    copy: WorkingCopy
    source: SourceImage


_Decoded = _Prepared | ClipmkError
_Batch = list[tuple[int, _Decoded]]  # each image with the number of the group it is fitted with


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Stream(Generic[Source]):
    """How a stream of images is explained; see `Explainer.stream`, which creates it.

    A `ClipmkError` from `read` takes the image's place. `together` consecutive sources are fitted together.
    """

    builder: ExplanationBuilder
    read: Callable[[Source], Picture]
    target: int | None
    batch_size: int
    together: int
    threads: int
    keep_pictures: bool
    questions: Questions | None = None

    def results(self, sources: Iterable[Source]) -> Iterator[Explanation | ClipmkError]:
        """Explain the sources, in order."""
        variants = (PartVariant(self.builder.settings),)
        last = time.perf_counter()
        with worker_threads(self.threads, self.threads) as (decoders, workers):
            encoder = BatchEncoder(
                self.builder.backbone, variants, self.batch_size, workers, patchwise=self.questions is not None
            )
            ahead = max(self.batch_size, self.together) + self.threads
            decoded = begun_ahead(self._decode, sources, decoders, ahead=ahead)
            for one in self._in_order(encoder, self._batches(decoded)):
                now = time.perf_counter()
                if isinstance(one, Explanation):
                    elapsed = Elapsed(load=self.builder.load_ms, explain=1_000 * (now - last))
                    yield dataclasses.replace(one, elapsed_ms=elapsed)
                else:
                    yield one
                last = now

    def _decode(self, source: Source) -> _Decoded:
        try:
            picture = self.read(source)
            known = self.builder.source(picture, keep_pixels=self.keep_pictures)
            return _Prepared(*self.builder.squares(picture), known)
        except ClipmkError as error:
            return error

    def _batches(self, images: Iterable[_Decoded]) -> Iterator[_Batch]:
        """Cut into batches of whole groups with at least `batch_size` images each; the first is as small as can be.

        So a first result is there early. Images that failed are in the batch of their neighbours.
        """
        batch: _Batch = []
        ready, wanted = 0, 1
        for position, one in enumerate(images):
            if position % self.together == 0 and ready >= wanted:
                yield batch
                batch, ready, wanted = [], 0, self.batch_size
            batch.append((position // self.together, one))
            ready += isinstance(one, _Prepared)
        if batch:
            yield batch

    def _in_order(self, encoder: BatchEncoder, batches: Iterable[_Batch]) -> Iterator[Explanation | ClipmkError]:
        """Results in the order of the sources; those that are being built are awaited as late as possible."""
        waiting: deque[Future[Explanation | ClipmkError]] = deque()
        limit = 0  # the first result is awaited
        for batch, encoded in _encoded(encoder, batches):
            asked = self.questions is not None  # the model runs in this thread alone
            images = iter([hide_regions(encoder.backbone, one) for one in encoded] if asked else encoded)
            for _, one in batch:
                if isinstance(one, ClipmkError):
                    failed: Future[Explanation | ClipmkError] = Future()
                    failed.set_result(one)
                    waiting.append(failed)
                else:
                    waiting.append(encoder.workers.submit(self._build, one.source, next(images)))
            while waiting and (len(waiting) > limit or waiting[0].done()):
                yield waiting.popleft().result()
            limit = 2 * self.batch_size
        for future in waiting:
            yield future.result()

    def _build(self, source: SourceImage, encoded: EncodedImage) -> Explanation | ClipmkError:
        return encoded.error or self.builder.build(source, encoded, target=self.target, questions=self.questions)


def _encoded(encoder: BatchEncoder, batches: Iterable[_Batch]) -> Iterator[tuple[_Batch, list[EncodedImage]]]:
    """Each batch with those of its images that could be decoded, encoded; only the last batch may have none."""
    begun: deque[_Batch] = deque()

    def decoded() -> Iterator[ImageBatch]:
        for batch in batches:
            begun.append(batch)
            ready = [(group, one) for group, one in batch if isinstance(one, _Prepared)]
            if ready:
                squares, copies = np.stack([one.square for _, one in ready]), [one.copy for _, one in ready]
                yield ImageBatch(squares, [group for group, _ in ready], copies=copies)

    for images in encoder.encode_all(decoded()):
        yield begun.popleft(), images
    for batch in begun:
        yield batch, []

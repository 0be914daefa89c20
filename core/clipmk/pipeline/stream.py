"""Many images, one after another, at the speed of the model: decoded ahead, batched, told in order.

    sources -> threads decode -> blocks -> `Observer` (model, parts, prompts) -> threads assemble -> records, in order

At any time there are about three blocks of images in memory, however many sources there are.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from clipmk.errors import ClipmkError
from clipmk.explanation import Explanation
from clipmk.images.square import square_image
from clipmk.pipeline.builder import Assembler, Subject, blank_notes
from clipmk.pipeline.encoder import Block, Observed, Observer, worker_threads
from clipmk.pipeline.ranking import see
from clipmk.records import Elapsed

if TYPE_CHECKING:
    from clipmk.images.decoder import Picture

Source = TypeVar("Source")


@dataclass(frozen=True, slots=True, eq=False)
class _Ready:
    """A decoded image."""

    square: NDArray[np.uint8]
    subject: Subject


_Decoded = _Ready | ClipmkError
_Block = list[tuple[int, _Decoded]]
"""Each image with the number of the group it is fitted with."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Stream(Generic[Source]):
    """How a stream of images is explained; see `Explainer.stream`, which makes it.

    Args:
        assembler: with its bank on the CPU: descriptors are chosen there while the model goes on.
        read: decodes a source; a `ClipmkError` from it takes the image's place.
        target: number of the class to explain; None explains the predicted one.
        batch_size: images, or prompted images, per forward.
        together: consecutive sources that are fitted together.
        threads: that decode; as many again find parts, draw and assemble.
        keep_pictures: leave the decoded picture in each record.
    """

    assembler: Assembler
    read: Callable[[Source], Picture]
    target: int | None
    batch_size: int
    together: int
    threads: int
    keep_pictures: bool

    def results(self, sources: Iterable[Source]) -> Iterator[Explanation | ClipmkError]:
        """Explain the sources, in order."""
        backbone, settings = self.assembler.backbone, self.assembler.settings
        last = time.perf_counter()
        with worker_threads(self.threads, self.threads) as (decoders, workers):
            observer = Observer(backbone, settings, (settings.parts,), self.batch_size, workers)
            for one in self._in_order(observer, self._blocks(self._decoded(sources, decoders))):
                now = time.perf_counter()
                if isinstance(one, Explanation):
                    elapsed = Elapsed(load=self.assembler.load_ms, explain=1_000 * (now - last))
                    yield dataclasses.replace(one, elapsed_ms=elapsed)
                else:
                    yield one
                last = now

    def _decoded(self, sources: Iterable[Source], decoders: Executor) -> Iterator[_Decoded]:
        """Decoded images, at most a block and what the threads work on ahead of their use."""
        left = iter(sources)
        ahead = max(self.batch_size, self.together) + self.threads
        futures = deque(decoders.submit(self._decode, source) for source in islice(left, ahead))
        while futures:
            done = futures.popleft().result()
            futures.extend(decoders.submit(self._decode, source) for source in islice(left, 1))
            yield done

    def _decode(self, source: Source) -> _Decoded:
        try:
            picture = self.read(source)
            subject = Subject.of(picture, keep=self.keep_pictures)
            geometry = self.assembler.geometry(picture.info)
        except ClipmkError as error:
            return error
        image = square_image(picture.image, geometry, interpolation=self.assembler.backbone.interpolation)
        return _Ready(np.array(image), subject)

    def _blocks(self, images: Iterable[_Decoded]) -> Iterator[_Block]:
        """Cut into blocks of whole groups with at least `batch_size` images each, the first one as small as it can be.

        So a first result is there early. Images that failed stand in the block of their neighbours.
        """
        block: _Block = []
        ready, wanted = 0, 1
        for position, one in enumerate(images):
            if position % self.together == 0 and ready >= wanted:
                yield block
                block, ready, wanted = [], 0, self.batch_size
            block.append((position // self.together, one))
            ready += isinstance(one, _Ready)
        if block:
            yield block

    def _in_order(self, observer: Observer, blocks: Iterable[_Block]) -> Iterator[Explanation | ClipmkError]:
        """Results in the order of the sources; those that are being assembled are waited for as late as possible."""
        waiting: deque[Future[Explanation | ClipmkError] | ClipmkError] = deque()
        limit = 0  # the first result is waited for
        for block, observed in _looked_at(observer, blocks):
            seen = iter(observed)
            for _, one in block:
                if isinstance(one, ClipmkError):
                    waiting.append(one)
                else:
                    waiting.append(observer.workers.submit(self._assembled, one, next(seen)))
            while waiting and (len(waiting) > limit or _is_there(waiting[0])):
                yield _result(waiting.popleft())
            limit = 2 * self.batch_size
        while waiting:
            yield _result(waiting.popleft())

    def _assembled(self, one: _Ready, observed: Observed) -> Explanation | ClipmkError:
        if observed.error is not None:
            return observed.error
        (parts,), (found,) = observed.parts, observed.found
        assembler = self.assembler
        seen = see(assembler.bank, assembler.settings, embedding=observed.embedding, part_embeddings=parts)
        return assembler.assemble(
            one.subject,
            embedding=observed.embedding,
            found=found,
            seen=seen,
            target=self.target,
            notes=blank_notes(one.square),
        )


def _looked_at(observer: Observer, blocks: Iterable[_Block]) -> Iterator[tuple[_Block, list[Observed]]]:
    """Each block with what was observed of the images in it that could be decoded; only the last may have none."""
    begun: deque[_Block] = deque()

    def sound() -> Iterator[Block]:
        for block in blocks:
            begun.append(block)
            ready = [(group, one) for group, one in block if isinstance(one, _Ready)]
            if ready:
                yield Block(np.stack([one.square for _, one in ready]), [group for group, _ in ready])

    for observed in observer.observe(sound()):
        yield begun.popleft(), observed
    for block in begun:
        yield block, []


def _is_there(one: Future[Explanation | ClipmkError] | ClipmkError) -> bool:
    return isinstance(one, ClipmkError) or one.done()


def _result(one: Future[Explanation | ClipmkError] | ClipmkError) -> Explanation | ClipmkError:
    return one if isinstance(one, ClipmkError) else one.result()

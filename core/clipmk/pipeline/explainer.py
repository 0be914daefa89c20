"""The entrance to the pipeline: one model and one vocabulary explain images, one, a few, or a stream."""

from __future__ import annotations

import copy
import dataclasses
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from clipmk.concepts.prompts import blur_region
from clipmk.errors import ClipmkError, ImageError, UsageError
from clipmk.explanation import Explanation
from clipmk.images.decoder import Picture, read_picture
from clipmk.images.masks import rle_decode
from clipmk.models.catalog import RANDOM
from clipmk.pipeline.asking import Questions, embed_questions, hide_regions
from clipmk.pipeline.builder import ExplanationBuilder
from clipmk.pipeline.encoder import BatchEncoder, EncodedImage, ImageBatch
from clipmk.pipeline.grounding import ACCELERATOR_BATCH, Progress, images_per_forward, no_progress
from clipmk.pipeline.segmentation import PartVariant
from clipmk.pipeline.stream import Stream
from clipmk.records import Elapsed, Prediction
from clipmk.settings import GROUP_LIMIT, Settings
from clipmk.system.memory import memory_named, remedies
from clipmk.system.text import quoted
from clipmk.vocabulary.classes import resolve_class
from clipmk.vocabulary.embeddings import TextBank, load_bank
from clipmk.vocabulary.reader import ask_texts
from clipmk.vocabulary.vocabulary import Vocabulary

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from clipmk.backbones.backbone import Backbone
    from clipmk.backbones.base import Encoded

Source = TypeVar("Source")

UNTRAINED = "the model has random weights, as requested; its predictions and concepts mean nothing"
FEW_DESCRIPTORS = 500  # below this size every descriptor becomes a candidate (k = 500 in the reference code)


class Explainer:
    """One model and one vocabulary, ready for any number of images. The constructor embeds the texts.

    `cache` keeps them on disk. `progress` is called with (stage, done, total); an exception in it cancels the work.
    """

    def __init__(
        self,
        backbone: Backbone,
        vocabulary: Vocabulary,
        settings: Settings,
        *,
        cache: bool = True,
        progress: Progress = no_progress,
        load_ms: float = 0.0,
    ) -> None:
        self.backbone = backbone
        self.vocabulary = vocabulary
        self.settings = settings
        self.load_ms = load_ms
        self._progress, self._cache = progress, cache
        with self._out_of_memory_advice():
            self.bank: TextBank = load_bank(backbone, vocabulary, cache=cache, progress=partial(progress, "texts"))
        untrained = (UNTRAINED,) if backbone.info.pretrained == RANDOM else ()
        self.warnings: tuple[str, ...] = untrained + self.bank.warnings + vocabulary_warnings(vocabulary)
        self.builder = ExplanationBuilder(backbone, vocabulary, self.bank, settings, load_ms, self.warnings)

    def explain(
        self,
        pictures: Sequence[Picture],
        *,
        targets: Sequence[str | None] | None = None,
        masks: Sequence[NDArray[np.bool_] | None] | None = None,
        asks: Iterable[str] = (),
    ) -> list[Explanation]:
        """Explain pictures, in order. With `fit="batch"` they are fitted together.

        For each, `targets` has the class to explain (None: the predicted one), and `masks` the user's own parts, bool
        (parts, height, width) in its pixels (None: find parts). `asks` are texts of one's own, answered in
        `Explanation.asked`: any number takes one forward of the texts and, for the maps, one of the picture with each
        region hidden.

        UsageError if a target is not in the vocabulary, VocabularyError if a text is blank, too long or holds control
        characters, ImageError if masks do not fit their picture, or one is empty or outside what the model sees,
        ModelError if the output for a picture is not finite, OutOfMemoryError (a `DeviceError`) if memory runs out.
        """
        wanted = [None if t is None else resolve_class(self.vocabulary, t) for t in targets or [None] * len(pictures)]
        own = list(masks or [None] * len(pictures))
        together = GROUP_LIMIT if self.settings.fit == "batch" else 1
        results: list[Explanation] = []
        with self._out_of_memory_advice():
            questions = self.questions(asks)
            for start in range(0, len(pictures), together):
                rows = slice(start, start + together)
                results += self._explain_group(list(pictures[rows]), wanted[rows], own[rows], questions)
        return results

    def questions(self, texts: Iterable[str]) -> Questions | None:
        """Texts of one's own, embedded; None where there are none."""
        asks = ask_texts(texts)
        return embed_questions(self.backbone, self.vocabulary, asks) if asks else None

    def stream(
        self,
        sources: Iterable[Source],
        *,
        target: str | None = None,
        read: Callable[[Source], Picture] = read_picture,
        batch_size: int | None = None,
        threads: int | None = None,
        keep_pictures: bool = True,
        asks: Iterable[str] = (),
    ) -> Iterator[Explanation | ClipmkError]:
        """Explain many images, in order, while the next ones are decoded, encoded and divided into parts.

        The results equal those of `explain`, bit for bit with a batch size of 1, up to rounding otherwise. Memory does
        not grow with the number of sources. While the stream is open, numpy's BLAS uses one thread in this process.
        Each source yields its explanation (`elapsed_ms.explain` is the time since the previous result), or the error
        for which its image could not be decoded or embedded.

        `read` decodes a source, in several threads at a time. `batch_size` is the most images per forward, on a CPU
        no more than have `grounding.CPU_PIXELS`; None: 1 on a CPU, for results that equal those of `explain`, else
        `grounding.ACCELERATOR_BATCH`. `threads` decode, and as many find parts and build records; None: one per core,
        up to 8. Without `keep_pictures`, `Explanation.picture` is None. UsageError if a number is
        below 1, and other errors as `explain`; OutOfMemoryError takes the place of the result that needed it.
        """
        for name, number in (("batch_size", batch_size), ("threads", threads)):
            if number is not None and number < 1:
                raise UsageError(f"{name} is {number}; it must be at least 1")
        most = batch_size or (1 if self.backbone.device.type == "cpu" else ACCELERATOR_BATCH)
        stream = Stream(
            builder=self.builder,
            read=read,
            target=None if target is None else resolve_class(self.vocabulary, target),
            batch_size=images_per_forward(self.backbone, side=self.backbone.info.input_size, most=most),
            together=GROUP_LIMIT if self.settings.fit == "batch" else 1,
            threads=threads or min(8, os.cpu_count() or 1),
            keep_pictures=keep_pictures,
            questions=self.questions(asks),
        )
        return self._results(stream, sources)

    def square(self, picture: Picture) -> NDArray[np.uint8]:
        """The picture at the model's input size, uint8 RGB (S, S, 3)."""
        return self.builder.square(picture)

    def encode(self, square: NDArray[np.uint8]) -> Encoded:
        """One forward: embedding and patch features of a square input, uint8 RGB (S, S, 3)."""
        pixels = self.backbone.normalise(torch.from_numpy(square)[None])
        return self.backbone.encode_with_patches(pixels, features=self.settings.features)

    def embed(self, squares: NDArray[np.uint8]) -> Float[Tensor, "images embed"]:
        """Embeddings of square inputs, uint8 RGB (images, S, S, 3), by one forward: L2-normalised, on the CPU."""
        return self.backbone.encode_images(self.backbone.normalise(torch.from_numpy(squares))).cpu()

    def encode_picture(self, picture: Picture, *, maps: bool = True) -> EncodedImage:
        """All that `answer` needs of a picture, however often it is asked; without `maps` by a single forward."""
        square, copy = self.builder.squares(picture)
        batch = ImageBatch(square[None], [0], copies=[copy])
        encoder = BatchEncoder(self.backbone, (PartVariant(self.settings),), progress=self._progress, patchwise=True)
        with self._out_of_memory_advice():
            (encoded,) = encoder.encode(batch)
        return self.with_maps(encoded) if maps else encoded

    def with_maps(self, encoded: EncodedImage) -> EncodedImage:
        """What `encode_picture` leaves out without `maps`: up to `asking.REGIONS` forwards for texts of one's own."""
        with self._out_of_memory_advice():
            return hide_regions(self.backbone, encoded, self._progress)

    def answer(
        self,
        picture: Picture,
        encoded: EncodedImage,
        *,
        asks: Iterable[str] = (),
        target: str | None = None,
        also: Collection[str] = (),
        ranked: int = 0,
    ) -> Explanation:
        """Explain a picture that is encoded already (see `ExplanationBuilder.build`): nothing needs a forward."""
        started = time.perf_counter()
        number = None if target is None else resolve_class(self.vocabulary, target)
        questions = self.questions(asks)
        source = self.builder.source(picture)
        result = self.builder.build(source, encoded, target=number, also=also, ranked=ranked, questions=questions)
        elapsed = Elapsed(load=self.load_ms, explain=1_000 * (time.perf_counter() - started))
        return dataclasses.replace(result, elapsed_ms=elapsed)

    def predict_without(
        self, picture: Picture, explanation: Explanation, left_out: Collection[str]
    ) -> tuple[Prediction, ...]:
        """Rank the classes with all parts blurred that carry some concepts, at the model's input size (one forward).

        The highest few, then those of the explanation's classes that are no longer among them, with their new ranks.
        UsageError if a text is not among the vision concepts.
        """
        explanation.without(left_out)  # raises
        blurred = explanation.parts_of(left_out)
        square, geometry = self.square(picture), self.builder.geometry(picture.info)
        region = np.zeros(square.shape[:2], dtype=bool)
        for part in explanation.parts:
            if part.id in blurred:
                region |= geometry.to_square(rle_decode(part.mask))
        embedding = self.encode(blur_region(square, region)).embeddings[0].cpu()
        return self.builder.predict(embedding, also={one.class_name for one in explanation.predictions})

    def with_classes(self, added: Iterable[str]) -> Explainer:
        """The same model with more classes; only their names are embedded, if texts are cached; encoded images stay."""
        vocabulary = self.vocabulary.with_classes(dict.fromkeys((*self.vocabulary.classes, *added)))
        return Explainer(
            self.backbone, vocabulary, self.settings, cache=self._cache, progress=self._progress, load_ms=self.load_ms
        )

    def with_settings(self, settings: Settings) -> Explainer:
        """The same model and embedded texts with other settings."""
        other = copy.copy(self)
        other.settings = settings
        other.builder = dataclasses.replace(self.builder, settings=settings)
        return other

    def _out_of_memory_advice(self, batch_size: int = 1) -> AbstractContextManager[None]:
        """Turn a lack of memory into an error that says what would help."""
        backbone = self.backbone
        remedy = [f"a batch size below {batch_size}"] if batch_size > 1 else []
        remedy += ["grounding 'attend'"] if self.settings.grounding == "prompts" else []
        remedy += remedies(backbone.device, backbone.dtype)
        return memory_named(backbone.device, f"model {quoted(backbone.info.id)}", remedy)

    def _results(self, stream: Stream[Source], sources: Iterable[Source]) -> Iterator[Explanation | ClipmkError]:
        with self._out_of_memory_advice(stream.batch_size):
            yield from stream.results(sources)

    def _explain_group(
        self,
        pictures: list[Picture],
        targets: list[int | None],
        masks: list[NDArray[np.bool_] | None],
        questions: Questions | None,
    ) -> list[Explanation]:
        """Explain pictures that are fitted together; their shared work counts evenly in `elapsed_ms`."""
        started = time.perf_counter()
        squares, copies = zip(*map(self.builder.squares, pictures), strict=True)
        batch = ImageBatch(
            np.stack(squares),
            [0] * len(pictures),
            [self._masks_on_square(*one) for one in zip(pictures, masks, strict=True)],
            copies,
        )
        encoder = BatchEncoder(
            self.backbone, (PartVariant(self.settings),), progress=self._progress, patchwise=questions is not None
        )
        encoded = encoder.encode(batch)
        if questions is not None:
            encoded = [self.with_maps(one) for one in encoded]
        shared_ms = 1_000 * (time.perf_counter() - started) / len(pictures)
        results = []
        for picture, image, target in zip(pictures, encoded, targets, strict=True):
            building = time.perf_counter()
            result = self.builder.build(self.builder.source(picture), image, target=target, questions=questions)
            elapsed = Elapsed(load=self.load_ms, explain=shared_ms + 1_000 * (time.perf_counter() - building))
            results.append(dataclasses.replace(result, elapsed_ms=elapsed))
        return results

    def _masks_on_square(self, picture: Picture, masks: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
        if masks is None:
            return None
        height, width = picture.pixels.shape[:2]
        if masks.ndim != 3 or masks.shape[1:] != (height, width) or not len(masks):
            raise ImageError(
                f"part masks have shape {masks.shape}; (parts, {height}, {width}) with at least one part is needed"
            )
        square = self.builder.geometry(picture.info)
        shown = np.stack([square.to_square(mask.astype(bool)) for mask in masks])
        for number, (mask, own) in enumerate(zip(masks, shown, strict=True), 1):
            if not own.any():
                why = 'lies outside what the model sees; try resize="squash"' if mask.any() else "is empty"
                raise ImageError(f"part mask {number} of {len(masks)} {why}")
        return shown


def vocabulary_warnings(vocabulary: Vocabulary) -> tuple[str, ...]:
    """Warnings about a vocabulary: what was changed while it was read, and whether it leaves much to chance."""
    notes = [*vocabulary.notes]
    if len(vocabulary.classes) == 1:
        notes.append("the vocabulary has one class; every image is predicted as that class with certainty")
    if len(vocabulary.descriptors) < FEW_DESCRIPTORS:
        count = len(vocabulary.descriptors)
        notes.append(f"the vocabulary has {count} descriptors, fewer than {FEW_DESCRIPTORS}: many overlap by chance")
    return tuple(notes)

"""One model looks at many images: forwards cross image borders, what is fitted together stays together.

Three things go on at once: the model encodes, threads find parts and draw prompts for what comes next, and threads
turn the embeddings that are there into rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from clipmk.backbones.base import Encoded
from clipmk.concepts.language import LanguagePicks, language_concepts
from clipmk.concepts.mutual import language_count_for, measure, overlap
from clipmk.explainer import BLANK, is_blank
from clipmk.grounding import pooled_embeddings_of, prompt_embeddings_of
from clipmk.segmentation import Segmentation, find_saliency, segment
from clipmk.vision import Seen, see

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from clipmk.backbones.base import Backbone
    from clipmk.settings import PartMethod, Settings
    from clipmk.textbank import TextBank
    from clipmk.vocabulary import Vocabulary

Row = dict[str, Any]
"""Columns of `schema.IMAGE` from "predicted" on, and "parts"."""
Step = Callable[[int], None]
"""Called with the number of images done since the last call; raise from it to stop."""


@dataclass(frozen=True, slots=True, eq=False)
class _Begun:
    """A block of images that the model has looked at; their parts are being found."""

    start: int
    squares: NDArray[np.uint8]
    forwards: list[Encoded]
    """Of at most `batch_size` images each; without `state` where regions are not pooled."""
    found: list[Future[list[list[Segmentation]]]]
    """For each group: for each way the segmentation of each of its images."""


@dataclass(frozen=True, slots=True)
class Examiner:
    """A model and the embedded vocabulary, ready for batches of images.

    Args:
        backbone: the model.
        bank: embedded vocabulary, on the CPU: descriptors are chosen there while the model goes on.
        vocabulary: what is in the bank.
        settings: what to do; its `parts` is replaced by each of the ways.
        ways: how parts are found, each with rows of its own.
        batch_size: images, or prompted images, per forward.
        workers: threads for whatever the model is not needed for.
    """

    backbone: Backbone
    bank: TextBank
    vocabulary: Vocabulary
    settings: Settings
    ways: tuple[PartMethod, ...]
    batch_size: int
    workers: Executor
    language: Callable[[int], LanguagePicks] = dataclasses.field(init=False, repr=False)
    """D_y of the class of this number; each is looked up once."""

    def __post_init__(self) -> None:
        size, wanted = len(self.vocabulary.descriptors), self.settings.language_count
        count = min(size, language_count_for(size) if wanted is None else wanted)

        @cache
        def language(number: int) -> LanguagePicks:
            return language_concepts(self.bank.classes[number], self.bank.descriptors, count=count)

        object.__setattr__(self, "language", language)

    def examine(
        self, squares: NDArray[np.uint8], groups: Sequence[int], labels: Sequence[int | None], *, step: Step
    ) -> list[list[Row]]:
        """Examine images, in order.

        Args:
            squares: uint8 RGB (images, S, S, 3), at the model's input size.
            groups: for each image the group it is fitted with; members stand together.
            labels: for each image the number of its true class; None where it is unknown.
            step: hears of images that are done, those that end up in rows a little later included.

        Returns:
            For each image one row per way.
        """
        rows: list[Future[list[Row]]] = []
        waiting: _Begun | None = None
        for block in blocks(groups, self.batch_size):
            begun = self._begin(squares[block], groups[block], start=block.start)
            if waiting is not None:
                rows += self._finish(waiting, labels)
                step(len(waiting.squares))
            waiting = begun
        if waiting is not None:
            rows += self._finish(waiting, labels)
            step(len(waiting.squares))
        return [row.result() for row in rows]

    def _begin(self, squares: NDArray[np.uint8], groups: Sequence[int], *, start: int) -> _Begun:
        """Look at a block of images and have their parts found."""
        forwards = []
        for first in range(0, len(squares), self.batch_size):
            pixels = self.backbone.normalise(torch.from_numpy(squares[first : first + self.batch_size]))
            encoded = self.backbone.encode_with_patches(pixels, features=self.settings.features)
            pooled = self.settings.grounding == "attend"
            forwards.append(encoded if pooled else dataclasses.replace(encoded, state=None))
        single = [one for encoded in forwards for one in _images(encoded)]
        found = []
        for rows in _runs(groups):
            found.append(self.workers.submit(self._segment, list(squares[rows]), single[rows]))
        return _Begun(start, squares, forwards, found)

    def _segment(self, squares: list[NDArray[np.uint8]], encoded: list[Encoded]) -> list[list[Segmentation]]:
        saliency = find_saliency(encoded, self.settings)
        ways = [dataclasses.replace(self.settings, parts=way) for way in self.ways]
        return [segment(squares, encoded, way, saliency=saliency) for way in ways]

    def _finish(self, begun: _Begun, labels: Sequence[int | None]) -> list[Future[list[Row]]]:
        """Embed the parts of a block and have its rows made."""
        found = [future.result() for future in begun.found]
        by_way = [[one for group in found for one in group[way]] for way in range(len(self.ways))]
        embedded = self._part_embeddings(begun, by_way)
        whole = torch.cat([encoded.embeddings for encoded in begun.forwards]).cpu()
        made = []
        for index, embedding in enumerate(whole):
            parts = [embedded[way][index] for way in range(len(self.ways))]
            segmentations = [way[index] for way in by_way]
            notes = (BLANK,) if is_blank(begun.squares[index]) else ()
            label = labels[begun.start + index]
            made.append(self.workers.submit(self._rows, embedding, parts, segmentations, label, notes))
        return made

    def _part_embeddings(self, begun: _Begun, by_way: list[list[Segmentation]]) -> list[list[Tensor]]:
        """For each way the part embeddings of each image, on the CPU."""
        count = len(begun.squares)
        if self.settings.grounding == "prompts":
            pairs = ((square, one.masks) for way in by_way for square, one in zip(begun.squares, way, strict=True))
            every = [
                parts.cpu()
                for parts in prompt_embeddings_of(
                    self.backbone, pairs, batch_size=self.batch_size, drawers=self.workers
                )
            ]
            return [every[start : start + count] for start in range(0, len(every), count)]
        return [[parts.cpu() for parts in self._pooled(begun.forwards, way)] for way in by_way]

    def _pooled(self, forwards: list[Encoded], found: list[Segmentation]) -> Iterator[Tensor]:
        masks = iter([one.masks for one in found])
        for encoded in forwards:
            yield from pooled_embeddings_of(self.backbone, encoded, [next(masks) for _ in encoded.embeddings])

    def _rows(
        self,
        embedding: Float[Tensor, " embed"],
        parts: list[Float[Tensor, "parts embed"]],
        segmentations: list[Segmentation],
        label: int | None,
        notes: tuple[str, ...],
    ) -> list[Row]:
        prediction = self._prediction(embedding, label)
        rows = []
        for way, own, found in zip(self.ways, parts, segmentations, strict=True):
            settings = dataclasses.replace(self.settings, parts=way)
            seen = see(self.bank, settings, embedding=embedding, part_embeddings=own)
            warnings = tuple(dict.fromkeys(found.warnings + seen.warnings + notes))
            measured = self._measured(seen, prediction["predicted"])
            rows.append({"parts": way, "part_count": len(own), **prediction, **measured, "warnings": list(warnings)})
        for row in rows:
            row["predicted"] = self.vocabulary.classes[row["predicted"]]
        return rows

    def _prediction(self, embedding: Float[Tensor, " embed"], label: int | None) -> Row:
        """Softmax(logit_scale · cos + logit_bias); the predicted class as its number; equal cosines in order."""
        cosines = (self.bank.classes @ embedding).double()
        probabilities = (self.backbone.logit_scale * cosines + (self.backbone.logit_bias or 0.0)).softmax(0)
        predicted = int(cosines.argmax())
        row: Row = {
            "predicted": predicted,
            "probability": float(probabilities[predicted]),
            "correct": None,
            "label_rank": None,
            "label_probability": None,
        }
        if label is not None:
            before = (cosines > cosines[label]).sum() + (cosines[:label] == cosines[label]).sum()
            row |= {
                "correct": predicted == label,
                "label_rank": int(before) + 1,
                "label_probability": float(probabilities[label]),
            }
        return row

    def _measured(self, seen: Seen, class_number: int) -> Row:
        ids = self.language(class_number).indices.tolist()
        flags = overlap(seen.concepts, ids)
        found = measure(
            flags,
            language_count=len(ids),
            vocabulary_size=len(self.vocabulary.descriptors),
            length=self.settings.curve_length,
        )
        return {
            "vision_count": len(flags),
            "language_count": len(ids),
            "mutual_count": found.count,
            "mi_paper": found.mi_paper,
            "mi_textbook": found.mi_textbook,
            "auc": found.auc,
            "auc_unpadded": found.auc_unpadded,
            "chance_mi": found.chance.mi_paper,
            "chance_auc": found.chance.auc,
            "p_value": found.p_value,
            "curve": list(found.curve),
            "vision_concepts": [self.vocabulary.descriptors[i] for i in seen.concepts],
            "importance": list(seen.importance),
            "mutual": list(flags),
        }


def blocks(groups: Sequence[int], size: int) -> Iterator[slice]:
    """Cut a shard into runs of whole groups: each holds at least `size` images, if that many are left."""
    start = end = 0
    for run in _runs(groups):
        end = run.stop
        if end - start >= size:
            yield slice(start, end)
            start = end
    if end > start:
        yield slice(start, end)


def _runs(groups: Iterable[int]) -> Iterator[slice]:
    """Where equal neighbours stand."""
    start = 0
    for _, members in groupby(groups):
        end = start + sum(1 for _ in members)
        yield slice(start, end)
        start = end


def _images(encoded: Encoded) -> Iterator[Encoded]:
    """Each image of a forward by itself, without what pools its regions."""
    for index in range(len(encoded.embeddings)):
        own = slice(index, index + 1)
        attention = None if encoded.attention is None else encoded.attention[own]
        yield Encoded(encoded.embeddings[own], encoded.patches[own], encoded.grid, attention, state=None)

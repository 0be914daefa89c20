"""Rows of a study from what one model sees in many images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipmk.concepts.mutual import measure, overlap
from clipmk.pipeline.builder import ExplanationBuilder, blank_notes
from clipmk.pipeline.encoder import BatchEncoder, EncodedImage, ImageBatch, batch_slices
from clipmk.pipeline.ranking import VisionConcepts, rank_vision_concepts

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from clipmk.backbones.base import Backbone
    from clipmk.concepts.language import LanguageConcepts
    from clipmk.settings import PartMethod, Settings
    from clipmk.vocabulary.embeddings import TextBank
    from clipmk.vocabulary.vocabulary import Vocabulary

Row = dict[str, Any]
"""Columns of `schema.IMAGE` from "predicted" on, and "parts"; or "parts" and "error" alone."""
Step = Callable[[int], None]
"""Called with the number of images done since the last call; raise from it to stop."""


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
    _builder: ExplanationBuilder = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        builder = ExplanationBuilder(self.backbone, self.vocabulary, self.bank, self.settings)
        object.__setattr__(self, "_builder", builder)

    def language(self, number: int) -> LanguageConcepts:
        """D_y of the class of this number; looked up once for many images."""
        return self._builder.language(number)

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
        encoder = BatchEncoder(self.backbone, self.settings, self.ways, self.batch_size, self.workers)
        batches = (ImageBatch(squares[rows], groups[rows]) for rows in batch_slices(groups, self.batch_size))
        rows: list[Future[list[Row]]] = []
        for images in encoder.encode_all(batches):
            for one in images:
                rows.append(self.workers.submit(self._rows, one, labels[len(rows)]))
            step(len(images))
        return [row.result() for row in rows]

    def _rows(self, image: EncodedImage, label: int | None) -> list[Row]:
        if image.error is not None:
            return [{"parts": way, "error": str(image.error)} for way in self.ways]
        prediction = self._prediction(image.embedding, label)
        notes = blank_notes(image.square)
        rows = []
        for way, own, found in zip(self.ways, image.part_embeddings, image.segmentations, strict=True):
            settings = dataclasses.replace(self.settings, parts=way)
            vision = rank_vision_concepts(self.bank, settings, embedding=image.embedding, part_embeddings=own)
            warnings = tuple(dict.fromkeys(found.warnings + vision.warnings + notes))
            measured = self._measured(vision, prediction["predicted"])
            rows.append({"parts": way, "part_count": len(own), **prediction, **measured, "warnings": list(warnings)})
        for row in rows:
            row["predicted"] = self.vocabulary.classes[row["predicted"]]
        return rows

    def _prediction(self, embedding: Float[Tensor, " embed"], label: int | None) -> Row:
        """Softmax(logit_scale · cos + logit_bias); the predicted class as its number; equal cosines in order."""
        cosines, logits = self._builder.class_logits(embedding)
        probabilities = logits.softmax(0)
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

    def _measured(self, vision: VisionConcepts, class_number: int) -> Row:
        ids = self.language(class_number).indices.tolist()
        flags = overlap(vision.concepts, ids)
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
            "vision_concepts": [self.vocabulary.descriptors[i] for i in vision.concepts],
            "importance": list(vision.importance),
            "mutual": list(flags),
        }

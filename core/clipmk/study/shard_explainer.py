"""Explain many images with one model, as rows of a study's shards."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipmk.concepts.mutual import measure, overlap
from clipmk.pipeline.builder import ExplanationBuilder, blank_notes
from clipmk.pipeline.encoder import BatchEncoder, EncodedImage, ImageBatch, batch_slices
from clipmk.pipeline.ranking import VisionConcepts, rank_vision_concepts
from clipmk.study.schema import Row

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from clipmk.backbones.base import Backbone
    from clipmk.concepts.language import LanguageConcepts
    from clipmk.settings import PartMethod, Settings
    from clipmk.vocabulary.embeddings import TextBank
    from clipmk.vocabulary.vocabulary import Vocabulary

Step = Callable[[int], None]
"""Called with the number of images done since the last call; an exception it raises stops the work."""


@dataclass(frozen=True, slots=True)
class ShardExplainer:
    """A model and the embedded vocabulary, ready for batches of images.

    Args:
        backbone: the model.
        bank: embedded vocabulary, on the CPU: descriptors are chosen there while the model works.
        vocabulary: the texts of the bank.
        settings: its `parts` is replaced by each of the part methods.
        part_methods: how parts are found; each method has its own rows.
        batch_size: images, or prompted images, per forward.
        workers: threads for the work beside the model.
    """

    backbone: Backbone
    bank: TextBank
    vocabulary: Vocabulary
    settings: Settings
    part_methods: tuple[PartMethod, ...]
    batch_size: int
    workers: Executor
    _builder: ExplanationBuilder = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        builder = ExplanationBuilder(self.backbone, self.vocabulary, self.bank, self.settings)
        object.__setattr__(self, "_builder", builder)

    def language(self, number: int) -> LanguageConcepts:
        """D_y of the class with this number; computed once for many images."""
        return self._builder.language(number)

    def explain(
        self, squares: NDArray[np.uint8], groups: Sequence[int], labels: Sequence[int | None], *, step: Step
    ) -> list[list[Row]]:
        """Explain images, in order.

        Args:
            squares: uint8 RGB (images, S, S, 3), at the model's input size.
            groups: for each image the group it is fitted with; members are adjacent.
            labels: for each image the number of its true class; None: unknown.
            step: called when images are encoded; their rows may follow a little later.

        Returns:
            For each image one row per part method: the columns of `schema.IMAGE` from "predicted" on and "parts", or
            only "parts" and "error".
        """
        encoder = BatchEncoder(self.backbone, self.settings, self.part_methods, self.batch_size, self.workers)
        batches = (ImageBatch(squares[rows], groups[rows]) for rows in batch_slices(groups, self.batch_size))
        rows: list[Future[list[Row]]] = []
        for images in encoder.encode_all(batches):
            for one in images:
                rows.append(self.workers.submit(self._rows, one, labels[len(rows)]))
            step(len(images))
        return [row.result() for row in rows]

    def _rows(self, image: EncodedImage, label: int | None) -> list[Row]:
        if image.error is not None:
            return [{"parts": parts, "error": str(image.error)} for parts in self.part_methods]
        prediction = self._prediction(image.embedding, label)
        notes = blank_notes(image.square)
        rows = []
        for parts, own, found in zip(self.part_methods, image.part_embeddings, image.segmentations, strict=True):
            settings = dataclasses.replace(self.settings, parts=parts)
            vision = rank_vision_concepts(self.bank, settings, embedding=image.embedding, part_embeddings=own)
            warnings = tuple(dict.fromkeys(found.warnings + vision.warnings + notes))
            measured = self._measured(vision, prediction["predicted"])
            rows.append({"parts": parts, "part_count": len(own), **prediction, **measured, "warnings": list(warnings)})
        for row in rows:
            row["predicted"] = self.vocabulary.classes[row["predicted"]]
        return rows

    def _prediction(self, embedding: Float[Tensor, " embed"], label: int | None) -> Row:
        """Softmax(logit_scale · cos + logit_bias); the predicted class as its number; ties rank in class order."""
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
        same = ("mi_paper", "mi_textbook", "auc", "auc_unpadded", "p_value")
        return {
            "vision_count": len(flags),
            "language_count": len(ids),
            "mutual_count": found.count,
            "chance_mi": found.chance.mi_paper,
            "chance_auc": found.chance.auc,
            **{name: getattr(found, name) for name in same},
            "curve": list(found.curve),
            "vision_concepts": [self.vocabulary.descriptors[i] for i in vision.concepts],
            "importance": list(vision.importance),
            "mutual": list(flags),
        }

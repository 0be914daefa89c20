"""Explain many images with one model, as rows of a study's shards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipmk.concepts.mutual import measure, overlap
from clipmk.pipeline.builder import ExplanationBuilder, blank_notes
from clipmk.pipeline.encoder import BatchEncoder, EncodedImage, ImageBatch, batch_slices
from clipmk.pipeline.ranking import VisionConcepts, rank_vision_concepts
from clipmk.study.schema import TableRow

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class ShardExplainer:
    """One model with the embedded vocabulary, ready for the images of shards.

    Args:
        encoder: encodes images in batches and finds their parts by every variant, each with another part method.
        builder: ranks classes and concepts for encoded images.
    """

    encoder: BatchEncoder
    builder: ExplanationBuilder

    def explain(
        self, squares: NDArray[np.uint8], groups: Sequence[int], labels: Sequence[int | None]
    ) -> Iterator[list[Future[list[TableRow]]]]:
        """Explain images batch by batch, in order.

        Args:
            squares: uint8 RGB (images, S, S, 3), at the model's input size.
            groups: for each image the group it is fitted with; members are adjacent.
            labels: for each image the number of its true class; None: unknown.

        Yields:
            For each image of a batch, once it is encoded, its rows to come, one per part method: the columns of
            `schema.IMAGE` from "predicted" on and "parts", or only "parts" and "error".
        """
        slices = batch_slices(groups, self.encoder.batch_size)
        remaining = iter(labels)
        for images in self.encoder.encode_all(ImageBatch(squares[rows], groups[rows]) for rows in slices):
            pairs = zip(images, remaining, strict=False)
            yield [self.encoder.workers.submit(self._rows, image, label) for image, label in pairs]

    def _rows(self, image: EncodedImage, label: int | None) -> list[TableRow]:
        every = [variant.settings for variant in self.encoder.variants]
        if image.error is not None:
            return [{"parts": settings.parts, "error": str(image.error)} for settings in every]
        prediction = self._prediction(image.embedding, label)
        notes = blank_notes(image.square)
        rows = []
        for settings, own, found in zip(every, image.part_embeddings, image.segmentations, strict=True):
            vision = rank_vision_concepts(self.builder.bank, settings, embedding=image.embedding, part_embeddings=own)
            warnings = tuple(dict.fromkeys(found.warnings + vision.warnings + notes))
            measured = self._measured(vision, prediction["predicted"])
            row = {"parts": settings.parts, "part_count": len(own), **prediction, **measured}
            rows.append({**row, "warnings": list(warnings)})
        for row in rows:
            row["predicted"] = self.builder.vocabulary.classes[row["predicted"]]
        return rows

    def _prediction(self, embedding: Float[Tensor, " embed"], label: int | None) -> TableRow:
        """Softmax(logit_scale · cos + logit_bias); the predicted class as its number; ties rank in class order."""
        cosines, logits = self.builder.class_logits(embedding)
        probabilities = logits.softmax(0)
        predicted = int(cosines.argmax())
        row: TableRow = {
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

    def _measured(self, vision: VisionConcepts, class_number: int) -> TableRow:
        ids = self.builder.language(class_number).indices.tolist()
        flags = overlap(vision.concepts, ids)
        found = measure(
            flags,
            language_count=len(ids),
            vocabulary_size=len(self.builder.vocabulary.descriptors),
            length=self.builder.settings.curve_length,
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
            "vision_concepts": [self.builder.vocabulary.descriptors[i] for i in vision.concepts],
            "importance": list(vision.importance),
            "mutual": list(flags),
        }

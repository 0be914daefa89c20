"""What if the model had not seen a concept? Blur it, rank the classes again, and recompute the shared knowledge."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clipmk.concepts.prompts import blur_region
from clipmk.images.masks import rle_decode

if TYPE_CHECKING:
    from clipmk.concepts.mutual import Strength
    from clipmk.explanation import Explanation
    from clipmk.images.decoder import Picture
    from clipmk.pipeline.explainer import Explainer
    from clipmk.records import Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """An explanation with some vision concepts left out."""

    left_out: tuple[str, ...]
    strength: Strength
    """With L_v as it was before, as in the dynamics."""
    predictions: tuple[Prediction, ...]
    """Classes ranked again on the picture with the carrying parts blurred.

    The highest few, then those of the explanation's that have fallen below them: each class has its new rank.
    """


def what_if(explainer: Explainer, picture: Picture, explanation: Explanation, left_out: Collection[str]) -> WhatIf:
    """Leave concepts out: the regions of all parts that carry them are blurred at the model's input size (one forward).

    Raises:
        UsageError: a text is not among the explanation's vision concepts.
    """
    strength = explanation.without(left_out)
    carrying = {
        part for concept in explanation.vision_concepts if concept.text in set(left_out) for part in concept.parts
    }
    square = explainer.square(picture)
    geometry = explainer.geometry(picture)
    region = np.zeros(square.shape[:2], dtype=bool)
    for part in explanation.parts:
        if part.id in carrying:
            region |= geometry.to_square(rle_decode(part.mask))
    embedding = explainer.encode(blur_region(square, region)).embeddings[0].cpu()
    before = {prediction.class_name for prediction in explanation.predictions}
    return WhatIf(left_out=tuple(left_out), strength=strength, predictions=explainer.predict(embedding, also=before))

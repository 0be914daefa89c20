"""What if the model did not see a concept? Blur the parts that carry it and rank the classes again."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from clipmk.concepts.prompts import blur_region
from clipmk.images.masks import rle_decode

if TYPE_CHECKING:
    from clipmk.explanation import Explanation
    from clipmk.images.decoder import Picture
    from clipmk.pipeline.explainer import Explainer
    from clipmk.records import Prediction


def predict_without(
    explainer: Explainer, picture: Picture, explanation: Explanation, left_out: Collection[str]
) -> tuple[Prediction, ...]:
    """Rank the classes with all parts blurred that carry some concepts, at the model's input size (one forward).

    Returns:
        The highest few, then those of the explanation's classes that are no longer among them, with their new ranks.

    Raises:
        UsageError: a text is not among the explanation's vision concepts.
    """
    explanation.without(left_out)  # raises
    blurred = explanation.parts_of(left_out)
    square, geometry = explainer.square(picture), explainer.builder.geometry(picture.info)
    region = np.zeros(square.shape[:2], dtype=bool)
    for part in explanation.parts:
        if part.id in blurred:
            region |= geometry.to_square(rle_decode(part.mask))
    embedding = explainer.encode(blur_region(square, region)).embeddings[0].cpu()
    return explainer.builder.predict(embedding, also={prediction.class_name for prediction in explanation.predictions})

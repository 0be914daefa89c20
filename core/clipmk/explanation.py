"""What an explanation can answer by itself: leave a concept out, ask "why not B?". Plain Python, no model, no torch."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from clipmk.concepts.mutual import Strength, leave_out
from clipmk.errors import UsageError, suggest
from clipmk.records import (
    Alternative,
    Elapsed,
    ImageInfo,
    LanguageConcept,
    ModelInfo,
    Mutual,
    Part,
    Prediction,
    Provenance,
    Rle,
    VisionConcept,
)
from clipmk.system.serialization import plain

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Explanation:
    """Why this model says this class of this image: one record, read by every face of `clipmk`."""

    image: ImageInfo
    model: ModelInfo
    predictions: tuple[Prediction, ...]
    """The highest-ranked classes, best first."""
    class_name: str
    """The class explained: the predicted one unless another was asked for."""
    foreground: Rle
    parts: tuple[Part, ...]
    vision_concepts: tuple[VisionConcept, ...]
    language_concepts: tuple[LanguageConcept, ...]
    mutual: Mutual
    alternatives: tuple[Alternative, ...]
    """The other highest-ranked classes with their D_y, for "why not B?" without a model."""
    elapsed_ms: Elapsed
    provenance: Provenance
    warnings: tuple[str, ...]
    picture: Image.Image | None = field(default=None, repr=False, compare=False, metadata={"written": False})
    """The decoded image, for overlays and notebooks; never written out."""

    def __repr__(self) -> str:
        found = f"{self.mutual.count} mutual concepts, MI {self.mutual.mi_paper:.2f}, AUC {self.mutual.auc:.2f}"
        return f"<Explanation of {self.image.path!r} by {self.model.id!r}: {self.class_name!r}, {found}>"

    @property
    def mutual_concepts(self) -> tuple[str, ...]:
        """D_v ∩ D_y, most important first."""
        return tuple(concept.text for concept in self.vision_concepts if concept.mutual)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of one result, as the schema of `clipmk schema` describes it."""
        explanation = {
            "preset": self.provenance.settings["preset"],
            "class": self.class_name,
            **{
                name: plain(getattr(self, name))
                for name in ("foreground", "parts", "vision_concepts", "language_concepts", "mutual", "alternatives")
            },
        }
        return {
            "image": plain(self.image),
            "model": plain(self.model),
            "predictions": plain(self.predictions),
            "explanation": explanation,
            "elapsed_ms": plain(self.elapsed_ms),
            "provenance": plain(self.provenance),
            "warnings": list(self.warnings),
        }

    def to_json(self, *, indent: int | None = 2) -> str:
        """`to_dict` as JSON text; finite numbers only."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, indent=indent)

    def overlay(self, image: Image.Image | None = None, *, alpha: float = 0.45, scale: int = 1) -> Image.Image:
        """The picture with its parts in colour, their contours and numbers (see `clipmk.output.overlay`).

        Raises:
            ImageError: no picture is at hand, or `image` has another size.
        """
        from clipmk.output.overlay import overlay  # noqa: PLC0415 - numpy, OpenCV and Pillow only where they are needed

        return overlay(self, image, alpha=alpha, scale=scale)

    def _repr_html_(self) -> str:
        """What notebooks show."""
        from clipmk.output.html import fragment  # noqa: PLC0415

        return fragment(self)


def remaining(explanation: Explanation, left_out: Collection[str]) -> Strength:
    """The shared knowledge without some vision concepts (see `concepts.mutual.leave_out`).

    Raises:
        UsageError: a text is not among the explanation's vision concepts; the message names those that are.
    """
    texts = [concept.text for concept in explanation.vision_concepts]
    for text in left_out:
        if text not in texts:
            raise UsageError(f"{text!r} is not a vision concept of this explanation; {suggest(text, texts)}")
    settings = explanation.provenance.settings
    return leave_out(
        [concept.mutual for concept in explanation.vision_concepts],
        len(explanation.language_concepts),
        {texts.index(text) for text in left_out},
        length=settings["vision_limit"] + 1,
    )


def answerable(explanation: Explanation) -> tuple[str, ...]:
    """The classes for which `retarget` needs no model: the one explained, and those with an `Alternative`."""
    return (explanation.class_name, *(alternative.class_name for alternative in explanation.alternatives))


def retarget(explanation: Explanation, class_name: str) -> Explanation:
    """The same image and model explained for another class ("why not B?").

    D_v stays, D_y and the shared knowledge are those of the `Alternative`; the class explained until now takes its
    place, so that nothing is lost on the way there and back. The same record as a fresh explanation of that class, but
    for the order of the alternatives.

    Raises:
        UsageError: the explanation holds no such alternative; the message names those it holds.
    """
    if class_name == explanation.class_name:
        return explanation
    chosen = next((other for other in explanation.alternatives if other.class_name == class_name), None)
    if chosen is None:
        known = answerable(explanation)
        raise UsageError(f"class {class_name!r} is not held by this explanation; {suggest(class_name, known)}")
    before = dataclasses.replace(
        chosen,
        class_name=explanation.class_name,
        language_concepts=explanation.language_concepts,
        mutual=explanation.mutual,
    )
    shared = {concept.text for concept in chosen.language_concepts if concept.mutual}
    return dataclasses.replace(
        explanation,
        class_name=class_name,
        vision_concepts=tuple(
            dataclasses.replace(concept, mutual=concept.text in shared) for concept in explanation.vision_concepts
        ),
        language_concepts=chosen.language_concepts,
        mutual=chosen.mutual,
        alternatives=(before, *(other for other in explanation.alternatives if other is not chosen)),
    )

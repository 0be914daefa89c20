"""The result of `clipmk.explain`: the record of one explanation, and what can be asked of it without a model."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection
from dataclasses import dataclass
from operator import sub
from typing import TYPE_CHECKING, Any

from clipmk.concepts.influence import concept_influence
from clipmk.concepts.mutual import class_swap, measure
from clipmk.errors import UsageError, suggest
from clipmk.output.document import explanation_entry
from clipmk.records import Asked, ExplanationRecord, Mutual, Prediction, RelevanceMap, WhatIf, status_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Explanation(ExplanationRecord):
    """Why a model predicts a class for an image."""

    def __repr__(self) -> str:
        found = f"{self.mutual.count} mutual concepts, MI {self.mutual.mi_paper:.2f}, AUC {self.mutual.auc:.2f}"
        return f"<Explanation of {self.image.path!r} by {self.model.id!r}: {self.class_name!r}, {found}>"

    @property
    def mutual_concepts(self) -> tuple[str, ...]:
        """D_v ∩ D_y, most important first."""
        return tuple(concept.text for concept in self.vision_concepts if concept.mutual)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that `for_class` can answer: the explained one, and those with an `Alternative`."""
        return (self.class_name, *(alternative.class_name for alternative in self.alternatives))

    def without(self, left_out: Collection[str]) -> Mutual:
        """The strength of the shared knowledge without some vision concepts, with the chance of as many as remain.

        Raises:
            UsageError: a text is not among the vision concepts; the message names those that are.
        """
        texts, before = [concept.text for concept in self.vision_concepts], self.mutual
        for text in left_out:
            if text not in texts:
                raise UsageError(f"{text!r} is not a vision concept of this explanation; {suggest(text, texts)}")
        if not left_out:
            return before
        kept = [concept for concept in self.vision_concepts if concept.text not in left_out]
        shared, swap = sum(concept.mutual for concept in kept), before.class_swap
        return measure(
            [concept.mutual for concept in self.vision_concepts],
            language_count=before.language_count,
            vocabulary_size=before.vocabulary_size,
            removed={texts.index(text) for text in left_out},
            length=self.provenance.settings["vision_limit"] + 1,
            swap=swap
            and class_swap(
                [concept.tied_to for concept in kept],
                shared,
                explained=self.class_name,
                classes=swap.classes,
                of=swap.of,
            ),
            soft=[pair for pair in before.soft if pair.vision not in left_out],
        )

    def with_what_if(self, left_out: Collection[str], predictions: tuple[Prediction, ...] | None) -> Explanation:
        """The same explanation, and what it becomes without some vision concepts.

        Args:
            left_out: their texts.
            predictions: from `Explainer.predict_without`, where they are known.

        Raises:
            UsageError: as for `without`.
        """
        what_if = WhatIf(left_out=tuple(left_out), mutual=self.without(left_out), predictions=predictions)
        return dataclasses.replace(self, what_if=what_if)

    def for_class(self, class_name: str) -> Explanation:
        """The same image and model explained for another class ("why not B?").

        D_v stays; D_y and the shared knowledge are those of the `Alternative`, and the class explained so far becomes
        an alternative, so nothing is lost on the way back. Equal to a fresh explanation of that class, except for the
        order of the alternatives.

        Raises:
            UsageError: there is no such alternative; the message names those there are.
        """
        if class_name == self.class_name:
            return self
        chosen = next((other for other in self.alternatives if other.class_name == class_name), None)
        if chosen is None:
            raise UsageError(f"class {class_name!r} is not in this explanation; {suggest(class_name, self.classes)}")
        previous = dataclasses.replace(
            chosen,
            class_name=self.class_name,
            language_concepts=self.language_concepts,
            mutual=self.mutual,
            part_margins=tuple(0.0 - margin for margin in chosen.part_margins),
            share_explained=self.share_explained,
        )
        others = [  # (y - c) - (y - b) = b - c
            dataclasses.replace(other, part_margins=tuple(map(sub, other.part_margins, chosen.part_margins)))
            for other in self.alternatives
            if other is not chosen
        ]
        shared = {concept.text for concept in chosen.language_concepts if concept.mutual}
        turned = dataclasses.replace(
            self,
            class_name=class_name,
            vision_concepts=tuple(
                dataclasses.replace(concept, mutual=concept.text in shared) for concept in self.vision_concepts
            ),
            language_concepts=chosen.language_concepts,
            mutual=chosen.mutual,
            alternatives=(previous, *others),
            share_explained=chosen.share_explained,
            what_if=None,
            asked=tuple(_retied(one, class_name) for one in self.asked),
        )
        return turned.with_influence()

    def with_influence(self) -> Explanation:
        """The same explanation, with what each vision concept does to the margin over the runner-up."""
        margins = () if self.runner_up is None else self.runner_up.part_margins
        by_id = {part.id: (margin, part.area) for part, margin in zip(self.parts, margins, strict=False)}
        concepts = []
        for concept in self.vision_concepts:
            pairs = [by_id[part] for part in concept.parts if part in by_id]
            influence = concept_influence([margin for margin, _ in pairs], [area for _, area in pairs])
            concepts.append(dataclasses.replace(concept, influence=influence))
        return dataclasses.replace(self, vision_concepts=tuple(concepts))

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of one result, as the schema of `clipmk schema` describes it."""
        return explanation_entry(self)

    def to_json(self, *, indent: int | None = 2) -> str:
        """`to_dict` as JSON text; finite numbers only."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, indent=indent)

    def relevance(self, text: str) -> NDArray[np.float32]:
        """Where a text that was asked for is seen: float32 (height, width) over the image, in [0, 1].

        Raises:
            UsageError: it was not asked for, or has no map.
        """
        from clipmk.images.masks import heat_pixels  # noqa: PLC0415 - loads numpy and OpenCV

        return heat_pixels(self._map(text), width=self.image.width, height=self.image.height)

    def overlay(
        self, image: Image.Image | None = None, *, alpha: float = 0.45, scale: int = 1, asked: str | None = None
    ) -> Image.Image:
        """The picture with its parts in colour, their contours and numbers (see `output.overlay`).

        Args:
            image: the picture, upright; None uses the explanation's own, or reads its file again.
            alpha: opacity of the colours.
            scale: magnify by this integer.
            asked: a text that was asked for: its map is drawn instead of the parts.

        Raises:
            ImageError: no picture is at hand, or `image` has another size.
            UsageError: the text was not asked for, or has no map.
        """
        from clipmk.output.overlay import heat_overlay, overlay  # noqa: PLC0415 - loads numpy, OpenCV and Pillow

        if asked is not None:
            return heat_overlay(self, self._map(asked), image, scale=scale)
        return overlay(self, image, alpha=alpha, scale=scale)

    def _map(self, text: str) -> RelevanceMap:
        found = next((one for one in self.asked if one.text == text.strip()), None)
        if found is None:
            raise UsageError(f"{text!r} was not asked for; {suggest(text, [one.text for one in self.asked])}")
        if found.map is None:
            raise UsageError(f"{text!r} has no map: the patches of {self.model.id!r} cannot be pooled one by one")
        return found.map

    def _repr_html_(self) -> str:
        """What notebooks show."""
        from clipmk.output.html import fragment  # noqa: PLC0415

        return fragment(self)


def _retied(asked: Asked, class_name: str) -> Asked:
    """What was asked for, with a class first among its ties."""
    ties = tuple(sorted(asked.ties, key=lambda tie: tie.class_name != class_name))
    return dataclasses.replace(asked, ties=ties, status=status_of(seen=asked.presence.seen, tied=ties[0].in_d_y))

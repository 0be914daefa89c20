"""What an explanation can answer by itself: leave a concept out, ask "why not B?". Plain Python, no model, no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from clipmk.concepts.mutual import Strength, leave_out
from clipmk.errors import UsageError, suggest
from clipmk.records import Explanation


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

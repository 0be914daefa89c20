"""Explanations by several models, for tests of comparisons."""

from __future__ import annotations

import dataclasses

import samples
from clipmk.errors import ModelError
from clipmk.explanation import Explanation
from clipmk.records import Failure, LanguageConcept, Prediction, VisionConcept


def by(
    model: str,
    *,
    family: str = "vit",
    predicted: str = "fox",
    auc: float = 1.0,
    vision: dict[str, float] | None = None,
    language: dict[str, float] | None = None,
) -> Explanation:
    """An explanation with these concepts; mutual are those on both sides."""
    seen = {"ears": 0.7, "tail": 0.5} if vision is None else vision
    tied = {"ears": 0.8, "fur": 0.6} if language is None else language
    made = samples.explanation()
    return dataclasses.replace(
        made,
        model=dataclasses.replace(made.model, id=model, family=family),
        class_name=predicted,
        predictions=(Prediction(rank=1, class_name=predicted, probability=0.6, cosine=0.3, independent=None),),
        vision_concepts=tuple(
            VisionConcept(rank=rank, text=text, importance=value, parts=(1,), mutual=text in tied)
            for rank, (text, value) in enumerate(seen.items(), 1)
        ),
        language_concepts=tuple(
            LanguageConcept(rank=rank, text=text, cosine=value, mutual=text in seen)
            for rank, (text, value) in enumerate(tied.items(), 1)
        ),
        mutual=dataclasses.replace(made.mutual, auc=auc, count=len(set(seen) & set(tied))),
    )


def failed(model: str, path: str = "fox_03.png") -> Failure:
    return Failure.of(ModelError(f"model {model!r} does not exist"), path=path, model=model)

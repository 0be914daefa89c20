"""A program as users write them, checked by mypy in strict mode: the types that `clipmk` shows outside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import assert_type

import numpy as np
from PIL import Image

import clipmk


def explain(folder: Path) -> dict[str, float]:
    """Explain in every way that the documentation names."""
    model = clipmk.load("embedded/rn-parts")
    assert_type(model, clipmk.Backbone)
    vocabulary = clipmk.load_vocabulary("everyday")
    assert_type(vocabulary, clipmk.Vocabulary)
    one = clipmk.explain(folder / "a.png", model, vocabulary=vocabulary, preset="paper", settings={"seed": 3})
    assert_type(one, clipmk.Explanation)
    many = clipmk.explain([Image.new("RGB", (8, 8)), np.zeros((8, 8, 3), np.uint8)], model, target="fox")
    assert_type(many, list[clipmk.Explanation])
    paths: list[Path] = sorted(folder.glob("*.png"))
    assert_type(clipmk.explain(paths, model), list[clipmk.Explanation])
    asked = clipmk.ask("a.png", "embedded/vit-s8", ["a wet nose"], vocabulary={"hen": ["a red comb"]})
    stream = clipmk.explain_stream(paths, model, batch_size=8, settings=clipmk.Settings())
    assert_type(stream, Iterator[clipmk.Explanation | clipmk.ClipmkError])
    for result in stream:
        if isinstance(result, clipmk.ClipmkError):
            raise result
        result.overlay().save(folder / "parts.png")
    assert_type(one.for_class("fox").without(["a red comb"]).mi_paper, float)
    shares = {concept.text: concept.importance for concept in one.vision_concepts if concept.mutual}
    return (
        shares | {answer.text: answer.presence.p_value for answer in asked.asked} | {one.to_json(): many[0].mutual.auc}
    )

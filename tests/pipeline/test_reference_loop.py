"""The benchmark's plain loop finds what the `paper` preset finds, or its speed would say nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from reference_loop import ReferenceLoop

import embedded


@pytest.mark.parametrize("index", [0, 1, 2])
def test_the_plain_loop_finds_the_concepts_of_the_paper_preset(index: int, tmp_path: Path) -> None:
    explainer = embedded.explainer("paper")
    Image.fromarray(embedded.picture(index).pixels).save(tmp_path / "scene.png")
    loop = ReferenceLoop(explainer.backbone, explainer.vocabulary, explainer.backbone.encode_texts)
    found = loop.explain(tmp_path / "scene.png")
    expected = explainer.explain([embedded.picture(index)])[0]
    assert found.predicted == expected.class_name
    assert found.concepts == tuple(concept.text for concept in expected.vision_concepts)
    assert found.forwards == 1 + 3 * len(expected.parts)

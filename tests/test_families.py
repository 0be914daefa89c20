"""Every family of image tower goes the whole way: random weights, the real loader, both presets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import backbone_zoo
import clipmk
from clipmk.errors import ModelError
from clipmk.vocabulary import Vocabulary

WORDS = Vocabulary(
    name="animals",
    classes=("cat", "dog", "a cat and a dog"),
    templates=("a photo of a {}.", "the {}."),
    descriptors=("the ears", "a tail", "an eye", "the dog", "a can", "the cat", "an ant"),
    descriptor_template="a photo showing {}",
    by_class={},
)
KEYS = {"vit", "siglip", "eva"}


@pytest.mark.parametrize("kind", ["vit", "resnet", "convnext", "siglip", "eva"])
def test_family_is_explained_by_both_presets(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPMK_CACHE_DIR", str(tmp_path / "cache"))
    backbone_zoo.save(tmp_path / kind, backbone_zoo.model_config(kind))
    model = clipmk.load(f"local-dir:{tmp_path / kind}")
    image = np.random.default_rng(0).integers(0, 255, (80, 120, 3), dtype=np.uint8)
    for name in ("default", "paper"):
        explanation = clipmk.explain(image, model, vocabulary=WORDS, preset=name)
        assert explanation.parts
        assert explanation.vision_concepts
        assert sum(p.probability for p in explanation.predictions) == pytest.approx(1.0)
        assert (explanation.predictions[0].independent is None) == (kind != "siglip")
    if kind in KEYS:
        assert clipmk.explain(image, model, vocabulary=WORDS, settings={"features": "keys"}).parts
    else:
        with pytest.raises(ModelError, match="keys"):
            clipmk.explain(image, model, vocabulary=WORDS, settings={"features": "keys"})

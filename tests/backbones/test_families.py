"""Every kind of model that open_clip holds, shrunken, with random weights, through the ordinary loader: explained, or
refused with the reason. `tools/check_families.py` does the same at full size."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
from open_clip import factory

import clipmk
from check_families import kind_of, smallest, tokenizer
from clipmk.errors import ModelError
from clipmk.vocabulary.vocabulary import Vocabulary, from_descriptor_json

torch.set_num_threads(1)

WORDS = 1000
"""Tokens of the shrunken text towers whose tokenizer lies on the hub."""

TRUNKS: dict[str, dict[str, Any]] = {
    "convnext": {"depths": (1, 1, 1, 1), "dims": (16, 24, 32, 48)},
    "eva": {"depth": 2, "embed_dim": 96, "num_heads": 2},
    "eva02": {"depth": 2, "embed_dim": 96, "num_heads": 2},
    "fastvit": {"layers": (1, 1, 1, 1), "embed_dims": (16, 32, 64, 128)},
    "swin": {"depths": (1, 1, 1, 1), "embed_dim": 16, "num_heads": (1, 2, 2, 4)},
    "vit": {"depth": 1},
    "vitamin": {"depth": 1},
}
"""First word of a timm model's name -> what makes it small; the rest is as it is."""

NEEDS = "needs the package 'transformers'"
RELATIVE = "masked pooling does not reproduce the embedding"
REFUSED = {
    "ViT + CoCa": "has 64000 text tokens but its tokenizer makes 49408",
    "ViT + hub text tower": NEEDS,
    "ViT + hub text tower + CoCa": NEEDS,
    "vit_siglip (map pooling) + hub text tower": NEEDS,
}
"""Kinds that are not loaded, and why."""
KINDS = smallest()


def test_every_kind_of_architecture_is_tried() -> None:
    assert {kind_of(open_clip.get_model_config(name)) for name in open_clip.list_models()} == set(KINDS)
    assert set(REFUSED) <= set(KINDS)
    assert len(KINDS) >= 22


@pytest.fixture(scope="module")
def words() -> Vocabulary:
    return from_descriptor_json('{"apple": ["a stalk", "red skin"], "owl": ["round eyes", "a beak"]}', name="families")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Shrink one of open_clip's architectures, in place until the test ends; returns its configuration."""
    real = timm.create_model

    def create(name: str, **options: Any) -> Any:
        return real(name, **options, **TRUNKS[name.split("_", maxsplit=1)[0]])

    monkeypatch.setattr(timm, "create_model", create)
    monkeypatch.setenv("CLIPMK_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("CLIPMK_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("clipmk.backbones.library.has_transformers", lambda: False)

    def shrink(name: str) -> dict[str, Any]:
        config = shrunken(open_clip.get_model_config(name))
        monkeypatch.setitem(factory._MODEL_CONFIGS, name, config)
        return config

    return shrink


def shrunken(config: dict[str, Any]) -> dict[str, Any]:
    """The same design with two layers and little width."""
    made = copy.deepcopy(config)
    vision, text = made["vision_cfg"], made["text_cfg"]
    if isinstance(vision.get("layers"), list):
        vision |= {"layers": [1, 1, 1, 1], "width": 8, "head_width": 16}
    elif "timm_model_name" not in vision:
        vision |= {"layers": 2, "width": 64, "head_width": 32}
        vision |= {"attn_pooler_heads": 2} if vision.get("attentional_pool") else {}
        made["embed_dim"] = 64
    if not text.get("hf_model_name"):
        text |= {"layers": 1, "width": 32, "heads": 2}
    if text.get("hf_tokenizer_name"):
        text["vocab_size"] = WORDS
    if vision.get("timm_proj") == "none":  # the text tower projects to the width of the image tower
        made["embed_dim"] = 768
    if "multimodal_cfg" in made:
        made["multimodal_cfg"] |= {"layers": 1, "width": 64, "heads": 2, "attn_pooler_heads": 2}
    return made


@pytest.mark.parametrize("kind", sorted(set(KINDS) - set(REFUSED)))
def test_each_kind_is_explained(kind: str, small: Any, words: Vocabulary) -> None:
    config = small(KINDS[kind])
    backbone = clipmk.load(f"{KINDS[kind]}:random", device="cpu", tokenizer=tokenizer(config))
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)

    def explain(how: str) -> clipmk.Explanation:
        return clipmk.explain(image, backbone, vocabulary=words, settings={"grounding": how, "part_limit": 2})

    if kind == "vit_relpos_cls (own pooling)":
        with pytest.raises(ModelError, match=f'{RELATIVE}.*use grounding="prompts"'):
            explain("attend")
        results = [explain("prompts")]
    else:
        results = [explain("attend")]
    for result in results:
        assert result.parts
        assert all(part.descriptors for part in result.parts)
        assert result.model.input_size == backbone.info.input_size
        assert sum(one.probability for one in result.predictions) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("kind", REFUSED)
def test_each_other_kind_is_refused_with_the_reason(kind: str, small: Any) -> None:
    small(KINDS[kind])
    with pytest.raises(ModelError, match=REFUSED[kind]):
        clipmk.load(f"{KINDS[kind]}:random", device="cpu")

"""The shipped vision transformers without open_clip: bit for bit what open_clip makes of the same files."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from clipmk.backbones.plain_clip import PlainClip, causal_mask, is_plain, load_plain
from clipmk.errors import ModelError
from clipmk.models import catalog
from clipmk.models.checkpoints import fill, read_weights
from clipmk.models.loading import build, load, needs_open_clip, tokenizer_for
from clipmk.models.spec import ModelSpec, resolve

TEXTS = ["a photo of a fox", "pointed ears", "x"]
SMALL = "embedded/vit-xs8-48"


def plain_of(spec: ModelSpec) -> PlainClip:
    assert spec.weights is not None
    return load_plain(spec.config, spec.weights)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("model", [SMALL, "embedded/vit-s16"])
def test_embeddings_are_those_of_open_clip_to_the_last_bit(model: str, dtype: torch.dtype) -> None:
    spec = resolve(model)
    theirs: Any = build(spec)
    assert spec.weights is not None
    fill(theirs, read_weights(spec.weights), spec.weights, architecture="theirs")
    ours = plain_of(spec).to(dtype)
    theirs.to(dtype)
    side = spec.config["vision_cfg"]["image_size"]
    pixels = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(0)).to(dtype)
    tokens = tokenizer_for(spec)(TEXTS)
    for mode in (torch.inference_mode, torch.enable_grad):  # torch's attention takes another path without gradients
        with mode():
            assert torch.equal(ours.encode_image(pixels), theirs.encode_image(pixels))
            assert torch.equal(ours.encode_text(tokens), theirs.encode_text(tokens))
    assert {name: value.shape for name, value in ours.state_dict().items()} == {
        name: value.shape for name, value in theirs.state_dict().items()
    }
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())


def test_patches_and_pooled_regions_are_those_of_open_clip_to_the_last_bit() -> None:
    spec = resolve(SMALL)
    theirs: Any = build(spec)
    assert spec.weights is not None
    fill(theirs, read_weights(spec.weights), spec.weights, architecture="theirs")
    pixels = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    weights = torch.rand(2, 3, 36, generator=torch.Generator().manual_seed(1))
    found = []
    for model in (load(SMALL, device="cpu"), load(theirs, device="cpu", tokenizer=tokenizer_for(spec))):
        for features in ("tokens", "keys"):
            encoded = model.encode_with_patches(pixels, features=features)  # type: ignore[arg-type]
            assert encoded.attention is not None
            found.append((encoded.patches, encoded.attention, model.pool_regions(encoded, weights)))
    for ours, other in zip(found[:2], found[2:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, other, strict=True))


def test_a_text_token_does_not_attend_to_later_ones() -> None:
    assert causal_mask(3).tolist() == [[0, -torch.inf, -torch.inf], [0, 0, -torch.inf], [0, 0, 0]]


def test_every_shipped_vision_transformer_is_plain_and_nothing_else_is() -> None:
    plain = {name for name in catalog.embedded_names() if is_plain(resolve(name).config)}
    assert plain == {name for name in catalog.embedded_names() if resolve(name).entry.family == "vit"}


CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "activation": lambda config: config.update(quick_gelu=True),
    "pooling": lambda config: config["vision_cfg"].update(pool_type="avg"),
    "stages": lambda config: config["vision_cfg"].update(layers=[1, 1]),
    "tokenizer": lambda config: config["text_cfg"].update(hf_tokenizer_name="x/y"),
    "less": lambda config: config["text_cfg"].pop("heads"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_configuration_that_says_anything_else_is_not_plain(change: str) -> None:
    config = copy.deepcopy(dict(resolve(SMALL).config))
    assert is_plain(config)
    CHANGES[change](config)
    assert not is_plain(config)


@pytest.mark.parametrize("change", ["missing", "more", "shape"])
def test_weights_that_do_not_fit_are_refused(tmp_path: Any, change: str) -> None:
    spec = resolve(SMALL)
    assert spec.weights is not None
    state = load_file(spec.weights)
    if change == "missing":
        del state["visual.proj"]
    else:
        state["visual.more" if change == "more" else "visual.proj"] = torch.zeros(2)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"w\.safetensors' do not fit"):
        load_plain(spec.config, tmp_path / "w.safetensors")


def test_loading_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    plain_of(resolve(SMALL))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("model", "needed"), [(SMALL, False), ("embedded/rn-xs", True), ("ViT-B-32:random", True), ("a/folder", True)]
)
def test_whether_a_model_needs_open_clip_is_known_beforehand(model: str, needed: bool) -> None:
    assert needs_open_clip(model) is needed


def test_a_registered_name_needs_what_it_stands_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "registered_models", lambda: {"mine": SMALL, "other": "embedded/rn-xs"})
    assert not needs_open_clip("mine")
    assert needs_open_clip("other")

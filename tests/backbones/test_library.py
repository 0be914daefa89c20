"""The shipped models with a part of open_clip: bit for bit what all of open_clip makes of the same files."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from clipmk.backbones import library
from clipmk.errors import ModelError
from clipmk.models import catalog
from clipmk.models.loading import load, needs_open_clip, tokenizer_for
from clipmk.models.spec import resolve

TEXTS = ["a photo of a fox", "pointed ears", "x"]
SMALL = "embedded/vit-xs8-48"


def theirs(model: str) -> Any:
    return open_clip.create_model(f"local-dir:{resolve(model).folder}", load_weights=True).eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("model", [SMALL, "embedded/vit-s16", "embedded/rn-s"])
def test_embeddings_are_those_of_open_clip_to_the_last_bit(model: str, dtype: torch.dtype) -> None:
    ours, other = load(model, device="cpu")._model, theirs(model)
    assert type(ours) is library.clip_class()
    assert type(ours) is not type(other)
    assert ours.state_dict().keys() == other.state_dict().keys()
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in ours.state_dict().items())
    side = resolve(model).entry.input_size
    pixels = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(0)).to(dtype)
    tokens = tokenizer_for(resolve(model))(TEXTS)
    for one in (ours, other):
        one.to(dtype)
    for mode in (torch.inference_mode, torch.enable_grad):  # torch's attention takes another path without gradients
        with mode():
            assert torch.equal(ours.encode_image(pixels), other.encode_image(pixels))
            assert torch.equal(ours.encode_text(tokens), other.encode_text(tokens))


@pytest.mark.parametrize("model", [SMALL, "embedded/rn-s"])
def test_patches_and_pooled_regions_are_those_of_open_clip_to_the_last_bit(model: str) -> None:
    ours = load(model, device="cpu")
    other = load(theirs(model), device="cpu", tokenizer=tokenizer_for(resolve(model)))
    side, patches = ours.info.input_size, ours.grid[0] * ours.grid[1]
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    weights = torch.rand(2, 3, patches, generator=torch.Generator().manual_seed(1))
    for features in ("tokens", "keys") if ours.supports_keys else ("tokens",):
        found = []
        for one in (ours, other):
            encoded = one.encode_with_patches(pixels, features=features)  # type: ignore[arg-type]
            assert encoded.attention is not None
            found.append((encoded.patches, encoded.attention, one.pool_regions(encoded, weights)))
        assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_shipped_model_embeds_images_and_texts_without_open_clip_timm_and_torchvision() -> None:
    code = (
        "import sys, torch, clipmk.models.loading as loading\n"
        "for name in ('embedded/vit-s8', 'embedded/rn-s'):\n"
        "    model = loading.load(name, device='cpu')\n"
        "    model.encode_texts(['a fox'])\n"
        "    model.encode_images(torch.zeros(1, 3, model.info.input_size, model.info.input_size))\n"
        "print({'open_clip', 'timm', 'torchvision', 'transformers', 'huggingface_hub'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("change", ["missing", "more", "shape"])
def test_weights_that_do_not_fit_are_refused(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    spec = resolve(SMALL)
    assert spec.weights is not None
    state = load_file(spec.weights)
    if change == "missing":
        del state["visual.proj"]
    else:
        state["visual.more" if change == "more" else "visual.proj"] = torch.zeros(2)
    save_file(state, tmp_path / "w.safetensors")
    monkeypatch.setattr(
        "clipmk.models.loading.resolve", lambda *_, **__: replace(spec, weights=tmp_path / "w.safetensors")
    )
    with pytest.raises(ModelError, match=r"w\.safetensors' do not fit"):
        load(SMALL, device="cpu")


@pytest.mark.parametrize("model", [SMALL, "embedded/rn-s", "embedded/cnx-s"])
def test_loading_leaves_the_random_numbers_alone(model: str) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load(model, device="cpu")
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("model", [*catalog.embedded_names(), "ViT-B-32:random", "a/folder"])
def test_whether_a_model_needs_open_clip_is_known_beforehand(model: str) -> None:
    own_tower = model.startswith("embedded/") and resolve(model).entry.family in {"vit", "resnet"}
    assert needs_open_clip(model) is not own_tower


def test_a_registered_name_needs_what_it_stands_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "registered_models", lambda: {"mine": SMALL, "other": "embedded/cnx-s"})
    assert not needs_open_clip("mine")
    assert needs_open_clip("other")

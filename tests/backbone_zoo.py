"""Small open_clip models with random weights, saved as folders, so that tests go through the real loader."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

MERGES = ("t h", "th e</w>", "c a", "ca t</w>", "d o", "do g</w>", "a n")
VOCABULARY = 512 + len(MERGES) + 2
CONTEXT = 16
TEXT = {"context_length": CONTEXT, "vocab_size": VOCABULARY, "width": 32, "heads": 2, "layers": 2}
EMBED = 24
NATIVE_TEXT = {"context_length": CONTEXT, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
"""For a text tower that takes the tokens of CLIP itself, not those of MERGES."""

_VIT = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 3, "head_width": 16}
_CUSTOM_BLOCK = {"qk_norm": True, "scale_heads": True, "scale_attn_inner": True, "scale_attn": True, "scale_fc": True}


def _trunk(name: str, size: int, pool: str = "", proj: str = "linear") -> dict[str, Any]:
    return {"image_size": size, "timm_model_name": name, "timm_pool": pool, "timm_proj": proj}


VISION: dict[str, dict[str, Any]] = {
    "vit": _VIT,
    "vit-layer-scale": {**_VIT, "ls_init_value": 0.5},
    "vit-average": {**_VIT, "pool_type": "avg"},
    "vit-average-late-norm": {**_VIT, "pool_type": "avg", "final_ln_after_pool": True, "no_ln_pre": True},
    "vit-custom-block": {**_VIT, **_CUSTOM_BLOCK},
    "coca": {**_VIT, "attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 4},
    "resnet": {"image_size": 96, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32},
    "convnext": _trunk("test_convnext", 96),
    "convnext-mlp": _trunk("test_convnext2", 96, proj="mlp"),
    "siglip": _trunk("test_vit3", 160, "map", "none"),
    "timm-vit": _trunk("test_vit", 160, "token"),
    "timm-vit-average": _trunk("test_vit2", 160),
    "eva": _trunk("eva02_tiny_patch14_224", 224, "token"),
    "eva-average": _trunk("eva02_tiny_patch14_224", 224, "avg"),
    "perception": _trunk("vit_pe_core_tiny_patch16_384", 384, "map"),
    "channels-last": _trunk("swin_tiny_patch4_window7_224", 224),
    "relative": _trunk("test_vit_relpos", 160),
    "resnet-timm": _trunk("test_resnet", 96),
}
"""One vision configuration per kind of image tower that is pooled in its own way."""
if not timm.is_model("test_vit_relpos"):  # timm before 1.0.31
    del VISION["relative"]

EXTRA: dict[str, dict[str, Any]] = {
    "siglip": {"custom_text": True, "init_logit_bias": -10.0, "embed_dim": 96},
    "perception": {"custom_text": True},
    "eva": {"custom_text": True},
}


def scramble(model: nn.Module, seed: int = 0) -> nn.Module:
    """Move every parameter and statistic off its initial value: zero biases and unit scales hide mistakes."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point() and "logit" not in name:
                noise = torch.randn(value.shape, generator=draw) * 0.1
                value.add_(noise.abs() if "running_var" in name else noise)
    return model.eval()


def model_config(kind: str, text: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"embed_dim": EMBED, "vision_cfg": dict(VISION[kind]), "text_cfg": dict(text or TEXT), **EXTRA.get(kind, {})}


def make(config: dict[str, Any], seed: int = 0) -> nn.Module:
    """Build the open_clip model of a configuration, scrambled, in evaluation mode."""
    arguments = {key: value for key, value in config.items() if key != "custom_text"}
    kind = open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return scramble(kind(**arguments), seed)


def save_bpe(folder: Path, name: str = "bpe.txt.gz") -> None:
    with gzip.open(folder / name, "wt", encoding="utf-8") as stream:
        stream.write("\n".join(["#version: 0.2", *MERGES]))


def save(
    folder: Path, config: dict[str, Any], *, preprocess: dict[str, Any] | None = None, bpe: bool = True, **more: Any
) -> nn.Module:
    """Save a random model as a `local-dir:` folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    model = make(config)
    content = {"model_cfg": config, "preprocess_cfg": preprocess or {}, **more}
    (folder / "open_clip_config.json").write_text(json.dumps(content), encoding="utf-8")
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, folder / "open_clip_model.safetensors")
    if bpe:
        save_bpe(folder)
    return model


def unit(values: torch.Tensor) -> torch.Tensor:
    return values / values.norm(dim=-1, keepdim=True)


def pixels_for(backbone: Any, batch: int = 2, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    side = backbone.info.input_size
    return backbone.normalise(torch.rand(batch, 3, side, side, generator=draw))


def masks_for(patches: int, batch: int = 2, seed: int = 1) -> Tensor:
    """Three regions: hard, soft, and soft with invisible patches."""
    draw = torch.Generator().manual_seed(seed)
    hard = (torch.rand(batch, patches, generator=draw) > 0.6).float()
    hard[:, 0] = 1
    soft = torch.rand(batch, patches, generator=draw) * 0.9 + 0.1
    return torch.stack([hard, soft, hard * soft], dim=1)


def assert_same(backbone: Any, plain: Any) -> None:
    """The backbone embeds images as the plain open_clip model does."""
    with torch.no_grad():
        expected = unit(plain.encode_image(pixels_for(backbone)))
    torch.testing.assert_close(backbone.encode_images(pixels_for(backbone)), expected, atol=1e-5, rtol=0)

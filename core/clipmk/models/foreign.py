"""Models made for the `transformers` package as open_clip's, `CLIPModel` and `SiglipModel`: configurations and tensors.

`transformers` itself is not needed, and torch only for tensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from clipmk.errors import ModelError, raised_as
from clipmk.system.locations import json_asset

if TYPE_CHECKING:
    from torch import Tensor

CONFIG_NAME = "config.json"  # name of the configuration in a folder or a repository
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Names of weight files and of indices of their shards, in the order of preference of `transformers`."""
PREPROCESSOR_NAMES = ("preprocessor_config.json", "processor_config.json")
TRUNK = "vit_base_patch16_siglip_224"  # timm's architecture of SigLIP image towers; `convert` gives the sizes
OWN_TOKENIZER = "its own"  # stands for a tokenizer that is in the folder or the repository of the model

MALFORMED = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError)
"""What reading the configuration of a stranger raises."""
KINDS = ("clip", "siglip")  # the `model_type` of configurations that can be converted
_OPENAI_VOCABULARY = 49408
_PROJECTIONS = {"visual_projection.weight": "visual.proj", "text_projection.weight": "text_projection"}
"""Matrices that open_clip stores transposed."""


def tables() -> dict[str, Any]:
    """What `transformers` calls otherwise than open_clip.

    `defaults`: what a configuration leaves out, by model_type and tower. `sizes`: their names there, by those in
    towers of open_clip and timm. `open_clip` and `timm`: parts of the names of tensors there, and in these towers.
    `activations`: their names there and in timm. `resamplings`: by Pillow's numbers. `siglip_text`: what all text
    towers of SigLIP have in common. `twins`: repositories there, and the pair of open_clip with the same weights.
    """
    found: dict[str, Any] = json_asset("transformers.json")
    return found


def convert(config: Mapping[str, Any], model_id: str) -> dict[str, Any]:
    """The content of an `open_clip_config.json` for the model of a `config.json`, without its preprocessing.

    It has `model_cfg`; for SigLIP also `trunk`, arguments of timm's image tower `TRUNK`. Raises `ModelError` for a kind
    of model that cannot be converted, or a malformed configuration.
    """
    kind = config.get("model_type")
    if kind not in KINDS:
        raise ModelError(
            f"model {model_id!r} has a {CONFIG_NAME} with model_type {kind!r}; of models made for transformers, only "
            f"{' and '.join(KINDS)} can be explained"
        )
    with raised_as(ModelError, f"the {CONFIG_NAME} of model {model_id!r} is not that of a {kind} model", *MALFORMED):
        vision, text = (_part(config, kind, name) for name in ("vision_config", "text_config"))
        return _clip(config, vision, text) if kind == "clip" else _siglip(vision, text)


def preprocessing(processor: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """open_clip's preprocessing configuration for an image processor of `transformers`; empty: defaults of `kind`."""
    inner = processor.get("image_processor")
    given = inner if isinstance(inner, dict) else processor
    normalised, usual = given.get("do_normalize") is not False, 0.5 if kind == "siglip" else None
    resampling = given.get("resample")
    return {
        "mean": given.get("image_mean") or usual if normalised else [0, 0, 0],
        "std": given.get("image_std") or usual if normalised else 1,
        "interpolation": tables()["resamplings"].get(str(resampling), resampling),
    }


def _part(config: Mapping[str, Any], kind: str, name: str) -> dict[str, Any]:
    """One tower's configuration; old files have a second one, which counts."""
    given = config.get(f"{name}_dict") or config.get(name) or {}
    return {**tables()["defaults"][kind][name], **given}


def _sizes(tower: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Sizes under the names of a tower here, and the ratio of its MLP."""
    # half a unit more: open_clip takes int(width * ratio), which may otherwise be rounded down
    ratio = (tower["intermediate_size"] + 0.5) / tower["hidden_size"]
    return {ours: tower[theirs] for ours, theirs in tables()["sizes"][name].items()} | {"mlp_ratio": ratio}


def _tower(tower: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The configuration of one of open_clip's own towers, "vision" or "text"."""
    tanh = {"act_kwargs": {"approximate": "tanh"}} if _activation(tower) == "gelu_tanh" else {}
    return _sizes(tower, name) | {"norm_kwargs": {"eps": tower["layer_norm_eps"]}} | tanh


def _activation(tower: Mapping[str, Any]) -> str:
    return str(tables()["activations"][tower["hidden_act"]])


def _clip(config: Mapping[str, Any], vision: Mapping[str, Any], text: Mapping[str, Any]) -> dict[str, Any]:
    quick = {_activation(tower) == "quick_gelu" for tower in (vision, text)}
    if len(quick) != 1:
        raise ValueError(f"activations {vision['hidden_act']!r} and {text['hidden_act']!r} do not go together")
    head_width = {"head_width": vision["hidden_size"] // vision["num_attention_heads"]}
    words, end = _tower(text, "text"), text["eos_token_id"]
    if end != 2 and end < text["vocab_size"] - 1:  # 2 is a mistake of old files: the end of text is the last token
        words |= {"pool_type": "eos", "eos_id": end}
    if text["vocab_size"] != _OPENAI_VOCABULARY:
        words["hf_tokenizer_name"] = OWN_TOKENIZER
    return {
        "model_cfg": {
            "embed_dim": config.get("projection_dim", 512),
            "quick_gelu": quick.pop(),
            "vision_cfg": _tower(vision, "vision") | head_width,
            "text_cfg": words,
        }
    }


def _siglip(vision: Mapping[str, Any], text: Mapping[str, Any]) -> dict[str, Any]:
    eps = vision["layer_norm_eps"]
    if eps != 1e-6 or not vision.get("vision_use_head", True) or _activation(text) == "quick_gelu":
        raise ValueError(f"layer_norm_eps {eps}, hidden_act {text['hidden_act']!r} or no vision head")
    tower = {"image_size": vision["image_size"], "timm_model_name": TRUNK, "timm_pool": "map", "timm_proj": "none"}
    return {
        "model_cfg": {
            "embed_dim": vision["hidden_size"],
            "custom_text": True,
            "init_logit_bias": -10,
            "vision_cfg": tower,
            "text_cfg": _tower(text, "text") | {"hf_tokenizer_name": OWN_TOKENIZER} | tables()["siglip_text"],
        },
        "trunk": _sizes(vision, "trunk") | {"act_layer": _activation(vision)},
    }


def of_transformers(state: Mapping[str, Any]) -> bool:
    """Whether the tensors have the names of a `CLIPModel` or `SiglipModel`."""
    return "vision_model.embeddings.patch_embedding.weight" in state


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state_dict of a `CLIPModel` or `SiglipModel` under open_clip's names."""
    siglip, known = "vision_model.head.probe" in state, tables()
    towers = {
        "vision_model.": ("visual.trunk.", known["timm"]) if siglip else ("visual.", known["open_clip"]),
        "text_model.": ("text." if siglip else "", known["open_clip"]),
    }
    found: dict[str, Tensor] = {}
    for name, tensor in _joined(state).items():
        tower = next((tower for tower in towers if name.startswith(tower)), None)
        if tower is None:
            ours = _PROJECTIONS.get(name)
            found[ours or name] = tensor.T if ours else tensor
        elif not name.endswith("position_ids"):
            prefix, table = towers[tower]
            rest = name.removeprefix(tower)
            for theirs, ours in table.items():
                rest = rest.replace(theirs, ours)
            found[prefix + rest] = tensor
    return _with_latent_query(found) if siglip else found


def _joined(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One matrix for queries, keys and values, as in torch's own attention."""
    import torch  # noqa: PLC0415 - configurations are read without it

    joined = dict(state)
    for name in state:
        if (found := re.fullmatch(r"(.+\.self_attn\.)q_proj\.(weight|bias)", name)) is not None:
            parts = [f"{found[1]}{letter}_proj.{found[2]}" for letter in "qkv"]
            if all(part in joined for part in parts):
                joined[f"{found[1]}in_proj_{found[2]}"] = torch.cat([joined.pop(part) for part in parts])
    return joined


def _with_latent_query(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Split the query from the keys and values of the pooler, and give the positions a batch dimension, as in timm."""
    pool = "visual.trunk.attn_pool."
    for kind in ("weight", "bias"):
        if (joined := state.pop(f"{pool}kv.{kind}", None)) is not None:
            width = len(joined) // 3
            state |= {f"{pool}q.{kind}": joined[:width], f"{pool}kv.{kind}": joined[width:]}
    if (positions := state.get("visual.trunk.pos_embed")) is not None:
        state["visual.trunk.pos_embed"] = positions[None]
    return state

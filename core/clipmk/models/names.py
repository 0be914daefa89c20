"""Names of tensors: those of `transformers` and of wrappers become open_clip's; OpenAI's are the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from clipmk.models import foreign

_PROJECTIONS = {"visual_projection.weight": "visual.proj", "text_projection.weight": "text_projection"}
"""Matrices that open_clip stores transposed."""
_WRAPPERS = re.compile(r"(^|\.)(?:(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.)+")
"""What torch.compile and FSDP put into names, at any level."""


def unwrapped(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The models in a state_dict by the prefix of their names: the part before `logit_scale`, which every CLIP has.

    DistributedDataParallel puts `module.` there, Lightning the name of an attribute, such as `model.`.

    Returns:
        One model for a usual file; several where a teacher or an average of the weights is stored, too. Where no
        tensor is called `logit_scale`, all of them, under "".
    """
    plain = {_WRAPPERS.sub(r"\1", name): tensor for name, tensor in state.items()}
    prefixes = [name.removesuffix("logit_scale") for name in plain if re.search(r"(^|\.)logit_scale$", name)]
    return {
        prefix: {name[len(prefix) :]: tensor for name, tensor in plain.items() if name.startswith(prefix)}
        for prefix in ([""] if "" in prefixes else prefixes or [""])
    }


def of_transformers(state: Mapping[str, Any]) -> bool:
    """Whether the tensors have the names of a `CLIPModel` or `SiglipModel`."""
    return "vision_model.embeddings.patch_embedding.weight" in state


def of_openai(state: Mapping[str, Any]) -> bool:
    """Whether the tensors have the names of OpenAI's models, which are those of open_clip's own towers."""
    return {"visual.conv1.weight", "token_embedding.weight", "text_projection"} <= set(state)


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state_dict of a `CLIPModel` or `SiglipModel` under open_clip's names."""
    siglip, tables = "vision_model.head.probe" in state, foreign.tables()
    towers = {
        "vision_model.": ("visual.trunk.", tables["timm"]) if siglip else ("visual.", tables["open_clip"]),
        "text_model.": ("text." if siglip else "", tables["open_clip"]),
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

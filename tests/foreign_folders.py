"""Folders as the `transformers` package saves them, made without it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from backbone_zoo import make
from clipmk.models import foreign

SIDE, CONTEXT = 32, 16
TOWER = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = TOWER | {"image_size": SIDE, "patch_size": 8}
TEXT = TOWER | {"max_position_embeddings": CONTEXT, "vocab_size": 49408}


def convertible(folder: Path, **more: Any) -> nn.Module:
    """A folder as `transformers` saves it, made without the package: open_clip's tensors under the other names."""
    config = {"model_type": "clip", "projection_dim": 24, "vision_config": VISION, "text_config": TEXT} | more
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    plain = make({**foreign.convert(config, "x")["model_cfg"]})
    save_file(theirs(plain), folder / "model.safetensors")
    return plain


def theirs(plain: nn.Module) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    table = {ours: name for name, ours in foreign.tables()["open_clip"].items() if name != "head."}
    for name, value in plain.state_dict().items():
        tower, rest = ("vision_model.", name.removeprefix("visual.")) if "visual." in name else ("text_model.", name)
        if name in {"logit_scale", "visual.proj", "text_projection"}:
            other = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}
            state[other.get(name, name)] = value.T.contiguous() if value.ndim else value
            continue
        for ours, other_name in table.items():
            rest = rest.replace(ours, other_name)
        if ".in_proj_" in rest:
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                state[tower + rest.replace(".in_proj_", f".{letter}_proj.")] = part.contiguous()
        else:
            state[tower + rest] = value.contiguous()
    return state

"""CLIP's own architecture without open_clip, for the shipped vision transformers: it halves their start-up time.

Importing open_clip takes longer than importing torch (docs/performance.md), mostly for parts that the shipped models do
not need. The modules have the names and the order of operations of open_clip's `CLIP`, `VisionTransformer` and
`Transformer`: the same weights give the same bits, and code for the inside of an open_clip model works with this one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from clipmk.errors import ModelError

if TYPE_CHECKING:
    from jaxtyping import Float, Int

_VISION_KEYS = {"image_size", "patch_size", "width", "layers", "head_width"}
_TEXT_KEYS = {"context_length", "vocab_size", "width", "heads", "layers"}
_MLP_RATIO = 4


def is_plain(config: Mapping[str, Any]) -> bool:
    """Whether an open_clip configuration has only the sizes of a plain CLIP with a vision transformer."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    return (
        set(config) == {"embed_dim", "vision_cfg", "text_cfg"}
        and set(vision) == _VISION_KEYS
        and set(text) == _TEXT_KEYS
        and isinstance(vision["layers"], int)
    )


def load_plain(config: Mapping[str, Any], weights: Path) -> PlainClip:
    """Build the model of a plain configuration with the weights of a safetensors file, in float32 and evaluation mode.

    Raises:
        ModelError: the weights do not fit.
    """
    from safetensors.torch import load_file  # noqa: PLC0415

    with torch.device("meta"):  # without random weights, which would be replaced at once
        model = PlainClip(config)
    state = {name: value.to(torch.float32, copy=True) for name, value in load_file(weights).items()}
    try:
        model.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        raise ModelError(f"the weights in {str(weights)!r} do not fit: {str(error).splitlines()[0]}") from error
    model.attn_mask = causal_mask(model.context_length)
    return model.eval()


def causal_mask(length: int) -> Float[Tensor, "length length"]:
    """0 on and below the diagonal, -inf above: no text token attends to later ones."""
    return torch.full((length, length), float("-inf")).triu(1)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(width)
        layers: list[tuple[str, nn.Module]] = [
            ("c_fc", nn.Linear(width, _MLP_RATIO * width)),
            ("gelu", nn.GELU()),
            ("c_proj", nn.Linear(_MLP_RATIO * width, width)),
        ]
        self.mlp = nn.Sequential(OrderedDict(layers))

    def forward(
        self, x: Float[Tensor, "batch tokens width"], attn_mask: Float[Tensor, "tokens tokens"] | None = None
    ) -> Float[Tensor, "batch tokens width"]:
        """One block."""
        mask = None if attn_mask is None else attn_mask.to(x.dtype)
        normed = self.ln_1(x)
        x = x + self.attn(normed, normed, normed, need_weights=False, attn_mask=mask)[0]
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class Transformer(nn.Module):
    """Blocks in sequence."""

    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads) for _ in range(layers))

    def get_cast_dtype(self) -> torch.dtype:
        """Dtype of the weights."""
        return next(self.parameters()).dtype

    def forward(
        self, x: Float[Tensor, "batch tokens width"], attn_mask: Float[Tensor, "tokens tokens"] | None = None
    ) -> Float[Tensor, "batch tokens width"]:
        """All blocks."""
        for block in self.resblocks:
            x = block(x, attn_mask=attn_mask)
        return x


class VisionTransformer(nn.Module):
    """Patches and a class token through a transformer; the class token, normalised and projected, is the embedding."""

    attn_pool = None
    pool_type = "tok"
    final_ln_after_pool = False

    def __init__(self, config: Mapping[str, Any], embed_dim: int) -> None:
        super().__init__()
        width, side, patch = int(config["width"]), int(config["image_size"]), int(config["patch_size"])
        self.image_size = (side, side)
        self.grid_size = (side // patch, side // patch)
        self.conv1 = nn.Conv2d(3, width, kernel_size=patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(self.grid_size[0] * self.grid_size[1] + 1, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(width, int(config["layers"]), width // int(config["head_width"]))
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.empty(width, embed_dim))

    def forward(self, pixels: Float[Tensor, "batch 3 side side"]) -> Float[Tensor, "batch embed"]:
        """Embed images, not normalised."""
        patches = self.conv1(pixels).flatten(2).permute(0, 2, 1)
        token = self.class_embedding.view(1, 1, -1).expand(len(patches), -1, -1)
        x = torch.cat([token.to(patches.dtype), patches], dim=1) + self.positional_embedding.to(patches.dtype)
        x = self.ln_post(self.transformer(self.ln_pre(x)))
        embeddings: Tensor = x[:, 0] @ self.proj
        return embeddings


class PlainClip(nn.Module):
    """A vision and a causal text transformer over one embedding space; empty until `load_plain` fills it."""

    attn_mask: Tensor
    text_pool_type = "argmax"

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        embed_dim, text = int(config["embed_dim"]), config["text_cfg"]
        width = int(text["width"])
        self.context_length, self.vocab_size = int(text["context_length"]), int(text["vocab_size"])
        self.visual = VisionTransformer(config["vision_cfg"], embed_dim)
        self.transformer = Transformer(width, int(text["layers"]), int(text["heads"]))
        unset = torch.empty(self.vocab_size, width)  # unlike the default, draws no numbers, which on "meta" compiles
        self.token_embedding = nn.Embedding.from_pretrained(unset, freeze=False)  # type: ignore[no-untyped-call]
        self.positional_embedding = nn.Parameter(torch.empty(self.context_length, width))
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, embed_dim))
        self.logit_scale = nn.Parameter(torch.empty([]))
        self.register_buffer("attn_mask", torch.empty(self.context_length, self.context_length), persistent=False)

    def encode_image(self, pixels: Float[Tensor, "batch 3 side side"]) -> Float[Tensor, "batch embed"]:
        """Embed images, not normalised."""
        embeddings: Tensor = self.visual(pixels)
        return embeddings

    def encode_text(self, tokens: Int[Tensor, "batch context"]) -> Float[Tensor, "batch embed"]:
        """Embed texts, not normalised, read at the end-of-text token: the one of the highest number."""
        dtype = self.transformer.get_cast_dtype()
        x = self.token_embedding(tokens).to(dtype) + self.positional_embedding.to(dtype)
        x = self.ln_final(self.transformer(x, attn_mask=self.attn_mask))
        embeddings: Tensor = x[torch.arange(len(x), device=x.device), tokens.argmax(dim=-1)] @ self.text_projection
        return embeddings

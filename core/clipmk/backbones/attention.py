"""Self-attention of the last block, opened up: its keys, its class-token row, and extra queries over stored keys.

open_clip and timm have five attention classes; `view` gives all of them one interface. Everything is computed from the
attention's input that a hook has captured, so no block runs twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from clipmk.errors import ModelError

if TYPE_CHECKING:
    from jaxtyping import Float

Projection = tuple[Tensor, Tensor | None]  # (weight, bias) of a linear map
_KINDS = frozenset({"MultiheadAttention", "Attention", "AttentionPool2d", "EvaAttention", "AttentionRope"})
"""torch's; open_clip's and timm's (one name for both); the pool of ModifiedResNet; EVA's; timm's rotary one."""

_KEY_NORMS = ("ln_k", "k_norm")


@dataclass(frozen=True, slots=True, eq=False)
class AttentionView:
    """One self-attention module as three projections, optional norms and an output projection."""

    module: nn.Module
    heads: int
    query: Projection
    key: Projection
    value: Projection

    def raw_keys(self, tokens: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens width"]:
        """W_k x + b_k: the keys before any key norm or rotation."""
        return linear(tokens, *self.key)

    def queries(self, tokens: Float[Tensor, "batch queries width"]) -> Float[Tensor, "batch heads queries head"]:
        """Split queries of prefix tokens (which are never rotated), after the query norm where there is one."""
        return _norm(self.module, ("ln_q", "q_norm"), split_heads(linear(tokens, *self.query), self.heads))

    def keys(
        self, raw: Float[Tensor, "batch tokens width"], rope: Tensor | None
    ) -> Float[Tensor, "batch heads tokens head"]:
        """Split keys as the scores use them: normed, and rotated where the encoder rotates."""
        split = _norm(self.module, _KEY_NORMS, split_heads(raw, self.heads))
        return split if rope is None else _rotate(self.module, split, rope)

    def values(self, tokens: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch heads tokens head"]:
        """Split values W_v x + b_v."""
        return split_heads(linear(tokens, *self.value), self.heads)

    def scores(
        self, tokens: Float[Tensor, "batch tokens width"], rope: Tensor | None
    ) -> Float[Tensor, "batch heads tokens"]:
        """`scores` of the first token; up to a constant where keys are neither normed nor rotated.

        Then (q W_k) x takes the place of q (W_k x), so that no key is computed.
        """
        query = self.queries(tokens[:, :1])
        if rope is not None or any(getattr(self.module, name, None) is not None for name in _KEY_NORMS):
            return scores(query, self.keys(self.raw_keys(tokens), rope))
        weight, _ = self.key
        asked = query @ weight.reshape(self.heads, -1, weight.shape[1]) * query.shape[-1] ** -0.5
        return torch.matmul(asked.squeeze(2), tokens.transpose(1, 2)).float()

    def mix(
        self, shares: Float[Tensor, "batch heads regions tokens"], tokens: Float[Tensor, "batch tokens width"]
    ) -> Float[Tensor, "batch heads regions head"]:
        """Sums of values. For few regions W_v is applied to the sums of tokens, of which there are fewer."""
        shares = shares.to(tokens.dtype)
        if shares.shape[2] * self.heads > tokens.shape[2]:
            return torch.matmul(shares, self.values(tokens))
        weight, bias = self.value
        sums = (shares.flatten(1, 2) @ tokens).reshape(*shares.shape[:3], -1)
        heads = torch.matmul(sums, weight.reshape(self.heads, -1, weight.shape[1]).transpose(1, 2))
        return heads if bias is None else heads.add(bias.reshape(self.heads, 1, -1))

    def merge(
        self, heads: Float[Tensor, "batch heads queries head"], tokens: Float[Tensor, "batch queries width"]
    ) -> Float[Tensor, "batch queries width"]:
        """What the module does after softmax(q k) v; `tokens` are the inputs of the queries (for a gate)."""
        scale = getattr(self.module, "head_scale", None)
        scaled = heads if scale is None else heads * scale
        joined = _norm(self.module, ("ln_inner", "norm"), scaled.transpose(1, 2).flatten(2))
        gate = getattr(self.module, "gate", None)
        gated = joined if gate is None else joined * gate(tokens).sigmoid()
        names = (name for name in ("out_proj", "proj", "c_proj") if hasattr(self.module, name))
        out = self.module.get_submodule(next(names))
        merged: Tensor = out(gated)
        return merged


def split_heads(joined: Float[Tensor, "batch tokens width"], heads: int) -> Float[Tensor, "batch heads tokens head"]:
    """Divide the channels among the heads."""
    return joined.reshape(*joined.shape[:2], heads, -1).transpose(1, 2)


def view(attention: nn.Module) -> AttentionView:
    """Open up a self-attention of open_clip or timm; `ModelError` for others, which may do more than attend."""
    kind = type(attention).__name__
    heads = getattr(attention, "num_heads", 0)
    grouped = getattr(attention, "num_kv_heads", heads) != heads
    if kind not in _KINDS or grouped or getattr(attention, "logit_scale", None) is not None:
        raise ModelError(f"attention of class {kind} is not supported for keys or masked pooling")
    return AttentionView(attention, int(heads), *_projections(attention))


def _projections(attention: Any) -> tuple[Projection, Projection, Projection]:
    if getattr(attention, "in_proj_weight", None) is not None:  # torch's MultiheadAttention, open_clip's Attention
        return _chunk(attention.in_proj_weight, attention.in_proj_bias)
    if getattr(attention, "qkv", None) is not None:  # timm; EVA has separate biases, the key's is a zero buffer
        bias = attention.qkv.bias
        if getattr(attention, "q_bias", None) is not None:
            bias = torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])
        return _chunk(attention.qkv.weight, bias)
    query, key, value = attention.q_proj, attention.k_proj, attention.v_proj
    return (query.weight, query.bias), (key.weight, key.bias), (value.weight, value.bias)


def _chunk(weight: Tensor, bias: Tensor | None) -> tuple[Projection, Projection, Projection]:
    query, key, value = weight.chunk(3)
    if bias is None:
        return (query, None), (key, None), (value, None)
    query_bias, key_bias, value_bias = bias.chunk(3)
    return (query, query_bias), (key, key_bias), (value, value_bias)


def _norm(module: nn.Module, names: tuple[str, ...], values: Tensor) -> Tensor:
    for name in names:
        norm = getattr(module, name, None)
        if norm is not None:
            normed: Tensor = norm(values)
            return normed
    return values


def _rotate(attention: Any, keys: Tensor, rope: Tensor) -> Tensor:
    from timm.layers import apply_rot_embed_cat  # noqa: PLC0415 - open_clip ViTs need no timm

    prefix = attention.num_prefix_tokens
    half = {"half": True} if getattr(attention, "rotate_half", False) else {}
    rotated = apply_rot_embed_cat(keys[:, :, prefix:], rope, **half)
    return torch.cat([keys[:, :, :prefix], rotated], dim=2).type_as(keys)


def scores(
    query: Float[Tensor, "batch heads 1 head"], key: Float[Tensor, "batch heads tokens head"]
) -> Float[Tensor, "batch heads tokens"]:
    """Q k^T / sqrt(d), float32."""
    return torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(-1, -2)).squeeze(2).float()


def masked_shares(
    scores: Float[Tensor, "batch heads tokens"], weights: Float[Tensor, "batch regions patches"]
) -> Float[Tensor, "batch heads regions tokens"]:
    """softmax(scores + log w), once per region.

    Tokens before the patches (class token, registers) have weight 1. A patch of weight 0 gets -inf.
    """
    bias = pad(weights.float().log(), (scores.shape[2] - weights.shape[2], 0)).unsqueeze(1)
    return (scores.unsqueeze(2) + bias).softmax(dim=-1)


def attention_row(scores: Float[Tensor, "batch heads tokens"], patches: int) -> Float[Tensor, "batch patches"]:
    """softmax(scores) at the last `patches` tokens, mean over the heads; float32."""
    row: Tensor = scores.softmax(dim=-1).mean(dim=1)
    return row[:, -patches:]

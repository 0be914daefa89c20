"""open_clip's own image encoders: VisionTransformer, in all its kinds of pooling, and ModifiedResNet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from clipmk.backbones.attention import AttentionView, attention_row, masked_attention, split_heads, view
from clipmk.backbones.base import PROMPTS, Encoded, ImageEncoder, captured, with_output
from clipmk.errors import ModelError

if TYPE_CHECKING:
    from jaxtyping import Float

    from clipmk.settings import Features


@dataclass(frozen=True, slots=True, eq=False)
class BlockState:
    """Tensors of the last block in one forward."""

    inputs: Float[Tensor, "batch tokens width"]
    """Inputs of the block."""
    attended: Float[Tensor, "batch tokens width"]
    """Inputs of its attention."""
    outputs: Float[Tensor, "batch tokens width"]
    raw_keys: Float[Tensor, "batch tokens width"]
    rope: Tensor | None
    """Rotary position embedding of the patches, where the encoder has one."""
    pooler_inputs: Tensor | None = None
    """Inputs of timm's attention pool, where there is one."""


def requery(
    block: nn.Module, attention: nn.Module, state: BlockState, weights: Float[Tensor, "batch regions patches"]
) -> Float[Tensor, "batch regions width"]:
    """Send the class token through the last block once more per region, over the block's stored keys and values.

    The block itself runs on the regions' class tokens, with the output of its attention replaced: residuals, scales,
    norms and MLP are the block's own, in its own order.
    """
    opened = view(attention)
    token = state.attended[:, :1]
    heads = masked_attention(
        opened.queries(token), opened.keys(state.raw_keys, state.rope), opened.values(state.attended), weights
    )
    merged = opened.merge(heads, token.expand(-1, weights.shape[1], -1))
    output: Any = (merged, None) if isinstance(attention, nn.MultiheadAttention) else merged
    with with_output(attention, output):
        pooled: Tensor = block(state.inputs[:, :1].expand(-1, weights.shape[1], -1))
    return pooled


def weighted_mean(
    patches: Float[Tensor, "batch patches width"], weights: Float[Tensor, "batch regions patches"]
) -> Float[Tensor, "batch regions width"]:
    """sum_n w_n x_n / sum_n w_n per region."""
    weights = weights.to(patches.dtype)
    return weights @ patches / weights.sum(dim=-1, keepdim=True)


class VitEncoder(ImageEncoder):
    """open_clip's VisionTransformer, pooled by class token, average, or attentional pooler."""

    supports_keys = True

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self._block = self._visual.transformer.resblocks[-1]
        self._pooler = self._visual.attn_pool
        self._opened: AttentionView = view(self._block.attn)
        if self._visual.pool_type == "none" and self._pooler is None:
            raise ModelError("this image encoder has no pooling, so it has no image embedding to explain")
        self.has_cls = self._pooler is None and self._visual.pool_type == "tok"

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches of one image."""
        rows, columns = self._visual.grid_size
        return int(rows), int(columns)

    def encode(self, pixels: Float[Tensor, "batch 3 side side"], features: Features) -> Encoded:
        """See `ImageEncoder.encode`."""
        with captured(self._block, self._block.attn) as (block, attention):
            embeddings = self.embed(pixels)
        raw_keys = self._opened.raw_keys(attention.inputs)
        state = BlockState(block.inputs, attention.inputs, block.output, raw_keys, rope=None)
        patches = (raw_keys if features == "keys" else block.output)[:, 1:]
        return Encoded(embeddings, patches, self.grid, self._attention(state), state)

    def pool(
        self, state: BlockState, weights: Float[Tensor, "batch regions patches"]
    ) -> Float[Tensor, "batch regions embed"]:
        """See `ImageEncoder.pool`."""
        visual = self._visual
        norm: Callable[[Tensor], Tensor] = visual.ln_post
        if self._pooler is not None:
            pooled = self._query_pooler(state, weights)
        elif visual.pool_type == "tok":
            pooled = norm(requery(self._block, self._block.attn, state, weights))
        elif visual.final_ln_after_pool:
            pooled = norm(weighted_mean(state.outputs[:, 1:], weights))
        else:
            pooled = weighted_mean(norm(state.outputs[:, 1:]), weights)
        return pooled if visual.proj is None else pooled @ visual.proj

    def _query_pooler(self, state: BlockState, weights: Tensor) -> Tensor:
        """CoCa: the pooler's first query attends to all tokens, with the weights on the patches."""
        pooler = self._pooler
        if self._visual.attn_pool_contrastive is not None or self._visual.pool_type != "tok":
            raise ModelError(f"masked pooling is not supported for this attentional pooler; use {PROMPTS}")
        heads = masked_attention(*self._pooler_heads(state), weights)
        merged = pooler.attn.out_proj(heads.transpose(1, 2).flatten(2))
        normed: Tensor = self._visual.ln_post(merged)
        return normed

    def _pooler_heads(self, state: BlockState) -> tuple[Tensor, Tensor, Tensor]:
        pooler, attention = self._pooler, self._pooler.attn
        tokens = pooler.ln_k(state.outputs)
        query = pooler.ln_q(pooler.query)[:1].expand(tokens.shape[0], 1, -1)
        if attention.in_proj_weight is not None:
            weights = attention.in_proj_weight.chunk(3)
        else:
            weights = (attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight)
        heads = [
            split_heads(linear(source, weight, bias), attention.num_heads)
            for source, weight, bias in zip(
                (query, tokens, tokens), weights, attention.in_proj_bias.chunk(3), strict=True
            )
        ]
        return heads[0], heads[1], heads[2]

    def _attention(self, state: BlockState) -> Tensor | None:
        patches = state.outputs.shape[1] - 1
        if self._pooler is not None:
            if self._visual.attn_pool_contrastive is not None:
                return None
            query, key, _ = self._pooler_heads(state)
            return attention_row(query, key, patches)
        if not self.has_cls:
            return None
        query = self._opened.queries(state.attended[:, :1])
        return attention_row(query, self._opened.keys(state.raw_keys, None), patches)


class ResNetEncoder(ImageEncoder):
    """ModifiedResNet. Its pooling query is the mean of the last feature map, which is also the first key."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self._opened = view(self._visual.attnpool)

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches of one image."""
        size = self._visual.image_size
        side = int(size[0] if isinstance(size, list | tuple) else size) // 32
        return side, side

    def encode(self, pixels: Float[Tensor, "batch 3 side side"], features: Features) -> Encoded:
        """See `ImageEncoder.encode`."""
        with captured(self._visual.attnpool) as (pool,):
            embeddings = self.embed(pixels)
        rows, columns = pool.inputs.shape[2:]
        patches = pool.inputs.flatten(2).transpose(1, 2)
        tokens = self._tokens(patches)
        query, key = self._opened.queries(tokens[:, :1]), self._opened.keys(self._opened.raw_keys(tokens), None)
        return Encoded(embeddings, patches, (rows, columns), attention_row(query, key, patches.shape[1]), tokens)

    def pool(
        self, state: Tensor, weights: Float[Tensor, "batch regions patches"]
    ) -> Float[Tensor, "batch regions embed"]:
        """See `ImageEncoder.pool`."""
        opened, token = self._opened, state[:, :1]
        keys = opened.keys(opened.raw_keys(state), None)
        heads = masked_attention(opened.queries(token), keys, opened.values(state), weights)
        return opened.merge(heads, token)

    def _tokens(self, patches: Float[Tensor, "batch patches channels"]) -> Float[Tensor, "batch tokens channels"]:
        """Input of the pool's attention: the mean, then the patches, plus position embeddings."""
        tokens = torch.cat([patches.mean(dim=1, keepdim=True), patches], dim=1)
        positions: Tensor = self._visual.attnpool.positional_embedding
        return tokens + positions.to(tokens.dtype)

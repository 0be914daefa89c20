"""The image encoders: open_clip's VisionTransformer and ModifiedResNet, and towers from timm.

From timm come ViTs (EVA, SigLIP, PE, MobileCLIP-B, ViTamin), and towers that average a feature map.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from clipmk.backbones.attention import AttentionView, attention_row, masked_shares, scores, split_heads, view
from clipmk.backbones.base import PROMPTS, Encoded, ImageEncoder, captured, with_output
from clipmk.errors import ModelError

if TYPE_CHECKING:
    from jaxtyping import Float

    from clipmk.settings import Features

_VIT_PARTS = ("blocks", "norm", "fc_norm", "head", "num_prefix_tokens", "global_pool", "attn_pool", "patch_embed")
"""What a ViT of timm has."""


@dataclass(frozen=True, slots=True, eq=False)
class BlockState:
    """Tensors of the last block in one forward."""

    inputs: Float[Tensor, "batch tokens width"]
    """Inputs of the block."""
    attended: Float[Tensor, "batch tokens width"]
    """Inputs of its attention."""
    outputs: Float[Tensor, "batch tokens width"]
    scores: Float[Tensor, "batch heads tokens"] | None
    """Of the class token in its attention, where the encoder has one and the attention can be opened up."""
    pooler_inputs: Tensor | None = None
    """Inputs of the pooler, where there is one."""


def requery(
    block: Any, state: BlockState, shares: Float[Tensor, "batch heads regions tokens"]
) -> Float[Tensor, "batch regions width"]:
    """Send the class token through the last block once more per region, over the block's stored keys and values.

    The block itself runs on the regions' class tokens, with the output of its attention replaced: residuals, scales,
    norms and MLP are the block's own, in its own order.
    """
    opened, count = view(block.attn), shares.shape[2]
    merged = opened.merge(opened.mix(shares, state.attended), state.attended[:, :1].expand(-1, count, -1))
    with with_output(block.attn, as_module(block.attn, merged)):
        pooled: Tensor = block(state.inputs[:, :1].expand(-1, count, -1))
    return pooled


def as_module(attention: nn.Module, merged: Tensor) -> Any:
    """The output of an attention as it returns it."""
    return (merged, None) if isinstance(attention, nn.MultiheadAttention) else merged


def weighted_mean(
    patches: Float[Tensor, "batch patches width"], weights: Float[Tensor, "batch regions patches"]
) -> Float[Tensor, "batch regions width"]:
    """sum_n w_n x_n / sum_n w_n per region."""
    weights = weights.to(patches.dtype)
    return weights @ patches / weights.sum(dim=-1, keepdim=True)


def _square(patches: int) -> tuple[int, int]:
    side = math.isqrt(patches)
    if side * side != patches:
        raise ModelError(f"the image tower gives {patches} patch tokens, which are not a square grid")
    return side, side


class TokenEncoder(ImageEncoder):
    """A vision transformer, of open_clip or timm, that attends in its last block and, maybe, in a pooler after it."""

    _block: Any
    _opened: AttentionView | None
    """Its attention; None where that does more and cannot be opened up."""
    _pooler: Any
    """None where there is none."""
    _prefix = 1
    """Tokens before the patches."""
    _grid_size: tuple[int, int]
    """(rows, columns) of patches, if there are that many; else they are a square."""

    def encode(self, pixels: Float[Tensor, "batch 3 side side"], features: Features) -> Encoded:
        """See `ImageEncoder.encode`."""
        modules = [self._block, self._block.attn, *([self._pooler] if self._pooler is not None else [])]
        with captured(*modules) as (block, attention, *pooler):
            embeddings = self.embed(pixels)
        pooler_inputs, opened = pooler[0].inputs if pooler else None, self._opened if self.has_cls else None
        scored = None if opened is None else opened.scores(attention.inputs, attention.keywords.get("rope"))
        state = BlockState(block.inputs, attention.inputs, block.output, scored, pooler_inputs)
        keys = self._opened.raw_keys(attention.inputs) if features == "keys" and self._opened is not None else None
        patches = (block.output if keys is None else keys)[:, self._prefix :]
        known = math.prod(self._grid_size) == patches.shape[1]
        grid = self._grid_size if known else _square(patches.shape[1])
        return Encoded(embeddings, patches, grid, self._attention(state), state)

    def values(self, pixels: Float[Tensor, "1 3 side side"]) -> Float[Tensor, "patches embed"]:
        """See `ImageEncoder.values`; each is read out as if all tokens of the last block were alike."""
        state, opened = self.encode(pixels, "tokens").state, view(self._block.attn)
        merged = opened.merge(opened.values(state.attended), state.attended)
        with with_output(opened.module, as_module(opened.module, merged)):
            tokens = self._block(state.inputs)[:, self._prefix :]
        with with_output(self._block, tokens.transpose(0, 1).expand(-1, state.inputs.shape[1], -1)):
            return self.embed(pixels)

    @abstractmethod
    def _pooler_heads(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        """Query, keys and values of the pooler, split into heads; None where it does more than attend once."""

    def _attention(self, state: BlockState) -> Tensor | None:
        patches = state.outputs.shape[1] - self._prefix
        if state.pooler_inputs is not None:
            heads = self._pooler_heads(state.pooler_inputs)
            return None if heads is None else attention_row(scores(*heads[:2]), patches)
        return None if state.scores is None else attention_row(state.scores, patches)

    def _query_pooler(self, tokens: Tensor, weights: Float[Tensor, "batch regions patches"]) -> Tensor:
        """The pooler's query attends once more for each region, with log(weight) on the patches."""
        heads = self._pooler_heads(tokens)
        if heads is None:
            pooler = type(self._pooler).__name__
            raise ModelError(f"masked pooling is not supported for the pooler {pooler}; use {PROMPTS}")
        query, key, value = heads
        shares = masked_shares(scores(query, key), weights).to(value.dtype)
        return (shares @ value).transpose(1, 2).flatten(2)


class VitEncoder(TokenEncoder):
    """open_clip's VisionTransformer, pooled by class token, average, or attentional pooler (CoCa)."""

    supports_keys = True

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.blocks = (*self._visual.transformer.resblocks,)
        self._block = self._visual.transformer.resblocks[-1]
        self._pooler = self._visual.attn_pool
        self.grid = self._grid_size = self._visual.grid_size
        self._opened = view(self._block.attn)
        if self._visual.pool_type == "none" and self._pooler is None:
            raise ModelError("this image encoder has no pooling, so it has no image embedding to explain")
        self.has_cls = self._pooler is None and self._visual.pool_type == "tok"

    def pool(
        self, state: BlockState, weights: Float[Tensor, "batch regions patches"]
    ) -> Float[Tensor, "batch regions embed"]:
        """See `ImageEncoder.pool`."""
        visual = self._visual
        norm: Callable[[Tensor], Tensor] = visual.ln_post
        if state.pooler_inputs is not None:
            pooled = norm(self._pooler.attn.out_proj(self._query_pooler(state.pooler_inputs, weights)))
        elif state.scores is not None:
            pooled = norm(requery(self._block, state, masked_shares(state.scores, weights)))
        elif visual.final_ln_after_pool:
            pooled = norm(weighted_mean(state.outputs[:, 1:], weights))
        else:
            pooled = weighted_mean(norm(state.outputs[:, 1:]), weights)
        return pooled if visual.proj is None else pooled @ visual.proj

    def _pooler_heads(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        pooler, attention = self._pooler, self._pooler.attn
        if self._visual.attn_pool_contrastive is not None or self._visual.pool_type != "tok":
            return None
        tokens = pooler.ln_k(tokens)
        query = pooler.ln_q(pooler.query)[:1].expand(tokens.shape[0], 1, -1)
        if attention.in_proj_weight is not None:
            weights = attention.in_proj_weight.chunk(3)
        else:
            weights = (attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight)
        triples = zip((query, tokens, tokens), weights, attention.in_proj_bias.chunk(3), strict=True)
        heads = [split_heads(linear(*triple), attention.num_heads) for triple in triples]
        return heads[0], heads[1], heads[2]


class ResNetEncoder(ImageEncoder):
    """ModifiedResNet. Its pooling query is the mean of the last feature map, which is also the first key."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self._opened = view(self._visual.attnpool)
        self.stages = tuple(getattr(self._visual, f"layer{number}") for number in range(1, 5))
        size = self._visual.image_size
        side = int(size[0] if isinstance(size, list | tuple) else size) // 32
        self.grid = side, side

    def encode(self, pixels: Float[Tensor, "batch 3 side side"], features: Features) -> Encoded:
        """See `ImageEncoder.encode`."""
        with captured(self._visual.attnpool) as (pool,):
            embeddings = self.embed(pixels)
        rows, columns = pool.inputs.shape[2:]
        patches = pool.inputs.flatten(2).transpose(1, 2)
        tokens = self._tokens(patches)
        attention = attention_row(self._opened.scores(tokens, None), patches.shape[1])
        return Encoded(embeddings, patches, (rows, columns), attention, tokens)

    def pool(
        self, state: Tensor, weights: Float[Tensor, "batch regions patches"]
    ) -> Float[Tensor, "batch regions embed"]:
        """See `ImageEncoder.pool`."""
        shares = masked_shares(self._opened.scores(state, None), weights)
        return self._opened.merge(self._opened.mix(shares, state), state[:, :1])

    def values(self, pixels: Float[Tensor, "1 3 side side"]) -> Float[Tensor, "patches embed"]:
        """See `ImageEncoder.values`."""
        tokens = self.encode(pixels, "tokens").state
        return self._opened.merge(self._opened.values(tokens), tokens)[0, 1:]

    def _tokens(self, patches: Float[Tensor, "batch patches channels"]) -> Float[Tensor, "batch tokens channels"]:
        """Input of the pool's attention: the mean, then the patches, plus position embeddings."""
        tokens = torch.cat([patches.mean(dim=1, keepdim=True), patches], dim=1)
        positions: Tensor = self._visual.attnpool.positional_embedding
        return tokens + positions.to(tokens.dtype)


class TimmVitEncoder(TokenEncoder):
    """timm's VisionTransformer and Eva, pooled by class token, average, or a latent query (SigLIP)."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self._trunk = model.visual.trunk
        self.blocks = (*self._trunk.blocks,)
        self._block = self._trunk.blocks[-1]
        self._prefix = int(self._trunk.num_prefix_tokens)
        self._grid_size = getattr(self._trunk.patch_embed, "grid_size", None) or (0, 0)
        self._opened = None
        with suppress(ModelError):  # an attention that does more cannot be opened up
            self._opened = view(self._block.attn)
        self._pooler = self._trunk.attn_pool
        self.has_cls = self._pooler is None and self._trunk.global_pool == "token"
        self.supports_keys = self._opened is not None

    def pool(
        self, state: BlockState, weights: Float[Tensor, "batch regions patches"]
    ) -> Float[Tensor, "batch regions embed"]:
        """See `ImageEncoder.pool`."""
        trunk, pooler = self._trunk, self._pooler
        if state.pooler_inputs is not None:
            pooled = pooler.proj(self._query_pooler(state.pooler_inputs, weights))
            if pooler.mlp is not None:
                pooled = pooled + pooler.mlp(pooler.norm(pooled))
        elif state.scores is not None:
            pooled = trunk.norm(requery(self._block, state, masked_shares(state.scores, weights)))
        elif trunk.global_pool == "avg":
            tokens = trunk.norm(state.outputs)
            if getattr(trunk, "pool_include_prefix", False):
                pooled = weighted_mean(tokens, pad(weights, (self._prefix, 0), value=1.0))
            else:
                pooled = weighted_mean(tokens[:, self._prefix :], weights)
        else:
            raise ModelError(
                f"masked pooling is not supported for {type(trunk).__name__} with {trunk.global_pool!r} pooling; "
                f"use {PROMPTS}"
            )
        embeddings: Tensor = self._visual.head(trunk.head(trunk.fc_norm(pooled)))
        return embeddings

    def _pooler_heads(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        pooler = self._pooler
        if getattr(pooler, "latent_len", 0) != 1:
            return None
        if pooler.pos_embed is not None:
            tokens = tokens + pooler.pos_embed.unsqueeze(0).to(tokens.dtype)
        query = pooler.q(pooler.latent).unflatten(-1, (pooler.num_heads, -1)).transpose(1, 2)
        key, value = pooler.kv(tokens).unflatten(-1, (2, pooler.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query = pooler.q_norm(query).expand(tokens.shape[0], -1, -1, -1)
        return query, pooler.k_norm(key), value


class FeatureMapEncoder(ImageEncoder):
    """A tower that averages its last feature map and sends the average through a head (ConvNeXt, FastViT, Swin).

    A region's weighted average goes through the same head as a map of one cell: the head's own average of one cell is
    that cell, and its norm and projection follow.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self._trunk = model.visual.trunk
        if not self._channels_last:
            self.stages = (*getattr(self._trunk, "stages", ()),)

    def encode(self, pixels: Float[Tensor, "batch 3 side side"], features: Features) -> Encoded:
        """See `ImageEncoder.encode`."""
        norm = getattr(self._trunk, "norm", None)
        with captured(*([norm] if isinstance(norm, nn.Module) else [])) as norms:
            last = self._trunk.forward_features(pixels)
        embeddings = self._visual.head(self._trunk.forward_head(last))
        averaged, grid = self._patches(last)
        before = [self._patches(norm.inputs)[0] for norm in norms if norm.called]
        return Encoded(embeddings, next(iter(before), averaged), grid, None, averaged)

    def pool(
        self, state: Tensor, weights: Float[Tensor, "batch regions patches"]
    ) -> Float[Tensor, "batch regions embed"]:
        """See `ImageEncoder.pool`."""
        if hasattr(self._visual.head, "pool"):
            raise ModelError(f"masked pooling is not supported for an attention pool in the head; use {PROMPTS}")
        cells = weighted_mean(state, weights).flatten(0, 1)
        embeddings: Tensor = self._visual.head(self._trunk.forward_head(self._one_cell(cells)))
        return embeddings.reshape(*weights.shape[:2], -1)

    @property
    def _channels_last(self) -> bool:
        return str(getattr(self._trunk, "output_fmt", "NCHW")).endswith("NHWC")

    def _patches(self, features: Tensor) -> tuple[Tensor, tuple[int, int]]:
        if features.ndim == 3:
            patches = features[:, int(getattr(self._trunk, "num_prefix_tokens", 0)) :]
            return patches, _square(patches.shape[1])
        by_rows = features if self._channels_last else features.permute(0, 2, 3, 1)
        return by_rows.flatten(1, 2), (by_rows.shape[1], by_rows.shape[2])

    def _one_cell(self, cells: Float[Tensor, "cells channels"]) -> Tensor:
        if getattr(self._trunk, "num_prefix_tokens", None) is not None:  # (batch, tokens, channels)
            return pad(cells[:, None], (0, 0, int(self._trunk.num_prefix_tokens), 0))
        return cells[:, None, None] if self._channels_last else cells[:, :, None, None]


def image_encoder(model: Any) -> ImageEncoder:
    """Choose the encoder class for an open_clip model by its image tower; `ModelError` if its kind is unknown."""
    visual = model.visual
    if hasattr(visual, "trunk"):
        is_vit = all(hasattr(visual.trunk, part) for part in _VIT_PARTS) and hasattr(visual.trunk.blocks[-1], "attn")
        return TimmVitEncoder(model) if is_vit else FeatureMapEncoder(model)
    if hasattr(visual, "attnpool"):
        return ResNetEncoder(model)
    if hasattr(visual, "transformer") and hasattr(visual, "class_embedding"):
        return VitEncoder(model)
    raise ModelError(f"image tower of class {type(visual).__name__} is not supported")

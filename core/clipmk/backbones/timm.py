"""Image towers from timm: ViTs (EVA, SigLIP, PE, MobileCLIP-B, ViTamin), and towers that average a feature map."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from clipmk.backbones.attention import view
from clipmk.backbones.base import PROMPTS, Encoded, ImageEncoder, captured, square_grid
from clipmk.backbones.openclip import BlockState, TokenEncoder, requery, weighted_mean
from clipmk.errors import ModelError

if TYPE_CHECKING:
    from jaxtyping import Float

    from clipmk.settings import Features

_VIT_PARTS = ("blocks", "norm", "fc_norm", "head", "num_prefix_tokens", "global_pool", "attn_pool", "patch_embed")


def timm_encoder(model: Any) -> ImageEncoder:
    """Choose the encoder for an open_clip model with an image tower from timm: a plain ViT or anything else."""
    trunk = model.visual.trunk
    if all(hasattr(trunk, part) for part in _VIT_PARTS) and hasattr(trunk.blocks[-1], "attn"):
        return TimmVitEncoder(model)
    return FeatureMapEncoder(model)


class _TimmEncoder(ImageEncoder):
    """Shared by both kinds."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self._trunk = model.visual.trunk

    @cached_property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches of one image."""
        parameter = next(self._visual.parameters())
        blank = torch.zeros(1, 3, *self._visual.image_size, dtype=parameter.dtype, device=parameter.device)
        with torch.inference_mode():
            return self.encode(blank, "tokens").grid


class TimmVitEncoder(_TimmEncoder, TokenEncoder):
    """timm's VisionTransformer and Eva, pooled by class token, average, or a latent query (SigLIP)."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
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
        elif trunk.global_pool == "token" and self._opened is not None:
            pooled = trunk.norm(requery(self._block, self._block.attn, state, weights))
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


class FeatureMapEncoder(_TimmEncoder):
    """A tower that averages its last feature map and sends the average through a head (ConvNeXt, FastViT, Swin).

    A region's weighted average goes through the same head as a map of one cell: the head's own average of one cell is
    that cell, and its norm and projection follow.
    """

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
            return patches, square_grid(patches.shape[1])
        by_rows = features if self._channels_last else features.permute(0, 2, 3, 1)
        return by_rows.flatten(1, 2), (by_rows.shape[1], by_rows.shape[2])

    def _one_cell(self, cells: Float[Tensor, "cells channels"]) -> Tensor:
        if getattr(self._trunk, "num_prefix_tokens", None) is not None:  # (batch, tokens, channels)
            return pad(cells[:, None], (0, 0, int(self._trunk.num_prefix_tokens), 0))
        return cells[:, None, None] if self._channels_last else cells[:, :, None, None]

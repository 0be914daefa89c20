"""open_clip's ModifiedResNet: a convolutional encoder with an attention pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from clipmk.backbones.attention import attention_row, masked_attention, view
from clipmk.backbones.base import Encoded, ImageEncoder
from clipmk.backbones.hooks import captured

if TYPE_CHECKING:
    from jaxtyping import Float

    from clipmk.settings import Features


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

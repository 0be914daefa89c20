"""A backbone around any model of open_clip: one image encoder, one text encoder, one record of what it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from clipmk.backbones.base import Backbone, Encoded, Features, ImageEncoder, Progress
from clipmk.backbones.text import TextEncoder
from clipmk.errors import ModelError

if TYPE_CHECKING:
    from jaxtyping import Float

    from clipmk.records import ModelInfo

_TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}
"""How far the embedding of the full mask may be from the ordinary one (euclidean, unit vectors)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """How a model's training images were made."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    resize: Literal["squash", "crop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Logits:
    """How cosines become logits: scale * cosine + bias."""

    scale: float
    bias: float | None


class OpenClipBackbone(Backbone):
    """A `Backbone` over an open_clip model."""

    def __init__(
        self,
        *,
        info: ModelInfo,
        images: ImageEncoder,
        texts: TextEncoder,
        preprocessing: Preprocessing,
        embed_dim: int,
        logits: Logits,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.info = info
        self.device, self.dtype = device, dtype
        self.embed_dim = embed_dim
        self.logit_scale, self.logit_bias = logits.scale, logits.bias
        self.mean, self.std = preprocessing.mean, preprocessing.std
        self.interpolation, self.default_resize = preprocessing.interpolation, preprocessing.resize
        self.has_cls, self.supports_keys, self.trims_text = images.has_cls, images.supports_keys, texts.trims
        self.text_recipe = texts.recipe
        self._images, self._texts = images, texts
        self._pools = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.info.id} on {self.device}, {self.dtype}>"

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches of one image."""
        return self._images.grid

    def encode_images(self, pixels: Float[Tensor, "batch 3 side side"]) -> Float[Tensor, "batch embed"]:
        """See `Backbone.encode_images`."""
        with torch.inference_mode():
            embeddings = normalize(self._images.embed(pixels).float(), dim=-1)
        return embeddings.clone()  # outside inference mode: an ordinary tensor that callers may write to

    def encode_with_patches(
        self, pixels: Float[Tensor, "batch 3 side side"], *, features: Features = "tokens"
    ) -> Encoded:
        """See `Backbone.encode_with_patches`."""
        if features == "keys" and not self.supports_keys:
            raise ModelError(f"{self.info.id!r} ({self.info.family}) has no attention keys; use features='tokens'")
        with torch.inference_mode():
            raw = self._images.look(pixels, features)
            embeddings = normalize(raw.embeddings.float(), dim=-1)
            patches = raw.patches.float()
        attention = None if raw.attention is None else raw.attention.clone()
        return Encoded(embeddings.clone(), patches.clone(), raw.grid, attention, raw.state)

    def pool_regions(
        self, encoded: Encoded, weights: Float[Tensor, "batch regions patches"]
    ) -> Float[Tensor, "batch regions embed"]:
        """See `Backbone.pool_regions`."""
        expected = encoded.patches.shape[:2]
        if weights.ndim != 3 or (weights.shape[0], weights.shape[2]) != expected:
            raise ValueError(
                f"weights have shape {tuple(weights.shape)}; (batch, regions, patches) with batch {expected[0]} and "
                f"patches {expected[1]} is needed"
            )
        with torch.inference_mode():
            visible = weights.to(self.device, torch.float32)
            visible = torch.where((visible > 0).any(dim=-1, keepdim=True), visible, 1.0)
            self._check_pooling(encoded)
            pooled = normalize(self._images.pool(encoded.state, visible).float(), dim=-1)
        return pooled.clone()

    def encode_texts(
        self, texts: Sequence[str], *, batch_size: int | None = None, progress: Progress | None = None
    ) -> Float[Tensor, "texts embed"]:
        """See `Backbone.encode_texts`."""
        if not texts:
            return torch.zeros(0, self.embed_dim, device=self.device)
        with torch.inference_mode():
            embeddings = self._texts.encode(texts, device=self.device, batch_size=batch_size, progress=progress)
        return embeddings.clone()

    def _check_pooling(self, encoded: Encoded) -> None:
        """Once per model: full masks must give the ordinary embedding, or masked pooling means nothing here."""
        if self._pools:
            return
        batch, patches = encoded.patches.shape[:2]
        known = encoded.embeddings.isfinite().all(dim=-1).cpu()
        if not known.any():  # nothing can be said of pooling: `check_finite` tells of the images
            return
        full = self._images.pool(encoded.state, torch.ones(batch, 2, patches, device=self.device))
        distances = (normalize(full.float(), dim=-1) - encoded.embeddings[:, None]).norm(dim=-1).cpu()
        distance = float(distances[known].max())
        if not distance <= _TOLERANCE.get(self.dtype, 1e-4):
            raise ModelError(
                f"masked pooling does not reproduce the embedding of {self.info.id!r} (off by {distance:.2g}), so "
                'regions cannot be pooled; use grounding="prompts"'
            )
        self._pools = True


def read_logits(model: Any) -> Logits:
    """Read scale and bias of an open_clip model, before its weights are cast: exp(4.6052) is 98.9 in bfloat16."""
    bias = getattr(model, "logit_bias", None)
    scale = float(model.logit_scale.detach().float().exp())
    return Logits(scale=scale, bias=None if bias is None else float(bias.detach().float()))

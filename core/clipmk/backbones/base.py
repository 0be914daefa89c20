"""What every model offers: embed images and texts, give patch features, pool regions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from clipmk.backbones.devices import PRECISIONS, upload
from clipmk.errors import NotFiniteError
from clipmk.system.text import quoted

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

    from clipmk.records import ModelInfo
    from clipmk.settings import Features

Progress = Callable[[int, int], None]
"""Called with (texts done, texts in all)."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """Result of one forward of the image encoder."""

    embeddings: Float[Tensor, "batch embed"]
    """float32, L2-normalised: the ordinary image embeddings."""
    patches: Float[Tensor, "batch patches channels"]
    """float32, row by row over the grid: output tokens of the last block before the final LayerNorm, without the class
    token; or the keys of the last attention, bias included; or the last feature map of a convolutional encoder."""
    grid: tuple[int, int]
    """(rows, columns) of patches."""
    attention: Float[Tensor, "batch patches"] | None
    """float32: attention of the class token (or pooling query) on each patch in the last attention, mean over heads;
    a row sums to 1 minus the class token's attention to itself. None for encoders that average."""
    state: Any
    """What `Backbone.pool_regions` needs of the same forward; private to the encoder that made it."""

    def on_cpu(self) -> Encoded:
        """A copy on the CPU, where parts are found, without `state`."""
        attention = None if self.attention is None else self.attention.cpu()
        return Encoded(self.embeddings.cpu(), self.patches.cpu(), self.grid, attention, state=None)


class Backbone(ABC):
    """A CLIP model ready for use: in evaluation mode, on its device, never tracking gradients."""

    info: ModelInfo
    device: torch.device
    dtype: torch.dtype
    """Of the weights; results are always float32."""
    embed_dim: int
    logit_scale: float
    """Already exponentiated: logits = logit_scale * cosine + logit_bias."""
    logit_bias: float | None
    """Set for models trained with a sigmoid loss (SigLIP)."""
    interpolation: str
    """"bicubic" or "bilinear": how its training images were resized."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    default_resize: Literal["squash", "crop"]
    """How its training images were made square."""
    has_cls: bool
    """Whether the image embedding is read from a class token."""
    supports_keys: bool
    """Whether `features="keys"` is possible."""
    trims_text: bool
    """Whether texts are cut to the longest of their batch, which does not change their embeddings."""
    text_fingerprint: str
    """Digest of what decides a text's embedding besides the weights: configuration, activation and tokenizer."""

    @property
    @abstractmethod
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches of one image."""

    def normalise(
        self, pixels: UInt8[Tensor, "batch side side 3"] | Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch 3 side side"]:
        """Prepare pixels for the encoder: (x - mean) / std per channel, on its device, in its dtype.

        Args:
            pixels: uint8 RGB in [0, 255] with the channels last, or float RGB in [0, 1] with the channels first.

        Raises:
            ValueError: the shape is wrong.
        """
        channels_last = pixels.dtype == torch.uint8
        if pixels.ndim != 4 or pixels.shape[-1 if channels_last else 1] != 3:
            raise ValueError(
                f"pixels have dtype {pixels.dtype} and shape {tuple(pixels.shape)}; "
                "uint8 (batch, side, side, 3) or float (batch, 3, side, side) is needed"
            )
        moved = upload(pixels, self.device)
        values = moved.permute(0, 3, 1, 2).float() / 255 if channels_last else moved.float()
        mean, std = _channels(self.mean, self.device), _channels(self.std, self.device)
        return ((values - mean) / std).to(self.dtype)

    def check_finite(self, *values: Tensor) -> None:
        """Check encoded values once they are on the CPU: half precision can overflow for single images.

        Raises:
            NotFiniteError: a value is infinite or NaN; a `ModelError`.
        """
        if all(bool(value.isfinite().all()) for value in values):
            return
        name = next((name for name, dtype in PRECISIONS.items() if dtype == self.dtype), str(self.dtype))
        wider = {"fp16": "try precision bf16 or fp32", "bf16": "try precision fp32"}
        remedy = wider.get(name, "its weights are damaged, or the pixels are not finite")
        raise NotFiniteError(
            f"the output of {quoted(self.info.id)} for this image in precision {name} is not finite; {remedy}"
        )

    @abstractmethod
    def encode_images(self, pixels: Float[Tensor, "batch 3 side side"]) -> Float[Tensor, "batch embed"]:
        """Embed images from `normalise`; float32, L2-normalised."""

    @abstractmethod
    def encode_with_patches(
        self, pixels: Float[Tensor, "batch 3 side side"], *, features: Features = "tokens"
    ) -> Encoded:
        """Embed images and keep their patch features and the state for masked pooling, all in one forward.

        Raises:
            ModelError: `features` is "keys" and this encoder has no keys (ResNet, ConvNeXt and similar).
        """

    @abstractmethod
    def pool_regions(
        self, encoded: Encoded, weights: Float[Tensor, "batch regions patches"]
    ) -> Float[Tensor, "batch regions embed"]:
        """Embed regions without another image forward: masked pooling (docs/method.md, section 5).

        The class token (or pooling query) attends once more over the stored keys and values, with log(weight) added to
        the scores of the patches: a patch of weight 0 is invisible, one of weight 1 fully visible. Encoders that
        average take the weighted average. All ones give the ordinary embedding.

        Args:
            encoded: from `encode_with_patches` of this backbone.
            weights: in [0, 1], how much of each patch the region covers; all zeros count as the whole image.

        Returns:
            float32, L2-normalised.

        Raises:
            ModelError: this encoder cannot pool regions.
            ValueError: the shape does not match `encoded`.
        """

    @abstractmethod
    def encode_texts(
        self, texts: Sequence[str], *, batch_size: int | None = None, progress: Progress | None = None
    ) -> Float[Tensor, "texts embed"]:
        """Embed texts, in the order given; equal texts are encoded once.

        Args:
            texts: any strings, cut at the context length.
            batch_size: most texts per forward; None: as many as fit.
            progress: called after each batch with (different texts done, different texts in all).

        Returns:
            float32, L2-normalised.
        """


@cache
def _channels(values: tuple[float, float, float], device: torch.device) -> Float[Tensor, "1 3 1 1"]:
    """One value per channel, copied to each device once: a copy from pageable memory waits for all queued work."""
    return torch.tensor(values, device=device).view(1, 3, 1, 1)


class ImageEncoder(ABC):
    """The image half of a backbone, one subclass per family. Its embeddings are raw: in the weights' dtype, any norm.

    Args:
        model: an open_clip model.
    """

    has_cls: bool = False
    supports_keys: bool = False

    def __init__(self, model: Any) -> None:
        self._model = model
        self._visual = model.visual

    @property
    @abstractmethod
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches of one image."""

    def embed(self, pixels: Float[Tensor, "batch 3 side side"]) -> Float[Tensor, "batch embed"]:
        """Embed images."""
        embeddings: Tensor = self._model.encode_image(pixels)
        return embeddings

    @abstractmethod
    def encode(self, pixels: Float[Tensor, "batch 3 side side"], features: Features) -> Encoded:
        """Embed images and keep patches, attention and the state for `pool`."""

    @abstractmethod
    def pool(self, state: Any, weights: Float[Tensor, "batch regions patches"]) -> Float[Tensor, "batch regions embed"]:
        """Embed regions from the state of `encode`; weights in [0, 1], no region all zero."""

"""The loaded model: embeds images and texts, gives patch features, pools regions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from clipmk.backbones.base import PROMPTS, Encoded, ImageEncoder, Progress
from clipmk.backbones.devices import PRECISIONS, cast, upload
from clipmk.backbones.encoders import image_encoder
from clipmk.backbones.text import TextEncoder, Tokenizer
from clipmk.errors import ModelError, NotFiniteError
from clipmk.system.text import quoted

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

    from clipmk.records import ModelInfo
    from clipmk.settings import Features

Channels = tuple[float, float, float]

_MEAN: Channels = (0.48145466, 0.4578275, 0.40821073)
_STD: Channels = (0.26862954, 0.26130258, 0.27577711)
"""OpenAI's, open_clip's defaults."""
_INTERPOLATIONS = {"bicubic": "bicubic", "bilinear": "bilinear", "random": "bicubic"}

_TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}
"""Largest distance between the embedding of the full mask and the ordinary one (euclidean, unit vectors)."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Preprocessing of the images that a model was trained on."""

    mean: Channels
    std: Channels
    interpolation: str
    """"bicubic" or "bilinear"."""


class Backbone:
    """A CLIP model ready for use: in evaluation mode, on its device, never tracking gradients.

    Args:
        model: an open_clip model; cast to `dtype` and moved to `device`, both in place.
        info: what the model is.
        tokenizer: of its texts.
        text_fingerprint: the attribute.
        preprocessing: open_clip's configuration of it; open_clip's defaults hold for what is missing.
        embed_dim: of its embeddings.
        device: where it runs.
        dtype: of its weights.

    Raises:
        ModelError: its image tower is of an unknown kind, or its preprocessing is.
    """

    info: ModelInfo
    device: torch.device
    dtype: torch.dtype
    """Of the weights; results are always float32."""
    embed_dim: int
    logit_scale: float
    """Already exponentiated: logits = logit_scale * cosine + logit_bias."""
    logit_bias: float | None
    """Set for models trained with a sigmoid loss (SigLIP)."""
    preprocessing: Preprocessing
    """Of its training images."""
    has_cls: bool
    """Whether the image embedding is read from a class token."""
    images: ImageEncoder
    """Its image tower, to look inside."""
    supports_keys: bool
    """Whether `features="keys"` is possible."""
    text_fingerprint: str
    """Digest of what decides a text's embedding besides the weights: configuration, activation and tokenizer."""

    def __init__(
        self,
        model: Any,
        *,
        info: ModelInfo,
        tokenizer: Tokenizer,
        text_fingerprint: str,
        preprocessing: Mapping[str, Any],
        embed_dim: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.info = info
        self.device, self.dtype = device, dtype
        self.embed_dim = embed_dim
        self._texts = TextEncoder(model, tokenizer)
        bias = getattr(model, "logit_bias", None)  # both are read before the cast: exp(4.6052) is 98.9 in bfloat16
        self.logit_bias = None if bias is None else float(bias.detach().float())
        self.logit_scale = float(model.logit_scale.detach().float().exp())
        if weights_dtype(model) != dtype:
            cast(model, dtype)
        self._model = model.to(device)
        self.images = image_encoder(self._model)
        self.preprocessing = read_preprocessing(preprocessing, info.id)
        self.has_cls, self.supports_keys = self.images.has_cls, self.images.supports_keys
        self.text_fingerprint = text_fingerprint
        self._pooling_checked = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.info.id} on {self.device}, {self.dtype}>"

    @property
    def mean(self) -> Channels:
        """Subtracted from every channel of an image in [0, 1]."""
        return self.preprocessing.mean

    @property
    def std(self) -> Channels:
        """What every channel is divided by then."""
        return self.preprocessing.std

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches of one image."""
        return self.images.grid

    @property
    def nbytes(self) -> int:
        """Bytes of its weights."""
        return sum(tensor.nbytes for tensor in (*self._model.parameters(), *self._model.buffers()))

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
        values = moved.permute(0, 3, 1, 2).float().div_(255) if channels_last else moved.float()
        mean, std = (_channels(each, self.device) for each in (self.preprocessing.mean, self.preprocessing.std))
        return (values - mean).div_(std).to(self.dtype)

    def check_finite(self, *values: Tensor) -> None:
        """Check encoded values once they are on the CPU: half precision can overflow for single images.

        Raises:
            NotFiniteError: a value is infinite or NaN; a `ModelError`.
        """
        if not any(bool((0 * value).sum().isnan()) for value in values):  # 0 x is NaN where x is not finite
            return
        name = next((name for name, dtype in PRECISIONS.items() if dtype == self.dtype), str(self.dtype))
        wider = {"fp16": "try precision bf16 or fp32", "bf16": "try precision fp32"}
        remedy = wider.get(name, "its weights are damaged, or the pixels are not finite")
        raise NotFiniteError(
            f"the output of {quoted(self.info.id)} for this image in precision {name} is not finite; {remedy}"
        )

    def encode_images(self, pixels: Float[Tensor, "batch 3 side side"]) -> Float[Tensor, "batch embed"]:
        """Embed images: float32, L2-normalised."""
        with torch.inference_mode():
            embeddings = normalize(self.images.embed(pixels).float(), dim=-1)
        return embeddings.clone()  # outside inference mode: an ordinary tensor that callers may write to

    def encode_with_patches(
        self, pixels: Float[Tensor, "batch 3 side side"], *, features: Features = "tokens"
    ) -> Encoded:
        """Embed images and keep their patch features and the state for masked pooling, all in one forward.

        Raises:
            ModelError: `features` is "keys" and this encoder has no keys (ResNet, ConvNeXt and similar).
        """
        if features == "keys" and not self.supports_keys:
            raise ModelError(f"{self.info.id!r} ({self.info.family}) has no attention keys; use features='tokens'")
        with torch.inference_mode():
            raw = self.images.encode(pixels, features)
            embeddings = normalize(raw.embeddings.float(), dim=-1)
            patches = raw.patches.float()
        attention = None if raw.attention is None else raw.attention.clone()
        return Encoded(embeddings.clone(), patches.clone(), raw.grid, attention, raw.state)

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
            pooled = normalize(self.images.pool(encoded.state, visible).float(), dim=-1)
        return pooled.clone()

    def pool_patches(self, encoded: Encoded) -> Float[Tensor, "batch patches embed"]:
        """Embed every single patch as `pool_regions` embeds a region; see there."""
        batch, patches = encoded.patches.shape[:2]
        return self.pool_regions(encoded, torch.eye(patches, device=self.device).expand(batch, -1, -1))

    def encode_texts(self, texts: Sequence[str], *, progress: Progress | None = None) -> Float[Tensor, "texts embed"]:
        """Embed texts, in the order given; equal texts are encoded once.

        Args:
            texts: any strings, cut at the context length.
            progress: called after each batch with (different texts done, different texts in all).

        Returns:
            float32, L2-normalised.
        """
        if not texts:
            return torch.zeros(0, self.embed_dim, device=self.device)
        with torch.inference_mode():
            embeddings = self._texts.encode(texts, device=self.device, progress=progress)
        return embeddings.clone()

    def cut_texts(self, texts: Iterable[str]) -> list[str]:
        """The different texts that are longer than the context; their ends are not embedded."""
        return self._texts.cut(texts)

    def _check_pooling(self, encoded: Encoded) -> None:
        """Once per model: full masks must give the ordinary embedding, otherwise masked pooling means nothing."""
        if self._pooling_checked:
            return
        batch, patches = encoded.patches.shape[:2]
        finite = encoded.embeddings.isfinite().all(dim=-1).cpu()
        if not finite.any():  # says nothing about pooling; `check_finite` reports the images
            return
        full = self.images.pool(encoded.state, torch.ones(batch, 2, patches, device=self.device))
        distances = (normalize(full.float(), dim=-1) - encoded.embeddings[:, None]).norm(dim=-1).cpu()
        distance = float(distances[finite].max())
        if not distance <= _TOLERANCE.get(self.dtype, 1e-4):
            raise ModelError(
                f"masked pooling does not reproduce the embedding of {self.info.id!r} (off by {distance:.2g}), so "
                f"regions cannot be pooled; use {PROMPTS}"
            )
        self._pooling_checked = True


@cache
def _channels(values: tuple[float, float, float], device: torch.device) -> Float[Tensor, "1 3 1 1"]:
    """One value per channel, copied to each device once: a copy from pageable memory waits for all queued work."""
    return torch.tensor(values, device=device).view(1, 3, 1, 1)


def weights_dtype(model: Any) -> torch.dtype:
    """The dtype of the first convolution: some of open_clip's mixed models keep other parameters in float32."""
    parameters = list(model.visual.parameters())
    convolutions = [parameter for parameter in parameters if parameter.ndim == 4]
    return (convolutions or parameters)[0].dtype  # type: ignore[no-any-return]


def read_preprocessing(settings: Mapping[str, Any], model_id: str) -> Preprocessing:
    """Read open_clip's preprocessing configuration; its defaults hold for what is missing, null or empty.

    Raises `ModelError` for a value that open_clip would refuse.
    """
    _choice(settings, "mode", ("RGB",), model_id)
    std = _per_channel(settings, "std", _STD, model_id)
    if 0 in std:
        raise _refusal(model_id, "std", std, "other than 0")
    return Preprocessing(
        mean=_per_channel(settings, "mean", _MEAN, model_id),
        std=std,
        interpolation=_INTERPOLATIONS[_choice(settings, "interpolation", tuple(_INTERPOLATIONS), model_id)],
    )


def _per_channel(settings: Mapping[str, Any], name: str, default: Channels, model_id: str) -> Channels:
    """One number for each channel, or one for all."""
    given = settings.get(name) or default
    values = list(given) if isinstance(given, list | tuple) else [given]
    if len(values) not in {1, 3} or not all(isinstance(v, int | float) and math.isfinite(v) for v in values):
        raise _refusal(model_id, name, given, "one or three numbers")
    red, green, blue = values * (3 // len(values))
    return float(red), float(green), float(blue)


def _choice(settings: Mapping[str, Any], name: str, known: tuple[str, ...], model_id: str) -> str:
    given = settings.get(name) or known[0]
    if given not in known:
        raise _refusal(model_id, name, given, f"one of: {', '.join(known)}")
    return str(given)


def _refusal(model_id: str, name: str, given: object, known: str) -> ModelError:
    return ModelError(f"the preprocessing of model {model_id!r} has {name} {given!r:.80}; it must be {known}")

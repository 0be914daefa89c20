"""How a model's images are prepared: open_clip's settings, checked as open_clip checks them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clipmk.errors import ModelError

Channels = tuple[float, float, float]

_MEAN: Channels = (0.48145466, 0.4578275, 0.40821073)
_STD: Channels = (0.26862954, 0.26130258, 0.27577711)
"""OpenAI's, open_clip's defaults."""
_INTERPOLATIONS = {"bicubic": "bicubic", "bilinear": "bilinear", "random": "bicubic"}
_RESIZE_MODES = ("shortest", "longest", "squash")


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Preprocessing of the images that a model was trained on."""

    mean: Channels
    std: Channels
    interpolation: str
    """"bicubic" or "bilinear"."""
    resize_mode: str
    """How images were made square: "shortest" (and cropped), "longest" (and padded) or "squash"."""


def read_preprocessing(settings: Mapping[str, Any]) -> Preprocessing:
    """Read open_clip's preprocessing configuration; its defaults hold for what is missing, null or empty.

    Raises:
        ModelError: a value is one that open_clip would refuse.
    """
    mode = settings.get("mode") or "RGB"
    if mode != "RGB":
        raise ModelError(f"the preprocessing of this model has mode {mode!r}; only 'RGB' is possible")
    std = _channels(settings, "std", _STD)
    if 0 in std:
        raise ModelError("the preprocessing of this model has std 0")
    interpolation = _choice(settings, "interpolation", tuple(_INTERPOLATIONS))
    return Preprocessing(
        mean=_channels(settings, "mean", _MEAN),
        std=std,
        interpolation=_INTERPOLATIONS[interpolation],
        resize_mode=_choice(settings, "resize_mode", _RESIZE_MODES),
    )


def _channels(settings: Mapping[str, Any], name: str, default: Channels) -> Channels:
    """One number for each channel, or one for all."""
    given = settings.get(name) or default
    values = list(given) if isinstance(given, list | tuple) else [given]
    red, green, blue = values * 3 if len(values) == 1 else values if len(values) == 3 else (None, None, None)
    numbers = (red, green, blue)
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in numbers):
        raise ModelError(f"the preprocessing of this model has {name} {given!r:.80}; it must be one or three numbers")
    return float(red), float(green), float(blue)  # type: ignore[arg-type]


def _choice(settings: Mapping[str, Any], name: str, known: tuple[str, ...]) -> str:
    given = settings.get(name) or known[0]
    if given not in known:
        raise ModelError(f"the preprocessing of this model has {name} {given!r:.80}; known: {', '.join(known)}")
    return str(given)

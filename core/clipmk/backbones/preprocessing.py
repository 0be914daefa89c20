"""How a model's images are prepared: open_clip's settings, checked as open_clip checks them.

How its training images were made square does not matter: `Settings.resize` says how ours are.
"""

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


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Preprocessing of the images that a model was trained on."""

    mean: Channels
    std: Channels
    interpolation: str
    """"bicubic" or "bilinear"."""


def read_preprocessing(settings: Mapping[str, Any], model_id: str) -> Preprocessing:
    """Read open_clip's preprocessing configuration; its defaults hold for what is missing, null or empty.

    Args:
        settings: the configuration.
        model_id: for the message.

    Raises:
        ModelError: a value is one that open_clip would refuse.
    """
    _choice(settings, "mode", ("RGB",), model_id)
    std = _channels(settings, "std", _STD, model_id)
    if 0 in std:
        raise _refusal(model_id, "std", std, "other than 0")
    return Preprocessing(
        mean=_channels(settings, "mean", _MEAN, model_id),
        std=std,
        interpolation=_INTERPOLATIONS[_choice(settings, "interpolation", tuple(_INTERPOLATIONS), model_id)],
    )


def _channels(settings: Mapping[str, Any], name: str, default: Channels, model_id: str) -> Channels:
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

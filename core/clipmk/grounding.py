"""Embeddings of an image's parts: drawn prompts (3L forwards) or masked pooling (none)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from clipmk.concepts.prompts import draw_prompts

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from clipmk.backbones.base import Backbone, Encoded
    from clipmk.settings import Settings

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total); raise from it to cancel."""

CPU_PIXELS = 224 * 224
"""Pixels per forward on a CPU. From one image of 224 px on, batching gains nothing there (ViT-B/16: 15 prompts take
3.9 s either way) and one at a time keeps cancelling quick; small inputs are bound by the overhead of a call."""


def part_embeddings(
    backbone: Backbone,
    settings: Settings,
    *,
    square: NDArray[np.uint8],
    encoded: Encoded,
    masks: NDArray[np.bool_],
    progress: Progress | None = None,
) -> Float[Tensor, "parts embed"]:
    """Embed the parts of one image in the way that `settings.grounding` names (method.md 2.5, section 5).

    Args:
        backbone: the one that made `encoded`.
        settings: only the grounding is read.
        square: uint8 RGB (S, S, 3).
        encoded: of the square (batch 1).
        masks: the parts, bool (parts, S, S).
        progress: hears of each prompted forward.
    """
    if settings.grounding == "prompts":
        return prompt_embeddings(backbone, square, masks, progress=progress)
    return pooled_embeddings(backbone, encoded, masks)


def prompt_embeddings(
    backbone: Backbone, image: NDArray[np.uint8], masks: NDArray[np.bool_], *, progress: Progress | None = None
) -> Float[Tensor, "parts embed"]:
    """Part embedding = mean of the L2-normalised embeddings of its three prompted images, not renormalised.

    Args:
        backbone: encodes the 3L prompted images: in one batch on an accelerator, few at a time on a CPU.
        image: uint8 RGB (S, S, 3), the square input.
        masks: bool (parts, S, S).
        progress: called after each forward with ("prompts", done, 3L).

    Returns:
        float32; the length of a row is below 1 where the three prompts disagree.
    """
    drawn = np.concatenate([draw_prompts(image, mask) for mask in masks])
    size = max(1, CPU_PIXELS // image.shape[0] ** 2) if backbone.device.type == "cpu" else len(drawn)
    embedded = []
    for start in range(0, len(drawn), size):
        pixels = backbone.normalise(torch.from_numpy(drawn[start : start + size]))
        embedded.append(backbone.encode_images(pixels))
        if progress is not None:
            progress("prompts", min(start + size, len(drawn)), len(drawn))
    every = torch.cat(embedded)
    return every.reshape(len(masks), 3, every.shape[1]).mean(dim=1)


def pooled_embeddings(backbone: Backbone, encoded: Encoded, masks: NDArray[np.bool_]) -> Float[Tensor, "parts embed"]:
    """Masked pooling over each part: a patch counts by the share of its pixels that the part covers.

    Args:
        backbone: the one that made `encoded`.
        encoded: of this image alone (batch 1).
        masks: bool (parts, S, S) in the square input.
    """
    weights = coverage(masks, grid=encoded.grid).to(backbone.device)
    return backbone.pool_regions(encoded, weights[None])[0]


def coverage(masks: NDArray[np.bool_], *, grid: tuple[int, int]) -> Float[Tensor, "parts patches"]:
    """w_kn = share of patch n's pixels that lie in mask k, in [0, 1]; float32.

    Exact where the side is a multiple of the grid; otherwise each patch averages the pixels it touches.
    """
    values = torch.from_numpy(np.ascontiguousarray(masks)).float()
    return functional.adaptive_avg_pool2d(values, grid).flatten(1)

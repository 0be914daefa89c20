"""Visual prompts composed on the model's device: grey, blur and line as tensor operations, for all parts at once.

OpenCV still draws the ellipses: on the CPU it marks their pixels (`prompts.mark`), one byte each. Grey and blur repeat
its integer arithmetic, so the prompts equal those of `prompts.draw_prompts` bit for bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from clipmk.concepts.prompts import INSIDE, LINE, RED

if TYPE_CHECKING:
    from jaxtyping import Int, UInt8
    from torch import Tensor

GREY = (9798, 19235, 3735)
"""Weights of R, G and B in 1/2^15: 0.299, 0.587, 0.114 as OpenCV rounds them."""
BLUR = (2, 7, 17, 31, 45, 52, 45, 31, 17, 7, 2)
"""The 11 Gaussian weights with sigma 2.0 in 1/2^8; each is rounded with the remainder of those before it."""


def compose_prompts(
    image: UInt8[Tensor, "side side 3"], marks: UInt8[Tensor, "parts side side"]
) -> UInt8[Tensor, "prompts side side 3"]:
    """The three prompts of each part: `prompts.draw_prompts`, on any device.

    Args:
        image: RGB, the square input.
        marks: `prompts.mark` of each part, on the same device.

    Returns:
        3 · parts prompts, part by part.
    """
    backgrounds = torch.stack([image, grey(image), blur(image)])
    inside, line = ((marks == value)[:, None, :, :, None] for value in (INSIDE, LINE))
    red = torch.zeros_like(image[:1, :1])
    red[..., RED.index(255)] = 255  # filled on the device: a copy from the CPU would wait for all that is queued
    return torch.where(line, red, torch.where(inside, image, backgrounds)).flatten(0, 1)


def grey(image: UInt8[Tensor, "height width 3"]) -> UInt8[Tensor, "height width 3"]:
    """(9798 R + 19235 G + 3735 B + 2^14) / 2^15, rounded down, in all three channels."""
    red, green, blue = image.int().unbind(dim=-1)
    mixed = GREY[0] * red + GREY[1] * green + GREY[2] * blue
    return (mixed + (1 << 14) >> 15).to(torch.uint8)[..., None].expand_as(image)


def blur(image: UInt8[Tensor, "height width 3"]) -> UInt8[Tensor, "height width 3"]:
    """(sum over i and j of w_i w_j x_ij + 2^15) / 2^16, rounded down, edges mirrored about their last pixel."""
    once = _weighted(image.int(), dim=1)
    return (_weighted(once, dim=0) + (1 << 15) >> 16).to(torch.uint8)


def _weighted(values: Int[Tensor, "height width 3"], *, dim: int) -> Int[Tensor, "height width 3"]:
    """Sum of `BLUR` times the neighbours along one axis; exact in 32 bits."""
    size, reach = values.shape[dim], len(BLUR) // 2
    period = max(2 * (size - 1), 1)
    total = torch.zeros_like(values)
    positions = torch.arange(size, device=values.device)
    for offset, weight in enumerate(BLUR, -reach):
        turned = (positions + offset) % period
        total += weight * values.index_select(dim, torch.minimum(turned, period - turned) if size > 1 else positions)
    return total

"""Visual prompts: a red ellipse marks a part of the image, and its outside is faded.

OpenCV draws them for a CPU (`draw_prompts`). For another device it only marks the pixels of the ellipses (`mark`), one
byte each; grey, blur and line are composed there (`compose_prompts`) by its integer arithmetic: equal bit for bit.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from jaxtyping import Int, UInt8
    from torch import Tensor

RED = (255, 0, 0)
INSIDE, LINE = 1, 2  # values of `mark`
BLUR_SIZE = (11, 11)
BLUR_SIGMA = 2.0
ELLIPSE_MIN = 1e-4
"""Relative size below which a conic's design matrix is singular, or the conic is two parallel lines."""


Ellipse = tuple[tuple[float, float], tuple[float, float], float]
"""OpenCV's rotated rectangle around an ellipse, in pixels of the square input: centre (x, y), whole lengths of the two
axes, and degrees, clockwise, of the first one."""


def fit_ellipse(mask_square: NDArray[np.bool_]) -> Ellipse:
    """Fit an ellipse to the largest contour of a mask, bool (S, S), all its points, as OpenCV's `fitEllipse` does.

    The result is the bounding ellipse, axis-aligned and inscribed in the box around the contour's pixels, where the
    contour has fewer than five points, its points do not determine an ellipse (all on one or two lines: OpenCV then
    adds random jitter), or the fit is degenerate (not finite, an axis under one pixel or over twice the image's
    diagonal). An empty mask gives that of the whole square.
    """
    height, width = mask_square.shape
    contours, _ = cv2.findContours(mask_square.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return _bounding_ellipse((0, 0, width, height))
    contour = max(contours, key=lambda points: (cv2.contourArea(points), len(points)))
    if _determines_ellipse(contour[:, 0]):
        fitted: Ellipse = cv2.fitEllipse(contour)
        if _is_drawable(fitted, limit=2 * math.hypot(height, width)):
            return fitted
    left, top, box_width, box_height = cv2.boundingRect(contour)
    return _bounding_ellipse((left, top, box_width, box_height))


def mark(mask_square: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """What prompts draw where, uint8 (S, S): `LINE` on the line of a part's `fit_ellipse`, `INSIDE` within it."""
    ellipse = fit_ellipse(mask_square)
    marks = np.zeros(mask_square.shape, dtype=np.uint8)
    cv2.ellipse(marks, ellipse, INSIDE, -1)
    cv2.ellipse(marks, ellipse, LINE, 1)
    return marks


def draw_prompts(image: NDArray[np.uint8], masks_square: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Three prompts per part: (a) a red ellipse, (b) with greyscale outside it, (c) with a Gaussian blur outside it.

    The ellipse is the `fit_ellipse` of the part; its line is (255, 0, 0) and one pixel wide in all three, drawn last.
    Grey is 0.299 R + 0.587 G + 0.114 B; the blur is 11 x 11 with sigma 2.0, edges mirrored. From an image, uint8 RGB
    (S, S, 3), and masks, bool (S, S) or (parts, S, S), come uint8 RGB (3 · parts, S, S, 3), part by part.
    """
    masks = masks_square.reshape(-1, *image.shape[:2])
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    backgrounds = np.stack([image, grey, blurred(image)])
    red = np.full_like(image, RED)
    prompts = np.empty((len(masks), *backgrounds.shape), dtype=np.uint8)
    for drawn, mask in zip(prompts, masks, strict=True):
        marks = mark(mask)
        drawn[:] = backgrounds
        for background in drawn[1:]:
            cv2.copyTo(image, cv2.compare(marks, INSIDE, cv2.CMP_EQ), background)
        for background in drawn:
            cv2.copyTo(red, cv2.compare(marks, LINE, cv2.CMP_EQ), background)
    return prompts.reshape(-1, *image.shape)


def blur_region(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Hide a region, bool (H, W), of an image, uint8 RGB (H, W, 3), under its 11 x 11 Gaussian blur (sigma 2.0)."""
    return np.where(mask[..., None], blurred(image), image)


def blurred(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The whole image under the 11 x 11 Gaussian with sigma 2.0, edges mirrored; uint8 RGB (H, W, 3)."""
    return np.asarray(cv2.GaussianBlur(image, BLUR_SIZE, BLUR_SIGMA, borderType=cv2.BORDER_REFLECT_101), dtype=np.uint8)


def _bounding_ellipse(box: tuple[int, int, int, int]) -> Ellipse:
    left, top, width, height = box
    return (left + (width - 1) / 2, top + (height - 1) / 2), (float(width), float(height)), 0.0


def _determines_ellipse(points: NDArray[np.integer]) -> bool:
    """Whether the conic a x^2 + b x y + c y^2 + d x + e y = 1 of these points, int (points, 2), is one ellipse."""
    if len(points) < 5:
        return False
    x, y = (points - points.mean(axis=0)).T / max(float(np.ptp(points)), 1.0)
    terms = np.stack([x * x, x * y, y * y, x, y], axis=1)
    (a, b, c, _, _), _, rank, _ = np.linalg.lstsq(terms, np.ones(len(points)), rcond=ELLIPSE_MIN)
    return bool(rank == 5 and 4 * a * c - b * b > ELLIPSE_MIN * (a + c) ** 2)


def _is_drawable(ellipse: Ellipse, *, limit: float) -> bool:
    centre, axes, angle = ellipse
    return all(map(math.isfinite, (*centre, *axes, angle))) and min(axes) >= 1 and max(axes) <= limit


GREY = (9798, 19235, 3735)  # weights of R, G and B in 1/2^15: 0.299, 0.587, 0.114 as OpenCV rounds them
BLUR = (2, 7, 17, 31, 45, 52, 45, 31, 17, 7, 2)
"""The 11 Gaussian weights with sigma 2.0 in 1/2^8; each is rounded with the remainder of those before it."""


def compose_prompts(
    image: UInt8[Tensor, "side side 3"], marks: UInt8[Tensor, "parts side side"]
) -> UInt8[Tensor, "prompts side side 3"]:
    """The three prompts of each part: `draw_prompts` on any device, from the `mark` of each part on the same device."""
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

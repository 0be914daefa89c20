"""Relevance maps: from numbers to the record and back, in pixels of the original image."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipmk.records import RelevanceMap

if TYPE_CHECKING:
    from clipmk.images.square import Square


def heat_encode(values: NDArray[np.floating], geometry: Square) -> RelevanceMap:
    """Record a map over the square input, (rows, columns), relevance in [0, 1]; exact to scale / 510."""
    scale = float(values.max())
    whole = np.rint(255 * values / scale) if scale > 0 else np.zeros_like(values)
    left, top, right, bottom = (round(edge) for edge in geometry.box)
    return RelevanceMap(
        size=(values.shape[0], values.shape[1]),
        bbox_xyxy=(max(left, 0), max(top, 0), min(right, geometry.width), min(bottom, geometry.height)),
        scale=scale,
        values=base64.b64encode(whole.astype(np.uint8).tobytes()).decode("ascii"),
    )


def heat_grid(heat: RelevanceMap) -> NDArray[np.float32]:
    """The relevance of each cell, float32 (rows, columns), in [0, 1].

    Raises:
        ValueError: the values do not fill the grid exactly.
    """
    whole = np.frombuffer(base64.b64decode(heat.values, validate=True), dtype=np.uint8).reshape(heat.size)
    return (whole * np.float32(heat.scale / 255)).astype(np.float32)


def heat_pixels(heat: RelevanceMap, *, width: int, height: int) -> NDArray[np.float32]:
    """The relevance of each pixel of the original image, float32 (height, width); 0 where the model does not look."""
    import cv2  # noqa: PLC0415 - not for what only draws cells

    left, top, right, bottom = heat.bbox_xyxy
    pixels = np.zeros((height, width), dtype=np.float32)
    pixels[top:bottom, left:right] = cv2.resize(heat_grid(heat), (right - left, bottom - top))
    return pixels

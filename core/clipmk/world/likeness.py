"""Whether an image could be a rendered scene: the only kind of image that the embedded models know."""

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from clipmk.world.background import GRAIN

UNFAMILIAR: Final = (
    "the image does not look like a rendered scene, all that this embedded model knows: its answer means little"
)

_LEAST_GRAIN: Final = 2.5  # of every scene, grey levels; the faintest of some thousand scenes has 3.8
_COLOUR: Final = (0.05, 0.42)
"""Colour in the grain, relative to its brightness: scenes have 0.1 to 0.35, photographs more, grey images none."""
_QUANTILE: Final = 0.3
"""Of the pixels, by local change: below it there are no outlines, only flat paint and its grain."""
_CLIPPED: Final = (5, 250)  # grey levels beyond which grain is cut off, and so becomes coloured
_FEWEST_UNCLIPPED: Final = 0.35  # share of the pixels without which nothing can be said


def looks_rendered(pixels: npt.NDArray[np.uint8]) -> bool:
    """Whether the fine detail of an image, uint8 RGB (height, width, 3), is that of a rendered scene.

    Every scene has the same grain all over: fine, and equal in red, green and blue. Photographs have smooth places, and
    their detail is coloured. Measured at 64 px by the Laplacians of brightness and of the differences between channels.
    """
    small = np.asarray(_reduced(pixels), dtype=np.float32)  # not rounded again: that would be noise of its own
    small = cv2.resize(small, (GRAIN, GRAIN), interpolation=cv2.INTER_AREA)
    red, green, blue = cv2.split(small)
    clipped = ((small.max(axis=2) >= _CLIPPED[1]) | (small.min(axis=2) <= _CLIPPED[0])).astype(np.uint8)
    kept = cv2.dilate(clipped, np.ones((3, 3), np.uint8)) == 0
    if kept.mean() < _FEWEST_UNCLIPPED:
        return True
    colour = np.hypot(cv2.Laplacian(red - green, cv2.CV_32F), cv2.Laplacian(green - blue, cv2.CV_32F))
    brightness = np.abs(cv2.Laplacian(small.mean(axis=2), cv2.CV_32F))
    coloured, grain = (float(np.quantile(values[kept], _QUANTILE)) for values in (colour, brightness))
    return grain >= _LEAST_GRAIN and _COLOUR[0] <= coloured / grain <= _COLOUR[1]


def _reduced(pixels: npt.NDArray[np.uint8]) -> Image.Image:
    """The image with sides of little more than four times the grain; only every k-th pixel of a large one counts."""
    step = max(1, min(pixels.shape[:2]) // (16 * GRAIN))
    pixels = np.ascontiguousarray(pixels[::step, ::step])
    height, width = pixels.shape[:2]
    factors = max(1, width // (4 * GRAIN)), max(1, height // (4 * GRAIN))
    return Image.fromarray(pixels, mode="RGB").reduce(factors)

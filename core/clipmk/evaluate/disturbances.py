"""What is done to scenes and features to see what happens: regions hidden, pictures shifted, tokens spoilt."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from clipmk.backbones.base import Encoded

OUTLIERS = 3
"""Tokens made outliers in the robustness row."""
OUTLIER_GAIN = 8.0
"""How much longer an injected outlier is than the median token; real ViTs show five to ten."""


def inject_outliers(encoded: Encoded, *, seed: int) -> Encoded:
    """Replace a few patch tokens by long ones of one common random direction, as large ViTs show them.

    Args:
        encoded: of one image (batch 1); it is left as it was.
        seed: of the tokens and the direction.
    """
    rng = np.random.default_rng(seed)
    patches = encoded.patches.clone()
    length = patches.norm(dim=-1).median() * OUTLIER_GAIN
    direction = torch.from_numpy(rng.standard_normal(patches.shape[-1])).to(patches)
    chosen = torch.from_numpy(rng.choice(patches.shape[1], size=OUTLIERS, replace=False))
    patches[:, chosen] = direction / direction.norm() * length
    return dataclasses.replace(encoded, patches=patches)


def shifted(image: NDArray[np.uint8], *, pixels: int) -> NDArray[np.uint8]:
    """The image moved right and down by some pixels, its edge repeated."""
    padded = np.pad(image, ((pixels, 0), (pixels, 0), (0, 0)), mode="edge")
    return padded[: image.shape[0], : image.shape[1]]


def moved_inside(
    region: NDArray[np.bool_], inside: NDArray[np.bool_], *, seed: int, tries: int = 60
) -> NDArray[np.bool_] | None:
    """The region's shape moved to where it lies most inside the object and overlaps itself by less than half.

    Of `tries` random places within the picture with IoU(moved, region) < 0.5 and more than half of the moved region
    inside the object, the one with the most inside; the first on a tie. Shape and area stay exactly as they were.

    Args:
        region: bool (S, S).
        inside: the object, bool (S, S).
        seed: of the places.
        tries: how many places are looked at.

    Returns:
        bool (S, S), or None where no such place was found (a region that fills the object).
    """
    side, size = region.shape[0], int(region.sum())
    moves = np.random.default_rng(seed).integers(-side // 2, side // 2, size=(tries, 2))
    places = np.argwhere(region)[None] + moves[:, None]
    places = places[((places >= 0) & (places < side)).all(axis=(1, 2))]
    rows, columns = places[..., 0], places[..., 1]
    overlap = region[rows, columns].sum(axis=1)
    share = inside[rows, columns].sum(axis=1) / max(size, 1)
    allowed = np.where((overlap / np.maximum(2 * size - overlap, 1) < 0.5) & (share > 0.5), share, 0.0)
    if not allowed.any():
        return None
    best = int(allowed.argmax())
    moved = np.zeros_like(region)
    moved[rows[best], columns[best]] = True
    return moved

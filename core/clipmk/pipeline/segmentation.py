"""From patch features to part masks on the square, by a row of `concepts.part_methods` or by another finder."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from clipmk.concepts.foreground import (
    NO_CONTRAST,
    CentredTokens,
    centred_direction,
    largest_components,
    second_eigenvector,
)
from clipmk.concepts.paper_parts import part_masks
from clipmk.concepts.part_methods import PART_METHODS, GridForeground, settings_read
from clipmk.concepts.superpixels import WorkingCopy
from clipmk.images.square import Square

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from clipmk.backbones.base import Encoded
    from clipmk.settings import Settings


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """The parts of one image, on its square, of the input's or of another size."""

    masks: NDArray[np.bool_]
    """(parts, side, side); at least one part."""
    foreground: NDArray[np.bool_]
    """(side, side)"""
    warnings: tuple[str, ...]


Saliency = tuple[CentredTokens, "Float[Tensor, 'images patches']"]
"""The tokens of images, and their saliency."""
PartFinder = Callable[[NDArray[np.uint8], "Encoded"], Segmentation]
"""Finds the parts of one image: of its square, uint8 RGB (S, S, 3), and its forward (batch 1), on the CPU."""


@dataclass(frozen=True, slots=True)
class PartVariant:
    """One way of finding an image's parts and embedding them."""

    settings: Settings
    """`features`, `grounding` and those of the parts are read."""
    find: PartFinder | None = None
    """Finds the parts instead of the settings' part method."""

    @property
    def parts_key(self) -> Hashable:
        """Variants with equal keys find the same parts: everything that finding them reads."""
        if self.find is not None:
            return self.find
        reads = settings_read(self.settings.parts)
        names = ("resize", "features", "foreground", "second_component", "parts", *reads)
        return tuple(getattr(self.settings, name) for name in names)


def part_variants(settings: Settings, methods: Iterable[str]) -> tuple[PartVariant, ...]:
    """The settings with each of the part methods."""
    return tuple(PartVariant(replace(settings, parts=method)) for method in methods)


def given_parts(masks: NDArray[np.bool_]) -> Segmentation:
    """The user's own parts, bool (parts, S, S); their union is the foreground."""
    return Segmentation(masks=masks, foreground=np.asarray(masks.any(axis=0)), warnings=())


def segment_variants(
    squares: Sequence[NDArray[np.uint8]],
    encoded: Sequence[Encoded],
    variants: Sequence[PartVariant],
    *,
    copies: Sequence[WorkingCopy] | None = None,
) -> list[tuple[Segmentation, ...]]:
    """Each image's parts by each variant; what variants share is computed once. See `segment` for the images."""
    saliency: dict[str, Saliency] = {}
    found: dict[Hashable, list[Segmentation]] = {}
    for variant in variants:
        key, settings = variant.parts_key, variant.settings
        if key in found:
            continue
        if variant.find is not None:
            found[key] = [variant.find(square, one) for square, one in zip(squares, encoded, strict=True)]
            continue
        if settings.foreground not in saliency:
            saliency[settings.foreground] = find_saliency(encoded, settings)
        found[key] = segment(squares, encoded, settings, copies=copies, saliency=saliency[settings.foreground])
    return list(zip(*(found[variant.parts_key] for variant in variants), strict=True))


def segment(
    squares: Sequence[NDArray[np.uint8]],
    encoded: Sequence[Encoded],
    settings: Settings,
    *,
    copies: Sequence[WorkingCopy] | None = None,
    saliency: Saliency | None = None,
) -> list[Segmentation]:
    """Find foreground and parts of images, all fitted together (pass one image for the per-image fit).

    `squares` are uint8 RGB (S, S, 3), each `encoded` has batch 1. `copies` are what is divided along its own edges;
    None: the squares. `saliency` is that of `find_saliency`, if known already.
    """
    tokens, salient = saliency or find_saliency(encoded, settings)
    values = salient.cpu().numpy().reshape(len(squares), *encoded[0].grid)
    warnings = () if values.any() else (NO_CONTRAST,)
    kept = [largest_components(mask, keep_second=settings.second_component) for mask in values > 0]
    masks = np.stack([mask for mask, _ in kept])
    copies = [WorkingCopy(square) for square in squares] if copies is None else copies
    images = GridForeground(copies, tokens, values, masks)
    read = {name: getattr(settings, name) for name in settings_read(settings.parts)}
    found = PART_METHODS[settings.parts](images, **read)
    return [
        _on_square(labels, warnings + notes + own, grid=encoded[0].grid, side=len(squares[0]))
        for (labels, own), (_, notes) in zip(found, kept, strict=True)
    ]


def find_saliency(encoded: Sequence[Encoded], settings: Settings) -> Saliency:
    """The saliency that `settings.foreground` names, fitted to all images together (each of batch 1)."""
    tokens = CentredTokens(torch.cat([one.patches for one in encoded]), encoded[0].grid)
    if settings.foreground == "eigenvector":
        return tokens, second_eigenvector(tokens.patches)
    attention = [one.attention for one in encoded if one.attention is not None]
    votes = torch.cat(attention) if len(attention) == len(encoded) else None
    return tokens, centred_direction(tokens, attention=votes)


def enlarge(mask_grid: NDArray[np.bool_], *, side: int) -> NDArray[np.bool_]:
    """A mask on the patch grid as a mask on the square, bool (side, side), nearest."""
    resized = cv2.resize(mask_grid.astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(resized, dtype=np.bool_)


def masks_at(masks: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """Masks on the square, bool (parts, side, side), at another side, nearest; none becomes empty."""
    own = masks.shape[1]
    square = Square(own, own, side, "squash")
    return masks if own == side else np.stack([square.to_square(mask) for mask in masks])


def _on_square(labels: NDArray[np.int64], notes: tuple[str, ...], *, grid: tuple[int, int], side: int) -> Segmentation:
    """From a label map on the square, or on the grid, which is enlarged to this side."""
    masks = [*part_masks(labels), labels > 0]
    if labels.shape == grid:
        masks = [enlarge(mask, side=side) for mask in masks]
    return Segmentation(np.stack(masks[:-1]), masks[-1], notes)

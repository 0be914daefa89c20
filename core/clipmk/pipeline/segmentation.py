"""From patch features to part masks on the square input, by the method that the settings name or by another finder."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, assert_never

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from clipmk.concepts.foreground import (
    Saliency,
    centred_direction,
    foreground_mask,
    largest_components,
    restrict,
    second_eigenvector,
)
from clipmk.concepts.parts import kmeans_parts, part_masks, pca_parts
from clipmk.concepts.superpixels import PictureRegions, picture_regions, superpixel_foreground, superpixel_parts

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from clipmk.backbones.base import Encoded
    from clipmk.settings import PartMethod, Settings


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """The parts of one image, on its square input."""

    masks: NDArray[np.bool_]
    """(parts, S, S); at least one part."""
    foreground: NDArray[np.bool_]
    """(S, S)"""
    warnings: tuple[str, ...]
    regions: PictureRegions | None = None
    """The square's regions of one colour, if they are superpixels."""


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
        """Variants with equal keys find the same parts."""
        return self.find or segmentation_choices(self.settings)


def part_variants(settings: Settings, methods: Iterable[PartMethod]) -> tuple[PartVariant, ...]:
    """The settings with each of the part methods."""
    return tuple(PartVariant(replace(settings, parts=method)) for method in methods)


def segmentation_choices(settings: Settings) -> tuple[Hashable, ...]:
    """Everything that a segmentation reads: the same choices give the same parts."""
    reads = {"kmeans": ("part_count", "seed"), "pca": ("part_count",), "superpixels": ("part_limit",)}[settings.parts]
    names = ("resize", "features", "foreground", "second_component", "parts", *reads)
    return tuple(getattr(settings, name) for name in names)


def given_parts(masks: NDArray[np.bool_]) -> Segmentation:
    """The user's own parts, bool (parts, S, S); their union is the foreground."""
    return Segmentation(masks=masks, foreground=np.asarray(masks.any(axis=0)), warnings=())


def segment_variants(
    squares: Sequence[NDArray[np.uint8]], encoded: Sequence[Encoded], variants: Sequence[PartVariant]
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
        found[key] = segment(squares, encoded, settings, saliency=saliency[settings.foreground])
    return list(zip(*(found[variant.parts_key] for variant in variants), strict=True))


def segment(
    squares: Sequence[NDArray[np.uint8]],
    encoded: Sequence[Encoded],
    settings: Settings,
    *,
    saliency: Saliency | None = None,
) -> list[Segmentation]:
    """Find foreground and parts of images, all fitted together (pass one image for the per-image fit).

    Args:
        squares: uint8 RGB (S, S, 3), the square inputs.
        encoded: of each square (batch 1).
        settings: `foreground`, `second_component`, `parts`, `part_count`, `part_limit` and `seed` are read.
        saliency: from `find_saliency` for these images, if known already.
    """
    patches = torch.cat([one.patches for one in encoded])
    grid = encoded[0].grid
    saliency = find_saliency(encoded, settings) if saliency is None else saliency
    values = saliency.values.cpu().numpy().reshape(len(squares), *grid)
    if settings.parts == "superpixels":
        return [
            _superpixels(square, value, patch, settings, saliency.warnings)
            for square, value, patch in zip(squares, values, patches, strict=True)
        ]
    cleaned = [largest_components(m, keep_second=settings.second_component) for m in foreground_mask(values)]
    masks = np.stack([mask for mask, _ in cleaned])
    if settings.parts == "kmeans":
        found = kmeans_parts(patches, masks, count=settings.part_count, seed=settings.seed)
    elif settings.parts == "pca":
        found = pca_parts(patches, masks, count=settings.part_count)
    else:
        assert_never(settings.parts)
    side = squares[0].shape[0]
    return [
        Segmentation(
            masks=np.stack([enlarge(part, side=side) for part in part_masks(labels)]),
            foreground=enlarge(mask, side=side),
            warnings=saliency.warnings + notes + found.warnings,
        )
        for labels, (mask, notes) in zip(found.labels, cleaned, strict=True)
    ]


def find_foreground(
    square: NDArray[np.uint8], encoded: Encoded, settings: Settings, *, regions: PictureRegions | None = None
) -> NDArray[np.bool_]:
    """The foreground that `segment` finds in one image, bool (S, S), without dividing it into parts.

    Args:
        square: uint8 RGB (S, S, 3), the square input.
        encoded: of the square (batch 1).
        settings: `foreground`, `second_component` and `parts` are read.
        regions: `picture_regions` of the square, if known already.
    """
    saliency = find_saliency([encoded], settings).values.cpu().numpy().reshape(encoded.grid)
    kept, _ = largest_components(foreground_mask(saliency), keep_second=settings.second_component)
    if settings.parts == "superpixels":
        return superpixel_foreground(square, restrict(saliency, kept), regions=regions)
    return enlarge(kept, side=square.shape[0])


def find_saliency(encoded: Sequence[Encoded], settings: Settings) -> Saliency:
    """The saliency that `settings.foreground` names, fitted to all images together (each of batch 1)."""
    patches = torch.cat([one.patches for one in encoded])
    if settings.foreground == "eigenvector":
        return second_eigenvector(patches)
    attention = [one.attention for one in encoded if one.attention is not None]
    votes = torch.cat(attention) if len(attention) == len(encoded) else None
    return centred_direction(patches, grid=encoded[0].grid, attention=votes)


def enlarge(mask_grid: NDArray[np.bool_], *, side: int) -> NDArray[np.bool_]:
    """A mask on the patch grid as a mask on the square, bool (side, side), nearest."""
    resized = cv2.resize(mask_grid.astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(resized, dtype=np.bool_)


def _superpixels(
    square: NDArray[np.uint8],
    saliency: NDArray[np.floating],
    patches: Float[Tensor, "patches dim"],
    settings: Settings,
    notes: tuple[str, ...],
) -> Segmentation:
    regions = picture_regions(square)
    kept, more = largest_components(foreground_mask(saliency), keep_second=settings.second_component)
    found = superpixel_parts(
        square, restrict(saliency, kept), patches=patches, limit=settings.part_limit, regions=regions
    )
    return Segmentation(part_masks(found.labels), found.foreground, notes + more + found.warnings, regions)

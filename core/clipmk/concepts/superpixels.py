"""Our visual parts: as many as the image has, with borders at the image's own edges.

The patch features say roughly where the foreground is (`foreground`), the image says where things end. Regions of one
colour are found first, in the whole image; each is foreground or not by a vote of the saliency inside it; then regions
that form one part are joined: the two colours of a stripe, check or spot pattern, and similar pieces that are apart
(two ears, four wheels). If patch features are given, similar means similar in colour and in features.

Everything happens on a working copy between 64 and 128 pixels wide; areas are shares of it, colours are CIE Lab.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from clipmk.concepts.foreground import FLAT, clean_tokens
from clipmk.concepts.regions import Regions, join_alike, join_patterns, merge_closest

if TYPE_CHECKING:
    from jaxtyping import Float, Integer, UInt8
    from numpy import ndarray
    from torch import Tensor

LARGEST_WORK, SMALLEST_WORK = 128, 64
"""Bounds of the working copy's side in pixels."""
SMALLEST_AREA = 0.003
"""A region needs this share of the image: 12 pixels of 64 x 64, which the rendered world counts as visible."""
MOST_REGIONS = 64
"""Foreground regions considered for joining; a busier image loses its smallest ones first."""
PALETTE_CELL = 4.0
"""Side of the cubes of colour space (Lab) in which pixels are counted."""
PALETTE_CELLS = 80
"""Heaviest cubes that the palette is made of."""
PALETTE_SIZE = 20
"""Most colours of a palette."""
PALETTE_DISTANCE = 10.0
"""Palette colours closer than this (Lab) are merged."""
EDGE_CONTRAST = 4.0
"""Lab gradient per pixel at which a pixel's own colour counts half: colours blend at an edge."""
FEATURE_COMPONENTS = 4
"""Principal components of the patch features that tell regions apart."""
FEATURE_WEIGHT = 15.0
"""Their root mean square length, in Lab units: the weight of features relative to colour."""
VOTE_SOFTNESS = 0.5
"""Saliency, in its standard deviations, from which a pixel's vote counts fully."""
VOTE_DRAW = 0.1
"""A region whose mean vote in [-1, 1] is closer to 0 than this is cut where the saliency changes sign."""

NOTHING_SALIENT = "nothing in the image is salient; the whole image is one part"


class SuperpixelParts(NamedTuple):
    """Parts on the square input."""

    labels: Integer[ndarray, "side side"]
    """int64: 0 is background, parts count from 1 in order of falling area."""
    warnings: tuple[str, ...]


def superpixel_parts(
    image: UInt8[ndarray, "side side 3"],
    saliency: Float[ndarray, "rows columns"],
    *,
    patches: Float[Tensor, "patches dim"] | None = None,
    limit: int = 12,
) -> SuperpixelParts:
    """Divide the salient part of an image along the image's own edges.

    Args:
        image: the square input, uint8 RGB.
        saliency: on the patch grid, above 0 is foreground; only its sign and its size relative to its own standard
            deviation matter. To leave a component out, make it negative (`foreground.restrict`).
        patches: features of the same grid, row-major, float32 or float64: they separate what only colour makes similar.
        limit: most parts; beyond it, the closest ones by area and colour are merged.

    Returns:
        At least one part. If no region wins the vote, the salient pixels are divided as they are; if nothing is
        salient, the whole image is one part, with a warning.

    Raises:
        ValueError: `limit` is below 1.
    """
    if limit < 1:
        raise ValueError(f"limit is {limit}; it must be at least 1")
    side, work = image.shape[0], work_side(image.shape[0])
    lab = _working_copy(image, work)
    everything = absorb_small(colour_regions(lab), smallest=_smallest(work))
    labels = _foreground_regions(everything, saliency)
    if not labels.any():
        return SuperpixelParts(np.ones((side, side), dtype=np.int64), (NOTHING_SALIENT,))
    looks = lab if patches is None else np.dstack([lab, feature_map(patches, grid=saliency.shape, side=work)])
    joined = join_alike(join_patterns(Regions.of(labels, looks))).at_most(limit).labels
    return SuperpixelParts(_enlarged(joined, side).astype(np.int64), ())


def picture_regions(image: UInt8[ndarray, "side side 3"], *, limit: int) -> NDArray[np.uint8]:
    """Divide a whole picture into at most `limit` regions of one colour, numbered from 0; the largest ones stay."""
    work = work_side(image.shape[0])
    labels = absorb_small(colour_regions(_working_copy(image, work)), smallest=_smallest(work))
    largest = np.argsort(-_areas(labels), kind="stable")[: limit - 1]  # what touches none of them is one more region
    _, numbers = np.unique(_absorbed(labels, np.isin(np.arange(labels.max() + 1), largest)), return_inverse=True)
    return _enlarged(numbers.reshape(labels.shape), image.shape[0])


def work_side(side: int) -> int:
    """Side of the working copy: the largest integer fraction of `side` up to 128, and at least 64."""
    return max(SMALLEST_WORK, round(side / -(-side // LARGEST_WORK)))


def colour_regions(lab: Float[ndarray, "height width 3"]) -> NDArray[np.int64]:
    """Connected regions (4-connected) of one palette colour, int (height, width) from 1.

    Each pixel takes argmin_k of the sum over its 3 x 3 neighbours of w · |lab - palette_k|, where w falls with the
    colour gradient: pixels on an edge follow their neighbours instead of forming a region of their own.
    """
    gradients = [cv2.Sobel(lab, cv2.CV_32F, dx, 1 - dx, ksize=3) / 8 for dx in (0, 1)]
    contrast = np.sqrt(sum((gradient**2).sum(axis=-1) for gradient in gradients))
    weights = 1 / (1 + (contrast / EDGE_CONTRAST) ** 2)
    colours = palette(lab.reshape(-1, 3), weights.ravel())
    planes = [np.ascontiguousarray(lab[..., channel]) for channel in range(3)]
    costs = [cv2.blur(weights * _distances(planes, colour), (3, 3)) for colour in colours]
    nearest = np.argmin(costs, axis=0)
    labels = np.zeros(nearest.shape, dtype=np.int64)
    for colour in range(len(colours)):
        found, _ = ndimage.label(nearest == colour)
        labels[found > 0] = found[found > 0] + labels.max()
    return labels


def palette(colours: Float[ndarray, "pixels 3"], weights: Float[ndarray, " pixels"]) -> NDArray[np.float32]:
    """The image's colours, most frequent first, float32 (colours, 3), at most 20.

    The pixels are counted in cubes of the colour space; the mean colours of the 80 heaviest cubes are merged, closest
    first, until the closest are `PALETTE_DISTANCE` apart. Deterministic.

    Args:
        colours: CIE Lab.
        weights: of each pixel, not negative.
    """
    cubes = _numbered(np.floor(colours / PALETTE_CELL).astype(np.int64))
    mass = np.bincount(cubes, weights)
    means = np.stack([np.bincount(cubes, weights * colours[:, k]) for k in range(3)], axis=1) / mass[:, None]
    heaviest = np.argsort(-mass, kind="stable")[:PALETTE_CELLS]
    means, mass = means[heaviest], mass[heaviest]
    families = merge_closest(means, mass, distance=PALETTE_DISTANCE)
    found = np.unique(families)
    totals = np.array([mass[families == family].sum() for family in found])
    centres = np.stack([mass[families == family] @ means[families == family] for family in found]) / totals[:, None]
    return np.asarray(centres[np.argsort(-totals, kind="stable")][:PALETTE_SIZE], dtype=np.float32)


def _distances(planes: Sequence[NDArray[np.float32]], colour: NDArray[np.float32]) -> NDArray[np.float32]:
    """|lab - colour| at each pixel; channel by channel, because sums over a last axis of 3 are slow."""
    first, second, third = (plane - value for plane, value in zip(planes, colour, strict=True))
    return np.asarray(np.sqrt(first * first + second * second + third * third))


def _numbered(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the different rows of (pixels, 3) in sorted order, from 0, by counting instead of sorting."""
    cells = cells - cells.min(axis=0)
    _, second, third = (cells.max(axis=0) + 1).tolist()
    codes = (cells[:, 0] * second + cells[:, 1]) * third + cells[:, 2]
    occurs = np.bincount(codes) > 0
    return np.asarray((np.cumsum(occurs) - 1)[codes])


def feature_map(
    patches: Float[Tensor, "patches dim"], *, grid: tuple[int, ...], side: int
) -> Float[ndarray, "side side components"]:
    """The first four principal components of the unit tokens, upsampled, in units comparable to Lab distances.

    Outlier tokens are replaced first (`foreground.clean_tokens`). The components together have the root mean square
    length `FEATURE_WEIGHT`; equal tokens give zeros.
    """
    rows, columns = grid
    cleaned, _ = clean_tokens(patches[None], grid=(rows, columns))
    unit = torch.nn.functional.normalize(cleaned[0], dim=-1)
    centred = unit - unit.mean(dim=0)
    values, vectors = torch.linalg.eigh(centred @ centred.T)
    scores = vectors[:, -FEATURE_COMPONENTS:] * values[-FEATURE_COMPONENTS:].clamp_min(0).sqrt()
    size = float(scores.square().sum(dim=1).mean().sqrt())
    scaled = scores * (FEATURE_WEIGHT / size if size > FLAT else 0.0)
    coarse = scaled.reshape(rows, columns, -1).cpu().numpy().astype(np.float32)
    fine = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_LINEAR)
    return np.asarray(fine, dtype=np.float32).reshape(side, side, -1)


def absorb_small(labels: NDArray[np.int64], *, smallest: float) -> NDArray[np.int64]:
    """Give the pixels of regions below `smallest` pixels to the nearest region that is large enough.

    0 is background and receives nothing: small pieces that do not touch a large region become background. If no region
    is large enough, the largest one is kept.
    """
    areas = _areas(labels)
    return _absorbed(labels, areas >= min(smallest, areas.max())) if areas.any() else labels


def _areas(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pixels by label, 0 for the background."""
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    return areas


def _absorbed(labels: NDArray[np.int64], large: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Absorb all regions except the `large` ones (by label); see `absorb_small`."""
    keep = large[labels]
    lost = (labels > 0) & ~keep
    if not lost.any():
        return labels
    pieces, _ = ndimage.label(lost, structure=np.ones((3, 3), dtype=int))
    beside = np.unique(pieces[cv2.dilate(keep.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0])
    row, column = ndimage.distance_transform_edt(~keep, return_distances=False, return_indices=True)
    filled = np.where(lost & np.isin(pieces, beside), labels[row, column], labels)
    return np.where(lost & ~np.isin(pieces, beside), 0, filled)


def vote(labels: NDArray[np.int64], saliency: Float[ndarray, "height width"]) -> NDArray[np.bool_]:
    """Which pixels are foreground: whole regions, by the mean of clip(saliency / (0.5 · std), -1, 1) inside them.

    A region without a clear majority is cut where the saliency changes sign.
    """
    spread = VOTE_SOFTNESS * float(saliency.std())
    votes = np.clip(saliency / spread, -1, 1) if spread > 0 else np.sign(saliency)
    counts = np.maximum(np.bincount(labels.ravel()), 1)
    means = (np.bincount(labels.ravel(), votes.ravel()) / counts)[labels]
    return np.where(np.abs(means) < VOTE_DRAW, saliency > 0, means > 0)


def _smallest(work: int) -> float:
    """Fewest pixels of a region of the working copy."""
    return max(SMALLEST_AREA * work * work, 2.0)


def _enlarged(labels: NDArray[np.generic], side: int) -> NDArray[np.uint8]:
    resized = cv2.resize(labels.astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(resized, dtype=np.uint8)


def _working_copy(image: NDArray[np.uint8], work: int) -> NDArray[np.float32]:
    """The image at (work, work), without single odd pixels, in CIE Lab."""
    shrinking = work < image.shape[0]
    small = cv2.resize(image, (work, work), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_NEAREST)
    lab = cv2.cvtColor(cv2.medianBlur(small, 3).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return np.asarray(lab, dtype=np.float32)


def _salient(regions: NDArray[np.int64], saliency: NDArray[np.floating]) -> NDArray[np.int64]:
    """The regions that win the vote or, if none does, the salient pixels of each; the rest is 0."""
    field = cv2.resize(saliency.astype(np.float32), regions.shape[::-1])
    won = vote(regions, field)
    return np.where(won if won.any() else field > 0, regions, 0)


def _foreground_regions(everything: NDArray[np.int64], saliency: NDArray[np.floating]) -> NDArray[np.int64]:
    """The salient regions without tiny ones, at most `MOST_REGIONS`; the rest is 0."""
    smallest = _smallest(len(everything))
    labels = absorb_small(_salient(everything, saliency), smallest=smallest)
    while (areas := _areas(labels)).astype(bool).sum() > MOST_REGIONS:
        smallest *= 1.5
        if smallest > areas.max():  # too many of equal size, such as the squares of a board
            largest = np.argsort(-areas, kind="stable")[:MOST_REGIONS]  # of equals the first
            return _absorbed(labels, np.isin(np.arange(len(areas)), largest))
        labels = absorb_small(labels, smallest=smallest)
    return labels

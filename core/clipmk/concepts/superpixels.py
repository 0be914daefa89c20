"""Our visual parts: as many as the image holds, with borders at the picture's own edges.

The patch features say roughly where the thing is (`foreground`); the picture says where things end. Regions of one
colour are found first, over the whole picture; each is foreground or not by a vote of the saliency inside it; then
regions that make one part together are joined: the two colours of a stripe, check or spot pattern, and alike pieces
that stand apart (two ears, four wheels). Where patch features are given, alike means alike in colour and in these.

All of it happens on a working copy between 64 and 128 pixels wide; areas below are shares of it, colours CIE Lab.
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
"""A region needs this share of the picture: 12 pixels of 64 x 64, what the world calls visible."""
MOST_REGIONS = 64
"""Foreground regions considered for joining; a busier picture first gives up its smallest ones."""
PALETTE_CELL = 4.0
"""Side of the cubes of colour space (Lab) in which the pixels are counted."""
PALETTE_CELLS = 80
"""Heaviest cubes of which the palette is made."""
PALETTE_SIZE = 20
"""Most colours of a palette."""
PALETTE_DISTANCE = 10.0
"""Palette colours closer than this (Lab) are one."""
EDGE_CONTRAST = 4.0
"""Lab gradient per pixel at which a pixel's own colour counts half: blends at an edge belong to neither side."""
FEATURE_COMPONENTS = 4
"""Principal components of the patch features that tell regions apart."""
FEATURE_WEIGHT = 15.0
"""Their root mean square length, in Lab units: how much features count against colour."""
VOTE_SOFTNESS = 0.5
"""Saliency, in its standard deviations, from which on a pixel's vote counts fully."""
VOTE_DRAW = 0.1
"""A region whose mean vote in [-1, 1] is nearer to 0 than this is cut where the saliency changes sign."""

NOTHING_SALIENT = "nothing in the picture is salient; the whole image is one part"


class PictureRegions(NamedTuple):
    """What a picture's own colours say, whatever a model sees in it."""

    lab: NDArray[np.float32]
    """The working copy in CIE Lab, (work, work, 3)."""
    labels: NDArray[np.int64]
    """Its regions of one colour, (work, work) from 1."""


class SuperpixelParts(NamedTuple):
    """Parts on the square input."""

    labels: Integer[ndarray, "side side"]
    """int64: 0 is background, parts count from 1 in order of falling area."""
    warnings: tuple[str, ...]

    @property
    def foreground(self) -> NDArray[np.bool_]:
        """Everything that belongs to a part, bool (S, S)."""
        return self.labels > 0


def superpixel_parts(
    image: UInt8[ndarray, "side side 3"],
    saliency: Float[ndarray, "rows columns"],
    *,
    patches: Float[Tensor, "patches dim"] | None = None,
    limit: int = 12,
    connected: bool = False,
    regions: PictureRegions | None = None,
) -> SuperpixelParts:
    """Divide what is salient in a picture into parts along the picture's own edges.

    Args:
        image: the square input, uint8 RGB.
        saliency: on the patch grid, above 0 is foreground; only its sign and its size relative to its own standard
            deviation matter. To leave a component out, make it negative (`foreground.restrict`).
        patches: features of the same grid, row-major, float32 or float64: they keep apart what is alike in colour only.
        limit: most parts; where there are more, the closest ones by area and colour are merged.
        connected: True keeps alike pieces that stand apart as parts of their own.
        regions: `picture_regions` of the image, where they are known already.

    Returns:
        At least one part. Where no region wins the vote, the salient pixels are divided as they are; with nothing
        salient the whole picture is one part and a warning says so.

    Raises:
        ValueError: `limit` is below 1.
    """
    if limit < 1:
        raise ValueError(f"{limit} parts cannot be made; at least 1")
    side, work = image.shape[0], work_side(image.shape[0])
    lab, everything = regions or picture_regions(image)
    labels = _foreground_regions(everything, saliency)
    if not labels.any():
        return SuperpixelParts(np.ones((side, side), dtype=np.int64), (NOTHING_SALIENT,))
    looks = lab if patches is None else np.dstack([lab, feature_map(patches, grid=saliency.shape, side=work)])
    joined = _join(labels, looks, limit=limit, connected=connected)
    return SuperpixelParts(_enlarged(joined, side).astype(np.int64), ())


def superpixel_foreground(
    image: UInt8[ndarray, "side side 3"],
    saliency: Float[ndarray, "rows columns"],
    *,
    regions: PictureRegions | None = None,
) -> NDArray[np.bool_]:
    """The foreground of `superpixel_parts`, bool (S, S), without dividing it; joining parts never changes it."""
    side = image.shape[0]
    labels = _foreground_regions((regions or picture_regions(image)).labels, saliency)
    return _enlarged(labels > 0, side) > 0 if labels.any() else np.ones((side, side), dtype=bool)


def picture_regions(image: UInt8[ndarray, "side side 3"]) -> PictureRegions:
    """The picture's regions of one colour on the working copy, without tiny ones: no model is asked."""
    work = work_side(image.shape[0])
    lab = _working_copy(image, work)
    return PictureRegions(lab, absorb_small(colour_regions(lab), smallest=_smallest(work)))


def work_side(side: int) -> int:
    """Side of the working copy: the largest whole fraction of `side` within 128, and at least 64."""
    return max(SMALLEST_WORK, round(side / -(-side // LARGEST_WORK)))


def colour_regions(lab: Float[ndarray, "height width 3"]) -> NDArray[np.int64]:
    """Connected regions (4-connected) of one palette colour, int (height, width) from 1.

    Each pixel takes argmin_k of the sum over its 3 x 3 neighbours of w · |lab - palette_k|, where w falls with the
    colour gradient: pixels on an edge follow their neighbours instead of making a region of their own.
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
    """The picture's colours, most frequent first, float32 (colours, 3), at most 20.

    The pixels are counted in cubes of the colour space; the mean colours of the 80 heaviest cubes are merged, closest
    first, until the closest are `PALETTE_DISTANCE` apart. Nothing is drawn at random.

    Args:
        colours: CIE Lab.
        weights: how much each pixel counts, not negative.
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
    """|lab - colour| at each pixel; channel by channel, because sums over a last axis of three are slow."""
    first, second, third = (plane - value for plane, value in zip(planes, colour, strict=True))
    return np.asarray(np.sqrt(first * first + second * second + third * third))


def _numbered(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the different rows of (pixels, 3) in their own order, from 0; counting instead of sorting."""
    cells = cells - cells.min(axis=0)
    _, second, third = (cells.max(axis=0) + 1).tolist()
    codes = (cells[:, 0] * second + cells[:, 1]) * third + cells[:, 2]
    occurs = np.bincount(codes) > 0
    return np.asarray((np.cumsum(occurs) - 1)[codes])


def feature_map(
    patches: Float[Tensor, "patches dim"], *, grid: tuple[int, ...], side: int
) -> Float[ndarray, "side side components"]:
    """The four first principal components of the unit tokens, upsampled, in units that compare with Lab distances.

    Outlier tokens are replaced first (`foreground.clean_tokens`). The components together have the root mean square
    length `FEATURE_WEIGHT`; tokens that are all alike give zeros.
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

    0 is background and takes nothing: small pieces that touch no large region become background. Where no region is
    large enough, the largest one is kept.
    """
    areas = _areas(labels)
    return _absorbed(labels, areas >= min(smallest, areas.max())) if areas.any() else labels


def _areas(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pixels by label; none of the background."""
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    return areas


def _absorbed(labels: NDArray[np.int64], large: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Give the pixels of all regions but the `large` ones (by label) away; see `absorb_small`."""
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
    """Which pixels are foreground: whole regions by the mean of clip(saliency / (0.5 · std), -1, 1) inside them.

    A region without a clear majority is cut where the saliency changes its sign.
    """
    spread = VOTE_SOFTNESS * float(saliency.std())
    votes = np.clip(saliency / spread, -1, 1) if spread > 0 else np.sign(saliency)
    counts = np.maximum(np.bincount(labels.ravel()), 1)
    means = (np.bincount(labels.ravel(), votes.ravel()) / counts)[labels]
    return np.where(np.abs(means) < VOTE_DRAW, saliency > 0, means > 0)


def _smallest(work: int) -> float:
    """Pixels that a region of the working copy needs."""
    return max(SMALLEST_AREA * work * work, 2.0)


def _enlarged(labels: NDArray[np.generic], side: int) -> NDArray[np.uint8]:
    resized = cv2.resize(labels.astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(resized, dtype=np.uint8)


def _working_copy(image: NDArray[np.uint8], work: int) -> NDArray[np.float32]:
    """The picture at (work, work), single odd pixels removed, in CIE Lab."""
    shrinking = work < image.shape[0]
    small = cv2.resize(image, (work, work), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_NEAREST)
    lab = cv2.cvtColor(cv2.medianBlur(small, 3).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return np.asarray(lab, dtype=np.float32)


def _salient(regions: NDArray[np.int64], saliency: NDArray[np.floating]) -> NDArray[np.int64]:
    """The regions that win the vote, or, where none does, what is salient of each; the rest 0."""
    field = cv2.resize(saliency.astype(np.float32), regions.shape[::-1])
    won = vote(regions, field)
    return np.where(won if won.any() else field > 0, regions, 0)


def _foreground_regions(everything: NDArray[np.int64], saliency: NDArray[np.floating]) -> NDArray[np.int64]:
    """The salient regions, none of them tiny, at most `MOST_REGIONS`; the rest 0."""
    smallest = _smallest(len(everything))
    labels = absorb_small(_salient(everything, saliency), smallest=smallest)
    while (areas := _areas(labels)).astype(bool).sum() > MOST_REGIONS:
        smallest *= 1.5
        if smallest > areas.max():  # too many that are equally large, such as the squares of a board
            return _absorbed(labels, _largest(areas, MOST_REGIONS))
        labels = absorb_small(labels, smallest=smallest)
    return labels


def _largest(areas: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """Which of them are the largest, the first ones of equals."""
    return np.isin(np.arange(len(areas)), np.argsort(-areas, kind="stable")[:count])


def _join(labels: NDArray[np.int64], looks: NDArray[np.float32], *, limit: int, connected: bool) -> NDArray[np.int64]:
    """Join the regions that make one part, at most `limit` parts, numbered by falling area."""
    regions = join_patterns(Regions.of(labels, looks))
    if not connected:
        regions = join_alike(regions)
    return regions.at_most(limit).labels

"""Our visual parts: as many as the image has, with borders at the image's own edges.

The patch features say roughly where the foreground is (`foreground`), the image says where things end. Regions of one
colour are found first, in the whole image; each is foreground or not by a vote of the saliency inside it; then regions
that form one part are joined: the two colours of a stripe, check or spot pattern, and similar pieces that are apart
(two ears, four wheels). If patch features are given, similar means similar in colour and in features.

Areas are shares of the picture, colours are CIE Lab. The constants suit pictures of `WORK_SIDE`.
"""

from __future__ import annotations

from itertools import product
from threading import Lock
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from clipmk.concepts.foreground import FLAT, CentredTokens, leading_eigenvectors
from clipmk.concepts.paper_parts import Parts
from clipmk.concepts.regions import Regions, join_alike, join_patterns, merge_closest

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from numpy import ndarray

WORK_SIDE = 224  # side in pixels of the square that parts are found on, whatever the model's input is
SMALLEST_AREA = 0.003
"""A region needs this share of the image: 12 pixels of 64 x 64, which the rendered world counts as visible."""
MOST_REGIONS = 64  # foreground regions considered for joining; a busier image loses its smallest ones first
PALETTE_CELL = 4.0  # side of the cubes of colour space (Lab) in which pixels are counted
PALETTE_CELLS = 80  # heaviest cubes that the palette is made of
PALETTE_SIZE = 20  # most colours of a palette
PALETTE_STEP = 2  # of the rows and columns that a palette is made of: every second one says as much as all
PALETTE_DISTANCE = 10.0  # palette colours closer than this (Lab) are merged
EDGE_CONTRAST = 4.0
"""Lab gradient per pixel at which a pixel's own colour counts half: colours blend at an edge."""
SMOOTHING = 5  # side of the window, in pixels, in which a colour is chosen
FEATURE_COMPONENTS = 4  # principal components of the patch features that tell regions apart
FEATURE_WEIGHT = 15.0
"""Their root mean square length, in Lab units: the weight of features relative to colour."""
VOTE_SOFTNESS = 0.5  # saliency, in its standard deviations, from which a pixel's vote counts fully
VOTE_DRAW = 0.1
"""A region whose mean vote in [-1, 1] is closer to 0 than this is cut where the saliency changes sign."""
VOTE_INSIDE = -0.9
"""A region away from the picture's border is background only below this mean vote: few surroundings are enclosed."""

NOTHING_SALIENT = "nothing in the image is salient; the whole image is one part"


class WorkingCopy:
    """A picture that parts are found on, and its regions, found once for all models and part methods.

    `pixels` are uint8 RGB (side, side, 3). Any number of threads may ask.
    """

    def __init__(self, pixels: UInt8[ndarray, "side side 3"]) -> None:
        self.pixels = pixels
        self._lock = Lock()
        self._found: NDArray[np.unsignedinteger] | None = None  # small: studies hold hundreds

    @property
    def lab(self) -> Float[ndarray, "side side 3"]:
        """Without single odd pixels, in CIE Lab."""
        blurred = cv2.medianBlur(self.pixels, 3).astype(np.float32) / 255
        return np.asarray(cv2.cvtColor(blurred, cv2.COLOR_RGB2LAB))

    def regions(self) -> NDArray[np.int64]:
        """`colour_regions`, small ones given to their neighbours: int (side, side), numbers above 0."""
        with self._lock:
            if self._found is None:
                found = colour_regions(self.lab)
                found = absorb_small(found, smallest=_smallest(found))
                self._found = found.astype(np.min_scalar_type(found.max()))
            return self._found.astype(np.int64)


def superpixel_parts(
    copy: WorkingCopy, saliency: Float[ndarray, "rows columns"], *, tokens: CentredTokens | None = None, limit: int = 12
) -> Parts:
    """Divide the salient part of a picture, `WORK_SIDE` pixels wide, along its own edges: parts by falling area.

    Saliency is on the patch grid, above 0 is foreground; only its sign and its size relative to its own standard
    deviation matter. To leave a component out, make it negative (`foreground.restrict`). The image's tokens, on the
    same grid, separate what only colour makes similar. If no region wins the vote, the salient pixels are divided
    as they are; if nothing is salient, the whole image is one part, with a warning. Beyond `limit` parts the closest
    ones by area and colour are merged; ValueError if it is below 1.
    """
    if limit < 1:
        raise ValueError(f"limit is {limit}; it must be at least 1")
    labels = _foreground_regions(copy.regions(), saliency)
    if not labels.any():
        return Parts(np.ones(labels.shape, dtype=np.int64), (NOTHING_SALIENT,))
    lab = copy.lab
    looks = [lab] if tokens is None else [lab, feature_map(tokens, side=len(lab))]
    return Parts(join_alike(join_patterns(Regions.of(labels, *looks))).at_most(limit).labels, ())


def picture_regions(image: UInt8[ndarray, "side side 3"], *, limit: int) -> NDArray[np.uint8]:
    """Divide a whole picture into at most `limit` regions of one colour, numbered from 0; the largest ones stay."""
    side = len(image)
    labels = WorkingCopy(cv2.resize(image, (WORK_SIDE, WORK_SIDE), interpolation=cv2.INTER_CUBIC)).regions()
    largest = np.argsort(-_areas(labels), kind="stable")[: limit - 1]  # what touches none of them is one more region
    _, numbers = np.unique(_absorbed(labels, np.isin(np.arange(labels.max() + 1), largest)), return_inverse=True)
    numbered = numbers.reshape(labels.shape).astype(np.uint8)
    return np.asarray(cv2.resize(numbered, (side, side), interpolation=cv2.INTER_NEAREST_EXACT), dtype=np.uint8)


def colour_regions(lab: Float[ndarray, "height width 3"]) -> NDArray[np.int64]:
    """Connected regions (4-connected) of one palette colour, int (height, width) from 1.

    Each pixel takes argmin_k of the sum over the window around it of w · |lab - palette_k|, where w falls with the
    colour gradient: pixels on an edge follow their neighbours instead of forming a region of their own.
    """
    planes = cv2.split(lab)
    contrast = np.zeros(lab.shape[:2], dtype=np.float32)
    for plane, dx in product(planes, (0, 1)):
        cv2.accumulateSquare(cv2.Sobel(plane, cv2.CV_32F, dx, 1 - dx, scale=1 / (8 * EDGE_CONTRAST)), contrast)
    weights = 1 / (1 + contrast)
    sample = np.s_[::PALETTE_STEP, ::PALETTE_STEP]
    best = np.full(weights.shape, np.inf, dtype=np.float32)
    nearest = np.zeros(weights.shape, dtype=np.uint8)
    for number, colour in enumerate(palette(lab[sample].reshape(-1, 3), weights[sample].ravel()).tolist()):
        first, second, third = (cv2.subtract(plane, value) for plane, value in zip(planes, colour, strict=True))
        distance = cv2.magnitude(cv2.magnitude(first, second), third)
        cost = cv2.blur(weights * distance, (SMOOTHING, SMOOTHING))
        np.putmask(nearest, cost < best, number)
        best = cv2.min(best, cost)
    return _connected(nearest)


def palette(colours: Float[ndarray, "pixels 3"], weights: Float[ndarray, " pixels"]) -> NDArray[np.float32]:
    """The image's colours, CIE Lab, most frequent first, float32 (colours, 3), at most 20.

    The pixels are counted in cubes of the colour space, by weight; the mean colours of the 80 heaviest cubes are
    merged, closest first, until the closest are `PALETTE_DISTANCE` apart.
    """
    planes = np.ascontiguousarray(colours.T)
    cells = np.floor(planes / PALETTE_CELL).astype(np.int64)
    cells -= cells.min(axis=1, keepdims=True)
    cubes = np.ravel_multi_index(tuple(cells), tuple(cells.max(axis=1) + 1))
    mass = np.bincount(cubes, weights)
    (found,) = mass.nonzero()
    heaviest = found[np.argsort(-mass[found], kind="stable")[:PALETTE_CELLS]]
    mass = mass[heaviest]
    means = np.stack([np.bincount(cubes, weights * plane)[heaviest] for plane in planes], axis=1) / mass[:, None]
    families = merge_closest(means, mass, distance=PALETTE_DISTANCE)
    members = (families == np.unique(families)[:, None]) * mass
    totals = members.sum(axis=1)
    order = np.argsort(-totals, kind="stable")[:PALETTE_SIZE]
    return np.asarray((members @ means / totals[:, None])[order], dtype=np.float32)


def _connected(values: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Number the 4-connected regions of equal values, from 1 in the order of their first pixels.

    All values at once: between the pixels of a grid of twice the size lie the links between equal neighbours.
    """
    height, width = values.shape
    links = np.zeros((2 * height - 1, 2 * width - 1), dtype=np.uint8)
    links[::2, ::2] = 1
    links[::2, 1::2] = values[:, 1:] == values[:, :-1]
    links[1::2, ::2] = values[1:] == values[:-1]
    _, labels = cv2.connectedComponents(links, connectivity=4)
    return np.asarray(labels[::2, ::2], dtype=np.int64)


def feature_map(tokens: CentredTokens, *, side: int) -> Float[ndarray, "side side components"]:
    """The first four principal components of an image's tokens, upsampled, in units comparable to Lab distances.

    The components together have the root mean square length `FEATURE_WEIGHT`; equal tokens give zeros.
    """
    # Single precision and the first rounds are close enough for colours.
    values, vectors = leading_eigenvectors(tokens.products.float(), FEATURE_COMPONENTS, tolerance=1e9)
    scores = vectors[:, -FEATURE_COMPONENTS:] * values[-FEATURE_COMPONENTS:].clamp_min(0).sqrt()
    size = float(scores.square().sum(dim=1).mean().sqrt())
    scaled = scores * (FEATURE_WEIGHT / size if size > FLAT else 0.0)
    coarse = scaled.reshape(*tokens.grid, -1).cpu().numpy().astype(np.float32)
    fine = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_LINEAR)
    return np.asarray(fine, dtype=np.float32).reshape(side, side, -1)


def absorb_small(labels: NDArray[np.int64], *, smallest: float) -> NDArray[np.int64]:
    """Give the pixels of regions below `smallest` pixels to the nearest region that is large enough.

    0 is background and receives nothing: small pieces that do not touch a large region become background. If no region
    is large enough, the largest one is kept.
    """
    areas = _areas(labels)
    return _absorbed(labels, areas >= min(smallest, areas.max())) if areas.any() else labels


def _smallest(regions: NDArray[np.int64]) -> float:
    """Area of the smallest region that is kept, in pixels."""
    return max(SMALLEST_AREA * regions.size, 2.0)


def _areas(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pixels by label, 0 for the background."""
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    return areas


def _absorbed(labels: NDArray[np.int64], large: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Absorb all regions except the `large` ones (by label); see `absorb_small`."""
    kept = large.take(labels)
    lost = (labels > 0) & ~kept
    if not lost.any():
        return labels
    _, nearest = cv2.distanceTransformWithLabels(
        (~kept).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    _, pieces = cv2.connectedComponents(lost.astype(np.uint8), connectivity=8)
    touching = np.zeros(pieces.max() + 1, dtype=bool)
    touching[pieces[lost & (cv2.dilate(kept.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)]] = True
    filled = labels.copy()
    filled[lost] = np.where(touching[pieces[lost]], labels[kept][nearest[lost] - 1], 0)
    return filled


def vote(labels: NDArray[np.int64], saliency: Float[ndarray, "height width"]) -> NDArray[np.bool_]:
    """Which pixels are foreground: whole regions, by the mean of clip(saliency / (0.5 · std), -1, 1) inside them.

    A region without a clear majority is cut where the saliency changes sign; inside the picture few votes are enough.
    """
    spread = VOTE_SOFTNESS * float(saliency.std())
    votes = np.clip(saliency / spread, -1, 1) if spread > 0 else np.sign(saliency)
    counts = np.maximum(np.bincount(labels.ravel()), 1)
    means = np.bincount(labels.ravel(), votes.ravel()) / counts
    inside = np.ones(len(means), dtype=bool)
    for strip in (labels[:2], labels[-2:], labels[:, :2], labels[:, -2:]):
        inside[strip] = False
    won, cut = means > np.where(inside, VOTE_INSIDE, 0.0), (np.abs(means) < VOTE_DRAW) & ~inside
    return np.where(cut.take(labels), saliency > 0, won.take(labels))


def _foreground_regions(regions: NDArray[np.int64], saliency: NDArray[np.floating]) -> NDArray[np.int64]:
    """The regions that win the vote, else the salient pixels of each; without tiny ones, at most `MOST_REGIONS`."""
    smallest = _smallest(regions)
    field = cv2.resize(saliency.astype(np.float32), regions.shape[::-1])
    won = vote(regions, field)
    labels = absorb_small(np.where(won if won.any() else field > 0, regions, 0), smallest=smallest)
    while (areas := _areas(labels)).astype(bool).sum() > MOST_REGIONS:
        smallest *= 1.5
        if smallest > areas.max():  # too many of equal size, such as the squares of a board
            largest = np.argsort(-areas, kind="stable")[:MOST_REGIONS]  # of equals the first
            return _absorbed(labels, np.isin(np.arange(len(areas)), largest))
        labels = absorb_small(labels, smallest=smallest)
    return labels

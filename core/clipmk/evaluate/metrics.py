"""The formulas of the measures: pure functions on masks, boxes, cosines and ranked lists, and intervals over images.

The truth metrics are those of docs/evaluation.md, deletion, insertion and their like those of docs/method.md, 6.
"""

from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import fsum, log

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from clipmk.concepts.statistics import half_width

Box = tuple[int, int, int, int]  # (left, top, right, bottom) in pixels; right and bottom exclusive
RESAMPLES = 2_000
MOST_RESAMPLED = 4_096
"""From this many values the normal interval replaces the bootstrap, which differs from it there only by noise."""
_SINGULAR = 1e-10
"""Eigenvalues of the products of features below this share of the largest are 0 but for rounding."""
_OUTSIDE = 1e-6
"""How far a contrast that is determined may be from the space of the features that vary, by rounding."""
_UNDETERMINED = 0.001  # resamples that leave out all of seven groups among many


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over images with its 95 % interval."""

    mean: float
    low: float
    high: float
    count: int
    """Images on which the metric is defined."""


def average_precision(ranked: Sequence[Hashable], true: Collection[Hashable]) -> float:
    """AP = (1/|true|) · sum over ranks k with ranked_k true of precision@k; what is not listed scores 0."""
    if not true:
        raise ValueError("average precision needs at least one true item")
    hits, total = 0, 0.0
    for rank, item in enumerate(ranked, 1):
        if item in true:
            hits += 1
            total += hits / rank
    return total / len(true)


def average_precision_of_pixels(values: NDArray[np.floating], mask: NDArray[np.bool_]) -> float:
    """AP of the pixels of a mask among all pixels, highest value first, ties in order; 0 for an empty mask."""
    hits = mask.ravel()[np.argsort(-values.ravel(), kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, hits.size + 1)
    return float(precision[hits].mean()) if hits.any() else 0.0


def r_precision(ranked: Sequence[Hashable], true: Collection[Hashable]) -> float:
    """|top R ∩ true| / R with R = |true|."""
    if not true:
        raise ValueError("R-precision needs at least one true item")
    return len(set(ranked[: len(true)]) & set(true)) / len(true)


def iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """|A ∩ B| / |A ∪ B|; 1 where both are empty."""
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 1.0


def pairwise_iou(found: NDArray[np.bool_], true: NDArray[np.bool_]) -> NDArray[np.float64]:
    """IoU of every found mask (K, H, W) with every true mask (T, H, W); float64 (K, T)."""
    left = found.reshape(len(found), -1).astype(np.float64)
    right = true.reshape(len(true), -1).astype(np.float64)
    shared = left @ right.T
    union = left.sum(1)[:, None] + right.sum(1)[None] - shared
    return np.asarray(np.where(union > 0, shared / np.maximum(union, 1), 1.0))


def grid_ceiling(mask: NDArray[np.bool_], *, grid: tuple[int, int]) -> float:
    """The best IoU that any union of grid cells can have with a mask (H, W).

    Where the grid does not divide H and W, a pixel belongs to the cell that holds its upper left corner. With a_i
    object pixels among the c_i of cell i, IoU = sum a_i / (|O| + sum (c_i - a_i)) over the chosen cells; cells with a
    larger share of object pixels always go first, so the best prefix of the sorted cells is the optimum.
    """
    rows, columns = grid
    owner = np.add.outer(
        np.arange(mask.shape[0]) * rows // mask.shape[0] * columns, np.arange(mask.shape[1]) * columns // mask.shape[1]
    )
    cells = np.bincount(owner[mask], minlength=rows * columns)
    sizes = np.bincount(owner.ravel(), minlength=rows * columns)
    order = np.argsort(-cells / np.maximum(sizes, 1), kind="stable")
    inside, covered = np.cumsum(cells[order]), np.cumsum(sizes[order])
    total = int(cells.sum())
    return float((inside / (total + covered - inside)).max()) if total else 1.0


def box_iou(one: Box | None, other: Box | None) -> float:
    """|A ∩ B| / |A ∪ B| of two boxes; 0 where one is missing or they do not meet."""
    if one is None or other is None:
        return 0.0
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def localised(found: Box | None, true: Box | None) -> bool:
    """CorLoc of one image: the found box overlaps the true one with an IoU above 0.5."""
    return box_iou(found, true) > 0.5


def concept_order(part_cosines: NDArray[np.floating], descriptor_cosines: NDArray[np.floating]) -> NDArray[np.intp]:
    """Order of the parts by w_l = cos(image, part_l) · cos(image, first descriptor of part_l), highest first."""
    return np.argsort(-(part_cosines * descriptor_cosines), kind="stable")


def hidden_regions(
    masks: NDArray[np.bool_], order: Sequence[int] | NDArray[np.intp], *, reveal: bool
) -> NDArray[np.bool_]:
    """What is blurred at each of the L + 1 steps of deletion, or of insertion (`reveal`), bool (L + 1, H, W).

    With U_t the union of the first t regions of the order, t = 0..L: deletion hides U_t, from the untouched picture on;
    insertion hides the complement of U_t, from the wholly blurred picture on. What lies outside every region stays
    visible in deletion and hidden in insertion.
    """
    start = np.zeros((1, *masks.shape[1:]), dtype=bool)
    unions = np.concatenate([start, np.logical_or.accumulate(masks[np.asarray(order, dtype=np.intp)], axis=0)])
    return ~unions if reveal else unions


def descriptor_entropy(part_descriptors: Sequence[Sequence[Hashable]]) -> float:
    """H = - sum over d of p_d · ln p_d, p_d = how often descriptor d is given to a part / all descriptors given.

    Diversity of the descriptors over the parts: L parts with k different descriptors each reach at most ln(L · k);
    where all parts carry the same k it is ln k. The paper states neither logarithm nor k. Its 2.33 and 2.34 exceed the
    most that one descriptor per part could give (ln 5 = 1.609 nats, log2 5 = 2.322 bits), so they are read as nats over
    the k = 3 descriptors of each of the L = 5 parts, of at most ln 15 = 2.708.
    """
    counts = Counter(descriptor for part in part_descriptors for descriptor in part)
    total = counts.total()
    if not total:
        raise ValueError("the entropy of no descriptors is undefined")
    return abs(fsum(count / total * log(count / total) for count in counts.values()))


def rank_correlation(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Spearman's rho, ties at their mean rank; 0 where all values of either are equal, which ranks nothing."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def first_is_highest(scores: NDArray[np.floating], values: NDArray[np.floating]) -> float:
    """Chance that the one with the highest score has the highest value; equal scores are drawn from."""
    first = scores == scores.max()
    return float(first[values.argmax()] / first.sum())


def within_effects(
    features: Sequence[NDArray[np.float64]],
    outcomes: Sequence[NDArray[np.float64]],
    contrasts: NDArray[np.float64],
    *,
    seed: int = 0,
) -> list[list[Interval]]:
    """C b of y_gi = a_g + x_gi · b + e_gi by least squares, every group with its own a_g; 95 % intervals over groups.

    Features (items, features) and outcomes (items, outcomes) of each group, less their group's means, have the same b
    without any a (within-transformation). The interval is that of the percentile bootstrap over whole groups: b = (sum
    of X_g' X_g)^+ (sum of X_g' y_g) of those drawn; the count is that of the groups. Each contrast, a row of C, has an
    interval for each outcome; none where so few groups determine it (no group, where a feature is constant within each)
    that more than `_UNDETERMINED` of the resamples do not.
    """
    within = [(x - x.mean(axis=0), y - y.mean(axis=0)) for x, y in zip(features, outcomes, strict=True)]
    squares, products = np.stack([x.T @ x for x, _ in within]), np.stack([x.T @ y for x, y in within])
    drawn = np.vstack([np.ones(len(within)), _resamples(len(within), seed)])
    summed = np.tensordot(drawn, squares, axes=1)
    inverse = np.linalg.pinv(summed, rcond=_SINGULAR, hermitian=True)
    effects = contrasts @ inverse @ np.tensordot(drawn, products, axes=1)  # (resamples, contrasts, outcomes)
    outside = np.abs(contrasts @ inverse @ summed - contrasts).max(axis=-1) > _OUTSIDE
    ends = np.stack([effects[0], *np.quantile(effects, [0.025, 0.975], axis=0)], axis=-1).tolist()
    return [
        [] if share > _UNDETERMINED else [Interval(mean, low, high, len(within)) for mean, low, high in each]
        for share, each in zip(outside.mean(axis=0), ends, strict=True)
    ]


def interval(values: Sequence[float] | NDArray[np.float64], *, seed: int = 0) -> Interval:
    """Mean and its 95 % interval over images; NaN entries (metric undefined there) are left out.

    The interval is that of the percentile bootstrap; from `MOST_RESAMPLED` values on it is mean ± 1.96 s / √n, s² the
    unbiased variance, so that memory does not grow with the number of images. ValueError if no value is defined.
    """
    array = np.asarray(values, dtype=np.float64)
    array = array[~np.isnan(array)]
    if not len(array):
        raise ValueError("an interval needs at least one defined value")
    mean = float(array.mean())
    if len(array) < MOST_RESAMPLED:
        means = _resamples(len(array), seed) @ array / len(array)
        low, high = np.quantile(means, [0.025, 0.975]).tolist()
    else:
        half = half_width(array)
        low, high = mean - half, mean + half
    return Interval(mean=mean, low=low, high=high, count=len(array))


def clustered_interval(values: NDArray[np.float64], clusters: NDArray[np.int64], *, seed: int = 0) -> Interval:
    """Mean and its 95 % interval by the percentile bootstrap over clusters, and over the draws of a control.

    From (draws, images), a single draw for what is not drawn. A resample takes as many whole clusters c as there are,
    and as many draws k: sum of x_kc / (draws · their images), with x_kc the sum over the images of c. What the images
    of a cluster share, and what a draw does to all of them, widens the interval. The images of a single cluster are
    drawn one by one.
    """
    owners = np.unique(clusters, return_inverse=True)[1]
    sizes = np.bincount(owners := owners if owners.any() else np.arange(len(owners)))
    sums = np.stack([np.bincount(owners, row) for row in values])
    drawn = _resamples(len(sizes), seed)
    totals = (_resamples(len(values), seed + 1) @ sums * drawn).sum(axis=1)
    low, high = np.quantile(totals / (len(values) * (drawn @ sizes)), [0.025, 0.975]).tolist()
    return Interval(mean=float(values.mean()), low=low, high=high, count=values.shape[1])


def intervals(
    values: Mapping[str, NDArray[np.float64]], clusters: NDArray[np.int64] | None = None, *, seed: int = 0
) -> dict[str, Interval]:
    """The `interval` of each metric that is defined on any image, or with clusters the `clustered_interval` of each."""
    if clusters is not None:
        return {name: clustered_interval(each, clusters, seed=seed) for name, each in values.items()}
    return {name: interval(each, seed=seed) for name, each in values.items() if not np.isnan(each).all()}


@lru_cache(maxsize=4)
def _resamples(count: int, seed: int) -> NDArray[np.float64]:
    """How often each of `count` is drawn in each resample, (resamples, count): the same for every metric."""
    drawn = np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))
    cells = drawn + np.arange(RESAMPLES)[:, None] * count
    return np.bincount(cells.ravel(), minlength=RESAMPLES * count).reshape(RESAMPLES, count).astype(np.float64)

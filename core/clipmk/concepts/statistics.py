"""Statistics of a study: intervals over images, and how AUC and accuracy go together over models. Float64, pure.

Sums are exactly rounded (`math.fsum`), so that no result depends on an order of summation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, permutations
from math import atanh, fsum, isnan, sqrt, tanh
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NORMAL_95: Final = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""
FEWEST_MODELS: Final = 4
"""Models of a family from which a line is fitted through them."""
FEWEST_RANKED: Final = 10
"""Models from which rho has an interval; fewer have a p-value over all their orders, at most 9! of them."""
_PERFECT: Final = 1e-12
"""A correlation this close to 1 or -1 is one, but for rounding."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its 95 % interval; None where it is not defined."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class RankEstimate:
    """A rank correlation with its 95 % interval or, where that would mean nothing, a p-value; None: not defined."""

    value: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    """Two-sided, exact; see `permutation_p`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """top-1 = slope · AUC + intercept through models, by least squares, and how closely they follow it."""

    group: str
    """The family, or `POOLED`."""
    count: int
    """Models."""
    slope: float
    """Points of accuracy per unit of AUC, in the unit of y."""
    intercept: float
    pearson: Estimate
    """r; see `pearson_estimate`."""
    spearman: RankEstimate
    """rho; see `spearman_estimate`."""
    mean_x: float
    spread_x: float
    """Sum of (x - mean_x)²."""
    deviation: float
    """Residual standard deviation, with n - 2 degrees of freedom."""

    def at(self, x: Floats) -> Floats:
        """Height of the line: y = slope · x + intercept."""
        return self.slope * x + self.intercept

    def band(self, x: Floats) -> Floats:
        """Half the width of the 95 % confidence band of the line: t(n-2) · s · sqrt(1/n + (x - mean)² / spread)."""
        from scipy.special import stdtrit  # noqa: PLC0415 - slow to import

        quantile = float(stdtrit(self.count - 2, 0.975))
        return np.asarray(quantile * self.deviation * np.sqrt(1 / self.count + (x - self.mean_x) ** 2 / self.spread_x))


POOLED: Final = "all families"


def mean(values: Floats) -> float | None:
    """The arithmetic mean, its sum exactly rounded; None of nothing."""
    return fsum(values.tolist()) / len(values) if len(values) else None


def mean_interval(values: Floats) -> Estimate:
    """The mean and mean ± `half_width`; no interval below two values."""
    centre = mean(values)
    if centre is None or len(values) < 2:
        return Estimate(centre)
    half = half_width(values)
    return Estimate(centre, centre - half, centre + half)


def half_width(values: Floats) -> float:
    """Half the 95 % normal interval of a mean: 1.96 · s / sqrt(n), s with n - 1 degrees of freedom; n is 2 or more."""
    centre, count = fsum(values.tolist()) / len(values), len(values)
    return NORMAL_95 * sqrt(fsum(((values - centre) ** 2).tolist()) / (count - 1) / count)


def wilson(hits: int, count: int) -> Estimate:
    """A share and its 95 % Wilson interval: (p + z²/2n ± z · sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)."""
    if not count:
        return Estimate(None)
    share, z2 = hits / count, NORMAL_95**2
    centre = share + z2 / (2 * count)
    half = NORMAL_95 * sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    scale = 1 + z2 / count
    return Estimate(share, max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale))


def fit(group: str, x: Sequence[float], y: Sequence[float]) -> Fit | None:
    """Fit y = a · x + b by least squares, with correlations and how far they can be trusted.

    Args:
        group: name of the group of models.
        x: AUC of each model.
        y: accuracy of each model.

    Returns:
        None below `FEWEST_MODELS`, or where all x are alike.
    """
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    count = len(xs)
    if count < FEWEST_MODELS or np.ptp(xs) == 0:
        return None
    mean_x, mean_y = fsum(xs) / count, fsum(ys) / count
    spread = fsum((xs - mean_x) ** 2)
    slope = fsum((xs - mean_x) * (ys - mean_y)) / spread
    intercept = mean_y - slope * mean_x
    residual = fsum((ys - slope * xs - intercept) ** 2)
    return Fit(
        group=group,
        count=count,
        slope=slope,
        intercept=intercept,
        pearson=pearson_estimate(xs, ys),
        spearman=spearman_estimate(xs, ys),
        mean_x=mean_x,
        spread_x=spread,
        deviation=sqrt(residual / (count - 2)),
    )


def pearson(x: Floats, y: Floats) -> Floats:
    """cov(x, y) / (sd(x) · sd(y)) along the last axis, within [-1, 1]; NaN where one of the two does not vary."""
    dx, dy = x - x.mean(axis=-1, keepdims=True), y - y.mean(axis=-1, keepdims=True)
    varies = (np.ptp(x, axis=-1) > 0) & (np.ptp(y, axis=-1) > 0)
    norm = np.sqrt((dx**2).sum(axis=-1) * (dy**2).sum(axis=-1))
    found = np.clip((dx * dy).sum(axis=-1) / np.where(varies, norm, 1.0), -1.0, 1.0)  # rounding may lead beyond
    return np.asarray(np.where(varies, found, np.nan))


def spearman(x: Floats, y: Floats) -> Floats:
    """rho: `pearson` of the ranks, ties sharing their mean rank."""
    return pearson(_ranks(x), _ranks(y))


def pearson_estimate(x: Floats, y: Floats) -> Estimate:
    """Pearson's r and its 95 % interval by Fisher's z, tanh(atanh r ± 1.96 / sqrt(n - 3)).

    It holds for models drawn from a bivariate normal distribution. There is none for n < 4, nor for |r| = 1.
    """
    found = float(pearson(x, y))
    if isnan(found):
        return Estimate(None)
    return Estimate(found, *_fisher(found, len(x), variance=1.0))


def spearman_estimate(x: Floats, y: Floats) -> RankEstimate:
    """Spearman's rho, with a 95 % interval for n >= `FEWEST_RANKED`, else with `permutation_p`.

    The interval is that of Bonett & Wright (2000), tanh(atanh rho ± 1.96 · sqrt((1 + rho²/2) / (n - 3))); there is none
    for |rho| = 1.
    """
    found = float(spearman(x, y))
    if isnan(found):
        return RankEstimate(None)
    if len(x) < FEWEST_RANKED:
        return RankEstimate(found, p=permutation_p(x, y))
    return RankEstimate(found, *_fisher(found, len(x), variance=1 + found**2 / 2))


def permutation_p(x: Floats, y: Floats) -> float:
    """The share of the n! orders of y whose |rho| with x is at least that of the given one: an exact two-sided p.

    As rho = (n · S - A · B) / constant, where S is the sum of products of the ranks and A, B are the sums of the ranks,
    |n · S - A · B| is compared, in whole numbers: ranks are doubled, since ties have halves.

    Args:
        x: (n,), n below `FEWEST_RANKED`, for all orders are gone through.
        y: (n,).
    """
    a, b = (np.rint(2 * _ranks(values)).astype(np.int64) for values in (x, y))
    orders = np.fromiter(chain.from_iterable(permutations(b.tolist())), dtype=np.int64).reshape(-1, len(b))
    distances, found = (np.abs(len(a) * (order @ a) - a.sum() * b.sum()) for order in (orders, b))
    return float(np.mean(distances >= found))


def _fisher(value: float, count: int, *, variance: float) -> tuple[float | None, float | None]:
    """tanh(atanh(value) ± 1.96 · sqrt(variance / (count - 3))), or no interval."""
    if count < 4 or 1 - abs(value) < _PERFECT:
        return None, None
    half = NORMAL_95 * sqrt(variance / (count - 3))
    return tanh(atanh(value) - half), tanh(atanh(value) + half)


def _ranks(values: Floats) -> Floats:
    """1-based ranks along the last axis: the number of smaller values + (the number of equal ones + 1) / 2."""
    one, other = values[..., :, None], values[..., None, :]
    return np.asarray((other < one).sum(axis=-1) + ((other == one).sum(axis=-1) + 1) / 2)

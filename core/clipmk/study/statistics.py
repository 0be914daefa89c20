"""Statistics of a study: intervals over images, and how AUC and accuracy go together over models. Float64, pure.

Sums are exactly rounded (`math.fsum`), so that no result depends on an order of summation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import fsum, isnan, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NORMAL_95: Final = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""
FEWEST_MODELS: Final = 4
"""Models of a family from which a line is fitted through them."""
RESAMPLES: Final = 4_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its 95 % interval; None where it is not defined."""

    value: float | None
    low: float | None = None
    high: float | None = None


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
    """r, with a percentile-bootstrap interval over models."""
    spearman: Estimate
    """rho, likewise."""
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
    """The mean and mean ± 1.96 · s / sqrt(n), s with n - 1 degrees of freedom; no interval below two values."""
    centre = mean(values)
    if centre is None or len(values) < 2:
        return Estimate(centre)
    count = len(values)
    half = NORMAL_95 * sqrt(fsum(((values - centre) ** 2).tolist()) / (count - 1) / count)
    return Estimate(centre, centre - half, centre + half)


def wilson(hits: int, count: int) -> Estimate:
    """A share and its 95 % Wilson interval: (p + z²/2n ± z · sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)."""
    if not count:
        return Estimate(None)
    share, z2 = hits / count, NORMAL_95**2
    centre = share + z2 / (2 * count)
    half = NORMAL_95 * sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    scale = 1 + z2 / count
    return Estimate(share, max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale))


def fit(group: str, x: Sequence[float], y: Sequence[float], *, seed: int = 0) -> Fit | None:
    """Fit y = a · x + b by least squares, with correlations and their bootstrap intervals.

    Args:
        group: name of the group of models.
        x: AUC of each model.
        y: accuracy of each model.
        seed: of the bootstrap.

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
        pearson=_bootstrapped(pearson, xs, ys, seed),
        spearman=_bootstrapped(spearman, xs, ys, seed),
        mean_x=mean_x,
        spread_x=spread,
        deviation=sqrt(residual / (count - 2)),
    )


def pearson(x: Floats, y: Floats) -> Floats:
    """The correlation r = cov(x, y) / (sd(x) · sd(y)) along the last axis; NaN where one of the two does not vary."""
    dx, dy = x - x.mean(axis=-1, keepdims=True), y - y.mean(axis=-1, keepdims=True)
    varies = (np.ptp(x, axis=-1) > 0) & (np.ptp(y, axis=-1) > 0)
    norm = np.sqrt((dx**2).sum(axis=-1) * (dy**2).sum(axis=-1))
    return np.asarray(np.where(varies, (dx * dy).sum(axis=-1) / np.where(varies, norm, 1.0), np.nan))


def spearman(x: Floats, y: Floats) -> Floats:
    """rho: `pearson` of the ranks, ties sharing their mean rank."""
    return pearson(_ranks(x), _ranks(y))


def _ranks(values: Floats) -> Floats:
    """1-based ranks along the last axis: the number of smaller values + (the number of equal ones + 1) / 2."""
    one, other = values[..., :, None], values[..., None, :]
    return np.asarray((other < one).sum(axis=-1) + ((other == one).sum(axis=-1) + 1) / 2)


def _bootstrapped(statistic: Callable[[Floats, Floats], Floats], x: Floats, y: Floats, seed: int) -> Estimate:
    """A statistic and its percentile interval over resampled models; resamples without variation are left out."""
    found = float(statistic(x, y))
    if isnan(found):
        return Estimate(None)
    drawn = np.random.default_rng(seed).integers(len(x), size=(RESAMPLES, len(x)))
    values = statistic(x[drawn], y[drawn])
    low, high = np.nanquantile(values, (0.025, 0.975))
    return Estimate(found, float(low), float(high))

"""Intervals over images, and how AUC and accuracy go together over models. Float64, pure.

Means and their intervals are summed exactly (`math.fsum`), so they do not depend on the order of the images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import atanh, fsum, sqrt, tanh
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NORMAL_95: Final = 1.959963984540054  # the 97.5 % quantile of the standard normal distribution
FEWEST_MODELS: Final = 4  # models of a family from which a line is fitted through them
FEWEST_RANKED: Final = 10
"""Models from which rho has an interval; fewer have a p-value over all their orders, at most 9! of them."""
POOLED: Final = "all families"
_PERFECT: Final = 1e-12  # a correlation this close to 1 or -1 is perfect but for rounding


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its 95 % interval; None where it is not defined."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class RankEstimate(Estimate):
    """A rank correlation with its 95 % interval or, for few models, a p-value."""

    p: float | None = None
    """Two-sided, exact; see `permutation_p`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineFit:
    """top-1 = slope · AUC (or a rival) + intercept through models, by least squares, and how closely they follow it."""

    name: str
    """What x is."""
    group: str
    """The family, or `POOLED`."""
    count: int
    """Models."""
    recipes: int
    """Different ways of training among them: models of one recipe are hardly independent. 0: not known."""
    slope: float
    """Points of accuracy per unit of x, in the unit of y."""
    intercept: float
    pearson: Estimate
    """r; see `pearson_estimate`."""
    spearman: RankEstimate
    """rho; see `spearman_estimate`."""
    without_one: Estimate
    """r, and its range as the models of each recipe are left out in turn; see `range_without_one`."""
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


def mean(values: Floats) -> float | None:
    """The arithmetic mean, its sum exactly rounded; None for no values."""
    return fsum(values.tolist()) / len(values) if len(values) else None


def mean_interval(values: Floats, groups: NDArray[np.int64] | None = None) -> Estimate:
    """The mean and mean ± `half_width`; no interval below two values, or two groups."""
    centre = mean(values)
    if centre is None or len(values if groups is None else np.unique(groups)) < 2:
        return Estimate(centre)
    half = half_width(values, groups)
    return Estimate(centre, centre - half, centre + half)


def half_width(values: Floats, groups: NDArray[np.int64] | None = None) -> float:
    """Half the 95 % normal interval of a mean: 1.96 · sqrt(G / (G - 1) · sum over groups of (sum of x - mean)²) / n.

    Without groups every value is one, G = n, and this is 1.96 · s / sqrt(n), s with n - 1 degrees of freedom. A group
    is what was fitted together, so that its values are not independent evidence. Two values or groups are needed.
    """
    count = len(values)
    residuals: Floats = values - fsum(values.tolist()) / count
    if groups is not None:
        residuals = np.bincount(np.unique(groups, return_inverse=True)[1], residuals).astype(np.float64)
    squares = fsum((residuals**2).tolist()) / (len(residuals) - 1)
    return NORMAL_95 * sqrt(squares / count * (len(residuals) / count))


def wilson(hits: int, count: int) -> Estimate:
    """A share and its 95 % Wilson interval."""
    if not count:
        return Estimate(None)
    from scipy.stats import binomtest  # noqa: PLC0415 - slow to import

    low, high = binomtest(hits, count).proportion_ci(0.95, method="wilson")
    return Estimate(hits / count, float(low), float(high))


def fit_line(
    group: str, x: Sequence[float], y: Sequence[float], *, recipes: Sequence[str] = (), name: str = "AUC"
) -> LineFit | None:
    """Fit accuracy y to AUC or a rival by least squares; None below `FEWEST_MODELS` models or where all x are equal."""
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(xs) < FEWEST_MODELS or np.ptp(xs) == 0:
        return None
    from scipy.stats import linregress  # noqa: PLC0415 - slow to import

    line = linregress(xs, ys)
    residuals = ys - line.slope * xs - line.intercept
    return LineFit(
        name=name,
        group=group,
        count=len(xs),
        recipes=len(set(recipes)),
        slope=float(line.slope),
        intercept=float(line.intercept),
        pearson=pearson_estimate(xs, ys),
        spearman=spearman_estimate(xs, ys),
        without_one=range_without_one(xs, ys, recipes),
        mean_x=float(xs.mean()),
        spread_x=float(xs.var() * len(xs)),
        deviation=sqrt(fsum(residuals**2) / (len(xs) - 2)),
    )


def pearson_estimate(x: Floats, y: Floats) -> Estimate:
    """Pearson's r and its 95 % interval by Fisher's z (bivariate normal); no interval for n < 4, nor for |r| = 1."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return Estimate(None)
    from scipy.stats import pearsonr  # noqa: PLC0415 - slow to import

    found = pearsonr(x, y)
    value = float(found.statistic)
    if len(x) < 4 or 1 - abs(value) < _PERFECT:
        return Estimate(value)
    low, high = found.confidence_interval(0.95)
    return Estimate(value, float(low), float(high))


def spearman_estimate(x: Floats, y: Floats) -> RankEstimate:
    """Spearman's rho, with a 95 % interval for n >= `FEWEST_RANKED`, else with `permutation_p`.

    The interval is that of Bonett & Wright (2000), tanh(atanh rho ± 1.96 · sqrt((1 + rho²/2) / (n - 3))); there is none
    for |rho| = 1.
    """
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return RankEstimate(None)
    from scipy.stats import spearmanr  # noqa: PLC0415 - slow to import

    rho = float(spearmanr(x, y).statistic)
    perfect = 1 - abs(rho) < _PERFECT
    rho = float(round(rho)) if perfect else rho
    if len(x) < FEWEST_RANKED:
        return RankEstimate(rho, p=permutation_p(x, y))
    if perfect:
        return RankEstimate(rho)
    half = NORMAL_95 * sqrt((1 + rho**2 / 2) / (len(x) - 3))
    return RankEstimate(rho, tanh(atanh(rho) - half), tanh(atanh(rho) + half))


def range_without_one(x: Floats, y: Floats, groups: Sequence[str]) -> Estimate:
    """Pearson's r, and its lowest and highest value where the models of one group are left out, each group once.

    No range for a single group, nor where fewer than three models, or none that differ, would remain.
    """
    owners = np.asarray(groups)
    rest = [owners != one for one in dict.fromkeys(groups)]
    found = [pearson_estimate(x[kept], y[kept]).value if kept.sum() > 2 else None for kept in rest]
    known = [value for value in found if value is not None]
    whole = pearson_estimate(x, y).value
    return Estimate(whole, min(known), max(known)) if len(known) == len(rest) > 1 else Estimate(whole)


def permutation_p(x: Floats, y: Floats) -> float:
    """The share of the n! orders of y whose |rho| with x is at least that of the given one: an exact two-sided p.

    As rho = (n · S - A · B) / constant, where S is the sum of products of the ranks and A, B are the sums of the ranks,
    |n · S - A · B| is compared, in whole numbers: ranks are doubled, since ties have halves.
    """
    from scipy.stats import permutation_test, rankdata  # noqa: PLC0415 - slow to import

    a, b = 2 * rankdata(x), 2 * rankdata(y)

    def distance(order: Floats, axis: int = -1) -> Floats:
        return np.asarray(np.abs(len(a) * np.moveaxis(order, axis, -1) @ a - a.sum() * b.sum()))

    orders = {"permutation_type": "pairings", "n_resamples": np.inf, "batch": 50_000}
    return float(permutation_test((b,), distance, vectorized=True, alternative="greater", **orders).pvalue)

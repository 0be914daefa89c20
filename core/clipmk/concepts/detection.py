"""How well a measure tells wrong predictions from right ones: AUROC with DeLong's interval. Float64, pure."""

from math import sqrt

import numpy as np
from numpy.typing import NDArray

from clipmk.concepts.statistics import NORMAL_95, Estimate, Floats, mean


def placements(scores: Floats, wrong: NDArray[np.bool_]) -> Floats:
    """Share of the right predictions that each wrong one is above, and of the wrong ones that each right one is below.

    High scores are suspected to be wrong; equal ones count half. The mean over the wrong predictions is the AUROC, as
    is that over the right ones; there must be some of both.
    """
    from scipy.stats import rankdata  # noqa: PLC0415 - slow to import

    ranks = rankdata(scores)
    placed = np.empty(len(scores))
    placed[wrong] = (ranks[wrong] - rankdata(scores[wrong])) / np.count_nonzero(~wrong)
    placed[~wrong] = 1 - (ranks[~wrong] - rankdata(scores[~wrong])) / np.count_nonzero(wrong)
    return placed


def auroc(placed: Floats, wrong: NDArray[np.bool_], groups: NDArray[np.int64], *, lowest: float = 0.0) -> Estimate:
    """AUROC and its 95 % normal interval by the variance of DeLong (1988), of Obuchowski (1997) for groups of images.

    From `placements`, or the difference of those of two measures (then `lowest` is -1). No interval for fewer than two
    groups with a wrong or with a right prediction, nor for a variance of 0.
    """
    value = mean(placed[wrong])
    if value is None or wrong.all():
        return Estimate(None)
    sums, held, variance = [], [], 0.0
    codes = np.unique(groups, return_inverse=True)[1]
    for chosen in (wrong, ~wrong):
        of_groups = np.bincount(codes[chosen], placed[chosen] - value, minlength=codes.max() + 1)
        sums.append(of_groups / np.count_nonzero(chosen))
        held.append(len(np.unique(codes[chosen])))
        variance += held[-1] / max(1, held[-1] - 1) * float(sums[-1] @ sums[-1])
    count = len(sums[0])
    variance += 2 * count / max(1, count - 1) * float(sums[0] @ sums[1])
    if min(held) < 2 or variance <= 0:
        return Estimate(value)
    half = NORMAL_95 * sqrt(variance)
    return Estimate(value, max(lowest, value - half), min(1.0, value + half))

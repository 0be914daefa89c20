"""Tables of 2 x 2 counts, many at once: Fisher's exact test, odds ratio, difference of two shares. Float64, pure.

Of each table a and b are hits and misses in the first row, c and d in the second; all arguments are (tables,).
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from clipmk.concepts.statistics import NORMAL_95, Floats

Counts = NDArray[np.integer[Any]]
Intervals = tuple[Floats, Floats, Floats]  # values, and the lower and upper ends of their 95 % intervals

_AT_ONCE: Final = 1_000_000
"""About how many tables with the same margins as one of the given ones are held at once."""
_TIE: Final = 1e-7  # relative difference of probabilities that count as equal, as in R


def fisher_p(a: Counts, b: Counts, c: Counts, d: Counts) -> Floats:
    """Two-sided p: the probability of all tables with the same margins that are not likelier than this one."""
    lengths = np.minimum(a, d) + np.minimum(b, c) + 1
    blocks = np.cumsum(lengths) // _AT_ONCE
    found = [_fisher_p(*(one[blocks == block] for one in (a, b, c, d, lengths))) for block in np.unique(blocks)]
    return np.concatenate([*found, np.empty(0)])


def _fisher_p(a: Counts, b: Counts, c: Counts, d: Counts, lengths: Counts) -> Floats:
    from scipy.special import gammaln  # noqa: PLC0415 - slow to import

    starts = np.cumsum(lengths) - lengths
    log_factorials = gammaln(np.arange(1.0, (a + b + c + d).max() + 2))

    def log_probability(*cells: Counts) -> Floats:  # but for a constant of the margins
        return np.asarray(-sum(log_factorials[cell] for cell in cells))

    # from the table with the fewest hits in the first row to that with the most
    steps = np.arange(lengths.sum()) - np.repeat(starts + np.minimum(a, d), lengths)
    own = np.repeat(log_probability(a, b, c, d), lengths)
    first, second = (np.repeat(one, lengths) + steps for one in (a, d))
    others = log_probability(first, np.repeat(b, lengths) - steps, np.repeat(c, lengths) - steps, second) - own
    a_row, a_hits, total = a + b, a + c, a + b + c + d
    margins = [a_row, total - a_row, a_hits, total - a_hits]
    scale = (
        log_probability(a, b, c, d) - log_factorials[total] + np.sum([log_factorials[one] for one in margins], axis=0)
    )
    sums = np.add.reduceat(np.where(others <= _TIE, np.exp(np.minimum(others, _TIE)), 0.0), starts)
    return np.asarray(np.minimum(1.0, np.exp(scale) * sums))


def odds_ratio(a: Counts, b: Counts, c: Counts, d: Counts) -> Intervals:
    """Odds ratio ad / bc with a half added to each count (Haldane, Anscombe), and Woolf's interval of its logarithm."""
    cells = np.stack([a, b, c, d]) + 0.5
    log = np.log(cells[0] * cells[3] / (cells[1] * cells[2]))
    half = NORMAL_95 * np.sqrt((1 / cells).sum(axis=0))
    return np.exp(log), np.exp(log - half), np.exp(log + half)


def share_difference(a: Counts, b: Counts, c: Counts, d: Counts) -> Intervals:
    """Difference a / (a + b) - c / (c + d) and its interval by Newcombe (1998); no row is empty."""
    (one, low_one, high_one), (two, low_two, high_two) = _wilson(a, a + b), _wilson(c, c + d)
    value = one - two
    low = value - np.hypot(one - low_one, high_two - two)
    return value, low, value + np.hypot(high_one - one, two - low_two)


def _wilson(hits: Counts, count: Counts) -> Intervals:
    """Shares and their intervals; `statistics.wilson` of many."""
    square = NORMAL_95**2
    share, scale = hits / count, count + square
    centre = (hits + square / 2) / scale
    half = NORMAL_95 * np.sqrt(count * share * (1 - share) + square / 4) / scale
    return share, centre - half, centre + half

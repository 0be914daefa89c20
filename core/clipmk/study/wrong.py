"""How well the numbers of an explanation tell wrong predictions from right ones: the rows of the table `wrong`."""

from math import ceil
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clipmk.concepts.detection import auroc, placements
from clipmk.concepts.statistics import Estimate, Floats, wilson
from clipmk.study.image_columns import ImageColumns, with_interval
from clipmk.study.schema import TableRow

MEASURES: Final = {
    "probability": ("probability", -1),
    "margin": ("margin", -1),
    "m": ("mutual_count", -1),
    "class swap p": ("class_swap_p", 1),
    "MI": ("mi_paper", -1),
    "AUC": ("auc", -1),
}
"""Measure -> its column of `ImageColumns`, and whether high (1) or low (-1) values are suspected to be wrong."""
LOWEST: Final = 0.2
"""Share of the images, lowest probability first, whose error rate is compared with that of the others."""
HIGHEST: Final = 0.25  # share of the images that may be below the rounded threshold
MOST_DIGITS: Final = 7


def wrong_rows(model: str, parts: str, measured: ImageColumns) -> list[TableRow]:
    """One row per measure, over explained images with a known label."""
    found = measured[measured["explained"] & ~np.isnan(measured["correct"])]
    rows = []
    for measure, (column, sign) in MEASURES.items():
        known = found[~np.isnan(found[column])]
        wrong, groups = known["correct"] == 0, known["group"]
        one, less = Estimate(None), Estimate(None)
        if 0 < wrong.sum() < len(wrong):
            placed, base = (placements(scores, wrong) for scores in (sign * known[column], -known["probability"]))
            one = auroc(placed, wrong, groups)
            less = less if measure == "probability" else auroc(placed - base, wrong, groups, lowest=-1.0)
        about = {"model": model, "parts": parts, "measure": measure, "images": len(known), "wrong": int(wrong.sum())}
        estimates = with_interval("auroc", one) | with_interval("less_probability", less)
        rows.append(about | estimates | _below(known["probability"], wrong, shown=measure == "probability"))
    return rows


def _below(probability: Floats, wrong: NDArray[np.bool_], *, shown: bool) -> TableRow:
    """Error rates below a threshold and from it on: the lowest fifth of the probability, rounded up.

    It has two digits, or as many more as leave three quarters of the images above it.
    """
    threshold, rates = None, [Estimate(None)] * 2
    if shown and len(probability):
        lowest = np.sort(probability)[ceil(LOWEST * len(probability)) - 1]
        rounded = (ceil(lowest * 10**digits) / 10**digits for digits in range(2, MOST_DIGITS))
        threshold = next((one for one in rounded if (probability < one).mean() <= HIGHEST), lowest)
        below = probability < threshold
        rates = [wilson(int(wrong[chosen].sum()), int(chosen.sum())) for chosen in (below, ~below)]
    first, second = (with_interval(f"wrong_{name}", rate) for name, rate in zip(("below", "above"), rates, strict=True))
    return {"threshold": threshold} | first | second

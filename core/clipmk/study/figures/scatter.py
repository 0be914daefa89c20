"""AUC against accuracy, with a line for each family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import isotonic_regression

from clipmk.concepts.statistics import POOLED, LineFit
from clipmk.study.figures.style import GREY, canvas, family_style, intervals, label, mark_models
from clipmk.study.paper import PRINTED_FIT
from clipmk.study.results import Results, family_name
from clipmk.study.schema import TableRow
from clipmk.study.text_tables import estimate

NAME_GAP: Final = 0.03
"""Share of the axes' height from a name to the next one, where there is room for all."""


def draw_scatter(results: Results, *, published_line: bool = False) -> Figure:
    """A mark per model with 95 % intervals; line and band per family of at least four; the AUC of random concepts.

    Args:
        results: with at least one model whose accuracy is known.
        published_line: also draw the line that the paper prints for its ViTs.
    """
    known = [row for row in results.models if row["top1"] is not None]
    figure = canvas(10.0, 6.6)
    axes = figure.subplots()
    for family in dict.fromkeys(row["family"] for row in known):
        members = [row for row in known if row["family"] == family]
        (x, across), (y, up) = intervals(members, "auc"), intervals(members, "top1", factor=100)
        name = f"{family_name(family)} models, 95 % intervals over images"
        mark_models(axes, family, x, y, xerr=across, yerr=up, markersize=7, markeredgecolor="white", label=name)
    axes.margins(0.14)
    axes.autoscale_view()
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    for one in results.fits:
        if one.group != POOLED:
            _line(axes, one, [row["auc"] for row in known if row["family"] == one.group])
    chance = float(np.mean([row["chance_auc"] for row in known]))
    left = max(min(left, chance - 0.03 * (right - chance)), -0.02 * right)  # no AUC is negative
    axes.axvline(chance, color=GREY, linestyle=(0, (1, 1.5)), label=f"AUC of random concepts: {chance:.2f}")
    if published_line:
        slope, intercept = PRINTED_FIT
        ends = np.array([left, right])
        line = f"the paper's ViTs: {slope} · AUC + {intercept}"
        axes.plot(ends, slope * ends + intercept, color="#888888", linewidth=0.9, linestyle=(0, (6, 3)), label=line)
    axes.set_xlim(left, right)
    axes.set_ylim(max(-2.0, bottom), min(102.0, top))
    axes.set_xlabel("AUC of the MI dynamics (comparable within a family only)")
    axes.set_ylabel("zero-shot top-1 (%)")
    figure.legend(loc="outside lower left", ncols=2, fontsize=8)
    name_marks(axes, known, results.names)
    return figure


def fit_text(one: LineFit) -> str:
    """A fit in the legend: `ViT (7 models): top-1 = 11.2 · AUC + 25.9, r = 0.91 [0.54, 0.99]`."""
    name = family_name(one.group)
    line = f"{one.slope:.3g} · AUC {'-' if one.intercept < 0 else '+'} {abs(one.intercept):.3g}"
    return f"{name} ({one.count} models): top-1 = {line}, r = {estimate(one.pearson)}"


def name_marks(axes: Axes, rows: Sequence[TableRow], names: Mapping[str, str]) -> None:
    """Write the names of models in a column beside the axes, in the order of their marks, none over another.

    Each as near to the height of its mark as the others allow (least squares), and joined to it by a line.
    """
    rows = sorted(rows, key=lambda row: row["top1"])
    bottom, top = axes.get_ylim()
    heights = np.array([(100 * row["top1"] - bottom) / (top - bottom) for row in rows])
    gap = min(NAME_GAP, 1 / len(rows))
    steps = gap * np.arange(len(rows))
    places = isotonic_regression(heights - steps).x.clip(0, 1 - steps[-1]) + steps
    for row, place in zip(rows, places, strict=True):
        axes.annotate(
            label(names[row["model"]]),
            (row["auc"], 100 * row["top1"]),
            xytext=(1.03, place),
            textcoords="axes fraction",
            verticalalignment="center",
            fontsize=8,
            color=tuple(0.75 * one for one in family_style(row["family"]).colour),
            zorder=1,
            arrowprops={"arrowstyle": "-", "color": "#999999", "linewidth": 0.6, "relpos": (0, 0.5), "shrinkB": 0},
        )


def _line(axes: Axes, one: LineFit, auc: list[float]) -> None:
    style = family_style(one.group)
    reach = 0.08 * (max(auc) - min(auc))
    x = np.linspace(min(auc) - reach, max(auc) + reach, 60)
    half = one.band(x)
    axes.fill_between(x, one.at(x) - half, one.at(x) + half, color=style.colour, alpha=0.12, linewidth=0)
    axes.plot(x, one.at(x), color=style.colour, linestyle=style.line, linewidth=1.4, label=fit_text(one))

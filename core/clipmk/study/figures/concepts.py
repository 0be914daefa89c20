"""The concepts that are most often shared, and those that are most often missed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clipmk.study.concepts import ConceptTotals
from clipmk.study.figures.style import canvas, family_style, label, light_grid


def draw_concepts(totals: ConceptTotals) -> Figure:
    """Bars of shares of all explanations: mutual concepts by right and wrong predictions, and missed ones."""
    figure = canvas(10.0, 4.9)
    shared, missed = figure.subplots(1, 2)
    most = totals.most("mutual")
    parts = [
        ("predicted right", "vit", "", [row["mutual_right"] for row in most]),
        ("predicted wrong", "resnet", "////", [row["mutual_wrong"] for row in most]),
        ("label unknown", "", "....", [row["mutual"] - row["mutual_right"] - row["mutual_wrong"] for row in most]),
    ]
    _bars(shared, [row["descriptor"] for row in most], [one for one in parts if any(one[3])], totals.explanations)
    if most:
        figure.legend(loc="outside lower left", ncols=len(parts), fontsize=8)
    shared.set_title("most shared: seen and tied")
    most = totals.most("missed")
    counts = [row["missed"] for row in most]
    _bars(
        missed, [row["descriptor"] for row in most], [("_missed", "convnext", "\\\\\\\\", counts)], totals.explanations
    )
    missed.set_title("most missed: tied but not seen")
    return figure


def _bars(
    axes: Axes, names: Sequence[str], parts: Sequence[tuple[str, str, str, list[int]]], explanations: int
) -> None:
    """Horizontal stacked bars; each part is (name, family whose colour it has, hatch, counts)."""
    places = -np.arange(len(names), dtype=np.float64)
    left = np.zeros(len(names))
    for name, family, hatch, counts in parts:
        widths = 100 * np.array(counts, dtype=np.float64) / max(1, explanations)
        colour = (*family_style(family).colour, 0.75)
        axes.barh(places, widths, left=left, color=colour, hatch=hatch, edgecolor="white", linewidth=0, label=name)
        left += widths
    axes.set_yticks(places, [label(name) for name in names])
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1.04 * max(left, default=1.0) or 1.0)
    axes.set_xlabel("share of all explanations (%)")
    axes.set_ylim(-max(len(names), 2) + 0.4, 0.6)
    light_grid(axes, "x")

"""Figures of several panels: the dynamics of every model, right against wrong predictions, concepts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from clipmk.study.concepts import ConceptTotals
from clipmk.study.figures.style import GREY, canvas, family_style, intervals, label, mark_models
from clipmk.study.results import Results, family_name
from clipmk.study.schema import TableRow

_COLUMNS: Final = 4
"""Most panels of the dynamics side by side."""
_NO_PANEL: Final = ""
_SPLIT: Final = (("auc", "AUC"), ("mi_paper", "MI (nats)"), ("mutual_count", "mutual concepts m"))


def draw_dynamics(results: Results) -> Figure:
    """The mean curve of every model, its area filled, and the curve of random concepts; a family starts a new line."""
    columns = min(_COLUMNS, max(map(len, results.families.values())))
    lines: list[list[Any]] = []
    for rows in results.families.values():
        models = [row["model"] for row in rows]
        models += [_NO_PANEL] * (-len(models) % columns)
        lines += [models[start : start + columns] for start in range(0, len(models), columns)]
    figure = canvas(max(5.0, 2.6 * columns), 0.5 + 1.75 * len(lines))
    panels = figure.subplot_mosaic(lines, sharex=True, sharey=True, empty_sentinel=_NO_PANEL)
    for row in results.models:
        _dynamics(panels[row["model"]], row, results.names[row["model"]])
    families = {row["model"]: family_name(row["family"]) for row in results.models}
    for first, *_ in lines:
        panels[first].set_ylabel(f"{families[first]}\nMI (nats)")
    panels[lines[0][0]].set_ylim(0, 1.08 * max(max(*row["curve"], *row["chance_curve"]) for row in results.models) or 1)
    for column in zip(*lines, strict=True):  # sharex hides the tick labels of a panel with nothing below
        lowest = panels[[model for model in column if model != _NO_PANEL][-1]]
        lowest.tick_params(labelbottom=True)
        lowest.set_xlabel("concepts left out")
    return figure


def draw_split(results: Results) -> Figure:
    """Means with 95 % intervals per model, filled marks for right predictions and open ones for wrong."""
    places: list[float] = []
    for rows in results.families.values():  # from the top down, half a line between families
        top = places[-1] - 1.5 if places else 0.0
        places += [top - number for number in range(len(rows))]
    figure = canvas(10.0, 1.3 + 0.3 * (-min(places) + 1))
    panels = figure.subplots(1, len(_SPLIT), sharey=True)
    for axes, (name, title) in zip(panels, _SPLIT, strict=True):
        for place, row in zip(places, results.models, strict=True):
            colour = family_style(row["family"]).colour
            for kind, offset, face in (("right", 0.16, colour), ("wrong", -0.16, "white")):
                x, reach = intervals([row], f"{name}_{kind}")
                mark_models(axes, row["family"], x, place + offset, xerr=reach, markersize=5, markerfacecolor=face)
        axes.set_xlabel(title)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
    panels[0].set_yticks(places, [label(results.names[row["model"]]) for row in results.models])
    panels[0].set_ylim(min(places) - 0.6, 0.6)
    handles = [
        Line2D([], [], marker="o", color=GREY, linestyle="", label="predicted right (filled)"),
        Line2D([], [], marker="o", color=GREY, mfc="white", linestyle="", label="predicted wrong (open)"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8)
    return figure


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


def _dynamics(axes: Axes, row: TableRow, name: str) -> None:
    style = family_style(row["family"])
    points = np.arange(len(row["curve"]))
    axes.fill_between(points, row["curve"], color=style.colour, alpha=0.25, linewidth=0)
    axes.plot(points, row["curve"], color=style.colour, linestyle=style.line, linewidth=1.6)
    axes.plot(points, row["chance_curve"], color=GREY, linestyle=(0, (1, 1.5)), linewidth=1.3)
    axes.set_title(label(name, 30), fontsize=8.5)
    text = f"AUC {row['auc']:.2f}\nchance {row['chance_auc']:.2f}"
    axes.text(0.97, 0.95, text, transform=axes.transAxes, ha="right", va="top", fontsize=8)
    axes.set_xlim(0, len(points) - 1)


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
    axes.grid(visible=False, axis="y")

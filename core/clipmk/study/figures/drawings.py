"""The pictures of a study's report: dynamics, AUC against accuracy, classes, right against wrong, concepts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from clipmk.concepts.statistics import POOLED, LineFit
from clipmk.study.concepts import ConceptTotals
from clipmk.study.figures.style import GREY, canvas, family_style, intervals, label, mark_models
from clipmk.study.paper import PRINTED_FIT
from clipmk.study.results import Results, family_name
from clipmk.study.schema import TableRow
from clipmk.study.text_tables import CLASSES_SHOWN, estimate

_COLUMNS: Final = 4
"""Most panels of the dynamics side by side."""
_NO_PANEL: Final = ""
_SPLIT: Final = (("mutual_count", "mutual concepts m"), ("mi_paper", "strength (nats)"), ("auc", "AUC"))


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
        panels[first].set_ylabel(f"{families[first]}\nstrength (nats)")
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


NAME_GAP: Final = 0.03
"""Share of the axes' height from a name to the next one, where there is room for all."""


def draw_scatter(results: Results, *, published_line: bool = False) -> Figure:
    """A mark per model with 95 % intervals; line and band per family of at least four; the AUC of random concepts.

    At least one accuracy must be known; `published_line` adds the line that the paper prints for its ViTs.
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
    axes.set_xlabel("AUC of the dynamics (comparable within a family only)")
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


@dataclass(frozen=True, slots=True)
class ClassGrid:
    """AUC by class and model; classes are sorted by AUC above the models' own means, highest first."""

    classes: tuple[str, ...]
    auc: NDArray[np.float64]
    """(classes, models); NaN: nothing was explained."""
    above: NDArray[np.float64]
    """AUC - the mean AUC of the model's classes: unlike AUC, comparable across families."""
    mean_above: NDArray[np.float64]
    """Mean of `above` over the models that have a value; (classes,)."""


def class_grid(results: Results, rows: Sequence[TableRow]) -> ClassGrid:
    """Arrange rows of the table `classes` by class and model, without classes that have no number."""
    models = [row["model"] for row in results.models]
    known = {(row["class"], row["model"]): row["auc"] for row in rows if row["auc"] is not None}
    names = sorted({name for name, _ in known})
    auc = np.array([[known.get((name, model), np.nan) for model in models] for name in names])
    masked = np.ma.masked_invalid(auc)
    above = masked - masked.mean(axis=0)
    mean_above = above.mean(axis=1)
    order = np.argsort(-mean_above, kind="stable")
    return ClassGrid(
        tuple(names[line] for line in order), auc[order], above.filled(np.nan)[order], np.asarray(mean_above)[order]
    )


def draw_classes(results: Results, grid: ClassGrid) -> Figure:
    """A heat map, from the strongest shared knowledge to the weakest; of more than `CLASSES_SHOWN` classes the ends."""
    shown = np.arange(len(grid.classes))
    if len(shown) > CLASSES_SHOWN:
        shown = np.r_[: CLASSES_SHOWN // 2, len(shown) - CLASSES_SHOWN // 2 : len(shown)]
    auc, above = grid.auc[shown], grid.above[shown]
    lines, columns = auc.shape
    figure = canvas(max(5.5, 3.4 + 0.5 * columns), 2.7 + 0.24 * lines)
    axes = figure.subplots()
    reach = max(0.1, float(np.nanmax(np.abs(above))))
    image = axes.imshow(above, cmap="PuOr_r", vmin=-reach, vmax=reach, aspect="auto")
    axes.grid(visible=False)
    axes.set_facecolor("#dddddd")  # visible where there is no number
    for line, column in np.argwhere(~np.isnan(auc)).tolist():
        colour = "white" if abs(above[line, column]) > 0.62 * reach else "#222222"
        text = f"{auc[line, column]:.1f}"
        axes.text(column, line, text, ha="center", va="center", fontsize=7, color=colour)
    axes.set_yticks(range(lines), [label(grid.classes[number]) for number in shown])
    names = [label(results.names[row["model"]], 30) for row in results.models]
    axes.set_xticks(range(columns), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if lines < len(grid.classes):
        axes.axhline(lines / 2 - 0.5, color="white", linewidth=4)
        axes.text(1.01, lines / 2 - 0.5, "⋮", transform=axes.get_yaxis_transform(), va="center")
    _family_headings(axes, results)
    bar = figure.colorbar(image, ax=axes, location="bottom", aspect=60, pad=0.02)
    bar.set_label("AUC above (orange) or below (violet) the model's mean")
    bar.outline.set_visible(False)
    return figure


def _family_headings(axes: Axes, results: Results) -> None:
    start = 0
    for family, rows in results.families.items():
        middle = start + (len(rows) - 1) / 2
        axes.annotate(
            family_name(family),
            (middle, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 5),
            textcoords="offset points",
            ha="center",
            fontweight="bold",
            color=family_style(family).colour,
        )
        start += len(rows)
        if start < len(results.models):
            axes.axvline(start - 0.5, color="white", linewidth=4)

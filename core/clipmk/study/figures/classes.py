"""AUC of every class: a heat map for some classes, the extremes for many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from clipmk.study.figures.style import canvas, family_style, label, light_grid
from clipmk.study.results import Results, family_name
from clipmk.study.schema import TableRow
from clipmk.study.text_tables import CLASSES_SHOWN


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
    """Classes from the strongest shared knowledge to the weakest."""
    if len(grid.classes) <= CLASSES_SHOWN:
        return _heat_map(results, grid)
    return _extremes(results, grid)


def _heat_map(results: Results, grid: ClassGrid) -> Figure:
    lines, columns = grid.auc.shape
    figure = canvas(max(5.5, 3.4 + 0.5 * columns), 2.2 + 0.24 * lines)
    axes = figure.subplots()
    reach = max(0.1, float(np.nanmax(np.abs(grid.above))))
    image = axes.imshow(grid.above, cmap="PuOr_r", vmin=-reach, vmax=reach, aspect="auto")
    axes.set_facecolor("#dddddd")  # visible where there is no number
    for line, column in np.ndindex(lines, columns):
        if not np.isnan(grid.auc[line, column]):
            dark = abs(grid.above[line, column]) > 0.62 * reach
            text = f"{grid.auc[line, column]:.1f}"
            axes.text(column, line, text, ha="center", va="center", fontsize=7, color="white" if dark else "#222222")
    axes.set_yticks(range(lines), [label(name) for name in grid.classes])
    names = [label(results.names[row["model"]], 30) for row in results.models]
    axes.set_xticks(range(columns), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    _family_headings(axes, results)
    bar = figure.colorbar(image, ax=axes, shrink=min(1.0, 6 / max(6.0, 0.24 * lines)), pad=0.02, aspect=30)
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


def _extremes(results: Results, grid: ClassGrid) -> Figure:
    half = CLASSES_SHOWN // 2
    chosen = [*range(half), *range(len(grid.classes) - half, len(grid.classes))]
    places = [-float(number) - (number >= half) for number in range(len(chosen))]
    figure = canvas(8.0, 1.4 + 0.2 * CLASSES_SHOWN)
    axes = figure.subplots()
    start = 0
    for family, rows in results.families.items():
        style = family_style(family)
        columns = range(start, start + len(rows))
        x = np.concatenate([grid.above[chosen, column] for column in columns])
        y = np.tile(places, len(rows))
        axes.scatter(x, y, s=16, marker=style.marker, color=style.colour, alpha=0.55, lw=0, label=family_name(family))
        start += len(rows)
    axes.scatter(grid.mean_above[chosen], places, marker="|", s=110, color="black", label="mean over models", zorder=3)
    axes.axvline(0, color="#888888", linewidth=0.8)
    axes.set_yticks(places, [label(grid.classes[line]) for line in chosen])
    axes.text(0.01, -half, "⋮", transform=axes.get_yaxis_transform(), va="center")
    axes.set_ylim(places[-1] - 0.8, 0.8)
    axes.set_xlabel("AUC above the model's mean over its classes")
    light_grid(axes, "x")
    figure.legend(loc="outside lower center", ncols=len(results.families) + 1, fontsize=8)
    return figure

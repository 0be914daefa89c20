"""AUC of every class as a heat map; of many classes only the extremes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from clipmk.study.figures.style import canvas, family_style, label
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

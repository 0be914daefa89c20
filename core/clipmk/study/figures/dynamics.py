"""MI dynamics: a panel per model, grouped by family."""

from __future__ import annotations

from math import ceil

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clipmk.study.figures.style import GREY, canvas, family_style, label, light_grid
from clipmk.study.results import Results, family_name
from clipmk.study.schema import TableRow

_COLUMNS = 4


def draw_dynamics(results: Results) -> Figure:
    """The mean curve of every model, its area filled, and the curve of random concepts; a family starts a new line."""
    families = results.families
    columns = min(_COLUMNS, max(map(len, families.values())))
    lines = sum(ceil(len(rows) / columns) for rows in families.values())
    figure = canvas(max(5.0, 2.6 * columns), 0.5 + 1.75 * lines)
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    line = 0
    for family, rows in families.items():
        used = ceil(len(rows) / columns)
        panels = grid[line : line + used].ravel()
        for panel, row in zip(panels, rows, strict=False):
            _panel(panel, row, results.names[row["model"]])
        for panel in panels[len(rows) :]:
            panel.set_visible(False)
        for first in grid[line : line + used, 0]:
            first.set_ylabel(f"{family_name(family)}\nMI (nats)")
        line += used
    grid[0, 0].set_ylim(0, 1.08 * max(max(*row["curve"], *row["chance_curve"]) for row in results.models) or 1)
    for column in range(columns):  # sharex hides the tick labels of a panel with nothing visible below
        lowest = max(number for number in range(lines) if grid[number, column].get_visible())
        grid[lowest, column].tick_params(labelbottom=True)
        grid[lowest, column].set_xlabel("concepts left out")
    return figure


def _panel(axes: Axes, row: TableRow, name: str) -> None:
    style = family_style(row["family"])
    points = np.arange(len(row["curve"]))
    axes.fill_between(points, row["curve"], color=style.colour, alpha=0.25, linewidth=0)
    axes.plot(points, row["curve"], color=style.colour, linestyle=style.line, linewidth=1.6)
    axes.plot(points, row["chance_curve"], color=GREY, linestyle=(0, (1, 1.5)), linewidth=1.3)
    axes.set_title(label(name, 30), fontsize=8.5)
    text = f"AUC {row['auc']:.2f}\nchance {row['chance_auc']:.2f}"
    axes.text(0.97, 0.95, text, transform=axes.transAxes, ha="right", va="top", fontsize=8)
    axes.set_xlim(0, len(points) - 1)
    light_grid(axes)

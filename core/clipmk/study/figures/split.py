"""Mutual knowledge of right and of wrong predictions."""

from __future__ import annotations

from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from clipmk.study.figures.style import GREY, canvas, family_style, label, light_grid
from clipmk.study.results import Results
from clipmk.study.schema import TableRow

_PANELS: Final = (("auc", "AUC"), ("mi_paper", "MI (nats)"), ("mutual_count", "mutual concepts m"))
_OFFSET: Final = {"right": 0.16, "wrong": -0.16}


def draw_split(results: Results) -> Figure:
    """Means with 95 % intervals per model, filled marks for right predictions and open ones for wrong."""
    places = _places(results)
    figure = canvas(10.0, 1.3 + 0.3 * (-min(places) + 1))
    panels = figure.subplots(1, len(_PANELS), sharey=True)
    for axes, (name, title) in zip(panels, _PANELS, strict=True):
        for place, row in zip(places, results.models, strict=True):
            for kind in ("right", "wrong"):
                _mark(axes, row, f"{name}_{kind}", place + _OFFSET[kind], filled=kind == "right")
        axes.set_xlabel(title)
        axes.tick_params(axis="y", length=0)
        light_grid(axes, "x")
    panels[0].set_yticks(places, [label(results.names[row["model"]]) for row in results.models])
    panels[0].set_ylim(min(places) - 0.6, 0.6)
    handles = [
        Line2D([], [], marker="o", color=GREY, linestyle="", label="predicted right (filled)"),
        Line2D([], [], marker="o", color=GREY, mfc="white", linestyle="", label="predicted wrong (open)"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8)
    return figure


def _places(results: Results) -> list[float]:
    """Heights of the models from the top down, with half a line between families."""
    places, at = [], 0.0
    for rows in results.families.values():
        places += [at - number for number in range(len(rows))]
        at -= len(rows) + 0.5
    return places


def _mark(axes: Axes, row: TableRow, name: str, place: float, *, filled: bool) -> None:
    value, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    if value is None:
        return
    style = family_style(row["family"])
    axes.errorbar(
        [value],
        [place],
        xerr=None if low is None else [[value - low], [high - value]],
        fmt=style.marker,
        color=style.colour,
        markerfacecolor=style.colour if filled else "white",
        markersize=5,
        elinewidth=1,
    )

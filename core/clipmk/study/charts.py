"""The charts of a study's report: SVG by matplotlib, in the colours of the page's light or dark scheme.

Drawn about as wide as a phone, so that their text stays readable there; wider pages enlarge them. Slow to import.
"""

import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

import matplotlib as mpl
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import isotonic_regression

from clipmk.concepts.statistics import POOLED, Floats, LineFit
from clipmk.study.paper import PRINTED_FIT
from clipmk.study.results import Results, family_name
from clipmk.study.schema import TableRow
from clipmk.study.text_tables import line, number
from clipmk.system.locations import assets_dir
from clipmk.system.text import printable

INK: Final = "#222222"
GREY: Final = "#6b6b6b"
GRID: Final = "#e6e6e6"
LONGEST_NAME: Final = 22  # characters of a model's name; the tables show all of it
NAME_GAP: Final = 0.05  # share of the axes' height from a name to the next one, where there is room for all


class FamilyStyle(NamedTuple):
    """How a family is drawn: its colour (on light paper; the page has one for dark schemes) is never the only sign."""

    colour: str
    marker: str
    line: Any


_STYLES: Final = {
    "vit": FamilyStyle("#0072b2", "o", "-"),
    "resnet": FamilyStyle("#d55e00", "s", "--"),
    "convnext": FamilyStyle("#008060", "^", "-."),
    "siglip": FamilyStyle("#a8508a", "D", ":"),
    "eva": FamilyStyle("#b07800", "v", (0, (5, 1, 1, 1, 1, 1))),
}
_OTHER: Final = FamilyStyle("#4d4d4d", "X", ":")
_VARIABLES: Final = {INK: "ink", GREY: "grey", GRID: "grid", _OTHER.colour: "other"} | {
    style.colour: family for family, style in _STYLES.items()
}
"""Colour -> the page's variable."""


@dataclass(frozen=True, slots=True)
class Chart:
    """One picture."""

    name: str
    """Of its file, without ".svg"."""
    svg: str
    """With the colours of light paper."""
    alt: str

    @property
    def inline(self) -> Markup:
        """The picture as an element of the page, with the page's colours and font."""
        found = re.sub("|".join(_VARIABLES), lambda colour: f"var(--{_VARIABLES[colour[0]]})", self.svg)
        found = found.replace("'DejaVu Sans'", "system-ui")
        return Markup(found.replace("<svg ", f'<svg role="img" aria-label="{escape(self.alt)}" ', 1))  # noqa: S704


def charts(results: Results, *, published_line: bool = False) -> Iterator[Chart]:
    """Every chart the results allow: "dynamics-N" of each model; those about accuracy need labels."""
    highest = 1.08 * max(max(*row["curve"], *row["chance_curve"]) for row in results.models) or 1.0
    for place, row in enumerate(results.models):
        alt = f"Strength of {results.names[row['model']]} from {row['curve'][0]:.2f} to 0 as concepts are left out"
        yield _chart(f"dynamics-{place}", alt, partial(draw_dynamics, row, highest))
    if any(row["top1"] is not None for row in results.models):
        alt = "Zero-shot top-1 against AUC, a mark per model: the numbers are in the table of models"
        yield _chart("auc_accuracy", alt, partial(draw_scatter, results, published_line=published_line))
    wrong = [row for row in results.wrong() if row["auroc"] is not None]
    if wrong:
        alt = "AUROC of each measure for wrong predictions, a mark per model: the numbers are in the table below"
        yield _chart("wrong", alt, partial(draw_wrong, results, wrong))


def _chart(name: str, alt: str, draw: Callable[[], Figure]) -> Chart:
    """Render a figure in our style; the same figure gives the same bytes. Letters that the font lacks are no matter."""
    file = io.StringIO()
    with warnings.catch_warnings(), mpl.rc_context({"svg.hashsalt": name}, fname=assets_dir() / "study.mplstyle"):
        warnings.filterwarnings("ignore", message="Glyph .* missing from font|Matplotlib currently does not support")
        draw().savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return Chart(name, file.getvalue()[file.getvalue().index("<svg ") :], alt)


def family_style(family: str) -> FamilyStyle:
    """Colour, marker and line of a family."""
    return _STYLES.get(family, _OTHER)


def figure_of(width: float, height: float) -> Figure:
    """An empty figure (inches), without a window or global state."""
    return Figure(figsize=(width, height), layout="constrained")


def draw_dynamics(row: TableRow, highest: float) -> Figure:
    """The mean curve of a model, its area filled, and the curve of random concepts; up to `highest`."""
    figure = figure_of(2.1, 1.45)
    axes, style, points = figure.subplots(), family_style(row["family"]), np.arange(len(row["curve"]))
    axes.fill_between(points, row["curve"], color=style.colour, alpha=0.25, linewidth=0)
    axes.plot(points, row["curve"], color=style.colour, linestyle=style.line, linewidth=1.6)
    axes.plot(points, row["chance_curve"], color=GREY, linestyle=(0, (1, 1.5)), linewidth=1.3)
    axes.set_xlim(0, max(1, len(points) - 1))
    axes.set_ylim(0, highest)
    axes.set_xlabel("concepts left out")
    axes.set_ylabel("strength")
    return figure


def draw_wrong(results: Results, rows: Sequence[TableRow]) -> Figure:
    """A line per measure: how well it tells wrong predictions, a mark per model."""
    measures = list(dict.fromkeys(row["measure"] for row in rows))
    places = np.linspace(0.25, -0.25, len(results.models)).tolist()
    heights = {row["model"]: place for row, place in zip(results.models, places, strict=True)}
    figure = figure_of(4.0, 0.9 + 0.36 * len(measures))
    axes = figure.subplots()
    for family, members in results.families.items():
        own = [row for row in rows if row["model"] in {member["model"] for member in members}]
        x, reach = intervals(own, "auroc")
        y = np.array([heights[row["model"]] - measures.index(row["measure"]) for row in own])
        mark_models(axes, family, x, y, xerr=reach, markersize=4.5, label=family_name(family))
    axes.axvline(0.5, color=GREY, linestyle=(0, (1, 1.5)))
    axes.set_yticks([-place for place in range(len(measures))], measures)
    axes.set_ylim(0.6 - len(measures), 0.6)
    axes.set_xlim(right=1.01)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("AUROC for wrong predictions (dotted: guessing)")
    figure.legend(loc="outside lower left", ncols=3)
    return figure


def draw_scatter(results: Results, *, published_line: bool = False) -> Figure:
    """A mark per model with 95 % intervals; line and band per family of at least four; the AUC of random concepts.

    `published_line` adds the line that the paper prints for its ViTs.
    """
    known = [row for row in results.models if row["top1"] is not None]
    figure = figure_of(4.2, max(4.2, 1.6 + 0.15 * len(known)))
    axes = figure.subplots()
    for family in dict.fromkeys(row["family"] for row in known):
        members = [row for row in known if row["family"] == family]
        (x, across), (y, up) = intervals(members, "auc"), intervals(members, "top1", factor=100)
        mark_models(axes, family, x, y, xerr=across, yerr=up, markersize=6, label=family_name(family))
    axes.margins(0.12)
    axes.autoscale_view()
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    for one in results.fits:
        if one.group != POOLED:
            _line(axes, one, [row["auc"] for row in known if row["family"] == one.group])
    chance = float(np.mean([row["chance_auc"] for row in known]))
    left = max(min(left, chance - 0.03 * (right - chance)), -0.02 * right)  # no AUC is negative
    axes.axvline(chance, color=GREY, linestyle=(0, (1, 1.5)), label=f"random concepts: AUC {chance:.2f}")
    if published_line:
        ends, name = np.array([left, right]), f"the paper's ViTs: {line(*PRINTED_FIT)}"
        axes.plot(
            ends, PRINTED_FIT[0] * ends + PRINTED_FIT[1], color=GREY, linewidth=0.9, linestyle=(0, (6, 3)), label=name
        )
    axes.set_xlim(left, right)
    axes.set_ylim(max(-2.0, bottom), min(102.0, top))
    axes.set_xlabel("AUC of the dynamics")
    axes.set_ylabel("zero-shot top-1 (%)")
    figure.legend(loc="outside lower left", ncols=2)
    name_marks(axes, known, results.names)
    return figure


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
        name = printable(names[row["model"]])
        axes.annotate(
            name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…",
            (row["auc"], 100 * row["top1"]),
            xytext=(1.03, place),
            textcoords="axes fraction",
            verticalalignment="center",
            fontsize=7.5,
            color=family_style(row["family"]).colour,
            zorder=1,
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.5, "relpos": (0, 0.5), "shrinkB": 0},
        )


def intervals(rows: Sequence[TableRow], name: str, *, factor: float = 1) -> tuple[Floats, Floats]:
    """Values of a column, (rows,), and the lengths of their error bars below and above, (2, rows); NaN: unknown."""
    value, low, high = (
        factor * np.array([row[f"{name}{end}"] for row in rows], float) for end in ("", "_low", "_high")
    )
    return value, np.maximum(0, [value - low, high - value])


def mark_models(axes: Axes, family: str, x: Floats, y: Floats | float, **more: Any) -> None:
    """A mark with error bars for each model of a family; `more` is for `Axes.errorbar`."""
    style = family_style(family)
    found = axes.errorbar(x, y, fmt=style.marker, color=style.colour, ecolor=style.colour, elinewidth=1, **more)
    for bar in found[2]:
        bar.set_alpha(0.35)


def _line(axes: Axes, one: LineFit, auc: list[float]) -> None:
    style = family_style(one.group)
    reach = 0.08 * (max(auc) - min(auc))
    x = np.linspace(min(auc) - reach, max(auc) + reach, 60)
    half = one.band(x)
    axes.fill_between(x, one.at(x) - half, one.at(x) + half, color=style.colour, alpha=0.12, linewidth=0)
    name = f"{family_name(one.group)}: {line(one.slope, one.intercept)}, r {number(one.pearson.value)}"
    axes.plot(x, one.at(x), color=style.colour, linestyle=style.line, linewidth=1.4, label=name)

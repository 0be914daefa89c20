"""How a study's pictures look: colours that every kind of colour vision tells apart, never the only sign."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from clipmk.concepts.statistics import Floats
from clipmk.output.palette import colour_of
from clipmk.study.schema import TableRow
from clipmk.system.locations import assets_dir
from clipmk.system.text import printable

LONGEST_LABEL: Final = 36
"""Characters of a name in a picture; the tables show all of it."""
GREY: Final = "#6b6b6b"


@dataclass(frozen=True, slots=True)
class FamilyStyle:
    """How a family is drawn."""

    colour: tuple[float, float, float]
    marker: str
    line: str


def _rgb(number: int) -> tuple[float, float, float]:
    red, green, blue = colour_of(number)
    return red / 255, green / 255, blue / 255


_STYLES: Final = {
    "vit": FamilyStyle(_rgb(5), "o", "-"),
    "resnet": FamilyStyle(_rgb(6), "s", "--"),
    "convnext": FamilyStyle(_rgb(3), "^", "-."),
    "siglip": FamilyStyle(_rgb(7), "D", ":"),
    "eva": FamilyStyle(_rgb(1), "v", (0, (5, 1, 1, 1, 1, 1))),  # type: ignore[arg-type]
}
_OTHER: Final = FamilyStyle((0.3, 0.3, 0.3), "X", ":")


def family_style(family: str) -> FamilyStyle:
    """Colour, marker and line of a family."""
    return _STYLES.get(family, _OTHER)


def label(text: str, longest: int = LONGEST_LABEL) -> str:
    """A name for a picture: one line, shortened, without control characters."""
    safe = printable(text)
    return safe if len(safe) <= longest else safe[: longest - 1] + "…"


def canvas(width: float, height: float) -> Figure:
    """An empty figure (inches), without a window or global state."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Draw with our style, without warnings about letters that the font lacks (they become boxes)."""
    with mpl.rc_context(fname=assets_dir() / "study.mplstyle"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support .* natively")
        yield


def png(draw: Callable[[], Figure], dpi: int) -> bytes:
    """Draw a figure in our style and render it; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    with styled():
        draw().savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def intervals(rows: Sequence[TableRow], name: str, *, factor: float = 1) -> tuple[Floats, Floats]:
    """Values of a column, (rows,), and the lengths of their error bars below and above, (2, rows); NaN: unknown."""
    value, low, high = (
        factor * np.array([row[f"{name}{end}"] for row in rows], float) for end in ("", "_low", "_high")
    )
    return value, np.maximum(0, [value - low, high - value])


def mark_models(axes: Axes, family: str, x: Floats, y: Floats | float, **more: Any) -> None:
    """A mark with error bars for each model of a family; `more` is for `Axes.errorbar`."""
    style = family_style(family)
    ecolor = (*style.colour, 0.35)
    axes.errorbar(x, y, fmt=style.marker, color=style.colour, ecolor=ecolor, elinewidth=1, **more)

"""The charts of a study in characters: accuracy against AUC, and the dynamics of its models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from string import ascii_letters
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from clipmk.study.results import Results

COLOURS = ("mutual", "vision")  # variables of the theme: of the first model's curve and the second's
_WIDE = 100  # cells from which both charts are beside each other
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # bits of a braille character by column and row
Span = tuple[float, float]  # the ends of an axis


class Plot:
    """A field of cells with labelled axes; a curve has two by four dots in a cell."""

    def __init__(self, size: tuple[int, int], x: Span, y: Span) -> None:
        self._x, self._y = x, y
        self._columns, self._lines = max(8, size[0] - 6), max(3, size[1] - 4)
        self._dots: dict[tuple[int, int], int] = {}
        self._cells: dict[tuple[int, int], tuple[str, str]] = {}

    def _place(self, x: float, y: float, columns: int, lines: int) -> tuple[int, int]:
        axes = ((x, *self._x), (y, *self._y))
        across, up = (min(1.0, max(0.0, (value - low) / ((high - low) or 1))) for value, low, high in axes)
        return round(across * (columns - 1)), round((1 - up) * (lines - 1))

    def curve(self, values: Sequence[float], colour: str) -> None:
        """Connect values at 0, 1, 2, ... by lines."""
        places = [self._place(x, y, 2 * self._columns, 4 * self._lines) for x, y in enumerate(values)]
        for (x0, y0), (x1, y1) in pairwise(places):
            steps = max(abs(x1 - x0), abs(y1 - y0), 1)
            for step in range(steps + 1):
                x, y = x0 + round((x1 - x0) * step / steps), y0 + round((y1 - y0) * step / steps)
                cell = x // 2, y // 4
                self._dots[cell] = self._dots.get(cell, 0) | _DOTS[x % 2][y % 4]
                self._cells[cell] = chr(0x2800 + self._dots[cell]), colour

    def point(self, x: float, y: float, letter: str) -> None:
        """Write a letter at a place, or beside it where another one is."""
        column, line = self._place(x, y, self._columns, self._lines)
        while (column, line) in self._cells and column < self._columns - 1:
            column += 1
        self._cells[column, line] = letter, "bold"

    def lines(self, title: str, x_name: str, legend: Text) -> Text:
        """Title, field, axes, legend."""
        ends = {0: f"{self._y[1]:.3g}", self._lines - 1: f"{self._y[0]:.3g}"}
        found = [Text(title, "bold")]
        for line in range(self._lines):
            cells = (self._cells.get((column, line), " ") for column in range(self._columns))
            found.append(Text.assemble((f"{ends.get(line, ''):>4}┃", "dim"), *cells))
        low, high = f"{self._x[0]:.3g}", f"{self._x[1]:.3g}"
        axis = f"{low}{x_name.center(self._columns - len(low) - len(high))}{high}"
        found += [Text(f"    ━{'━' * self._columns}\n     {axis}", "dim"), legend]
        return Text("\n", no_wrap=True).join(found)


def charts(results: Results, models: Iterable[str], colours: Mapping[str, str], *, width: int, height: int) -> Table:
    """Both charts, beside each other where there is room; curves of one model or two in `colours` (of `COLOURS`)."""
    wide = width >= _WIDE
    size = ((width - 2) // 2, height) if wide else (width, height // 2)
    made = [_scatter(results, size), _curves(results, models, colours, size)]
    grid = Table.grid(padding=(0, 2, 0, 0))
    for row in [made] if wide else [[one] for one in made]:
        grid.add_row(*row)
    return grid


def _scatter(results: Results, size: tuple[int, int]) -> Text:
    """A letter for every model whose accuracy is known."""
    known = [row for row in results.models if row["top1"] is not None]
    if not known:
        return Text("no labels: accuracy is not known")
    values = [row["auc"] for row in known]
    plot, legend = Plot(size, (0.9 * min(values), 1.1 * max(values)), (0.0, 100.0)), Text(overflow="ellipsis")
    for row, letter in zip(known, ascii_letters, strict=False):
        plot.point(row["auc"], 100 * row["top1"], letter)
        legend.append(f"{letter} {results.names[row['model']]}  ")
    return plot.lines("right, %, against AUC (comparable within a family)", "AUC", legend)


def _curves(results: Results, models: Iterable[str], colours: Mapping[str, str], size: tuple[int, int]) -> Text:
    """What is left of the strength as concepts are left out."""
    rows = [row for model in models for row in results.models if row["model"] == model]
    if not rows:
        return Text()
    plot = Plot(size, (0.0, len(rows[0]["curve"]) - 1.0), (0.0, max(max(row["curve"]) for row in rows)))
    plot.curve(rows[0]["chance_curve"], "dim")
    legend = Text(overflow="ellipsis")
    for row, name in zip(rows, COLOURS, strict=False):
        plot.curve(row["curve"], colours[name])
        legend.append(f"━ {results.names[row['model']]}  ", colours[name])
    return plot.lines("strength (MI) that is left", "concepts left out", legend.append("━ chance", "dim"))

"""The table of the comparison screen: a column per model, a row per concept, models and concepts always in sight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import DataTable

from clipmk.compare import Column, Row
from clipmk.text import printable
from clipmk_tui.compare_table import FACT_NAMES, Fact, agreed, cell_fact, facts, short_names, top
from clipmk_tui.gathered import View
from clipmk_tui.signs import COLOUR, Kind

AWAITED: Final = "…"
_NARROWEST, _WIDEST = 16, 26
_PADDING = 2


class CompareGrid(DataTable[Text]):
    """Shows a `View`; the cursor stays on its concept and model whatever comes and goes around it."""

    DEFAULT_CSS = """
    CompareGrid { height: 1fr; background: $surface; }
    CompareGrid > .datatable--header { background: $panel; color: $foreground; }
    CompareGrid > .datatable--fixed { background: $surface; color: $foreground; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "select_cursor", "go there", id="compare.choose")]

    def __init__(self) -> None:
        super().__init__(
            id="grid", fixed_columns=1, cursor_type="cell", header_height=1 + len(FACT_NAMES), zebra_stripes=False
        )
        self._across = _NARROWEST
        self._label = _NARROWEST

    def show(self, models: Sequence[str], view: View, rows: Sequence[Row], notes: Mapping[int, str]) -> None:
        """Draw everything anew.

        Args:
            models: as the screen names them.
            view: what there is.
            rows: of its comparison, as the filter leaves them.
            notes: for models still awaited, what is going on.
        """
        text, column = self.concept, max(1, self.cursor_column)
        self._measure(len(models))
        self.clear(columns=True)
        self.add_column(self._names(view), width=self._label)
        for label in self._labels(models, view, notes):
            self.add_column(label, width=self._across)
        for row in rows:
            cells = [AWAITED if place is None else cell_fact(row.cells[place]) for place in view.places]
            drawn = [Text(cell) if isinstance(cell, str) else self._drawn(cell) for cell in cells]
            self.add_row(self._heading(row), *drawn, key=row.text)
        keys = [row.text for row in rows]
        self.move_cursor(row=keys.index(text) if text in keys else 0, column=column, animate=False)

    def relabel(self, models: Sequence[str], view: View, notes: Mapping[int, str]) -> None:
        """Draw only the heads of the columns anew."""
        for column, label in zip(self.ordered_columns[1:], self._labels(models, view, notes), strict=True):
            column.label = label
        self.notify_style_update()

    @property
    def concept(self) -> str | None:
        """The concept under the cursor."""
        if not self.is_valid_row_index(self.cursor_row):
            return None
        return self.ordered_rows[self.cursor_row].key.value

    @property
    def model_index(self) -> int:
        """Number of the model under the cursor, from 0."""
        return max(0, self.cursor_column - 1)

    def action_cursor_left(self) -> None:
        """The names of the concepts are no column to stand on."""
        if self.cursor_column > 1:
            super().action_cursor_left()

    def on_data_table_cell_highlighted(self, event: DataTable.CellHighlighted) -> None:
        """The same for the mouse and the home key."""
        if event.coordinate.column == 0 and len(self.columns) > 1:
            self.move_cursor(column=1, animate=False)

    def _measure(self, count: int) -> None:
        width = self.size.width or 80
        self._label = max(22, min(44, width * 3 // 10))
        room = (width - self._label - 2 * _PADDING) // max(1, count) - _PADDING
        self._across = max(_NARROWEST, min(_WIDEST, room))

    def _names(self, view: View) -> Text:
        """What the lines of the head are, and how many models agree on the first class."""
        made = view.comparison
        names = list(FACT_NAMES)
        if made is not None and made.answered:
            names[1] = _beside("top-1", f"{made.agreed_count}/{made.answered}", self._label).plain
        return Text("\n".join(["", *names]), no_wrap=True)

    def _labels(self, models: Sequence[str], view: View, notes: Mapping[int, str]) -> list[Text]:
        made = view.comparison
        labels = []
        for index, (name, place) in enumerate(zip(short_names(models), view.places, strict=True)):
            column = None if made is None or place is None else made.columns[place]
            labels.append(self._head(name, column, notes.get(index, "")))
        return labels

    def _head(self, name: str, column: Column | None, note: str) -> Text:
        """The lines above a column; `_across` cells wide, so that nothing wraps."""
        lines = [self._line(Fact(name), "bold")]
        if column is None:
            lines += [self._line(Fact(AWAITED)), *(self._line(Fact(part)) for part in _wrapped(note, self._across))]
        elif column.error is not None:
            lines.append(self._line(Fact(f"failed: {column.error.code}"), "bold"))
            lines += [self._line(Fact(part)) for part in _wrapped(column.error.message, self._across)]
        else:
            found = list(facts(column, cells=self._across))
            found[1] = Fact(top(column, width=self._across))
            lines += [self._drawn(fact) for fact in found]
        return Text("\n").join(lines[: 1 + len(FACT_NAMES)])

    def _heading(self, row: Row) -> Text:
        return _beside(row.text, agreed(row), self._label)

    def _drawn(self, fact: Fact) -> Text:
        return self._line(fact, "" if fact.kind is None else self._colour(fact.kind))

    def _line(self, fact: Fact, style: str = "") -> Text:
        text = Text(printable(fact.text), style, no_wrap=True)
        text.truncate(self._across, overflow="ellipsis")
        return text

    def _colour(self, kind: Kind) -> str:
        """The theme's colour, where the theme has it."""
        return self.app.theme_variables.get(COLOUR[kind].removeprefix("$"), "")


def _beside(left: str, right: str, width: int) -> Text:
    """Two texts at the two ends of a cell."""
    text = Text(printable(left), no_wrap=True)
    text.truncate(width - len(right) - 1, overflow="ellipsis", pad=True)
    return text.append(f" {right}")


def _wrapped(text: str, width: int) -> list[str]:
    """Words in lines of `width` cells."""
    lines = [""]
    for word in printable(text).split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return lines

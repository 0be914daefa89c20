"""The table of the comparison screen: the lines of `show.comparison`, with a cursor on a row and a model."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events, on
from textual.strip import Strip

from clipmk.comparison import ComparedModel, Comparison
from clipmk_tui.app.bindings import KEY_BINDINGS
from clipmk_tui.app.theme import for_rich
from clipmk_tui.app.widgets.cursor_lines import CursorLines
from clipmk_tui.show.comparison_table import AWAITED, Cell, Layout, Mark, Row, class_rows, concept_row, head, layout
from clipmk_tui.show.text import matches


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonView:
    """The comparison of the models that answered or failed; the others are still awaited."""

    models: tuple[str, ...] = ()  # ids of all models
    families: tuple[str | None, ...] = ()  # of each; None: not known
    comparison: Comparison | None = None  # None while no model has answered or failed
    places: tuple[int | None, ...] = ()  # for each model its column in the comparison; None: still awaited
    asked: tuple[Row, ...] = ()  # a row for each text that was asked for, with a cell for each model

    def column(self, index: int) -> ComparedModel | None:
        """The column of a model; None while it is awaited."""
        place = self.places[index] if index < len(self.places) else None
        return None if place is None or self.comparison is None else self.comparison.columns[place]

    @property
    def awaited(self) -> tuple[int, ...]:
        """Indices of the models that have not answered."""
        return tuple(index for index, place in enumerate(self.places) if place is None)

    def rows(self, wanted: str = "") -> list[Row]:
        """A row per predicted class, one per text asked for, one per concept that a filter keeps; a cell per model."""
        if self.comparison is None:
            return []
        own = {row.text for row in self.asked}
        concepts = [row for row in self.comparison.rows if row.text not in own and matches(wanted, row.text)]
        return [
            *map(self._placed, class_rows(self.comparison)),
            *(row for row in self.asked if matches(wanted, row.text)),
            *map(self._placed, map(concept_row, concepts)),
        ]

    def _placed(self, row: Row) -> Row:
        return replace(row, cells=tuple(Cell(AWAITED) if at is None else row.cells[at] for at in self.places))


class CompareGrid(CursorLines):
    """Shows a `ComparisonView`; the cursor stays on its row and model while others come and go."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"grid--head", "grid--cursor", "grid--right", "grid--wrong"}
    BINDINGS = KEY_BINDINGS["CompareGrid"]

    def __init__(self, start: int = 0) -> None:
        super().__init__(id="grid")
        self._start = start
        self._view = ComparisonView()
        self._layout: Layout | None = None  # None: nothing to draw, or no room
        self._heading: list[list[Cell]] = []
        self.rows: list[Row] = []  # the rows shown, from top to bottom
        self._model = 0  # the place of the model under the cursor, from the left

    def show(self, view: ComparisonView, rows: Iterable[Row]) -> None:
        """Draw a view, with the rows of it that the filter leaves."""
        before, index = self.row, self.model_index if self._view.models else self._start
        self._view, self.rows = view, list(rows)
        same = [before is not None and (row.text, row.is_class) == (before.text, before.is_class) for row in self.rows]
        at = same.index(True) if self.cursor and True in same else 0  # at the top it stays there
        self._lay_out()
        self._model = list(self._order).index(index) if index in self._order else 0
        self.set_rows(len(self.rows), at)

    @on(events.Resize)
    def _lay_out(self) -> None:
        """Lay the columns out for the widget's width."""
        view, width = self._view, self.size.width - 2
        self._layout = None
        if view.models and width > 0:
            labels = [row.label for row in self.rows]
            self._layout = layout(view.models, view.families, labels, width=width)
            self._heading = head(self._layout, view.comparison, view.places)
            self.head = len(self._heading)

    @property
    def row(self) -> Row | None:
        """The row under the cursor."""
        return self.rows[self.cursor] if self.cursor < len(self.rows) else None

    @property
    def model_index(self) -> int:
        """Number of the model under the cursor, from 0."""
        return self._order[min(self._model, len(self._order) - 1)] if self._order else 0

    @property
    def _order(self) -> Sequence[int]:
        return range(len(self._view.models)) if self._layout is None else self._layout.order

    def action_move(self, rows: int, models: int) -> None:
        """Move the cursor, not beyond the table; the table follows."""
        self._put_on_model(self._model + models)
        self.move_to(self.cursor + rows)

    def on_click(self, event: events.Click) -> None:
        """The mouse also chooses the model."""
        index = None if self._layout is None else self._layout.column_at(event.x - 1)
        if index is not None:
            self._put_on_model(list(self._order).index(index))

    def _put_on_model(self, place: int) -> None:
        before, self._model = self._model, max(0, min(place, len(self._view.models) - 1))
        if self._model != before:
            self.refresh()
            self.post_message(self.Moved())

    def render_line(self, y: int) -> Strip:
        """One line: its name, then a cell per model."""
        width, base, index = self.size.width, self.rich_style, self.row_at(y)
        if self._layout is None or index >= len(self.rows):
            return Strip.blank(width, base)
        is_head, under = index < 0, index == self.cursor
        row = None if is_head else self.rows[index]
        pieces = self._heading[y] if row is None else self._layout.line(row.label, row.cells, row.total)
        if row is None or row.is_class:
            base += self.get_component_rich_style("grid--head")
        base += Style(bold=True) if under or is_head else Style.null()
        segments = [Segment(" ", base)]
        for text, mark, column in pieces:
            here = column is not None and column == self.model_index and (under or is_head)
            style = self.get_component_rich_style("grid--cursor") if here and self.has_focus else self._colour(mark)
            segments.append(Segment(text, base + style))
        return Strip(segments).adjust_cell_length(width, base)

    def _colour(self, mark: Mark | None) -> Style:
        names: dict[Mark, str] = {"right": "success", "wrong": "error"}
        return Style.null() if mark is None else Style.parse(for_rich(self.app.theme_variables[names.get(mark, mark)]))

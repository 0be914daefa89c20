"""A table of any number of rows, whose columns are left out where they have no room."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.message import Message
from textual.strip import Strip

from clipmk_tui.app.bindings import KEY_BINDINGS
from clipmk_tui.app.theme import for_rich
from clipmk_tui.app.widgets.cursor_lines import CursorLines
from clipmk_tui.show.text import fitted


class Column(NamedTuple):
    """A column of a table; where not all have room, those of the highest rank are left out."""

    heading: str
    width: int  # least cells; numbers, which end together, have a negative one
    cell: Callable[[Any], str | tuple[str, str]]
    """Text of a row; or the text and the variable of the theme with its colour."""
    rank: int = 0
    grows: int = 0  # share of the cells that are left
    key: str = ""  # what rows are sorted by; empty: not by this column


def fit(columns: Sequence[Column], width: int) -> list[tuple[Column, int]]:
    """The columns that have room, each with its cells; one more is between them."""
    shown: list[Column] = []
    for one in sorted(columns, key=lambda one: one.rank):
        if not shown or abs(one.width) < width:
            shown.append(one)
            width -= abs(one.width) + 1
    shares = sum(one.grows for one in shown) or 1
    return [(one, abs(one.width) + max(0, width) * one.grows // shares) for one in columns if one in shown]


class RowTable(CursorLines, can_focus=True):
    """Headings, and rows with a cursor."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"table--head", "table--cursor"}
    BINDINGS = KEY_BINDINGS["RowTable"]
    head = 1
    columns: Sequence[Column] = ()
    _fitted: Sequence[tuple[Column, int]] = ()
    _row: Callable[[int], Any]

    @dataclass
    class HeadingChosen(Message):
        """The user clicked on a heading."""

        key: str

    def show(self, columns: Sequence[Column], count: int, row: Callable[[int], Any], cursor: int) -> None:
        """Draw other rows; `row` gives what the cells are made of."""
        self.columns, self._row = columns, row
        self._fitted = fit(columns, self.size.width - 2)
        self.set_rows(count, cursor)

    def on_resize(self) -> None:
        """Lay the columns out as well."""
        self._fitted = fit(self.columns, self.size.width - 2)
        super().on_resize()

    def render_line(self, y: int) -> Strip:
        """The headings, or a row."""
        width, base, index = self.size.width, self.rich_style, self.row_at(y)
        if index >= self.count:
            return Strip.blank(width, base)
        under = index == self.cursor
        row = self._row(index) if y else None
        part = "table--cursor" if under and self.has_focus else "" if y else "table--head"
        base += Style(bold=under or not y) + (self.get_component_rich_style(part) if part else Style.null())
        segments = [Segment("▸ " if under else "  ", base)]
        for column, room in self._fitted:
            cell = column.cell(row) if y else column.heading
            text, colour = (cell, "") if isinstance(cell, str) else cell
            written = fitted(text, room)
            written = written.rstrip().rjust(room) if column.width < 0 else written
            ink = Style.parse(for_rich(self.app.theme_variables[colour])) if colour and not part else Style.null()
            segments.append(Segment(f"{written} ", base + ink))
        return Strip(segments).adjust_cell_length(width, base)

    def on_click(self, event: events.Click) -> None:
        """A click on a heading sorts."""
        end = 2
        for column, room in self._fitted if event.y == 0 else ():
            end += room + 1
            if event.x < end:
                self.post_message(self.HeadingChosen(column.key))
                break

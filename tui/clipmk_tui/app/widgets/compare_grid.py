"""The table of the comparison screen: a column per model, a row per concept, with fixed names of both.

Draws its lines itself: a `DataTable` takes some 0.4 ms per cell, which is a third of a second for thirteen models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.message import Message
from textual.reactive import var
from textual.strip import Strip
from textual.widget import Widget

from clipmk.records import ComparedConcept, ComparedModel, Comparison
from clipmk.system.text import printable
from clipmk_tui.app.messages import Latest
from clipmk_tui.show.comparison import FACT_NAMES, Fact, agreed, cell_fact, facts, short_names, top

AWAITED: Final = "…"
HEAD: Final = 1 + len(FACT_NAMES)
"""Lines above the concepts."""
_NARROWEST, _WIDEST = 16, 26
_GAP = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonView:
    """The comparison of the models that answered or failed; the others are still awaited."""

    comparison: Comparison | None = None
    """None while no model has answered or failed."""
    places: tuple[int | None, ...] = ()
    """For each model its column in the comparison; None: still awaited."""

    def column(self, index: int) -> ComparedModel | None:
        """The column of a model; None while it is awaited."""
        place = self.places[index] if index < len(self.places) else None
        return None if place is None or self.comparison is None else self.comparison.columns[place]

    @property
    def awaited(self) -> tuple[int, ...]:
        """Indices of the models that have not answered."""
        return tuple(index for index, place in enumerate(self.places) if place is None)

    @property
    def rows(self) -> Sequence[ComparedConcept]:
        """All concepts, the most agreed first."""
        return () if self.comparison is None else self.comparison.rows


class _Drawn(NamedTuple):
    """One row: the concept, its first cell, and a fact for each model."""

    text: str
    label: str
    facts: tuple[Fact, ...]


class CompareGrid(Widget, can_focus=True):
    """Shows a `ComparisonView`; the cursor stays on its concept and model while others come and go.

    Args:
        models: in the order of the columns.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {"grid--head", "grid--cursor"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "choose", "go there", id="compare.choose"),
        Binding("up", "move(-1, 0)", "up", show=False, id="compare.up"),
        Binding("down", "move(1, 0)", "down", show=False, id="compare.down"),
        Binding("left", "move(0, -1)", "left", show=False, id="compare.left"),
        Binding("right", "move(0, 1)", "right", show=False, id="compare.right"),
        Binding("ctrl+u", "move(-10, 0)", "far up", show=False, id="compare.far-up"),
        Binding("ctrl+d", "move(10, 0)", "far down", show=False, id="compare.far-down"),
    ]

    note: var[str] = var("", init=False)
    """What the engine is working on, for the next model that is awaited."""

    class Moved(Latest):
        """Another cell is under the cursor, or its content has changed."""

    class Chosen(Message):
        """The user chose the cell under the cursor."""

    def __init__(self, models: Sequence[str]) -> None:
        super().__init__(id="grid")
        self._names = short_names(models)
        self._view = ComparisonView()
        self._heads: list[tuple[Fact, ...]] = []
        self._rows: list[_Drawn] = []
        self._row = self._model = self._top = self._first = 0

    def show(self, view: ComparisonView, rows: Sequence[ComparedConcept]) -> None:
        """Draw everything.

        Args:
            view: what there is.
            rows: of its comparison, as the filter leaves them.
        """
        before = self.concept
        self._view = view
        self._rows = [_Drawn(row.text, agreed(row), tuple(_fact(row, place) for place in view.places)) for row in rows]
        texts = self.concepts
        self._row = texts.index(before) if before in texts else 0
        self.set_reactive(CompareGrid.note, "")
        self._draw_heads()
        self.post_message(self.Moved())

    def watch_note(self) -> None:
        """Draw only the heads of the columns."""
        self._draw_heads()

    def _draw_heads(self) -> None:
        view = self._view
        notes = {view.awaited[0]: self.note} if view.awaited else {}
        self._heads = [
            self._head(name, view.column(index), notes.get(index, "")) for index, name in enumerate(self._names)
        ]
        self._follow()
        self.refresh()

    @property
    def concepts(self) -> list[str]:
        """The concepts shown, from top to bottom."""
        return [row.text for row in self._rows]

    @property
    def concept(self) -> str | None:
        """The concept under the cursor."""
        return self._rows[self._row].text if self._row < len(self._rows) else None

    @property
    def model_index(self) -> int:
        """Number of the model under the cursor, from 0."""
        return self._model

    def action_move(self, rows: int, models: int) -> None:
        """Move the cursor, not beyond the table; the table follows."""
        self._put_cursor(self._row + rows, self._model + models)

    def action_choose(self) -> None:
        """Choose the cell under the cursor."""
        self.post_message(self.Chosen())

    def on_click(self, event: events.Click) -> None:
        """The mouse puts the cursor; twice is the same as enter."""
        across = self._across + _GAP
        model = self._model if event.x < self._margin else self._first + (event.x - self._margin) // across
        self._put_cursor(self._row if event.y < HEAD else self._top + event.y - HEAD, model)
        if event.chain == 2:
            self.action_choose()

    def on_mouse_scroll_down(self) -> None:
        """The wheel moves the cursor."""
        self.action_move(3, 0)

    def on_mouse_scroll_up(self) -> None:
        """The wheel moves the cursor."""
        self.action_move(-3, 0)

    def on_resize(self) -> None:
        """Draw at the new width, the cursor visible."""
        self._draw_heads()

    def render_line(self, y: int) -> Strip:
        """One line: its name, then a cell per visible model."""
        width, base = self.size.width, self.rich_style
        if y >= HEAD and self._top + y - HEAD >= len(self._rows):
            return Strip.blank(width, base)
        found: Sequence[Fact]
        if y < HEAD:
            base += self.get_component_rich_style("grid--head")
            under, label, found = False, self._named(y), [head[y] for head in self._heads]
        else:
            row = self._rows[self._top + y - HEAD]
            under = self._top + y - HEAD == self._row
            label, found = _beside(row.text, row.label, self._label), row.facts
        bold = Style(bold=under or y == 0)
        cursor = self.get_component_rich_style("grid--cursor")
        segments = [Segment(f" {label}{' ' * _GAP}", base + bold)]
        for index in range(self._first, min(len(found), self._first + self._beside)):
            fact = found[index]
            here = index == self._model and (under or y == 0)
            style = base + cursor if here and self.has_focus else base + self._colour(fact) + bold
            segments += [Segment(_fitted(fact.text, self._across), style), Segment(" " * _GAP, base)]
        return Strip(segments).adjust_cell_length(width, base)

    @property
    def _label(self) -> int:
        """Cells of the names."""
        return max(22, min(44, self.size.width * 3 // 10))

    @property
    def _margin(self) -> int:
        """Where the first model begins."""
        return 1 + self._label + _GAP

    @property
    def _beside(self) -> int:
        """Number of visible models."""
        return max(1, min(len(self._names), (self.size.width - self._margin + _GAP) // (_NARROWEST + _GAP)))

    @property
    def _across(self) -> int:
        """Cells of each model."""
        return max(_NARROWEST, min(_WIDEST, (self.size.width - self._margin + _GAP) // self._beside - _GAP))

    def _put_cursor(self, row: int, model: int) -> None:
        row = max(0, min(row, len(self._rows) - 1))
        model = max(0, min(model, len(self._names) - 1))
        if (row, model) == (self._row, self._model):
            return
        before, self._row, moved = self._row, row, model != self._model
        self._model = model
        if self._follow():
            self.refresh()
        else:
            lines = {HEAD + one - self._top for one in (before, row)} | ({0} if moved else set())
            self.refresh(*(Region(0, line, self.size.width, 1) for line in lines))
        self.post_message(self.Moved())

    def _follow(self) -> bool:
        """Scroll until the cursor is visible; whether that changed anything."""
        before = self._top, self._first
        room = max(1, self.size.height - HEAD)
        self._top = max(self._row - room + 1, min(self._top, self._row, max(0, len(self._rows) - room)))
        last = max(0, len(self._names) - self._beside)
        self._first = max(self._model - self._beside + 1, min(self._first, self._model, last))
        return before != (self._top, self._first)

    def _named(self, y: int) -> str:
        """The name of a line of the head; of the first, which models are visible."""
        if y == 0 and self._beside < len(self._names):
            words = f"models {self._first + 1}-{self._first + self._beside} of {len(self._names)}"
            return _fitted(words, self._label)
        made = self._view.comparison
        count = f"{made.agreed_count}/{made.answered}" if made is not None and y == 2 else ""
        return _beside(("", *FACT_NAMES)[y], count, self._label)

    def _head(self, name: str, column: ComparedModel | None, note: str) -> tuple[Fact, ...]:
        """The lines above a column, as many as `HEAD`."""
        if column is None:
            lines = [Fact(name), Fact(AWAITED), *(Fact(part) for part in self._wrapped(note))]
        elif column.error is not None:
            message = (Fact(part) for part in self._wrapped(column.error.message))
            lines = [Fact(name), Fact(f"failed: {column.error.code}"), *message]
        else:
            found = list(facts(column, cells=self._across))
            found[1] = Fact(top(column, width=self._across))
            lines = [Fact(name), *found]
        return tuple([*lines, *[Fact("")] * HEAD][:HEAD])

    def _wrapped(self, text: str) -> list[str]:
        return [line.plain.rstrip() for line in Text(printable(text)).wrap(self.app.console, self._across)]

    def _colour(self, fact: Fact) -> Style:
        if fact.kind is None:
            return Style.null()
        return Style.parse(self.app.theme_variables[fact.kind])


def _fact(row: ComparedConcept, place: int | None) -> Fact:
    return Fact(AWAITED) if place is None else cell_fact(row.cells[place])


def _fitted(text: str, width: int) -> str:
    """Exactly `width` cells of it."""
    shown = printable(text)
    if cell_len(shown) <= width:
        return set_cell_size(shown, width)
    cut = Text(shown)
    cut.truncate(width, overflow="ellipsis")
    return set_cell_size(cut.plain, width)


def _beside(left: str, right: str, width: int) -> str:
    """Two texts at the two ends of a cell."""
    return f"{_fitted(left, width - len(right) - 1)} {right}"

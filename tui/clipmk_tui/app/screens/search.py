"""What dialogs have in common that search for a name: a list that typing narrows, the best matches first."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.strip import Strip
from textual.widgets import Input

from clipmk_tui.app.fuzzy import folded, matching, offsets, ranked
from clipmk_tui.app.screens.dialog import Dialog, ResultT
from clipmk_tui.app.widgets.cursor_lines import CursorLines
from clipmk_tui.show.text import shown


class Matches(CursorLines, can_focus=False):
    """The names that match, each with a note on the right; there may be 10,000."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"matches--cursor", "matches--note", "matches--found", "matches--wrong"}

    def __init__(self, names: Sequence[str], note: Callable[[int], Text], current: int) -> None:
        super().__init__()
        self._names, self._note = names, note
        self._query = ""
        self._places: Sequence[int] = range(len(names))
        self.count, self.cursor = len(names), max(0, min(current, len(names) - 1))

    @property
    def place(self) -> int | None:
        """Index of the name under the cursor."""
        return self._places[self.cursor] if self._places else None

    def show(self, places: Sequence[int], query: str) -> None:
        """Show these names; the cursor goes to the first."""
        self._places, self._query = places, query
        self.set_rows(len(places), 0)

    def render_line(self, y: int) -> Strip:
        """One name."""
        width, row = self.size.width, self.row_at(y)
        if row >= self.count:
            return Strip.blank(width, self.rich_style)
        on_cursor = row == self.cursor
        base = self.get_component_rich_style("matches--cursor") if on_cursor else self.rich_style
        text = self._line(self._places[row], width, plain=on_cursor)
        return Strip(text.render(self.app.console)).apply_style(base).adjust_cell_length(width, base)

    def _line(self, place: int, width: int, *, plain: bool) -> Text:
        """Name to the left, what is known to the right; `plain` without colours of its own."""
        known = self._note(place)
        known.truncate(max(0, width // 2), overflow="ellipsis")
        name = shown(self._names[place])
        if not plain and self._query and name.plain == self._names[place]:
            for at in offsets(self._query, name.plain):
                name.stylize(self.get_component_rich_style("matches--found"), at, at + 1)
        room = max(1, width - 3 - known.cell_len)
        if name.cell_len > room:
            name = Text("…").append_text(name[-(room - 1) :]) if room > 1 else Text("…")
            name.truncate(room)
        name.pad_right(max(0, room - name.cell_len))
        if not plain:
            wrong = known.plain.startswith("✗")
            known.stylize(self.get_component_rich_style("matches--wrong" if wrong else "matches--note"))
        return Text("▸ " if plain else "  ", end="").append_text(name).append(" ").append_text(known)


class SearchDialog(Dialog[ResultT]):
    """The arrows move the cursor of the matches while an `Input` has the focus."""

    def __init__(self, names: Sequence[str], current: int, note: Callable[[int], Text] = lambda _: Text()) -> None:
        super().__init__()
        self._folded = [name.lower() for name in names]
        """What typing is compared with; empty: only there while nothing is typed."""
        self._found, self._query = list(range(len(names))), ""
        self.matches = Matches(names, note, current)

    def action_move(self, by: int) -> None:
        """Move the cursor, not beyond the list."""
        self.matches.move_to(self.matches.cursor + by)

    @on(Input.Changed)
    def _search(self, event: Input.Changed) -> None:
        """Find what matches; a longer query looks only at what the shorter one found."""
        event.stop()
        before, self._query = self._query, folded(event.value)
        among = self._found if before and self._query.startswith(before) else None
        self._found = matching(self._query, self._folded, among)
        self.matches.show(ranked(self._query, self._folded, self._found), self._query)

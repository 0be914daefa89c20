"""What lists and tables of any length have in common: a cursor on a row, by keys and mouse, and scrolling.

They are drawn line by line, and only what is visible is made: a `DataTable` takes some 0.4 ms per cell, an `OptionList`
some 0.03 ms per line, with every key.
"""

from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView

from clipmk_tui.app.messages import Latest


class CursorLines(ScrollView):
    """Rows below a head that stays; what scrolls other widgets moves the cursor here."""

    ALLOW_SELECT = False

    head = 0  # lines above the rows
    count = 0  # Rows
    cursor = 0  # index of the row under the cursor

    class Moved(Latest):
        """Something else is under the cursor."""

    class Chosen(Message):
        """The user chose what is under the cursor."""

    def set_rows(self, count: int, cursor: int) -> None:
        """Draw other rows, the cursor on one of them."""
        self.count, self.cursor = count, max(0, min(cursor, count - 1))
        self.on_resize()
        self.post_message(self.Moved())

    def move_to(self, row: int) -> None:
        """Put the cursor on a row, or the first or last one; the rows follow."""
        before, self.cursor = self.cursor, max(0, min(row, self.count - 1))
        if self.cursor != before:
            self._follow()
            for one in (before, self.cursor):
                self.refresh(Region(0, self.head + one - round(self.scroll_offset.y), self.size.width, 1))
            self.post_message(self.Moved())

    def on_resize(self) -> None:
        """Draw at the new size, the cursor visible."""
        self.virtual_size = Size(0, self.count + self.head)
        self._follow()
        self.refresh()

    def _follow(self) -> None:
        room = max(1, self.size.height - self.head)
        top = max(self.cursor - room + 1, min(round(self.scroll_offset.y), self.cursor))
        self.scroll_to(y=top, animate=False, immediate=True)

    def row_at(self, y: int) -> int:
        """Index of the row in a line of the widget, in or beyond the rows; negative: the head."""
        return y - self.head + round(self.scroll_offset.y) if y >= self.head else -1

    def on_click(self, event: events.Click) -> None:
        """The mouse puts the cursor; twice is the same as enter."""
        if (row := self.row_at(event.y)) >= 0:
            self.move_to(row)
        if event.chain == 2:
            self.action_choose()

    def action_choose(self) -> None:
        """Choose what is under the cursor."""
        self.post_message(self.Chosen())

    def action_scroll_up(self) -> None:
        """The row above."""
        self.move_to(self.cursor - 1)

    def action_scroll_down(self) -> None:
        """The row below."""
        self.move_to(self.cursor + 1)

    def action_page_up(self) -> None:
        """A screen up."""
        self.move_to(self.cursor - max(1, self.size.height - self.head))

    def action_page_down(self) -> None:
        """A screen down."""
        self.move_to(self.cursor + max(1, self.size.height - self.head))

    def action_scroll_home(self) -> None:
        """The first row."""
        self.move_to(0)

    def action_scroll_end(self) -> None:
        """The last row."""
        self.move_to(self.count - 1)

"""A pane around a list, tree or table that a text narrows."""

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input


class FilteredPane(Vertical):
    """Opens a filter below its content, which has the focus otherwise: enter keeps it, esc drops it, down leaves it."""

    class Changed(Message):
        """Another text is typed."""

    def __init__(self, content: Widget, placeholder: str, *, id: str | None = None, classes: str = "") -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, classes=classes)
        self.content_widget = content
        self._filter = Input(placeholder=placeholder, compact=True, classes="filter")

    def compose(self) -> ComposeResult:
        """Content and filter."""
        yield self.content_widget
        yield self._filter

    @property
    def filter_text(self) -> str:
        """What is typed."""
        return self._filter.value.strip()

    def action_filter(self) -> None:
        """Open the filter."""
        self.add_class("-filtered")
        self._filter.focus()

    @on(Input.Changed)
    def _filter_while_typing(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Changed())

    @on(Input.Submitted)
    def _keep_filter(self, event: Input.Submitted) -> None:
        event.stop()
        self._leave_filter(keep=bool(self.filter_text))

    def on_key(self, event: events.Key) -> None:
        """Esc drops the filter from wherever in the pane; the down arrow leaves it."""
        if event.key == "escape" and self.has_class("-filtered"):
            event.stop()
            self._leave_filter(keep=False)
        elif event.key == "down" and self._filter.has_focus:
            event.stop()
            self.content_widget.focus()

    def _leave_filter(self, *, keep: bool) -> None:
        if not keep:
            self._filter.value = ""
            self.remove_class("-filtered")
        self.content_widget.focus()

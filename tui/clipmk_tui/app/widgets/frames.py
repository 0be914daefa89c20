"""The empty frames of the panes: what the first frame shows, before anything else is imported."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.widgets import Static


class Frames(Container):
    """Replaced by `Workspace`, which has the same names and titles."""

    def __init__(self) -> None:
        super().__init__(id="panes", classes="empty")

    def compose(self) -> ComposeResult:
        """Left, middle, right."""
        with Vertical(id="left"):
            yield _frame("image")
            yield _frame("models")
        yield _frame("predictions")
        yield _frame("concepts", title="why")


def _frame(name: str, *, title: str | None = None) -> Static:
    frame = Static(id=name, classes="pane")
    frame.border_title = title or name
    return frame

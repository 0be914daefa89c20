"""The line for words of the user's own, in place of the keys at the bottom while it is open."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Input, Static

from clipmk_tui.app.key_hints import keys_of
from clipmk_tui.app.widgets.key_bar import KeyBar


class AskLine(Horizontal):
    """Takes a line of text: enter hands it to the screen as `Input.Submitted`, arrows recall earlier ones."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "close", "cancel", id="ask.cancel"),
        Binding("up", "recall(-1)", "earlier", show=False, id="ask.earlier"),
        Binding("down", "recall(1)", "later", show=False, id="ask.later"),
    ]

    def __init__(self) -> None:
        super().__init__(id="ask")
        self._label = Static(id="ask-label", markup=False)
        self._input = Input(compact=True, select_on_focus=False)
        self._earlier: dict[str, list[str]] = {}
        """Label -> what was accepted under it, the latest last."""
        self._place = 0
        """Of the line in these; their number: a new one."""
        self._before: Widget | None = None
        """Had the focus."""
        self.display = False

    def _show(self, shown: bool) -> None:
        """Change places with the keys."""
        self.display = shown
        self.screen.query_one(KeyBar).display = not shown

    @property
    def label(self) -> str:
        """What the line is for."""
        return str(self._label.content)

    def compose(self) -> ComposeResult:
        """What the line is for, and the line."""
        yield self._label
        yield self._input

    def open(self, label: str, what: str) -> None:
        """Open an empty line.

        Args:
            label: stands before it.
            what: an example.
        """
        if not self.display:
            self._before = self.screen.focused
        self._label.update(label)
        recall = keys_of(self, "ask.earlier", "ask.later")
        self._input.placeholder = f"{what}    enter · {recall} earlier · {keys_of(self, 'ask.cancel')} cancels"
        self._input.value, self._place = "", len(self._earlier.get(label, ()))
        self._show(True)
        self._input.focus()

    def action_close(self) -> None:
        """Close the line; the focus goes back where it was."""
        if self.display:
            self._show(False)
            self.screen.set_focus(self._before)

    def accept(self, text: str) -> None:
        """Remember a text and close."""
        earlier = self._earlier.setdefault(self.label, [])
        earlier[:] = [*(other for other in earlier if other != text), text]
        self.action_close()

    def action_recall(self, by: int) -> None:
        """An earlier text, or a later one; after the latest an empty line."""
        earlier = [*self._earlier.get(self.label, ()), ""]
        self._place = min(max(self._place + by, 0), len(earlier) - 1)
        self._input.value = earlier[self._place]
        self._input.cursor_position = len(self._input.value)

    @on(Input.Changed)
    def _keep(self, event: Input.Changed) -> None:
        event.stop()

    @on(Input.Blurred)
    def _leave(self) -> None:
        """Another widget takes the keys; the terminal's window may lose the focus."""
        if self.app.app_focus:
            self._show(False)

"""The line for words to ask for, over the keys at the bottom while it is open."""

from __future__ import annotations

from textual import on
from textual.widget import Widget
from textual.widgets import Input

from clipmk_tui.app.bindings import KEY_BINDINGS
from clipmk_tui.app.key_hints import keys_of


class AskLine(Input):
    """Enter hands the text to the screen as `Input.Submitted`; arrows recall what was accepted before."""

    BINDINGS = KEY_BINDINGS["AskLine"]

    def __init__(self) -> None:
        super().__init__(compact=True, select_on_focus=False, id="ask")
        self._earlier: list[str] = []
        """What was accepted, the latest last."""
        self._place = 0
        """Of the line in these; their number: a new one."""
        self._before: Widget | None = None
        """Had the focus."""
        self._show(False)

    def open(self) -> None:
        """Open an empty line."""
        keys = f"{keys_of(self, 'ask.earlier', 'ask.later')} earlier words · {keys_of(self, 'ask.cancel')} cancels"
        self.placeholder = f"words, for example: a wet nose   enter asks for them · {keys}"
        self.value, self._place = "", len(self._earlier)
        self._before = self._before if self.is_open else self.screen.focused
        self._show(True)
        self.screen.set_focus(self)

    def action_close(self) -> None:
        """Close the line; the focus goes back where it was."""
        self._show(False)
        self.screen.set_focus(self._before)

    def remember(self, text: str) -> None:
        """Keep a text for `action_recall`."""
        self._earlier = [*(other for other in self._earlier if other != text), text]

    def action_recall(self, by: int) -> None:
        """An earlier text, or a later one; after the latest an empty line."""
        texts = [*self._earlier, ""]
        self._place = min(max(self._place + by, 0), len(texts) - 1)
        self.value = texts[self._place]
        self.cursor_position = len(self.value)

    @on(Input.Blurred)
    def _leave(self) -> None:
        """Another widget takes the keys; the terminal's window alone may lose the focus."""
        if self.app.app_focus:
            self._show(False)

    def _show(self, shown: bool) -> None:
        self.is_open = shown
        self.styles.offset = (0, 0 if shown else 1)  # below the screen: hiding it would redraw everything

"""The line at the top: what is looked at, with what, and what is going on."""

from __future__ import annotations

from typing import Final

from rich.text import Text
from textual.timer import Timer
from textual.widget import Widget

from clipmk.system.text import printable
from clipmk_tui.app.keys import keys_of
from clipmk_tui.show.text import STAGE_WORDS

_SPINNER: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class StatusLine(Widget):
    """One line; redrawn only when something changes, or ten times a second while the engine works."""

    DEFAULT_CSS = """
    StatusLine { height: 1; width: 1fr; background: $panel; color: $foreground; padding: 0 1; }
    """

    def __init__(self) -> None:
        super().__init__(id="status")
        self._place = self._where = self._work = ""
        self._frame = 0
        self._timer: Timer | None = None

    def show(self, *, place: str, where: str, device: str) -> None:
        """Say which image (left) and which model on which device (middle)."""
        where = f"{where}  {device}".rstrip()
        if (place, where) != (self._place, self._where):
            self._place, self._where = printable(place), printable(where)
            self.refresh()

    def busy(self, stage: str, done: int = 0, total: int = 0) -> None:
        """Say what the engine is doing."""
        words = STAGE_WORDS.get(stage, stage)
        count = f" {done}/{total}" if total > 1 else ""
        self._work = printable(f"{words}{count}")
        if self._timer is None:
            self._timer = self.set_interval(0.1, self._turn)
        self.refresh()

    def idle(self) -> None:
        """The engine has nothing to do."""
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        if self._work:
            self._work = ""
            self.refresh()

    @property
    def working(self) -> str:
        """What is going on, "" when nothing is."""
        return self._work

    def render(self) -> Text:
        """Name, image, model, work; the work keeps its place on the right."""
        width = self.content_size.width
        busy = f" {_SPINNER[self._frame]} {self._work} · {keys_of(self, 'main.cancel')}" if self._work else ""
        work = Text(busy, "bold")
        work.truncate(width // 2, overflow="ellipsis")
        text = Text.assemble(("clipmk", "bold"), "   ", self._place, "   ", (self._where, "dim"), no_wrap=True)
        text.truncate(width - work.cell_len, overflow="ellipsis", pad=True)
        return text + work

    def _turn(self) -> None:
        self._frame = (self._frame + 1) % len(_SPINNER)
        self.refresh()

"""The line at the top: image, model, and what the engine is working on."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget

from clipmk.system.text import byte_size, printable
from clipmk_tui.app.key_hints import keys_of
from clipmk_tui.show.text import STAGE_WORDS

if TYPE_CHECKING:
    from clipmk_tui.app.state import View

_SPINNER: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_FRAMES_PER_SECOND: Final = 10


def stage_text(stage: str, done: int, total: int) -> str:
    """``finding parts 2/4``, ``downloading 50 % of 0.6 GB``."""
    if stage == "download":
        count = f" {100 * done // total} % of {byte_size(total)}" if total else f" {byte_size(done)}"
    else:
        count = f" {done}/{total}" if total > 1 else ""
    return printable(f"{STAGE_WORDS.get(stage, stage)}{count}")


class StatusLine(Widget):
    """One line; redrawn only when something changes, or while the engine works."""

    title: reactive[str] = reactive("")
    model: reactive[str] = reactive("")
    work: reactive[str] = reactive("")
    """What the engine is working on; empty: nothing."""

    def __init__(self) -> None:
        super().__init__(id="status")

    def show(self, view: View) -> None:
        """Show which image, and which model on which device."""
        self.title = printable(view.title)
        model = view.model.removeprefix("embedded/")
        self.model = printable(" · ".join(filter(None, (model, view.device))))

    def watch_work(self, work: str) -> None:
        """Turn the spinner meanwhile."""
        self.auto_refresh = 1 / _FRAMES_PER_SECOND if work else None

    def render(self) -> Text:
        """Name, image, model, work; the work keeps its place on the right."""
        width = self.content_size.width
        frame = _SPINNER[int(monotonic() * _FRAMES_PER_SECOND) % len(_SPINNER)]
        busy = f" {frame} {self.work} · {keys_of(self, 'main.cancel')}" if self.work else ""
        work = Text(busy, "bold")
        work.truncate(width // 2, overflow="ellipsis")
        text = Text.assemble(("clipmk", "bold"), "   ", self.title, "   ", (self.model, "dim"), no_wrap=True)
        text.truncate(width - work.cell_len, overflow="ellipsis", pad=True)
        return text + work

"""The app's lines: image, model and work at the top; the focused pane's keys, or words to ask for, at the bottom."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from rich.text import Text
from textual import on
from textual.binding import ActiveBinding, Binding
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import Input

from clipmk.system.text import byte_size, printable
from clipmk_tui.app.bindings import KEY_BINDINGS, is_own, key_text, keys_of
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
    work: reactive[str] = reactive("")  # what the engine is working on; empty: nothing

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


class KeyBar(Widget):
    """Keys and what they do, the focused pane's first, as many as fit; one widget: a change redraws one line."""

    def on_mount(self) -> None:
        """Follow the focus."""
        self.screen.bindings_updated_signal.subscribe(self, lambda _: self.refresh())

    def render(self) -> Text:
        """The keys of the focused pane, of the screen, of the app, as many as fit; help and quit are always among them.

        The arrows are named where the focused widget moves something by them, and has no name of its own for it.
        """
        found: dict[str, Text] = {}
        active = self.screen.active_bindings
        arrows = [active[key] for key in ("up", "down") if key in active]
        if arrows and all(one.node is self.screen.focused and not one.binding.show for one in arrows):
            found["move"] = Text.assemble(("↑↓", "bold"), " move  ")
        for one in sorted(active.values(), key=self._order):
            binding = one.binding
            if binding.show and one.enabled and binding.action not in found:
                found[binding.action] = Text.assemble((key_text(one), "bold"), f" {binding.description}  ")
        last = [found.pop(action) for action in ("app.help", "help", "app.quit", "quit") if action in found]
        width = self.content_size.width
        room = width - sum(text.cell_len for text in last)
        shown = Text(no_wrap=True)
        for text in found.values():
            if shown.cell_len + text.cell_len <= room:
                shown += text
        for text in last:
            shown += text
        shown.truncate(width, pad=True)
        return shown

    def _order(self, active: ActiveBinding) -> tuple[bool, int, int]:
        """The focused pane's keys first, the app's last; each in the order of its bindings."""
        nodes = [*(self.screen.focused.ancestors_with_self if self.screen.focused else ()), self.screen, self.app]
        declared = [binding.id for binding in type(active.node).BINDINGS if isinstance(binding, Binding)]
        place = declared.index(active.binding.id) if active.binding.id in declared else len(declared)
        return not is_own(active, self.screen), nodes.index(active.node), place


class AskLine(Input):
    """Enter hands the text to the screen as `Input.Submitted`; arrows recall what was accepted before."""

    BINDINGS = KEY_BINDINGS["AskLine"]

    def __init__(self, id: str = "ask") -> None:  # noqa: A002 - Textual's name
        super().__init__(compact=True, select_on_focus=False, id=id)
        self._earlier: list[str] = []  # what was accepted, the latest last
        self._place = 0  # of the line in these; their number: a new one
        self._before: Widget | None = None  # had the focus
        self._show(False)

    def open(self, example: str, value: str = "") -> None:
        """Open the line with a text; an example is shown while it is empty."""
        keys = f"{keys_of(self, 'ask.earlier', 'ask.later')} earlier ones · {keys_of(self, 'ask.cancel')} cancels"
        self.placeholder = f"{example} · {keys}"
        self.value, self._place = value, len(self._earlier)
        self.cursor_position = len(value)
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

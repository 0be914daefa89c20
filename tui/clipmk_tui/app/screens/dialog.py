"""What all screens above the main screen have in common."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from textual.await_complete import AwaitComplete
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from clipmk.errors import ClipmkError
from clipmk.system.text import printable
from clipmk_tui.show.text import shown

ResultT = TypeVar("ResultT")


class ClosedOnce(Screen[ResultT]):
    """A screen that closes once, and only while it is on top: keys may arrive in bursts, work may end late."""

    _dismissed = False

    def dismiss(self, result: ResultT | None = None) -> AwaitComplete:
        """Close with a result, unless it is closed already or another screen is above it."""
        if self._dismissed or not self.is_active:
            return AwaitComplete()
        self._dismissed = True
        return super().dismiss(result)


class Dialog(ModalScreen[ResultT], ClosedOnce[ResultT]):  # the style sheet follows the first base
    """A box of the class `dialog` in the middle, with a `Static` of the id `message`."""

    CSS_PATH = Path(__file__).with_name("dialogs.tcss")
    _busy = False  # it is about to close with what it works on

    def box(self, title: str, hint: str = "") -> Vertical:
        """The container, with a title above and the keys below."""
        box = Vertical(classes="dialog")
        box.border_title, box.border_subtitle = shown(title), shown(hint)  # a str would be read as markup
        return box

    def close_with(self, work: Callable[[], ResultT], message: str) -> None:
        """Close with the result of some work in a thread, and show a message meanwhile; stay open if it fails."""
        if not self._busy:
            self._busy = True
            self.say(message)
            self.run_worker(self._close_with(work), group="closing")

    async def _close_with(self, work: Callable[[], ResultT]) -> None:
        try:
            result = await asyncio.to_thread(work)
        except (ClipmkError, OSError) as error:
            self.say(str(error), "$error")
            return
        finally:
            self._busy = False
        self.dismiss(result)

    def say(self, message: str, style: str = "dim") -> None:
        """Show a message in the dialog, unless it is closing: work may end late."""
        for static in self.query("#message").results(Static):
            static.update(Content.styled(printable(message), style))

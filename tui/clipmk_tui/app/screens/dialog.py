"""What all screens above the main screen have in common."""

from __future__ import annotations

from typing import TypeVar

from textual.await_complete import AwaitComplete
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from clipmk.system.text import printable

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
    """A box in the middle; the stylesheet knows it by the class `dialog` of its container.

    A `Static` with the id `message` shows messages.
    """

    def say(self, message: str, style: str = "dim") -> None:
        """Show a message in the dialog, unless it is closing: work may end late."""
        for static in self.query("#message").results(Static):
            static.update(Content.styled(printable(message), style))

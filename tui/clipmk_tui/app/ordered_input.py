"""Keys and mouse events in their order, however fast they arrive: each goes to what the ones before it have opened."""

import asyncio
import contextlib
from collections import deque
from typing import Final

from textual import events, on
from textual.app import App
from textual.dom import DOMNode
from textual.errors import NoWidget
from textual.message import Message
from textual.widget import Widget

_ARROWS: Final = frozenset({"up", "down", "left", "right"})
"""Repeated, they go to the same place: they do not wait for one another."""

_PAGES: Final = frozenset({"pageup", "pagedown"})

_ROUNDS: Final = 2  # a key is processed, then the message that it makes its widget send
_CHECK: Final = 0.1  # seconds after which it is looked whether a widget that is waited for is still there
_LATE: Final = 1.0  # seconds after which a character is no longer taken for the rest of a sequence

_PARAMETERS: Final = frozenset(map(chr, range(0x20, 0x40)))
"""Characters between the beginning of a control sequence and its final byte."""

_BEGINNINGS: Final = {"escape": "ESC", "left_square_bracket": "[", "alt+shift+o": "ESC O"}
"""Key as which Textual reports the beginning of a split sequence -> what was read; of ``ESC [`` only the bracket."""


class SplitKeys:
    """Recognises the rest of escape sequences that a slow link splits: it arrives as characters, and is no command."""

    def __init__(self) -> None:
        self._read = ""
        self._time = 0.0

    def is_rest(self, key: events.Key) -> bool:
        """Whether a key belongs to a sequence whose beginning came too long ago; call it with every key in turn.

        A ``[`` on its own begins a sequence only where parameters follow: it may be the user's.
        """
        read, character = self._read if key.time - self._time < _LATE else "", key.character or ""
        self._time = key.time
        control = (read == "ESC" and character == "[") or (read in {"[", "ESC ["} and character in _PARAMETERS)
        single = read == "ESC" and character == "O"
        final = read in {"ESC [", "ESC O"} and "@" <= character <= "~"
        begun = "" if final else _BEGINNINGS.get(key.key, "")
        self._read = "ESC [" if control else "ESC O" if single else begun
        return control or single or final


class _Passed(Message):
    """Bubbles from a widget to the app, behind the key that the widget was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived = asyncio.Event()


class OrderedInput(App[int]):
    """An app that sends each key when the one before it is processed, and the screen that it opened is mounted.

    Textual sends all keys of a burst to the widget that has the focus when they arrive.
    """

    def __init__(self) -> None:
        super().__init__()
        self._input: deque[events.Event] = deque()
        self._split_keys = SplitKeys()
        self._sending = False

    async def on_event(self, event: events.Event) -> None:
        """Queue what comes from the terminal."""
        if not isinstance(event, events.InputEvent | events.Paste) or event.is_forwarded:
            if self.screen_stack or not isinstance(event, events.InputEvent):  # else a key behind the one that quits
                await super().on_event(event)
            return
        self._input.append(event)
        if not self._sending:
            self._sending = True
            self.run_worker(self._send_all(), group="input")

    async def _send_all(self) -> None:
        try:
            while self._input and self.screen_stack:
                if not self.screen.is_mounted:
                    await self._passed(self.screen)
                event, sent = self._input.popleft(), asyncio.get_running_loop().create_future()
                self.call_later(self._send, event, sent)  # behind the changes of focus that wait there
                target = await sent
                following = self._input[0] if self._input else None
                for _ in range(_ROUNDS) if _is_waited_for(event, following) else ():
                    await self._passed(target)
        finally:
            self._sending = False

    async def _send(self, event: events.Event, sent: asyncio.Future[DOMNode]) -> None:
        target = self.focused or self.screen
        if not self._is_dropped(event, target):
            await super().on_event(event)
        sent.set_result(target)

    def _is_dropped(self, event: events.Event, target: Widget) -> bool:
        """Whether it does nothing: a rest of a split sequence, a page in a list not laid out, a click on what is gone.

        What is under the mouse may have been removed, and only still be on the screen.
        """
        if isinstance(event, events.Key):
            rest = self._split_keys.is_rest(event) and not target.check_consume_key(event.key, event.character)
            return rest or (event.key in _PAGES and not target.size)
        with contextlib.suppress(NoWidget):
            if isinstance(event, events.MouseEvent):
                return not self.get_widget_at(int(event.x), int(event.y))[0].is_attached
        return False

    async def _passed(self, node: DOMNode) -> None:
        """Wait until a widget, what contains it and the app have processed what they were sent so far."""
        message = _Passed()
        if node.post_message(message):
            while node.is_attached and not message.arrived.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(message.arrived.wait(), _CHECK)

    @on(_Passed)
    def _arrive(self, message: _Passed) -> None:
        message.arrived.set()


def _is_waited_for(event: events.Event, following: events.Event | None) -> bool:
    """Whether the next event must wait until this one is processed."""
    if not isinstance(event, events.Key):
        return isinstance(event, events.Paste | events.MouseUp)
    repeated = isinstance(following, events.Key) and following.key == event.key
    return not (repeated and event.key in _ARROWS)

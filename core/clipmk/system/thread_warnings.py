"""Recording the warnings of one thread while others go on: `warnings.catch_warnings` is for single threads.

It keeps filters and functions of the whole process and puts them back when it ends. Where two threads overlap, the one
that ends last puts back what the other had put there, and no warning is shown any more until the process ends.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO


class _Own(threading.local):
    """What this thread records: the innermost list is the last one."""

    def __init__(self) -> None:
        self.lists: list[list[warnings.WarningMessage]] = []


class _InRecordingThread(type):
    """Makes the class a base of every category, in a thread that records, and of none in another."""

    def __subclasscheck__(cls, subclass: type) -> bool:
        return bool(_own.lists)


class _Recorded(Warning, metaclass=_InRecordingThread):
    """Every warning of a recording thread: what the filter of the whole process matches."""


_FILTER = ("always", None, _Recorded, None, 0)
"""As `warnings.simplefilter` writes it: a thread that records hears everything, whatever filters there are."""

_own = _Own()
_lock = threading.Lock()
_recording = 0
"""How many records are being made, in all threads."""


@contextmanager
def recorded_warnings() -> Iterator[list[warnings.WarningMessage]]:
    """Record what this thread warns of instead of showing it; other threads' warnings go where they always went.

    While any thread records, `warnings` of the whole process has one more filter and a `showwarning` that looks which
    thread it is in; when the last one ends, both are taken away and nothing else is touched.

    Returns:
        A list that fills as warnings come, all of them, whatever the filters say.
    """
    global _recording  # noqa: PLW0603 - what it counts belongs to the process
    heard: list[warnings.WarningMessage] = []
    with _lock:
        _recording += 1
        _install()
    _own.lists.append(heard)
    try:
        yield heard
    finally:
        _own.lists.pop()
        with _lock:
            _recording -= 1
            if not _recording:
                _uninstall()


class _Router:
    """A `warnings.showwarning` that records in a thread that does so, and else does what the one before it did."""

    def __init__(self, before: Callable[..., None]) -> None:
        self.before = before

    def __call__(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if _own.lists:
            _own.lists[-1].append(warnings.WarningMessage(message, category, filename, lineno, file, line))
        else:
            self.before(message, category, filename, lineno, file, line)


def _install() -> None:
    """Each time anew: another library's `catch_warnings` may have taken it away."""
    if _FILTER not in warnings.filters[:1]:
        warnings.simplefilter("always", _Recorded)
    if not isinstance(warnings.showwarning, _Router):
        warnings.showwarning = _Router(warnings.showwarning)


def _uninstall() -> None:
    """A new list: another thread may be going through the old one."""
    warnings.filters = [one for one in warnings.filters if one != _FILTER]
    if isinstance(warnings.showwarning, _Router):
        warnings.showwarning = warnings.showwarning.before

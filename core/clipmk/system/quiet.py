"""Keeps libraries quiet in one thread while others go on: what they print, log and warn of.

stdout belongs to our data. Python's own tools (`contextlib.redirect_stdout`, `warnings.catch_warnings`) swap objects of
the whole process and put back what they found: where two threads overlap, the one that leaves last puts back what the
other had put there, and prints or warnings stay lost until the process ends. So here the first thread that asks
patches the process, the patch looks up which thread it is called in, and the last thread that leaves takes it away.
"""

import io
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

_log = logging.getLogger(__name__)


class SharedPatch:
    """A value of a module that the first user replaces and the last one puts back, in whichever threads they are."""

    def __init__(self, module: Callable[[], Any], name: str, replacement: Callable[[Any], Any]) -> None:
        self._module, self._name, self._replacement = module, name, replacement
        self._original = self._replaced = None
        self._lock, self._users = threading.Lock(), 0

    def _apply(self) -> None:
        """Called for every user, since another library may have undone the change meanwhile."""
        present = getattr(self._module(), self._name)
        if present is not self._replaced:
            self._original, self._replaced = present, self._replacement(present)
            setattr(self._module(), self._name, self._replaced)

    def _revert(self) -> None:
        if getattr(self._module(), self._name) is self._replaced:
            setattr(self._module(), self._name, self._original)

    def __enter__(self) -> None:
        with self._lock:
            self._apply()
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._revert()


class _Thread(threading.local):
    """What is on in this thread."""

    def __init__(self) -> None:
        self.quiet = 0  # depth of nested `quiet` blocks
        self.captures: list[list[warnings.WarningMessage]] = []
        """Lists of nested `captured_warnings` blocks; the innermost is the last one."""


_thread = _Thread()


@contextmanager
def quiet(*, ignoring: str | None = None) -> Iterator[None]:
    """Send what libraries print to stderr, their warnings to our log, their records on the root logger to debug.

    open_clip calls `logging.warning` on the root logger ("initialized randomly", before it loads the weights), which
    also installs a handler when there is none; a temporary NullHandler prevents that. Covers this thread only, and
    drops warnings that contain the text `ignoring`.
    """
    root, handler, to_debug = logging.getLogger(), logging.NullHandler(), _ToDebug()
    root.addHandler(handler)
    root.addFilter(to_debug)
    _thread.quiet += 1
    try:
        with _stdout_patch, captured_warnings() as seen:
            yield
    finally:
        _thread.quiet -= 1
        root.removeFilter(to_debug)
        root.removeHandler(handler)
    for warning in seen:
        if ignoring is None or ignoring not in str(warning.message):
            meaningful = issubclass(warning.category, UserWarning | RuntimeWarning)
            _log.log(logging.WARNING if meaningful else logging.DEBUG, "%s", warning.message)


@contextmanager
def captured_warnings() -> Iterator[list[warnings.WarningMessage]]:
    """Collect all warnings of this thread in a list, whatever the filters say; those of other threads are shown."""
    seen: list[warnings.WarningMessage] = []
    _thread.captures.append(seen)
    try:
        with _warnings_patch:
            yield seen
    finally:
        _thread.captures.pop()


class _ToDebug(logging.Filter):
    """Sends the root logger's records of quiet threads to our debug log."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not _thread.quiet:
            return True
        _log.debug("%s", record.getMessage())
        return False


class _Stdout:
    """Stands in for `sys.stdout`: stderr in a quiet thread, the real one in the others."""

    def __init__(self, original: TextIO) -> None:
        self._original = original
        self._nowhere = io.StringIO()

    def __getattr__(self, name: str) -> Any:
        stream = sys.stderr if _thread.quiet else self._original
        return getattr(self._nowhere if stream is None else stream, name)  # None: a process without such a stream


class _InCapturingThread(type):
    """Makes its class a base of every warning category in a capturing thread, and of none in another."""

    def __subclasscheck__(cls, subclass: type) -> bool:
        return bool(_thread.captures)


class _Captured(Warning, metaclass=_InCapturingThread):
    """The category that the filter of the whole process matches: every warning of a capturing thread."""


_FILTER = ("always", None, _Captured, None, 0)  # as `warnings.simplefilter` writes it


def _router(original: Callable[..., None]) -> Callable[..., None]:
    """A `warnings.showwarning` that collects in a capturing thread, and otherwise does what the original did."""

    def show(*warning: Any, **more: Any) -> None:
        if _thread.captures:
            _thread.captures[-1].append(warnings.WarningMessage(*warning, **more))
        else:
            original(*warning, **more)

    return show


class _WarningsPatch(SharedPatch):
    """The router, and the filter that lets all warnings of capturing threads through to it."""

    def _apply(self) -> None:
        if _FILTER not in warnings.filters[:1]:
            warnings.simplefilter("always", _Captured)
        super()._apply()

    def _revert(self) -> None:
        warnings.filters = [one for one in warnings.filters if one != _FILTER]  # another thread may iterate over it
        super()._revert()


_stdout_patch = SharedPatch(lambda: sys, "stdout", _Stdout)
_warnings_patch = _WarningsPatch(lambda: warnings, "showwarning", _router)

"""Keeping libraries quiet while they load: stdout belongs to our data, warnings and root logs go to our logger.

All of it for the thread that loads, and for no other: results may be printed while a model loads in the background.
"""

from __future__ import annotations

import io
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from clipmk.system.thread_warnings import recorded_warnings

_log = logging.getLogger(__name__)

_lock = threading.Lock()
_hushed: list[int] = []
"""The threads that are hushed, each as often as it is."""


@contextmanager
def hushed(*, ignoring: str | None = None) -> Iterator[None]:
    """Send what libraries print to stderr, their warnings to our log, their records on the root logger to debug.

    open_clip calls `logging.warning` on the root logger ("initialized randomly", before it loads the weights), which
    also installs a handler when there is none; a passing NullHandler prevents that.

    Only of this thread; threads that a library starts are heard. Any number of threads may be hushed at once.

    Args:
        ignoring: warnings that say this go nowhere.
    """
    root, handler, to_debug = logging.getLogger(), logging.NullHandler(), _ToDebug()
    root.addHandler(handler)
    root.addFilter(to_debug)
    try:
        with _printing_to_stderr(), recorded_warnings() as seen:
            yield
    finally:
        root.removeFilter(to_debug)
        root.removeHandler(handler)
    _tell([warning for warning in seen if ignoring is None or ignoring not in str(warning.message)])


def _tell(seen: list[warnings.WarningMessage]) -> None:
    for warning in seen:
        meaningful = issubclass(warning.category, UserWarning | RuntimeWarning)
        _log.log(logging.WARNING if meaningful else logging.DEBUG, "%s", warning.message)


class _ToDebug(logging.Filter):
    """Takes the records of the thread that made it to our debug log."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        if threading.get_ident() != self._thread:
            return True
        _log.debug("%s", record.getMessage())
        return False


class _Stdout:
    """Stands in for `sys.stdout`: stderr in a hushed thread, the real one in the others."""

    def __init__(self, real: TextIO) -> None:
        self.real = real
        self._nowhere = io.StringIO()

    def __getattr__(self, name: str) -> Any:
        stream = sys.stderr if threading.get_ident() in _hushed else self.real
        return getattr(self._nowhere if stream is None else stream, name)  # None: a process without such a stream


@contextmanager
def _printing_to_stderr() -> Iterator[None]:
    """The first thread to come puts the stand-in there, the last one to go takes it away."""
    thread = threading.get_ident()
    with _lock:
        _hushed.append(thread)
        if not isinstance(sys.stdout, _Stdout):
            sys.stdout = cast(TextIO, _Stdout(sys.stdout))
    try:
        yield
    finally:
        with _lock:
            _hushed.remove(thread)
            if not _hushed and isinstance(sys.stdout, _Stdout):
                sys.stdout = sys.stdout.real

"""Keeping libraries quiet while they load: stdout belongs to our data, warnings and root logs go to our logger."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

_log = logging.getLogger(__name__)


@contextmanager
def hushed() -> Iterator[None]:
    """Send what libraries print to stderr, their warnings to our log, their records on the root logger to debug.

    open_clip calls `logging.warning` on the root logger ("initialized randomly", before it loads the weights), which
    also installs a handler when there is none; a passing NullHandler prevents that.
    """
    root, handler = logging.getLogger(), logging.NullHandler()
    root.addHandler(handler)
    root.addFilter(_to_debug)
    try:
        with redirect_stdout(sys.stderr), warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            yield
    finally:
        root.removeFilter(_to_debug)
        root.removeHandler(handler)
    for warning in seen:
        meaningful = issubclass(warning.category, UserWarning | RuntimeWarning)
        _log.log(logging.WARNING if meaningful else logging.DEBUG, "%s", warning.message)


def _to_debug(record: logging.LogRecord) -> bool:
    _log.debug("%s", record.getMessage())
    return False

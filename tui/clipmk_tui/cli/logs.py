"""The library's log, as lines on stderr."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from clipmk_tui.cli.streams import say


@contextlib.contextmanager
def logging_to_stderr(*, quiet: bool, verbose: bool, usual: int = logging.WARNING) -> Iterator[None]:
    """Print our log from `usual` on; with `verbose` everything and Python's warnings, with `quiet` only errors."""
    logger, handler = logging.getLogger("clipmk"), _Lines()
    before = logger.level
    logger.setLevel(logging.DEBUG if verbose else logging.ERROR if quiet else usual)
    logger.addHandler(handler)
    warnings = logging.getLogger("py.warnings")
    of_python = handler if verbose else logging.NullHandler()
    warnings.addHandler(of_python)
    logging.captureWarnings(capture=True)
    try:
        yield
    finally:
        logging.captureWarnings(capture=False)
        warnings.removeHandler(of_python)
        logger.removeHandler(handler)
        logger.setLevel(before)


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(record.levelname.lower(), record.getMessage())

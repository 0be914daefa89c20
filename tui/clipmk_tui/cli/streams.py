"""stdout carries data only, whatever a library prints; stderr carries everything else."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, cast

from clipmk.errors import ClipmkError
from clipmk.system.text import printable
from clipmk_tui.show.signs import encoding_of, readable

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_WIDTH = 100  # columns if stdout is not a terminal and COLUMNS is not set
NARROWEST = 60  # fewest columns that text is laid out for; narrower terminals wrap its lines


class ReaderGone(Exception):  # noqa: N818 - nothing went wrong
    """The reader of our stdout has stopped (`clipmk ... | head`)."""


class DataStream:
    """Text for the real stdout, written on flush; characters that its encoding lacks are replaced. A file for rich."""

    def __init__(self, descriptor: int, *, encoding: str = "utf-8") -> None:
        self.encoding, self.errors = encoding, "replace"
        self._descriptor = descriptor
        self._pending: list[bytes] = []
        self.keep_padding = True  # whether blanks at line ends are written

    def write(self, text: str) -> int:
        """Keep text for the next flush."""
        if not self.keep_padding:
            text = re.sub(r" +$", "", text, flags=re.MULTILINE)
        self._pending.append(readable(text, self.encoding).encode(self.encoding, self.errors))
        return len(text)

    def flush(self) -> None:
        """Write the pending text; raises `ReaderGone` or, where that fails otherwise, `ClipmkError`."""
        left = memoryview(b"".join(self._pending))
        self._pending.clear()
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except BrokenPipeError as reason:
            raise ReaderGone from reason
        except OSError as reason:
            raise ClipmkError(f"stdout cannot be written: {reason.strerror or reason}") from reason

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._descriptor)

    def fileno(self) -> int:
        """The descriptor behind it."""
        return self._descriptor


@contextlib.contextmanager
def data_stream(*, encoding: str = "utf-8") -> Iterator[DataStream]:
    """Open the real stdout, with the errors of `flush`; what is printed meanwhile goes to stderr, even from C code."""
    with _diverted() as descriptor:
        stream = DataStream(descriptor, encoding=encoding)
        yield stream
        stream.flush()


@contextlib.contextmanager
def watched_stdout() -> Iterator[None]:
    """Let what prints to `sys.stdout`, such as the parser's help, fail as `data_stream` does."""
    if sys.stdout is None:  # closed from the start
        yield
        return
    stream = DataStream(1, encoding=locale_encoding())
    stream.keep_padding = stream.isatty()
    with contextlib.redirect_stdout(cast("IO[str]", stream)):
        yield
        stream.flush()


def locale_encoding() -> str:
    """The encoding of text on stdout."""
    return encoding_of(sys.stdout)


def text_console(stream: DataStream, *, no_color: bool = False) -> Console:
    """A console on the data stream: plain without a terminal, never interpreting markup."""
    from rich.console import Console  # noqa: PLC0415 - not needed for JSON

    stream.keep_padding = stream.isatty()  # Rich fills the last column of a table with blanks
    return Console(
        file=cast("IO[str]", stream),
        width=max(NARROWEST, _width(stream)),
        no_color=True if no_color else None,
        markup=False,
        emoji=False,
        highlight=False,
        soft_wrap=False,
    )


def say(kind: str, message: str) -> None:
    """Print one line on stderr, `clipmk: kind: message`, with control characters escaped."""
    stream = sys.stderr
    if stream is not None:
        line = f"clipmk: {kind}: {printable(message)}\n"
        with contextlib.suppress(OSError):  # stderr is gone
            stream.write(line.encode(stream.encoding or "utf-8", "backslashreplace").decode(stream.encoding or "utf-8"))
            stream.flush()


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


def _width(stream: DataStream) -> int:
    wanted = os.environ.get("COLUMNS", "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    with contextlib.suppress(OSError):
        return os.get_terminal_size(stream.fileno()).columns or PLAIN_WIDTH
    return PLAIN_WIDTH


@contextlib.contextmanager
def _diverted() -> Iterator[int]:
    """Point descriptor 1 and `sys.stdout` to stderr, and yield a descriptor of the real stdout."""
    original = sys.stdout
    _flush(original)
    try:
        saved = os.dup(1)
    except OSError as reason:
        raise ClipmkError("stdout is closed") from reason
    try:
        try:
            os.dup2(2, 1)
        except OSError:  # stderr is closed
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        with contextlib.redirect_stdout(sys.stderr):
            yield saved
    finally:
        for kept in (original, sys.__stdout__):  # a library may have kept either
            _flush(kept)
        if os.name == "posix":
            import ctypes  # noqa: PLC0415 - the app never comes here

            ctypes.CDLL(None).fflush(None)  # and C code has a buffer of its own
        os.dup2(saved, 1)
        os.close(saved)


def _flush(stream: IO[str] | None) -> None:
    if stream is not None:
        with contextlib.suppress(OSError, ValueError):  # closed: nothing of ours is in it
            stream.flush()

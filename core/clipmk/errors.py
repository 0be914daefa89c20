"""Errors that `clipmk` raises on purpose, each with a stable `code` for scripts and an exit status."""

import contextlib
import difflib
from collections.abc import Iterable, Iterator
from typing import ClassVar

from clipmk.system.text import cause

OUT_OF_MEMORY = "memory"  # code of a request for which another process of ours ran out of memory
UNEXPECTED = "unexpected"  # code of a bug in `clipmk` itself
INTERRUPTED = "interrupted"  # code of a run that the user stopped


class ClipmkError(Exception):
    """Base of all errors raised on purpose; by itself, a failure while running (exit status 1)."""

    code: ClassVar[str] = "runtime"
    exit_status: ClassVar[int] = 1


class UsageError(ClipmkError):
    """An invalid option or argument: an unknown class, preset or setting, a wrong type (exit status 2)."""

    code = "usage"
    exit_status = 2


class InputError(ClipmkError):
    """An input file that cannot be used (exit status 3)."""

    code = "input"
    exit_status = 3


class ImageError(InputError):
    """An image that cannot be read, decoded or explained (exit status 3)."""

    code = "image"


class VocabularyError(InputError):
    """A class list or descriptor file that is malformed (exit status 3)."""

    code = "vocabulary"


class ModelError(ClipmkError):
    """A model that does not exist, is not on this machine, or is refused for safety (exit status 4)."""

    code = "model"
    exit_status = 4


class NotFiniteError(ModelError):
    """A model's output for one image is infinite or NaN; other images may be fine (exit status 4)."""


class DeviceError(ClipmkError):
    """A device or precision that is not available on this machine (exit status 5)."""

    code = "device"
    exit_status = 5


class OutOfMemoryError(DeviceError):
    """A device or the machine is out of memory (exit status 5)."""


class ProtocolError(ClipmkError):
    """Another process of ours sent something that is not a message of this version (exit status 1)."""

    code = "protocol"


@contextlib.contextmanager
def raised_as(error: type[ClipmkError], what: str, *kinds: type[Exception]) -> Iterator[None]:
    """Raise exceptions of some kinds as `error`, with a message that says what happened and, after a colon, why."""
    try:
        yield
    except kinds as reason:
        raise error(f"{what}: {cause(reason)}") from reason


def suggest(wanted: str, known: Iterable[str], *, most: int = 3) -> str:
    """Name what is possible instead, closest first.

    Returns:
        ``"close: 'tabby cat'"`` where a name is close, else ``"known: a, b, c, ..."`` with at most eight names.
    """
    names = list(known)
    close = difflib.get_close_matches(wanted, names, n=most, cutoff=0.6)
    if close:
        return "close: " + ", ".join(repr(name) for name in close)
    shown = ", ".join(names[:8])
    return f"known: {shown}{', ...' if len(names) > 8 else ''}"

"""Every error `clipmk` raises on purpose: a stable `code` for scripts and the exit status of the command line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar

OUT_OF_MEMORY = "memory"
"""Code of a request to another process for which its memory did not suffice."""
UNEXPECTED = "unexpected"
"""Code of a mistake in `clipmk` itself that another process made."""


class ClipmkError(Exception):
    """Something went wrong while running; the base of all errors raised on purpose (exit status 1)."""

    code: ClassVar[str] = "runtime"
    exit_status: ClassVar[int] = 1


class UsageError(ClipmkError):
    """An option or argument that cannot be meant: an unknown class, preset or setting (exit status 2)."""

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
    """A model that does not exist, is not at hand, or is refused for safety (exit status 4)."""

    code = "model"
    exit_status = 4


class NotFiniteError(ModelError):
    """What a model makes of one image is infinite or no number; other images may be fine (exit status 4)."""


class DeviceError(ClipmkError):
    """A device or precision that is not available here (exit status 5)."""

    code = "device"
    exit_status = 5


class OutOfMemoryError(DeviceError):
    """The memory of a device, or of the machine, does not suffice (exit status 5)."""


class ProtocolError(ClipmkError):
    """What another process of ours says is no message of this version (exit status 1)."""

    code = "protocol"


def suggest(wanted: str, known: Iterable[str], *, most: int = 3) -> str:
    """Name what would have been possible, closest first.

    Returns:
        ``"close: 'tabby cat'"`` when something is close, else ``"known: a, b, c, ..."`` with at most eight names.
    """
    names = list(known)
    close = difflib.get_close_matches(wanted, names, n=most, cutoff=0.6)
    if close:
        return "close: " + ", ".join(repr(name) for name in close)
    shown = ", ".join(names[:8])
    return f"known: {shown}{', ...' if len(names) > 8 else ''}"

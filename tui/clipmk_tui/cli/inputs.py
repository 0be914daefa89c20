"""The images of a run, decoded when they are needed. Importing this module loads neither numpy nor Pillow."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from clipmk.errors import ImageError, InputError
from clipmk.images.paths import MAX_BYTES, expand_path
from clipmk_tui.cli.streams import say

if TYPE_CHECKING:
    from clipmk.images.decoder import Picture

STDIN = "-"

_KEPT = 4  # up to this many images stay decoded for the next model; more are decoded again


class InputImage:
    """One image of the command line, or of standard input ("-"), which is read only once. Safe in several threads."""

    def __init__(self, name: str, *, keep: bool, data: bytes | None = None, failure: InputError | None = None) -> None:
        self.name, self.data = name, data
        self._keep = keep
        self._ready: Picture | None = None
        self.failure = failure  # why it cannot be read or decoded, once that is known
        self._reading = threading.Lock()

    @property
    def readable(self) -> bool:
        """Whether it can be decoded."""
        try:
            self._ready = self.picture()
        except InputError:
            return False
        return True

    def picture(self) -> Picture:
        """The decoded picture; raises `InputError`, each time the same, where it cannot be read or decoded."""
        from clipmk.images.decoder import read_picture  # noqa: PLC0415 - numpy and Pillow

        with self._reading:
            if self.failure is not None:
                raise self.failure
            try:
                ready = self._ready or read_picture(self.name if self.data is None else self.data, name=self.name)
            except ImageError as error:
                self.failure = error
                raise
            self._ready = ready if self._keep else None
        return ready


def input_images(arguments: Sequence[str], *, quiet: bool = True) -> list[InputImage]:
    """The images that the arguments name, in order; unless `quiet`, warn of what is left out of folders."""
    names: list[str] = []
    notes: list[str] = []
    failures: dict[str, InputError] = {}
    data: bytes | None = None
    for argument in arguments:
        try:
            if argument == STDIN and data is None:
                data = _standard_input()
            names += expand_path(argument, notes)
        except InputError as error:  # a folder without images counts as a bad image; the others go on
            failures[argument] = error
            names.append(argument)
    for note in [] if quiet else notes:
        say("warning", note)
    keep = len(names) <= _KEPT
    found = {STDIN: data}
    made = {name: InputImage(name, keep=keep, data=found.get(name), failure=failures.get(name)) for name in names}
    return [made[name] for name in names]


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise ImageError("standard input is closed")
    if sys.stdin.isatty():
        raise ImageError("standard input is a terminal; pipe an image into it, as in: clipmk explain - < fox.png")
    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    if not data:
        raise ImageError("standard input is empty; pipe an image into it, as in: clipmk explain - < fox.png")
    return data

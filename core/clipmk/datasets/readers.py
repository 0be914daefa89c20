"""Decoding single images of a dataset of files."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from clipmk.datasets.dataset import Entry
from clipmk.errors import ImageError
from clipmk.images.decoder import Picture, read_picture
from clipmk.images.paths import MAX_BYTES
from clipmk.system.files import read_regular
from clipmk.system.text import byte_size, cause, quoted


@dataclass(frozen=True, slots=True)
class FileReader:
    """Reads whole files and members of tar files; keeps nothing open, so threads and processes may share it."""

    root: str
    """Absolute folder that paths are relative to."""

    def read(self, entry: Entry) -> Picture:
        """Decode one image.

        Raises:
            ImageError: it is missing, truncated, damaged or not an image; the message names it.
        """
        path = self._place(entry)
        if entry.offset is None:
            data = read_regular(path, limit=MAX_BYTES, noun="image", error=ImageError)
        else:
            data = _part_of(path, entry)
        return read_picture(data, name=entry.key)

    def _place(self, entry: Entry) -> str:
        """Path of the file; a name that is not valid UTF-8 gets its bytes back."""
        if entry.path is None:
            raise ImageError(f"image {quoted(entry.key)} has no file")
        path = os.path.join(self.root, entry.path)  # noqa: PTH118 - keeps an absolute path as it is
        if "\\udc" in path and not os.path.lexists(path):
            return re.sub(r"\\u(dc[89a-f][0-9a-f])", lambda found: chr(int(found[1], 16)), path)
        return path


def _part_of(path: str, entry: Entry) -> bytes:
    """The bytes of a member of a tar file."""
    label, size = f"image {quoted(entry.key)}", entry.size or 0
    if size > MAX_BYTES:
        raise ImageError(f"{label} is larger than {byte_size(MAX_BYTES)}")
    try:
        with open(path, "rb", buffering=0) as handle:  # noqa: PTH123 - two calls instead of five for each image
            handle.seek(entry.offset or 0)
            data = handle.read(size)
    except OSError as reason:
        raise ImageError(f"{label} cannot be read from {quoted(path)}: {cause(reason)}") from reason
    if len(data) < size:
        raise ImageError(f"{label} is truncated: {quoted(path)} ends within it")
    return data

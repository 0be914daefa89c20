"""A dataset: which images there are, what is on them, and how to decode one of them.

`clipmk.datasets.opening` makes datasets of folders, manifests, tar shards and the rendered world.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from clipmk.images.decoder import Picture


@dataclass(frozen=True, slots=True)
class Entry:
    """One image of a dataset."""

    key: str
    """Unique name in the dataset; can be encoded as UTF-8."""
    label: str | None
    """True class, as the dataset spells it; None where it is unknown."""
    path: str | None = None
    """File that holds it, relative to the dataset's root; None for a rendered scene."""
    offset: int | None = None
    """Where its bytes start in a tar file, or its row in a Parquet file; None: it is the whole file."""
    size: int | None = None
    """Bytes at the offset, or of the file."""


class Reader(Protocol):
    """Decodes single images; small, picklable (it travels to other machines) and safe to share by threads."""

    def read(self, entry: Entry) -> Picture:
        """Decode one image.

        Raises:
            ImageError: it is missing, damaged or not an image; the message names it.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInfo:
    """Name and content of a dataset; equal fingerprints mean the same dataset."""

    name: str
    """As the user gave it."""
    kind: str
    """"folder", "manifest", "tar", "parquet" or "world"."""
    images: int
    labelled: int
    classes: int
    """Different true classes."""
    fingerprint: str
    """SHA-256 of all keys, labels and file sizes, in order."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """The images of a study, in their order."""

    info: DatasetInfo
    entries: Sequence[Entry]
    reader: Reader
    warnings: tuple[str, ...] = ()

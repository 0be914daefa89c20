"""Shared by all datasets: file sizes, evenly spread subsets, unique names, the fingerprint."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from clipmk.datasets.dataset import Dataset, DatasetInfo, Entry, Reader
from clipmk.errors import InputError
from clipmk.images.paths import EXTENSIONS
from clipmk.system.text import counted, encodable, listed, one_or_many, quoted

SHOWN: Final = 3
"""Most names that a message repeats."""

ENDINGS: Final = ", ".join(sorted(EXTENSIONS))
"""File endings of images, for messages."""


class ListedImage(NamedTuple):
    """An image that a dataset names; its file may not exist."""

    path: str
    """Relative to the root, or absolute."""
    label: str | None


def evenly_spread(count: int, limit: int | None) -> Sequence[int]:
    """Indices of at most `limit` of `count` items, evenly spread: floor(k * count / limit)."""
    if limit is None or limit >= count:
        return range(count)
    return [number * count // limit for number in range(limit)]


def file_entries(named: Sequence[ListedImage], *, root: str, noun: str) -> list[Entry]:
    """The entries of images that are whole files.

    Args:
        named: the images.
        root: Folder that their paths are relative to.
        noun: What lists them, for the message: "table 'x.csv'".

    Raises:
        InputError: some are missing or not regular files; the message counts them and names the first.
    """
    entries: list[Entry] = []
    bad: list[str] = []
    for path, label in named:
        size = _size_of(os.path.join(root, path))  # noqa: PTH118 - 100,000 of them
        if size is None:
            bad.append(path)
        else:
            name = encodable(path)
            entries.append(Entry(key=name, label=label, path=name, size=size))
    if bad:
        what = one_or_many(len(bad), "is missing or not a regular file", "are missing or not regular files")
        raise InputError(
            f"{noun}: {len(bad):,} of {counted(len(named), 'image')} {what}: {shown(bad)}; "
            f"paths are relative to {quoted(root)}"
        )
    return entries


def make_dataset(
    name: str, kind: str, entries: Sequence[Entry], reader: Reader, *, warnings: Iterable[str] = (), drawn: str = ""
) -> Dataset:
    """Check entries and combine them into a dataset.

    Args:
        name: As the user gave it.
        kind: One of `DatasetInfo.kind`.
        entries: At least one.
        reader: Decodes them.
        warnings: Warnings for the user.
        drawn: What images depend on besides key, label and size; part of the fingerprint.

    Raises:
        InputError: two entries have the same key.
    """
    if len({entry.key for entry in entries}) < len(entries):
        counts = Counter(entry.key for entry in entries)
        twice = [key for key, count in counts.items() if count > 1]
        images = f"{counted(len(twice), 'image')} {one_or_many(len(twice), 'is', 'are')}"
        raise InputError(f"dataset {quoted(name)}: {images} named more than once: {shown(twice)}")
    labels = Counter(entry.label for entry in entries)
    unlabelled = labels.pop(None, 0)
    notes = list(warnings)
    if unlabelled and labels:
        verb = one_or_many(unlabelled, "has", "have")
        notes.append(f"{unlabelled:,} of {counted(len(entries), 'image')} {verb} no label; accuracy is over the others")
    info = DatasetInfo(
        name=encodable(name),
        kind=kind,
        images=len(entries),
        labelled=len(entries) - unlabelled,
        classes=len(labels),
        fingerprint=fingerprint(f"{kind} {drawn}".rstrip(), entries),
    )
    return Dataset(info=info, entries=entries, reader=reader, warnings=tuple(notes))


def fingerprint(kind: str, entries: Iterable[Entry]) -> str:
    """SHA-256 of kind, keys, labels and sizes, in order, one JSON list per line; file contents are not read."""
    digest = hashlib.sha256(json.dumps(kind).encode())
    for entry in entries:
        digest.update(b"\n")
        digest.update(json.dumps([entry.key, entry.label, entry.size]).encode())
    return digest.hexdigest()


def shown(names: Sequence[str]) -> str:
    """The first few names in quotes, for messages."""
    return listed(names, most=SHOWN)


def _size_of(path: str) -> int | None:
    """Size of a regular file in bytes; None where it is missing or something else."""
    try:
        status = os.stat(path)  # noqa: PTH116 - 100,000 of them
    except (OSError, ValueError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None

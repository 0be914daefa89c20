"""The plan of a study: which images are fitted together, and which belong to one unit of work (a shard).

It is a Parquet file with a row group per shard, so that one shard can be read alone. Rules:

- `fit="image"`: every image is its own group.
- `fit="batch"` (as in the paper): images of one class, in the dataset's order, in groups of at most `group_limit`; an
  image whose class is unknown is its own group.
- Groups are numbered by their first images. A shard holds whole groups, at most `shard_size` images, and ends where the
  next group does not fit. So images added at the end of a dataset move no other image to another group.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clipmk.datasets.entries import Entry
from clipmk.errors import InputError, UsageError
from clipmk.settings import GROUP_LIMIT, Fit
from clipmk.study.manifest import Manifest, StudyFolder
from clipmk.study.schema import PLAN
from clipmk.system.parquet import is_intact, open_table, read_table, table_writer
from clipmk.system.text import counted, quoted

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """An image of a shard."""

    image: int
    """0-based position in the dataset."""
    entry: Entry
    """Its label is spelled as in the vocabulary."""
    group: int


def make_plan(entries: Sequence[Entry], labels: Sequence[str | None], *, fit: Fit, shard_size: int) -> pa.Table:
    """Divide a dataset into groups and shards; the same arguments give the same plan.

    Labels are spelled as in the vocabulary, None where unknown. The table, by the schema `PLAN`, is sorted by shard,
    group and image; groups and shards are numbered from 0 without gaps. UsageError if a shard does not hold a group.
    """
    least = GROUP_LIMIT if fit == "batch" else 1
    if shard_size < least:
        whole = f": a shard holds whole groups of up to {counted(GROUP_LIMIT, 'image')}" if fit == "batch" else ""
        raise UsageError(f"shards of {counted(shard_size, 'image')} are too small{whole}; at least {least} is needed")
    groups = np.arange(len(entries)) if fit == "image" else _groups(labels)
    shards = _shards(np.bincount(groups), shard_size)[groups]
    order = np.lexsort((groups, shards))  # stable: images of a group stay in their order
    rows = [entries[index] for index in order.tolist()]
    return pa.table(
        {
            "image": order,
            "key": [entry.key for entry in rows],
            "label": [labels[index] for index in order.tolist()],
            **{name: [getattr(entry, name) for entry in rows] for name in ("path", "offset", "size")},
            "group": groups[order],
            "shard": shards[order],
        },
        schema=PLAN,
    )


def write_plan(plan: pa.Table, path: Path, made_of: str) -> None:
    """Write a plan completely or not at all, a row group per shard."""
    starts = np.flatnonzero(np.diff(plan["shard"].to_numpy(), prepend=-1))
    ends = [*starts[1:].tolist(), plan.num_rows]
    with table_writer(path, PLAN, made_of) as writer:
        for start, end in zip(starts.tolist(), ends, strict=True):
            writer.write_table(plan.slice(start, end - start), row_group_size=end - start)


def shard_sizes(path: Path) -> dict[int, int]:
    """The number of images in each shard of a plan; InputError if it is missing or damaged."""
    with open_table(path, PLAN) as file:
        return {number: file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)}


def read_shard(path: Path, number: int) -> list[PlannedImage]:
    """The images of one shard, sorted by group and image, without reading others; InputError if it is damaged."""
    with open_table(path, PLAN) as file:
        if not 0 <= number < file.num_row_groups:
            shards = counted(file.num_row_groups, "shard")
            raise InputError(f"plan {quoted(path)} has {shards}, counted from 0; {number} is not one of them")
        rows = file.read_row_group(number).to_pylist()
    if any(row["shard"] != number for row in rows):
        raise InputError(f"plan {quoted(path)} is damaged: its row group {number} is not shard {number}")
    return [PlannedImage(row["image"], entry_of(row), row["group"]) for row in rows]


def read_images(path: Path, images: Sequence[int]) -> list[PlannedImage]:
    """Some images of a plan by their places in the dataset, in ascending order; InputError if it is damaged."""
    table = read_table(path, PLAN)
    rows = table.filter(pc.is_in(table["image"], pa.array(images, pa.int64()))).sort_by("image").to_pylist()
    return [PlannedImage(row["image"], entry_of(row), row["group"]) for row in rows]


def entry_of(row: Mapping[str, Any]) -> Entry:
    """The image of a row of a plan, as its dataset's reader takes it."""
    return Entry(**{name: row[name] for name in ("key", "label", "path", "offset", "size")})


@dataclass(frozen=True, slots=True)
class Missing:
    """What is still to do."""

    shards: dict[int, list[str]]
    """Shard -> the models that have not explained it; finished shards are left out."""
    language: list[str]
    """Models whose D_y is not written."""
    damaged: list[str]
    """Files below the study's folder that exist, but are damaged or do not belong there."""

    @property
    def models(self) -> set[str]:
        """Those that have something to do."""
        return {name for names in self.shards.values() for name in names}.union(self.language)


def missing_parts(folder: StudyFolder, manifest: Manifest) -> Missing:
    """Find the shards and D_y that are missing, damaged, or of another study, model or shard."""
    damaged: list[str] = []

    def is_missing(path: Path, made_of: str) -> bool:
        missing = not is_intact(path, made_of)
        if missing and path.exists():
            damaged.append(str(path.relative_to(folder.root)))
        return missing

    models = {one.id: manifest.made_of(one) for one in manifest.models}
    shards = {
        number: [one for one in models if is_missing(folder.shard(one, number), models[one])]
        for number in range(manifest.shards)
    }
    language = [
        one.id for one in manifest.models if is_missing(folder.language(one.id), manifest.made_of_language(one))
    ]
    return Missing({number: names for number, names in shards.items() if names}, language, damaged)


def _groups(labels: Sequence[str | None]) -> Numbers:
    """Group of each image, int64 (images,)."""
    times: Counter[str] = Counter()
    numbers: dict[tuple[str | None, int], int] = {}
    groups = []
    for index, label in enumerate(labels):
        key = (None, index) if label is None else (label, times[label] // GROUP_LIMIT)
        groups.append(numbers.setdefault(key, len(numbers)))
        times.update([] if label is None else [label])
    return np.array(groups, dtype=np.int64)


def _shards(sizes: Numbers, most: int) -> Numbers:
    """Shard of each group, int64 (groups,): groups in order, a new shard where the next one does not fit."""
    shards = np.empty(len(sizes), dtype=np.int64)
    shard, filled = 0, 0
    for group, size in enumerate(sizes.tolist()):
        if filled + size > most:
            shard, filled = shard + 1, 0
        filled += size
        shards[group] = shard
    return shards

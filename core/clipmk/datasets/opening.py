"""The datasets of a study: folders, tables of paths, tar shards and the rendered world.

Nothing is decoded here. Everything that can be wrong with a dataset as a whole is found before any work starts.
"""

from __future__ import annotations

import difflib
import glob
import itertools
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from clipmk.datasets.tables import USUAL, Columns
from clipmk.errors import InputError, UsageError
from clipmk.images.paths import EXTENSIONS
from clipmk.system.files import NEARBY_LIMIT
from clipmk.system.rows import TABLES
from clipmk.system.text import quoted

if TYPE_CHECKING:
    from clipmk.datasets.entries import Dataset, DatasetInfo, Reader

_KINDS = (
    "a folder of images, a CSV, TSV, JSON lines or Parquet table, tar or Parquet shards (train-{000..012}.tar) or "
    "world:SPLIT"
)

_SHARD = re.compile(r"\.(tar(\.\w+)?|tgz|tbz2?|txz|parquet)$", re.IGNORECASE)
_DATA = re.compile(r"\.(csv|tsv|jsonl?|parquet|tar)$", re.IGNORECASE)


def open_dataset(names: str | Sequence[str], *, limit: int | None = None, columns: Columns = USUAL) -> Dataset:
    """Find the images of a dataset and their labels.

    It is named by a folder of images (labels beside them in `truth.json`, `labels.csv` or `metadata.csv`), of one
    folder per class (images may lie deeper, the label is the name of the upper folder), or of shards; by a table (CSV,
    TSV, JSON lines, Parquet) with the column `path` (below its folder) and, if known, `label`, unless `columns` names
    others; by shards, WebDataset tar or Parquet with images inside: `x.tar`, several names, or a pattern
    `train-{000..012}.tar`, `train-*.parquet`; or by the rendered world: `world:test`,
    `world:counterfactual?scenes=600&seed=3&size=64`.

    At most `limit` images are used, spread evenly over the dataset; of the rendered world the first ones. Raises
    `UsageError` for an invalid spec or limit, and `InputError` for a dataset that does not exist, is empty, incomplete,
    damaged, or names an image twice.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"limit is {limit}; at least 1 image is needed")
    given = [os.path.expanduser(name) for name in ([names] if isinstance(names, str) else names)]  # noqa: PTH111
    spec = given[0]  # may be a pattern
    if spec.startswith("world:") or spec == "world":
        from clipmk.datasets.rendered import open_world  # noqa: PLC0415 - the renderer loads OpenCV

        return open_world(spec, limit)
    from clipmk.datasets import entries, folders, shards  # noqa: PLC0415 - numpy and Pillow

    if len(given) > 1:
        return shards.open_shards(f"{spec} ... {given[-1]}", given, limit, columns)
    if os.path.isdir(spec):  # noqa: PTH112 - unlike Path.is_dir, never raises
        return folders.open_folder(spec, limit, columns)
    if "\0" in spec or not os.path.lexists(spec):
        return shards.open_shards(spec, _matches(spec), limit, columns)
    if _SHARD.search(spec):
        return shards.open_shards(spec, [spec], limit, columns)
    if spec.lower().endswith(TABLES):
        return entries.open_table(spec, limit, columns)
    raise InputError(_unknown(spec))


def reader_of(info: DatasetInfo) -> Reader:
    """Decodes the images of a dataset that was opened before; its paths are those of `Entry`."""
    if info.root is None or not os.path.isdir(info.root):  # noqa: PTH112 - rendered, moved, or of an older version
        try:
            return open_dataset(info.name, limit=1).reader
        except InputError as reason:
            if info.root is None:
                raise
            raise InputError(f"dataset {quoted(info.root)} is not where it was; move it back") from reason
    from clipmk.datasets import entries, parquet  # noqa: PLC0415 - pyarrow

    return entries.FileReader(info.root) if info.column is None else parquet.ParquetReader(info.root, info.column)


def _matches(pattern: str) -> list[str]:
    """The names that a pattern means: those that braces expand to, existing or not, or those that match it."""
    if "{" in pattern or "}" in pattern:
        from clipmk.datasets.shards import expand_braces  # noqa: PLC0415 - numpy and Pillow

        return expand_braces(pattern)
    names = [] if "\0" in pattern else sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207
    if not names:
        raise InputError(f"dataset {quoted(pattern)} does not exist; {_nearby(pattern)}")
    return names


def _unknown(spec: str) -> str:
    """The message about a file that is not a dataset."""
    if os.path.splitext(spec)[1].lower() in EXTENSIONS:  # noqa: PTH122
        what = f"{quoted(spec)} is a single image; a study takes a dataset: {_KINDS}"
        return f"{what}; clipmk explain takes it"
    return f"dataset {quoted(spec)} has an unknown kind; name {_KINDS}"


def _nearby(spec: str) -> str:
    """The end of a message about a missing dataset: similar names in its folder."""
    folder, name = os.path.split(spec.rstrip("/"))
    try:
        with os.scandir(folder or ".") as entries:
            some = itertools.islice(entries, NEARBY_LIMIT)
            names = [entry.name for entry in some if entry.is_dir() or _DATA.search(entry.name)]
    except (OSError, ValueError):
        names = []
    close = difflib.get_close_matches(name, sorted(names), n=3)
    return f"close: {', '.join(map(quoted, close))}" if close else f"name {_KINDS}"

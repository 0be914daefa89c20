"""The datasets of a study: folders, tables of paths, tar shards and the rendered world.

Nothing is decoded here. Everything that can be wrong with a dataset as a whole is found before any work starts.
"""

from __future__ import annotations

import difflib
import itertools
import os
import re
from typing import TYPE_CHECKING

from clipmk.errors import InputError, UsageError
from clipmk.images.paths import EXTENSIONS
from clipmk.system.files import NEARBY_LIMIT
from clipmk.system.text import quoted

if TYPE_CHECKING:
    from clipmk.datasets.dataset import Dataset

_KINDS = "a folder of images, a CSV, TSV or Parquet table of paths, tar shards (train-{000..012}.tar) or world:SPLIT"

_ARCHIVE = re.compile(r"\.(tar\.\w+|tgz|tbz2?|txz)$", re.IGNORECASE)
_DATA = re.compile(r"\.(csv|tsv|parquet|tar)$", re.IGNORECASE)


def open_dataset(spec: str, *, limit: int | None = None) -> Dataset:
    """Find the images of a dataset and their labels.

    Args:
        spec: one of
            a folder: of images (labels beside them in `truth.json` or `labels.csv`), of one folder per class (images
            may lie deeper, the label is the name of the upper folder), or of tar shards;
            a table `.csv`, `.tsv` or `.parquet` with the column `path` (below its folder) and, if known, `label`;
            WebDataset shards: `x.tar`, a folder of them, or a pattern `train-{000..012}.tar`;
            the rendered world: `world:test`, `world:counterfactual?scenes=600&seed=3&size=64`.
        limit: most images used, spread evenly over the dataset; of the rendered world the first ones.

    Raises:
        UsageError: the spec or the limit is invalid.
        InputError: the dataset does not exist, is empty, incomplete, damaged, or names an image twice.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"limit is {limit}; at least 1 image is needed")
    if spec.startswith("world:") or spec == "world":
        from clipmk.datasets.rendered import open_world  # noqa: PLC0415 - the renderer loads OpenCV

        return open_world(spec, limit)
    from clipmk.datasets import folders, shards, tables  # noqa: PLC0415 - numpy and Pillow

    if os.path.isdir(spec):  # noqa: PTH112 - unlike Path.is_dir, never raises
        return folders.open_folder(spec, limit)
    ending = os.path.splitext(spec)[1].lower()  # noqa: PTH122 - a pattern is not a path
    if "\0" not in spec and os.path.lexists(spec):
        if ending in tables.SUFFIXES:
            return tables.open_table(spec, limit)
        if ending == ".tar" or _ARCHIVE.search(spec):
            return shards.open_shards(spec, [spec], limit)
        if ending in EXTENSIONS:
            what = f"{quoted(spec)} is a single image; a study takes a dataset: {_KINDS}"
            raise InputError(f"{what}; clipmk explain takes it")
        raise InputError(f"dataset {quoted(spec)} has an unknown kind; name {_KINDS}")
    if "{" in spec or "}" in spec:
        return shards.open_shards(spec, shards.expand_braces(spec), limit)
    raise InputError(f"dataset {quoted(spec)} does not exist; {_nearby(spec)}")


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

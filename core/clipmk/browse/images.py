"""The file of an image, so that the app can open it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from clipmk.browse.growing_table import GrowingTable
from clipmk.browse.study_table import StudyTable
from clipmk.datasets.entries import FileReader
from clipmk.datasets.opening import reader_of
from clipmk.study.plan import entry_of
from clipmk.system.text import slug


def image_of(table: StudyTable | GrowingTable, place: int) -> str:
    """Path of an image; of one in a shard or rendered that of a private copy, which `table.closing.close()` removes.

    InputError if the dataset is not where it was, ImageError if the image is missing or cannot be decoded.
    """
    if isinstance(table, GrowingTable):
        return table.path(place)
    entry = entry_of(table.plan.slice(place, 1).to_pylist()[0])
    reader = reader_of(table.manifest.dataset)
    if isinstance(reader, FileReader) and entry.offset is None:
        return reader.place_of(entry)
    folder = table.closing.enter_context(tempfile.TemporaryDirectory(prefix="clipmk-"))
    copy = Path(folder) / f"{slug(entry.key)}.png"
    reader.read(entry).image.save(copy)
    return str(copy)

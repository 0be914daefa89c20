"""Small image files for tests of datasets, and what a dataset makes of them."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from clipmk.datasets.entries import Dataset, Entry


def png(red: int = 0) -> bytes:
    """A small picture of one colour, which tells it from others."""
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), (red, 1, 2)).save(buffer, "PNG")
    return buffer.getvalue()


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png())
    return folder


def shown(dataset: Dataset) -> list[tuple[str, str | None]]:
    return [(entry.key, entry.label) for entry in dataset.entries]


def red_of(dataset: Dataset, entry: Entry) -> int:
    return int(dataset.reader.read(entry).pixels[0, 0, 0])

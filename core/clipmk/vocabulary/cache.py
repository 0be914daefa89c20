"""Rows of numbers under the texts they stand for, in files that are written once and never changed.

A file is a safetensors file: float32 matrices, and beside them the key of each of their rows (a digest of the texts
that the row was made of). Whoever needs a row looks through the keys of all files of a model, so that vocabularies
share what they have in common. Nothing is ever appended: a file comes into being whole, under its final name, or not at
all (`system.files.atomic_write`), so that a process killed at any moment leaves nothing that could be read wrongly.

What is read is checked against a CRC-32 over all that follows the header, each time: at 2 GB/s (zlib, one core) that is
9 ms for 1,000 classes and 4,772 descriptors of 512 numbers, it finds every burst of damage up to 32 bits and all but
one in 4e9 of the rest, and a file that was tampered with on purpose is not what it is for (the cache is private to its
owner). A SHA-256 costs the same where the processor has instructions for it, and six times as much where not.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from clipmk.system.files import atomic_write

ALIGNMENT = 64
"""Bytes: torch's own alignment on a CPU, a cache line. A product of the same numbers can differ in its last bit with
their place relative to a cache line; rows that are mapped start where rows in memory would."""

PIECE = 2**15
"""Rows that are held in memory at once while a file is written."""

KEYS = "keys"
"""Name of the tensor of keys, int64 (rows of all matrices, 2)."""

_FILL = "fill"
"""Names of the bytes that move each matrix to its place: safetensors allows no holes."""

Keys = NDArray[np.uint64]
"""(rows, 2): 128 bits for each row."""

Pieces = Iterator[NDArray[np.float32]]
"""The rows of all matrices, in order, a few thousand at a time."""


class DamagedError(ValueError):
    """A file is not what was written."""


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """What a file holds, memory-mapped."""

    matrices: dict[str, Tensor]
    """float32 (rows, embed), in the order of their keys."""
    keys: Keys
    """Of the rows of all matrices."""

    @property
    def sources(self) -> list[tuple[Keys, Tensor]]:
        """Each matrix with the keys of its rows."""
        ends = np.cumsum([len(matrix) for matrix in self.matrices.values()])
        return list(zip(np.split(self.keys, ends[:-1]), self.matrices.values(), strict=True))


class Places(NamedTuple):
    """Where rows are found: the source and the row in it, -1 where nowhere."""

    source: NDArray[np.int64]
    row: NDArray[np.int64]

    @property
    def missing(self) -> NDArray[np.int64]:
        """Positions of the rows that are nowhere."""
        return np.flatnonzero(self.source < 0)


class Rows:
    """Rows of several matrices, found by their keys.

    Args:
        sources: keys and float32 rows; where two hold the same key, the first counts.
    """

    def __init__(self, sources: Sequence[tuple[Keys, Tensor]]) -> None:
        self._matrices = [matrix for _, matrix in sources]
        keys = np.concatenate([np.empty((0, 2), np.uint64), *(keys for keys, _ in sources)])
        order = np.argsort(keys[:, 0], kind="stable")
        self._keys = keys[order]
        starts = np.cumsum([0, *(len(keys) for keys, _ in sources)])
        self._source = np.searchsorted(starts, order, side="right") - 1
        self._row = order - starts[self._source]

    def find(self, keys: Keys) -> Places:
        """Look keys up; both halves are compared, so that equal first halves are no danger."""
        at = np.searchsorted(self._keys[:, 0], keys[:, 0])
        found = np.full(len(keys), -1)
        waiting = np.arange(len(keys))
        while len(waiting):
            waiting = waiting[at[waiting] < len(self._keys)]
            waiting = waiting[self._keys[at[waiting], 0] == keys[waiting, 0]]
            hit = self._keys[at[waiting], 1] == keys[waiting, 1]
            found[waiting[hit]] = at[waiting[hit]]
            waiting = waiting[~hit]
            at[waiting] += 1
        nowhere = found < 0
        if not len(self._keys):
            return Places(found, found)
        return Places(np.where(nowhere, -1, self._source[found]), np.where(nowhere, -1, self._row[found]))

    def take(self, places: Places) -> NDArray[np.float32]:
        """The rows at places none of which is missing, float32 (rows, embed)."""
        taken: NDArray[np.float32] | None = None
        for source in np.unique(places.source):
            here = places.source == source
            rows = self._matrices[source].numpy()[places.row[here]]
            if taken is None:
                taken = np.empty((len(here), rows.shape[1]), np.float32)
            taken[here] = rows
        return np.empty((0, 0), np.float32) if taken is None else taken

    def pieces(self, keys: Keys) -> Pieces:
        """The rows of keys all of which are there, in order."""
        for start in range(0, len(keys), PIECE):
            yield self.take(self.find(keys[start : start + PIECE]))


def write(path: Path, counts: Mapping[str, int], keys: Keys, pieces: Pieces, *, layout: str) -> None:
    """Write a file whole; memory is needed for one piece, whatever its size.

    Args:
        path: takes the place of whatever was there.
        counts: rows of each matrix.
        keys: of the rows of all matrices, in their order.
        pieces: the rows; a piece may span matrices.
        layout: version of the format and of what the numbers mean.

    Raises:
        ClipmkError: the file cannot be written.
    """
    first = next(pieces)
    with atomic_write(path) as handle:
        spans = _spans(counts, embed=first.shape[1])
        header = {"format": layout, "name": path.stem, "matrices": " ".join(counts), "crc32": "0" * 8}
        handle.write(_header(spans, counts, first.shape[1], header))
        header["crc32"] = f"{_write_payload(handle, spans, counts, _with(first, pieces), keys):08x}"
        handle.seek(0)
        handle.write(_header(spans, counts, first.shape[1], header))


def read(path: Path, *, layout: str, check: bool = True) -> Stored:
    """Memory-map a file.

    Args:
        path: of the file.
        layout: as it was written with.
        check: compare the checksum, which reads the whole file.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be read.
        safetensors.SafetensorError: it is no safetensors file, or cut short.
        DamagedError: it is of another format or name, or not what was written.
    """
    with safe_open(path, framework="pt") as stored:
        header = stored.metadata() or {}
        if header.get("format") != layout or header.get("name") != path.stem:
            raise DamagedError("it is of another format")
        if check and header.get("crc32") != f"{_crc32(path):08x}":
            raise DamagedError("its numbers are not those that were written")
        matrices = {name: stored.get_tensor(name) for name in header.get("matrices", "").split()}
        keys = stored.get_tensor(KEYS).numpy().view(np.uint64)
    return Stored(matrices, keys)


def keys_of(texts: Iterator[tuple[str, ...]], count: int) -> Keys:
    """128-bit BLAKE2b digests of what rows are made of: the texts, in order, between zero characters."""
    import hashlib  # noqa: PLC0415

    digests = bytearray(16 * count)
    for row, made_of in enumerate(texts):
        digests[16 * row : 16 * row + 16] = hashlib.blake2b("\0".join(made_of).encode(), digest_size=16).digest()
    return np.frombuffer(digests, np.uint64).reshape(count, 2)


def _with(first: NDArray[np.float32], others: Pieces) -> Pieces:
    yield first
    yield from others


def _spans(counts: Mapping[str, int], *, embed: int) -> dict[str, tuple[int, int]]:
    """First and last byte of each tensor behind the header; each matrix starts at a multiple of `ALIGNMENT`."""
    spans: dict[str, tuple[int, int]] = {}
    end = 0
    for name, rows in counts.items():
        spans[name] = (end, end + 4 * embed * rows)
        end = spans[name][1] + -spans[name][1] % ALIGNMENT
        spans[f"{_FILL}.{name}"] = (spans[name][1], end)
    spans[KEYS] = (end, end + 16 * sum(counts.values()))
    return spans


def _header(
    spans: Mapping[str, tuple[int, int]], counts: Mapping[str, int], embed: int, metadata: Mapping[str, str]
) -> bytes:
    table: dict[str, object] = {"__metadata__": metadata}
    for name, (start, end) in spans.items():
        kind, shape = "U8", [end - start]
        if name in counts:
            kind, shape = "F32", [counts[name], embed]
        elif name == KEYS:
            kind, shape = "I64", [(end - start) // 16, 2]
        table[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _write_payload(
    handle: BinaryIO, spans: Mapping[str, tuple[int, int]], counts: Mapping[str, int], pieces: Pieces, keys: Keys
) -> int:
    """Write matrices, fill and keys; returns the CRC-32 of all of it."""
    total = 0

    def put(data: bytes | memoryview) -> None:
        nonlocal total
        total = zlib.crc32(data, total)
        handle.write(data)

    piece = next(pieces)
    for name, rows in counts.items():
        left = rows
        while left:
            if not len(piece):
                piece = next(pieces)
            put(np.ascontiguousarray(piece[:left]).data.cast("B"))
            left, piece = left - min(left, len(piece)), piece[left:]
        start, end = spans[f"{_FILL}.{name}"]
        put(bytes(end - start))
    put(np.ascontiguousarray(keys).data.cast("B"))
    return total


def _crc32(path: Path) -> int:
    """Of all behind the header, read rather than mapped: what is only checked stays out of the process's memory."""
    total, buffer = 0, bytearray(2**20)
    with path.open("rb") as handle:
        handle.seek(8 + int.from_bytes(handle.read(8), "little"))
        while size := handle.readinto(buffer):
            total = zlib.crc32(memoryview(buffer)[:size], total)
    return total

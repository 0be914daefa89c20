"""Embedded texts on disk: safetensors files that are written whole and never change.

A file holds a float32 matrix and, for each of its rows, a digest of the texts that the row was made of. Whoever needs a
row searches the digests of all files of a model, so vocabularies share what they have in common. A file appears under
its name complete or not at all (`system.files.atomic_write`): a process killed at any moment leaves nothing that could
be read wrongly.

Reading compares a CRC-32 of names, shapes and numbers with the one stored in the metadata. At 2 GB/s (zlib, one core)
that takes 9 ms for 1,000 classes and 4,772 descriptors of 512 numbers. It finds every burst of damage up to 32 bits and
all but one in 4e9 of the rest; it is not a protection against tampering (the cache is private to its owner).
"""

import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from clipmk.system.files import atomic_write

FORMAT = "clipmk-texts-4"
"""Version of the files and of what their numbers mean; other versions are never read."""

ALIGNMENT = 64
"""Bytes: a cache line, torch's own alignment on a CPU. A product of the same numbers can differ in its last bit with
their place relative to a cache line, so mapped rows start where rows in memory would."""

Keys = NDArray[np.bytes_]  # (rows,) digests of 16 bytes, dtype S16


class DamagedError(ValueError):
    """A file does not hold what was written."""


UNREADABLE = (OSError, SafetensorError, DamagedError)  # what `read` raises for a file that cannot be used


class Stored(NamedTuple):
    """Content of a file."""

    keys: Keys
    """Digests of what each row is made of."""
    rows: Tensor
    """float32 (rows, embed), memory-mapped when read."""
    note: str = ""
    """What to say about them whenever they are used; empty for nothing."""


class Rows:
    """Rows of several files, numbered through and found by their keys; of the same key the first counts."""

    def __init__(self, sources: Sequence[Stored]) -> None:
        self._matrices = [one.rows.numpy() for one in sources]
        keys = np.concatenate([np.empty(0, "S16"), *(one.keys for one in sources)])
        self._order = np.argsort(keys, kind="stable")
        self._sorted = keys[self._order]

    def find(self, keys: Keys) -> NDArray[np.int64]:
        """Number of the row of each key; -1 where there is none."""
        if not len(self._sorted):
            return np.full(len(keys), -1)
        at = np.searchsorted(self._sorted, keys).clip(max=len(self._sorted) - 1)
        return np.where(self._sorted[at] == keys, self._order[at], -1)

    def copy(self, numbers: NDArray[np.int64], out: NDArray[np.float32]) -> None:
        """Copy rows by their numbers, none of them -1, into `out`: float32 (numbers, embed)."""
        start = 0
        for matrix in self._matrices:
            here = (numbers >= start) & (numbers < start + len(matrix))
            out[here] = matrix[numbers[here] - start]
            start += len(matrix)

    @property
    def embed(self) -> int:
        """Numbers in a row."""
        return int(self._matrices[0].shape[1])


def keys_of(texts: Iterable[tuple[str, ...]]) -> Keys:
    """128-bit BLAKE2b digests of the texts that each row is made of, in order, joined by zero characters."""
    digests = (hashlib.blake2b("\0".join(made_of).encode(), digest_size=16).digest() for made_of in texts)
    return np.fromiter(digests, "S16")


def write(path: Path, stored: Stored) -> None:
    """Write a file, replacing what was there; raises `ClipmkError`, or SafetensorError if the disk is full."""
    tensors = {"rows": stored.rows, "keys": torch.from_numpy(stored.keys.view(np.uint8))}
    metadata = {"format": FORMAT, "name": path.stem, "crc32": _checksum(tensors)}
    metadata["note"] = stored.note.encode("unicode_escape").decode()  # ASCII has the same length in any JSON
    with atomic_write(path) as handle:
        save_file(tensors, handle.name, {**metadata, "padding": _padding(tensors, metadata)})
        with Path(handle.name).open("rb") as written:  # a file of its own by now, which `atomic_write` does not flush
            os.fsync(written.fileno())


def read(path: Path, *, check: bool = True) -> Stored:
    """Memory-map a file, whose name is stored inside, too; `check` compares its checksum, which reads all of it.

    Raises `DamagedError` if it has another format or name, or does not hold what was written, SafetensorError if it is
    truncated or another kind of file, and OSError.
    """
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if metadata.get("format") != FORMAT or metadata.get("name") != path.stem:
            raise DamagedError("it has another format")
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    if tensors.keys() != {"rows", "keys"} or (check and metadata.get("crc32") != _checksum(tensors)):
        raise DamagedError("its numbers are not those that were written")
    rows = tensors["rows"]
    aligned = rows if rows.data_ptr() % ALIGNMENT == 0 else rows.clone()
    note = metadata.get("note", "").encode().decode("unicode_escape")
    return Stored(tensors["keys"].numpy().view("S16"), aligned, note)


def _padding(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """As many blanks in the header as make the rows behind it start at a multiple of `ALIGNMENT`.

    safetensors orders tensors by the size of their numbers: float32 rows before uint8 keys.
    """
    table: dict[str, object] = {"__metadata__": {**metadata, "padding": ""}}
    end = 0
    for name, kind in (("rows", "F32"), ("keys", "U8")):
        start, end = end, end + tensors[name].nbytes
        table[name] = {"dtype": kind, "shape": list(tensors[name].shape), "data_offsets": [start, end]}
    return " " * (-(8 + len(json.dumps(table, separators=(",", ":")))) % ALIGNMENT)


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    """CRC-32 of names, shapes and numbers."""
    total = 0
    for name, tensor in sorted(tensors.items()):
        total = zlib.crc32(f"{name} {list(tensor.shape)}".encode(), total)
        total = zlib.crc32(tensor.numpy().reshape(-1).view(np.uint8).data, total)
    return f"{total:08x}"

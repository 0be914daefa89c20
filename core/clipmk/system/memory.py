"""What fits into memory: a cache within a budget, sizes of models and devices, errors that name what would help.

Importing this loads neither torch nor numpy.
"""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from clipmk.errors import OutOfMemoryError

if TYPE_CHECKING:
    import torch

_OUT_OF_MEMORY = ("allocate memory", "not enough memory", "out of memory", "alloc_failed")
"""Phrases of torch's allocators where they raise a plain RuntimeError."""

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class LruCache(Generic[Key, Value]):
    """Values within a `budget` of weight; the least recently used are dropped first, a single one may be heavier."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._held: OrderedDict[Key, tuple[Value, int]] = OrderedDict()

    @property
    def weight(self) -> int:
        """Of all values together."""
        return sum(weight for _, weight in self._held.values())

    @property
    def keys(self) -> tuple[Key, ...]:
        """Of all values, the least recently used first."""
        return tuple(self._held)

    def get(self, key: Key) -> Value | None:
        """The value, now the most recently used one; None where it is missing."""
        if key not in self._held:
            return None
        self._held.move_to_end(key)
        return self._held[key][0]

    def make_room(self, weight: int) -> None:
        """Drop values until one of the given weight fits, or none is left."""
        while self._held and self.weight + weight > self.budget:
            self._held.popitem(last=False)

    def put(self, key: Key, value: Value, *, weight: int) -> None:
        """Add or replace a value, as the most recently used one."""
        self._held.pop(key, None)
        self.make_room(weight)
        self._held[key] = (value, weight)

    def clear(self) -> None:
        """Drop all values."""
        self._held.clear()


def is_out_of_memory(reason: BaseException) -> bool:
    """Whether an exception means that the machine or an accelerator is out of memory."""
    if isinstance(reason, MemoryError) or type(reason).__name__ == "OutOfMemoryError":  # torch's, and ours
        return True
    return isinstance(reason, RuntimeError) and any(phrase in str(reason).lower() for phrase in _OUT_OF_MEMORY)


def remedies(device: torch.device, dtype: torch.dtype) -> list[str]:
    """What makes any model take less memory than on this device with weights of this dtype."""
    smaller = ["precision 'bf16'"] if dtype.itemsize > 2 else []
    return [*smaller, *(["device 'cpu'"] if device.type != "cpu" else []), "a smaller model"]


@contextlib.contextmanager
def memory_named(device: torch.device | str, subject: str, helps: Sequence[str]) -> Iterator[None]:
    """Turn every out-of-memory error into an `OutOfMemoryError` that names the subject and `helps`: what to try."""
    try:
        yield
    except (RuntimeError, MemoryError) as reason:
        if not is_out_of_memory(reason):
            raise
        tried = " or ".join(filter(None, [", ".join(helps[:-1]), helps[-1]]))
        raise OutOfMemoryError(f"not enough memory on {device} for {subject}; try {tried}") from reason


def device_memory(device: torch.device) -> int:
    """Bytes of memory that a device has, used or not."""
    if device.type == "cuda":
        import torch  # noqa: PLC0415

        return int(torch.cuda.mem_get_info(device)[1])
    return machine_memory()


def memory_held(device: torch.device) -> int | None:
    """Bytes that this process holds of a GPU's memory; None of any other device."""
    if device.type != "cuda":
        return None
    import torch  # noqa: PLC0415

    return int(torch.cuda.memory_reserved(device))


def machine_memory() -> int:
    """Bytes of memory that this machine has, used or not; less where its container may use less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdecimal() else total

"""What is in a model's folder, and how large: read from names and headers alone, without torch."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from clipmk.models import hub

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
"""Names of weight files end so."""

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "attn_mask", "position_ids")
"""Ends of the names of tensors that are no parameters."""
_HEADER_LIMIT = 100_000_000
"""The format's own limit on the bytes of a header."""


def weights_in(folder: Path) -> Path | None:
    """The weight file of a folder: by its usual name, else the first in alphabetical order, the safest kind first."""
    named = [folder / name for name in hub.WEIGHT_NAMES if (folder / name).is_file()]
    others = [path for suffix in SUFFIXES for path in sorted(folder.glob(f"*{suffix}"))]
    return next(iter(named + others), None)


def stored_parameters(path: Path | None) -> int | None:
    """Number of parameters in a safetensors file; None for other files and for a header that cannot be read."""
    if path is None or path.suffix != ".safetensors":
        return None
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > _HEADER_LIMIT:
                return None
            header: dict[str, Any] = json.loads(file.read(size))
        kept = [name for name in header if name != "__metadata__" and not name.endswith(_BUFFERS)]
        return sum(int(math.prod(header[name]["shape"])) for name in kept)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None

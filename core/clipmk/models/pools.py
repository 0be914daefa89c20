"""Pools: sets of models that are studied together, by name or from a text file."""

from __future__ import annotations

import json
import re
from pathlib import Path

from clipmk.errors import InputError, UsageError, suggest
from clipmk.models.catalog import embedded_names
from clipmk.system.files import read_regular
from clipmk.system.locations import assets_dir
from clipmk.system.text import is_unsafe, printable, quoted

POOLS = ("zoo", "paper13")
"""Pools with a name: the embedded models, and the paper's 13 in the order of its table."""

FILE_LIMIT = 2**20
"""Most bytes of a pool file."""


def pool(name: str) -> tuple[str, ...]:
    """The ids of the models in a pool, whether they exist or not.

    Args:
        name: one of `POOLS`, or a text file with one model per line. A `#` at the start of a line or after a space
            begins a comment; empty lines are ignored.

    Returns:
        Ids as `load` takes them, in the pool's order, each once.

    Raises:
        UsageError: neither the pool nor the file exists.
        InputError: the file cannot be read, is not UTF-8, is empty, or names a model twice.
    """
    if name == "zoo":
        return tuple(embedded_names())
    if name == "paper13":
        rows = json.loads((assets_dir() / "paper13.json").read_bytes())
        return tuple(f"{row['architecture']}:{row['pretrained']}" for row in rows)
    if not Path(name).exists():
        raise UsageError(
            f"pool {quoted(name)} is neither a file nor one of: {', '.join(POOLS)}; {printable(suggest(name, POOLS))}"
        )
    return _parsed(read_regular(name, limit=FILE_LIMIT, noun="pool", error=InputError), name)


def _parsed(data: bytes, name: str) -> tuple[str, ...]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        raise InputError(f"pool {quoted(name)} is not UTF-8 text (byte {reason.start})") from reason
    seen: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        model = re.sub(r"(^|\s)#.*", "", line).strip()
        if not model:
            continue
        if any(is_unsafe(character) for character in model):
            raise InputError(f"pool {quoted(name)}, line {number}: {quoted(model)} contains control characters")
        if model in seen:
            raise InputError(f"pool {quoted(name)}, line {number}: {quoted(model)} is already in line {seen[model]}")
        seen[model] = number
    if not seen:
        raise InputError(f"pool {quoted(name)} does not name any model")
    return tuple(seen)

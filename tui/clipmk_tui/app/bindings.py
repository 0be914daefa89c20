"""The keys of the app, from `bindings.csv`: what its screens and widgets add to the bindings of their parents."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, Final

from textual.binding import Binding

KEY_BINDINGS: Final[dict[str, list[Any]]] = {}  # Any: lists are invariant, and Textual's holds more than `Binding`
"""Name of a class -> its `BINDINGS`."""

PAIRS: Final[dict[str, str]] = {}
"""An action that represents two in the key bar -> the other one: back and forth are named together."""

with Path(__file__).with_suffix(".csv").open(encoding="utf-8", newline="") as _file:
    for _row in csv.DictReader(_file):
        if _row["pair"]:
            PAIRS[_row["id"]] = _row["pair"]
        KEY_BINDINGS.setdefault(_row["class"], []).append(
            Binding(
                key=_row["keys"],
                action=_row["action"],
                description=_row["description"],
                show=_row["show"] != "no",
                key_display=_row["written"] or None,
                priority=_row["priority"] == "yes",
                tooltip=_row["tooltip"],
                id=_row["id"],
            )
        )

BINDING_IDS: Final = frozenset(binding.id for bindings in KEY_BINDINGS.values() for binding in bindings)
"""By these the user's config names actions."""

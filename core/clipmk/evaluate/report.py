"""What a comparison with the truth found: rows of intervals, as tables and as plain data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clipmk.evaluate import metrics
from clipmk.evaluate.metrics import Interval
from clipmk.evaluate.ways import BASELINES, LOOKUP, NEAREST, TRUE_LOOKUP, TRUE_PARTS
from clipmk.system.serialization import plain

GROUPS = (
    ("concepts", ("ap", "r_precision", "hit1", "hit3", "mutual_true", "margin")),
    ("regions", ("foreground", "of_ceiling", "corloc", "outliers", "part_iou", "pixel_iou", "part_margin")),
    (
        "behaviour",
        ("top1", "effect_top", "effect", "effect_control", "effect_margin", "stable_seed", "stable_shift", "parts"),
    ),
)
"""Tables of metrics; margins over the baselines have one of their own after the first."""

FIRST = ("ap", "hit1", "hit3", "foreground", "part_iou", "top1")
"""Metrics of the summary."""
FIRST_MARGINS = (LOOKUP, NEAREST)
"""Baselines that the ways of the summary are held against."""

Values = Mapping[str, Sequence[float]]
"""Metric -> one value per scene, NaN where it is undefined."""
Table = tuple[str, list[str], list[list[str]]]
"""Title, column headings, rows of text."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a way or a baseline on a split."""

    split: str
    name: str
    values: dict[str, Interval]
    margins: dict[str, Interval] = field(default_factory=dict)
    """Average precision less that of each baseline on the same scenes, by the baseline's name: paired differences."""


@dataclass(frozen=True, slots=True)
class TruthReport:
    """What `run` measured."""

    model: str
    scenes: int
    seed: int
    rows: tuple[Row, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    """Of each way, by its name, and what was chosen for the sparse decomposition."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return dict(plain(self))

    def table(self) -> list[Table]:
        """(title, columns, rows of text) for each split and group of metrics."""
        tables = []
        for split in dict.fromkeys(row.split for row in self.rows):
            rows = [row for row in self.rows if row.split == split]
            concepts, *others = [
                (f"{split}: {title}", *_lines(names, {row.name: row.values for row in rows})) for title, names in GROUPS
            ]
            tables.append(concepts)
            over = [row.name for row in rows if any(row.name in other.margins for other in rows)]
            if over:
                title = f"{split}: average precision above each baseline (paired)"
                tables.append((title, *_lines(over, {row.name: row.margins for row in rows})))
            tables += others
        return tables

    def summary(self) -> list[Table]:
        """What one wants to know first: two tables for each split, of the baselines and the ways that find parts."""
        tables = []
        for split in dict.fromkeys(row.split for row in self.rows):
            rows = [
                row
                for row in self.rows
                if row.split == split and row.name != TRUE_LOOKUP and not row.name.endswith(TRUE_PARTS)
            ]
            found = [name for name in FIRST if any(name in row.values for row in rows)]
            means = {row.name: row.values for row in rows}
            tables.append((f"{split}: summary, ± half the 95 % interval", *_lines(found, means, _short)))
            over = [name for name in FIRST_MARGINS if any(name in row.margins for row in rows)]
            margins = {row.name: row.margins for row in rows if row.name not in BASELINES}
            if over and margins:
                tables.append((f"{split}: average precision above two baselines (paired)", *_lines(over, margins)))
        return tables


def rows_of(split: str, tally: Mapping[str, Values], *, over: Iterable[str], seed: int) -> list[Row]:
    """Intervals over scenes of everything that was measured, and the margins over the baselines named in `over`.

    Args:
        split: where the scenes are from.
        tally: name of the row -> its values; all rows have the same scenes in the same order.
        over: names of rows.
        seed: of the bootstrap.
    """
    baselines = {name: tally[name]["ap"] for name in over if name in tally}
    return [
        Row(
            split,
            name,
            {metric: metrics.interval(each, seed=seed) for metric, each in values.items() if _any(each)},
            {
                other: metrics.paired_difference(values["ap"], scores, seed=seed)
                for other, scores in baselines.items()
                if other != name
            },
        )
        for name, values in tally.items()
    ]


def _lines(
    columns: Sequence[str],
    rows: Mapping[str, Mapping[str, Interval]],
    cell: Callable[[Interval | None], str] | None = None,
) -> tuple[list[str], list[list[str]]]:
    told = cell or _cell
    body = [
        [name, *(told(values.get(column)) for column in columns)]
        for name, values in rows.items()
        if any(column in values for column in columns)
    ]
    return ["", *columns], body


def _any(values: Sequence[float]) -> bool:
    return not bool(np.isnan(values).all())


def _cell(value: Interval | None) -> str:
    return "" if value is None else f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"


def _short(value: Interval | None) -> str:
    return "" if value is None else f"{value.mean:.3f} ±{(value.high - value.low) / 2:.3f}"

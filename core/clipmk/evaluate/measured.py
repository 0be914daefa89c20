"""What a measure reports: means with intervals for ways and baselines, as plain data and as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipmk.evaluate.metrics import Interval, interval
from clipmk.system.serialization import plain

Values = dict[str, list[float]]
"""Metric -> its value on each image; NaN where it is undefined."""
Table = tuple[str, list[str], list[list[str]]]
"""Title, column headings, rows of text."""


@dataclass(frozen=True, slots=True)
class DataUsed:
    """What was measured on."""

    name: str
    """Split of the rendered world, or folder."""
    images: int
    labelled: bool
    """Accuracy is against labels; otherwise against the model's own prediction on the untouched image."""
    skipped: tuple[str, ...] = ()
    """Images that could not be decoded, and why."""


@dataclass(frozen=True, slots=True)
class MeasuredRow:
    """One line of the tables: a way or a baseline on one data set."""

    data: str
    name: str
    values: dict[str, Interval]


@dataclass(frozen=True, slots=True)
class MeasuredReport:
    """What one measure found for one model."""

    model: str
    vocabulary: str
    seed: int
    data: tuple[DataUsed, ...]
    rows: tuple[MeasuredRow, ...]
    notes: tuple[str, ...]
    """How to read the numbers: normalisation, what is transductive, what was replaced."""
    settings: dict[str, Any]
    """Way -> every choice that was made."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return dict(plain(self))

    def tables(self, groups: Mapping[str, Sequence[str]]) -> list[Table]:
        """One table for each data set and group of metrics (title -> metric names); rows without any are left out."""
        made: list[Table] = []
        for data in dict.fromkeys(row.data for row in self.rows):
            rows = [row for row in self.rows if row.data == data]
            for title, wanted in groups.items():
                names = [name for name in wanted if any(name in row.values for row in rows)]
                body = [
                    [row.name, *(shown(row.values.get(name)) for name in names)]
                    for row in rows
                    if any(name in row.values for name in names)
                ]
                if body:
                    made.append((f"{data}: {title}", ["", *names], body))
        return made


def measured_rows(data: str, tally: Mapping[str, Values], *, seed: int) -> list[MeasuredRow]:
    """Means with 95 % bootstrap intervals over images; metrics that are nowhere defined are left out."""
    return [
        MeasuredRow(
            data,
            name,
            {
                metric: interval(each, seed=seed)
                for metric, each in values.items()
                if not bool(np.isnan(np.asarray(each, dtype=np.float64)).all())
            },
        )
        for name, values in tally.items()
    ]


def shown(value: Interval | None) -> str:
    """A mean and its interval in 20 characters; empty where there is none."""
    return "" if value is None else f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"

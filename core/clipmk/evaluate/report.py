"""What a measure reports: means with intervals for variants and baselines, as tables and as plain data."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clipmk.evaluate import metrics
from clipmk.evaluate.metrics import Interval
from clipmk.system.locations import assets_dir
from clipmk.system.serialization import plain

LOOKUP = "class lookup, predicted class"
TRUE_LOOKUP = "class lookup, true class"
NEAREST = "nearest to the whole image"
SPARSE = "sparse decomposition"
RANDOM = "random descriptors"
BASELINES = (LOOKUP, TRUE_LOOKUP, NEAREST, SPARSE, RANDOM)
"""Rankings of descriptors that look at no part of the picture, compared with the truth as D_v is."""
TRUE_PARTS = ", true parts"  # ends the name of a variant that is given the true masks
SUMMARY = ("ap", "hit1", "hit3", "foreground", "part_iou", "top1")  # metrics of the summary of the truth
SUMMARY_MARGINS = (LOOKUP, NEAREST)  # baselines that the variants of the summary are compared with
Table = tuple[str, list[str], list[list[str]]]  # title, column headings, rows of text


@dataclass(frozen=True, slots=True)
class MeasureText:
    """How the numbers of a measure are shown and read."""

    tables: dict[str, list[str]]
    """Title -> metrics. Margins over baselines have a table of their own after the first."""
    notes: list[str]


@cache
def measure_texts() -> dict[str, MeasureText]:
    """The measures by name, from `assets/measures.json`."""
    rows = json.loads((assets_dir() / "measures.json").read_bytes())
    return {name: MeasureText(**row) for name, row in rows.items()}


@dataclass(frozen=True, slots=True)
class DataUsed:
    """What was measured on."""

    name: str
    """Split of the rendered world, or folder."""
    images: int
    labelled: bool
    """Accuracy is against labels; otherwise against the model's own prediction on the untouched image."""
    skipped: tuple[str, ...] = ()
    """Images that could not be decoded or embedded, and why."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the tables: a variant or a baseline on one dataset."""

    data: str
    name: str
    values: dict[str, Interval]
    margins: dict[str, Interval] = field(default_factory=dict)
    """Average precision less that of each baseline, by its name. Whole pairs are resampled: an image that is hard for
    one is hard for both, so the interval is much narrower than the difference of two."""
    differences: dict[str, Interval] = field(default_factory=dict)
    """Values less those of the report's `reference`, paired likewise."""
    images: dict[str, NDArray[np.float64]] = field(default_factory=dict, metadata={"written": False}, compare=False)
    """Values by image, of which they are the means: (images,), or (draws, images)."""
    clusters: NDArray[np.int64] | None = field(default=None, metadata={"written": False}, compare=False)
    """Of each image, where intervals are over clusters."""

    def less(self, others: Mapping[str, NDArray[np.float64]], *, seed: int) -> Row:
        """With the differences to another row's `images`, of metrics that both have, and without its own images."""
        pairs = ((name, own, others[name]) for name, own in self.images.items() if name in others)
        found = {name: own - other for name, own, other in pairs if own.shape == other.shape}
        return replace(self, differences=metrics.intervals(found, self.clusters, seed=seed), images={})


@dataclass(frozen=True, slots=True)
class Report:
    """What one measure found for one model."""

    measure: str
    """A key of `measure_texts`."""
    model: str
    vocabulary: str
    seed: int
    data: tuple[DataUsed, ...]
    rows: tuple[Row, ...]
    settings: dict[str, Any]
    """Variant -> every choice that was made."""
    notes: tuple[str, ...] = ()
    """How to read the numbers: normalisation, what is transductive, what was replaced."""
    reference: str | None = None
    """Model whose values are subtracted in the `differences`."""

    def less(self, first: Report) -> Report:
        """With the differences to another model's report, image by image, of rows and datasets that both have alike."""
        if self is first or self.vocabulary != first.vocabulary:
            return self
        alike = {one.name for one in self.data if one in first.data}
        known = {(row.data, row.name): row.images for row in first.rows if row.data in alike}
        rows = (row.less(known.get((row.data, row.name), {}), seed=self.seed) for row in self.rows)
        return replace(self, rows=tuple(rows), reference=first.model)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, as the schema has it: the truth names a dataset `split`, and says how many scenes it has."""
        content: dict[str, Any] = plain(self)
        if content.pop("measure") == "truth":
            content["scenes"] = self.data[0].images
            content["rows"] = [{"split": row.pop("data"), **row} for row in content["rows"]]
            for name in ("vocabulary", "data", "notes"):
                del content[name]
        else:
            for row in content["rows"]:
                del row["margins"]
        return content

    def tables(self) -> list[Table]:
        """The tables of the measure for each dataset; rows and columns without any value are left out."""
        shown, tables = measure_texts()[self.measure].tables.items(), list[Table]()
        for data, rows in self._by_data():
            first, *others = [_table(f"{data}: {title}", names, rows, "values") for title, names in shown]
            over = f"{data}: average precision above each baseline (paired)"
            tables += [*first, *_table(over, [row.name for row in rows], rows, "margins"), *chain(*others)]
            for title, names in shown:
                tables += _table(f"{data}: {title}, less {self.reference} (paired)", names, rows, "differences")
        return tables

    def summary(self) -> list[Table]:
        """The truth in short: a few tables for each dataset, without what is given the truth."""
        tables = list[Table]()
        for data, rows in self._by_data():
            kept = [row for row in rows if row.name != TRUE_LOOKUP and not row.name.endswith(TRUE_PARTS)]
            own = [row for row in kept if row.name not in BASELINES]
            tables += _table(f"{data}: summary, ± half the 95 % interval", SUMMARY, kept, "values", _formatted_briefly)
            tables += _table(f"{data}: average precision above two baselines (paired)", SUMMARY_MARGINS, own, "margins")
            tables += _table(f"{data}: summary, less {self.reference} (paired)", SUMMARY, kept, "differences")
        return tables

    def _by_data(self) -> list[tuple[str, list[Row]]]:
        names = dict.fromkeys(row.data for row in self.rows)
        return [(name, [row for row in self.rows if row.data == name]) for name in names]


class Tally:
    """Values of every row on image after image; the seed is that of the bootstrap."""

    def __init__(self, *, seed: int) -> None:
        self._seed = seed
        self.values: dict[str, dict[str, list[float]]] = {}  # row -> metric -> its value on each image

    def add(self, name: str, values: Mapping[str, float]) -> None:
        """Add what one row has on one image."""
        row = self.values.setdefault(name, {})
        for metric, value in values.items():
            row.setdefault(metric, []).append(value)

    def rows(self, data: str, *, over: Iterable[str] = ()) -> list[Row]:
        """Means with 95 % intervals over images, of metrics that are defined somewhere.

        The average precision of the others is compared with that of the rows `over`; all have the same images.
        """
        baselines = {name: np.array(self.values[name]["ap"]) for name in over if name in self.values}
        rows = []
        for name, values in self.values.items():
            images = {metric: np.array(each) for metric, each in values.items()}
            others = {other: scores for other, scores in baselines.items() if other != name and "ap" in images}
            margins = {other: images["ap"] - scores for other, scores in others.items()}
            means, paired = (metrics.intervals(each, seed=self._seed) for each in (images, margins))
            rows.append(Row(data, name, means, paired, images=images))
        return rows


def _formatted(value: Interval) -> str:
    return f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"


def _formatted_briefly(value: Interval) -> str:
    return f"{value.mean:.3f} ±{(value.high - value.low) / 2:.3f}"


def _table(
    title: str,
    columns: Iterable[str],
    rows: Iterable[Row],
    kind: Literal["values", "margins", "differences"],
    cell: Callable[[Interval], str] = _formatted,
) -> list[Table]:
    """One table of the columns and rows that have numbers of this kind, or none."""
    found: dict[str, dict[str, Interval]] = {row.name: getattr(row, kind) for row in rows}
    names = [name for name in columns if any(name in values for values in found.values())]
    body = [
        [row, *(cell(values[name]) if name in values else "" for name in names)]
        for row, values in found.items()
        if any(name in values for name in names)
    ]
    return [(title, ["", *names], body)] if body else []

"""How often models see a concept, tie it to their prediction, or do both: per model, and over a whole study.

`ConceptCounts` counts shards into the rows of the table `concepts`; `concept_totals` adds those rows up.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from clipmk.study.schema import CONCEPTS, TableRow

SHOWN: Final = 15


class ConceptCounts:
    """Counts of one model and one part method, shard by shard; memory grows with the vocabulary, not the images."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()
        self._mutual: Counter[str] = Counter()
        self._right: Counter[str] = Counter()
        self._wrong: Counter[str] = Counter()
        self._explained: Counter[tuple[str, int]] = Counter()

    def add(self, rows: pa.Table) -> None:
        """Count the rows (by `schema.IMAGE`) of one shard and one part method, failed images excluded."""
        rows = rows.filter(rows.column("error").is_null()).combine_chunks()
        if not rows.num_rows:
            return
        seen, mutual = (rows.column(name).chunk(0) for name in ("vision_concepts", "mutual"))
        names, flags = seen.flatten(), mutual.flatten().fill_null(False)
        correct = rows.column("correct").chunk(0).take(pc.list_parent_indices(seen))
        for counter, chosen in (
            (self._seen, None),
            (self._mutual, flags),
            (self._right, pc.and_(flags, correct.fill_null(False))),
            (self._wrong, pc.and_(flags, pc.invert(correct).fill_null(False))),
        ):
            counts = (names if chosen is None else names.filter(chosen)).value_counts()
            counter.update(
                dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))
            )
        predicted = rows.column("predicted").to_pylist()
        self._explained.update(zip(predicted, rows.column("language_count").to_pylist(), strict=True))

    def rows(self, model: str, parts: str, language: Mapping[str, Sequence[str]]) -> list[TableRow]:
        """One row for every descriptor that was seen or tied, sorted by name.

        Args:
            model: its id.
            parts: the part method.
            language: D_y of every class that was predicted, nearest first.

        Raises:
            KeyError: a predicted class is not in `language`.
        """
        tied: Counter[str] = Counter()
        for (predicted, count), images in self._explained.items():
            for descriptor in language[predicted][:count]:
                tied[descriptor] += images
        return [
            {
                "model": model,
                "parts": parts,
                "descriptor": descriptor,
                "seen": self._seen[descriptor],
                "tied": tied[descriptor],
                "mutual": self._mutual[descriptor],
                "missed": tied[descriptor] - self._mutual[descriptor],
                "mutual_right": self._right[descriptor],
                "mutual_wrong": self._wrong[descriptor],
            }
            for descriptor in sorted(self._seen.keys() | tied.keys())
        ]


@dataclass(frozen=True, slots=True)
class ConceptTotals:
    """Counts of descriptors, and the number of explanations they come from."""

    explanations: int
    """Images × models × part methods that were explained."""
    rows: list[TableRow]
    """"descriptor" and the counts of `schema.CONCEPTS`."""

    def most(self, name: str, count: int = SHOWN) -> list[TableRow]:
        """The descriptors with the highest count "mutual" or "missed" above zero; ties are sorted by name."""
        positive = [row for row in self.rows if row[name]]
        return sorted(positive, key=lambda row: (-row[name], row["descriptor"]))[:count]


def language_concepts(table: pa.Table) -> dict[str, list[str]]:
    """D_y of every class, nearest first, from a table by `schema.LANGUAGE`."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for row in table.sort_by("rank").select(["class", "descriptor"]).to_pylist():
        found[row["class"]].append(row["descriptor"])
    return dict(found)


def concept_totals(table: pa.Table, explanations: int) -> ConceptTotals:
    """Add up the table `concepts` over models and part methods."""
    counts = [name for name in CONCEPTS.names if pa.types.is_integer(CONCEPTS.field(name).type)]
    sums = table.group_by("descriptor").aggregate([(name, "sum") for name in counts])
    return ConceptTotals(
        explanations,
        sums.select(["descriptor", *(f"{name}_sum" for name in counts)])
        .rename_columns(["descriptor", *counts])
        .to_pylist(),
    )

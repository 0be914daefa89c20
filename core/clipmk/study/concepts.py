"""How often models see a concept, tie it to their prediction, or do both: per model, and over a whole study.

`ConceptCounts` counts shards into the rows of the table `concepts`; `concept_totals` adds those rows up.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from clipmk.study.schema import MEAN, Row

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

    def rows(self, model: str, parts: str, language: Mapping[str, Sequence[str]]) -> list[Row]:
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


@dataclass(slots=True)
class ConceptTotal:
    """Counts of one descriptor over all models and part methods (see `schema.CONCEPTS`)."""

    seen: int = 0
    tied: int = 0
    mutual: int = 0
    missed: int = 0
    mutual_right: int = 0
    mutual_wrong: int = 0


@dataclass(frozen=True, slots=True)
class ConceptTotals:
    """Counts of all descriptors, and the number of explanations they come from."""

    explanations: int
    """Images × models × part methods that were explained."""
    by_descriptor: dict[str, ConceptTotal] = field(default_factory=dict)

    def most(self, name: str, count: int = SHOWN) -> list[tuple[str, ConceptTotal]]:
        """The descriptors with the highest count "mutual" or "missed" above zero; ties are sorted by name."""
        positive = [item for item in self.by_descriptor.items() if getattr(item[1], name)]
        return sorted(positive, key=lambda item: (-getattr(item[1], name), item[0]))[:count]


def language_concepts(table: pa.Table) -> dict[str, list[str]]:
    """D_y of every class, nearest first, from a table by `schema.LANGUAGE`."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for row in table.sort_by("rank").select(["class", "descriptor"]).to_pylist():
        found[row["class"]].append(row["descriptor"])
    return dict(found)


def concept_totals(models: Sequence[Row], concepts: Sequence[Row]) -> ConceptTotals:
    """Add up the rows of the table `concepts`; the rows of `models` give the number of explanations."""
    totals: defaultdict[str, ConceptTotal] = defaultdict(ConceptTotal)
    for row in concepts:
        total = totals[row["descriptor"]]
        for name in ConceptTotal.__slots__:
            setattr(total, name, getattr(total, name) + row[name])
    explanations = sum(row["images"] for row in models if row["parts"] != MEAN)
    return ConceptTotals(explanations, dict(totals))

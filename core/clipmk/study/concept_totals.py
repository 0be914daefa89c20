"""Concepts over all models and ways of a study: which are shared most often, which are missed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from clipmk.study.results import Results
from clipmk.study.schema import MEAN
from clipmk.study.summary import Row

SHOWN: Final = 15


@dataclass(slots=True)
class ConceptTotal:
    """Counts of one descriptor over all models and ways (see `schema.CONCEPTS`)."""

    seen: int = 0
    tied: int = 0
    mutual: int = 0
    missed: int = 0
    mutual_right: int = 0
    mutual_wrong: int = 0


@dataclass(frozen=True, slots=True)
class ConceptTotals:
    """Counts of all descriptors, and of how many explanations."""

    explanations: int
    """Images × models × ways that were explained."""
    by_descriptor: dict[str, ConceptTotal] = field(default_factory=dict)

    def most(self, name: str, count: int = SHOWN) -> list[tuple[str, ConceptTotal]]:
        """The descriptors with the highest count "mutual" or "missed" above zero; by name on a tie."""
        positive = [item for item in self.by_descriptor.items() if getattr(item[1], name)]
        return sorted(positive, key=lambda item: (-getattr(item[1], name), item[0]))[:count]


def concept_totals(results: Results, rows: Sequence[Row]) -> ConceptTotals:
    """Add rows of the table `concepts` up over models and ways."""
    totals: defaultdict[str, ConceptTotal] = defaultdict(ConceptTotal)
    for row in rows:
        total = totals[row["descriptor"]]
        for name in ConceptTotal.__slots__:
            setattr(total, name, getattr(total, name) + row[name])
    explanations = sum(row["images"] for row in results.every_way if row["parts"] != MEAN)
    return ConceptTotals(explanations, dict(totals))

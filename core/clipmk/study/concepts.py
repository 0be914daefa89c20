"""How often models see a concept, tie it to their prediction, or do both: per model, and over a whole study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipmk.concepts.statistics import wilson
from clipmk.study.image_columns import with_interval
from clipmk.study.schema import TableRow
from clipmk.study.swaps import ClassConcepts

SHOWN: Final = 15
_SEEN: Final = ("seen", "mutual", "mutual_right", "mutual_wrong")


class ConceptCounts:
    """Counts of one model and one part method, shard by shard; memory grows with the vocabulary, not the images."""

    def __init__(self, language: ClassConcepts) -> None:
        self._language = language
        self._counts: dict[str, Counter[str]] = {name: Counter() for name in _SEEN}
        self._predicted: Counter[str] = Counter()

    def add(self, rows: pa.Table) -> None:
        """Count the rows (by `schema.IMAGE`) of one shard and one part method, failed images excluded."""
        rows = rows.filter(rows["error"].is_null())
        lists, mutual, correct = (rows[name].combine_chunks() for name in ("vision_concepts", "mutual", "correct"))
        right = correct.take(pc.list_parent_indices(lists))
        seen = pa.table([lists.flatten(), mutual.flatten(), right], ["text", "mutual", "right"])
        shared = seen.filter(seen["mutual"])
        chosen = (seen, shared, shared.filter(shared["right"]), shared.filter(pc.invert(shared["right"])))
        for counter, found in zip(self._counts.values(), chosen, strict=True):
            counter.update({one["values"]: one["counts"] for one in found["text"].value_counts().to_pylist()})
        self._predicted.update(rows["predicted"].to_pylist())

    def rows(self, model: str, parts: str) -> list[TableRow]:
        """One row of the table `concepts` for every descriptor that was seen or tied, sorted by name."""
        tied: Counter[str] = Counter()
        for predicted, images in self._predicted.items():
            tied.update(dict.fromkeys(self._language.by_class[predicted][: self._language.count], images))
        return [
            {
                "model": model,
                "parts": parts,
                "descriptor": descriptor,
                "tied": tied[descriptor],
                "missed": tied[descriptor] - self._counts["mutual"][descriptor],
                **{name: counter[descriptor] for name, counter in self._counts.items()},
            }
            for descriptor in sorted(self._counts["seen"].keys() | tied.keys())
        ]


class AskedCounts:
    """In how many images of one model each text is seen, tied to the predicted class, or both, shard by shard."""

    def __init__(self, texts: Sequence[str], language: ClassConcepts) -> None:
        self._texts, self._language, self._images = texts, language, 0
        self._counts = np.zeros((3, len(texts)), dtype=np.int64)

    def add(self, rows: pa.Table) -> None:
        """Count the rows (by `schema.ASKED_IMAGE`) of one shard and one part method, failed images excluded."""
        rows = rows.filter(rows.column("error").is_null())
        seen, tied = (
            rows.column(name).combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, len(self._texts))
            for name in ("asked_seen", "asked_tied")
        )
        self._images += rows.num_rows
        self._counts += np.stack([seen.sum(axis=0), tied.sum(axis=0), (seen & tied).sum(axis=0)])

    def rows(self, model: str) -> list[TableRow]:
        """The rows of the table `asked`, in the order of the texts."""
        from clipmk.concepts.relevance import SEEN_LEVEL  # noqa: PLC0415 - torch

        images = self._images
        return [
            {
                "model": model,
                "text": text,
                "images": images,
                **with_interval("seen", wilson(seen, images)),
                "seen_by_chance": SEEN_LEVEL,
                "tied": tied / images,
                "tied_by_chance": self._language.count / self._language.vocabulary_size,
                "mutual": mutual / images,
            }
            for text, (seen, tied, mutual) in zip(self._texts, self._counts.T.tolist(), strict=True)
            if images
        ]


@dataclass(frozen=True, slots=True)
class ConceptTotals:
    """Counts of the table `concepts`, added up, and the number of explanations they come from."""

    explanations: int
    """Images × models × part methods that were explained."""
    rows: list[TableRow]
    """"descriptor" and the counts of the table `concepts`."""

    def most(self, name: str, count: int = SHOWN) -> list[TableRow]:
        """The descriptors with the highest count "mutual" or "missed" above zero; ties are sorted by name."""
        positive = [row for row in self.rows if row[name]]
        return sorted(positive, key=lambda row: (-row[name], row["descriptor"]))[:count]

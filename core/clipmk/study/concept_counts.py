"""Rows of the table `concepts`: how often a model sees a descriptor, ties it to its prediction, or does both."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipmk.study.summary import Row


class ConceptCounts:
    """Counts of one model and one way, shard by shard; as large as the vocabulary, whatever the number of images."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()
        self._mutual: Counter[str] = Counter()
        self._right: Counter[str] = Counter()
        self._wrong: Counter[str] = Counter()
        self._explained: Counter[tuple[str, int]] = Counter()

    def add(self, rows: pa.Table) -> None:
        """Count the rows (by `schema.IMAGE`) of one shard and one way; failed ones are passed over."""
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
            counter.update(_counted(names if chosen is None else names.filter(chosen)))
        predicted = rows.column("predicted").to_pylist()
        self._explained.update(zip(predicted, rows.column("language_count").to_pylist(), strict=True))

    def rows(self, model: str, parts: str, language: Mapping[str, Sequence[str]]) -> list[Row]:
        """The rows of every descriptor that was seen or tied, by name.

        Args:
            model: its id.
            parts: the way of finding parts.
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


def language_concepts(table: pa.Table) -> dict[str, list[str]]:
    """D_y of every class, nearest first, from a table by `schema.LANGUAGE`."""
    order = np.argsort(table.column("rank").to_numpy(), kind="stable")
    found: defaultdict[str, list[str]] = defaultdict(list)
    ranked = table.take(order)
    for name, descriptor in zip(
        ranked.column("class").to_pylist(), ranked.column("descriptor").to_pylist(), strict=True
    ):
        found[name].append(descriptor)
    return dict(found)


def _counted(names: pa.Array) -> dict[str, int]:
    counts = names.value_counts()
    return dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))

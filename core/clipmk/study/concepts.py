"""How often models see a concept, tie it to their prediction, or do both: per model, and over a whole study."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clipmk.concepts.statistics import wilson
from clipmk.study.image_columns import with_interval
from clipmk.study.schema import TableRow
from clipmk.study.swaps import ClassConcepts

SHOWN: Final = 15
_KINDS: Final = ("wrong", "right", "unknown")  # of predictions, by the column `correct`


class ConceptCounts:
    """Counts of one model and one part method, shard by shard; memory grows with classes times u, not with images."""

    def __init__(self, language: ClassConcepts, asks: Sequence[str], most: int) -> None:
        self.language, self.asks, self._most = language, tuple(asks), most
        self._seen: Counter[str] = Counter()
        self._asked = np.zeros((2, len(self.asks)), dtype=np.int64)  # seen, tied
        self.images = np.zeros((len(language.names), len(_KINDS)), dtype=np.int64)
        """Predicted as each class, by `_KINDS`."""
        self.mutual = np.zeros((*self.images.shape, language.count + len(self.asks)), dtype=np.int64)
        """Of these, with each of the class's D_y in D_v, and with each text of one's own mutual."""

    def add(self, rows: pa.Table) -> None:
        """Count the rows (by `schema.image_schema`) of one shard and one part method, failed images excluded."""
        rows = rows.filter(rows["error"].is_null())
        texts = rows["vision_concepts"].combine_chunks().flatten()
        self._seen.update({one["values"]: one["counts"] for one in texts.value_counts().to_pylist()})
        seen, predicted = self.language.numbers_of(rows, self._most)
        tied = self.language.tied[predicted, : self.language.count]
        mutual = np.zeros((rows.num_rows, self.mutual.shape[2]), dtype=bool)
        mutual[:, : tied.shape[1]] = (seen[:, :, None] == tied[:, None]).any(axis=1)
        if self.asks:
            lists = [rows[name].combine_chunks().flatten() for name in ("asked_seen", "asked_tied")]
            flags = np.array([one.to_numpy(zero_copy_only=False) for one in lists]).reshape(2, -1, len(self.asks))
            self._asked += flags.sum(axis=1)
            mutual[:, tied.shape[1] :] = flags.all(axis=0)
        cells = predicted, rows["correct"].cast(pa.int8()).fill_null(_KINDS.index("unknown")).to_numpy()
        np.add.at(self.images, cells, 1)
        np.add.at(self.mutual, cells, mutual)

    def rows(self, model: str, parts: str) -> list[TableRow]:
        """One row of the table `concepts` for every descriptor that was seen or tied, sorted by name."""
        tied: Counter[str] = Counter()
        shared: dict[str, NDArray[np.int64]] = defaultdict(lambda: np.zeros(len(_KINDS), dtype=np.int64))
        for number in np.flatnonzero(self.images.any(axis=1)).tolist():
            of_class = self.language.by_class[self.language.names[number]][: self.language.count]
            tied.update(dict.fromkeys(of_class, int(self.images[number].sum())))
            for text, counts in zip(of_class, self.mutual[number].T, strict=False):
                shared[text] += counts
        rows = []
        for descriptor in sorted(self._seen.keys() | tied.keys()):
            wrong, right, unknown = shared[descriptor].tolist()
            mutual = wrong + right + unknown
            counts = {"mutual": mutual, "missed": tied[descriptor] - mutual, "seen": self._seen[descriptor]}
            counts |= {"tied": tied[descriptor], "mutual_right": right, "mutual_wrong": wrong}
            rows.append({"model": model, "parts": parts, "descriptor": descriptor, **counts})
        return rows

    def asked_rows(self, model: str) -> list[TableRow]:
        """The rows of the table `asked`, in the order of the texts."""
        from clipmk.concepts.relevance import SEEN_LEVEL  # noqa: PLC0415 - torch

        images = int(self.images.sum())
        shared = self.mutual[:, :, self.language.count :].sum(axis=(0, 1))
        return [
            {
                "model": model,
                "text": text,
                "images": images,
                **with_interval("seen", wilson(seen, images)),
                "seen_by_chance": SEEN_LEVEL,
                "tied": tied / images,
                "tied_by_chance": self.language.count / self.language.vocabulary_size,
                "mutual": mutual / images,
            }
            for text, (seen, tied), mutual in zip(self.asks, self._asked.T.tolist(), shared.tolist(), strict=True)
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

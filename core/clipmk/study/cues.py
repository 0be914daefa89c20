"""Which concepts go with errors: for every text and predicted class, is it mutual more often where that is wrong?

The class is the predicted one, not the true one: D_y of the predicted class decides what can be mutual, so that among
images of one prediction a concept is mutual exactly where the image shows it, and "wrong more often where it is mutual"
says that the concept misleads to this class. Texts that are not tied to a class have no table with it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipmk.concepts.contingency import fisher_p, odds_ratio, share_difference
from clipmk.study.schema import TABLES, TableRow
from clipmk.study.swaps import ClassConcepts

SIGNIFICANT: Final = 0.05
"""q below which a cue counts as found."""
_ASKED: Final = ("asked_seen", "asked_tied")
FEWEST: Final = 10
"""Images with a known label that must be predicted as a class, so that its texts are tested."""


class CueCounts:
    """Counts of one model and one part method, shard by shard; memory grows with classes times u, not with images."""

    def __init__(self, language: ClassConcepts, asks: tuple[str, ...], most: int) -> None:
        self._language, self._asks, self._most = language, asks, most
        self._images = np.zeros((len(language.names), 2), dtype=np.int64)
        self._mutual = np.zeros((len(language.names), 2, language.count + len(asks)), dtype=np.int64)

    def add(self, rows: pa.Table) -> None:
        """Count the rows (by `schema.image_schema`) of one shard and part method that have a label."""
        rows = rows.filter(rows["correct"].is_valid())
        seen, predicted = self._language.numbers_of(rows, self._most)
        tied = self._language.tied[predicted, : self._language.count]
        mutual = np.zeros((rows.num_rows, self._mutual.shape[2]), dtype=bool)
        mutual[:, : tied.shape[1]] = (seen[:, :, None] == tied[:, None]).any(axis=1)
        if self._asks:
            flags = [rows[name].combine_chunks().flatten().to_numpy(zero_copy_only=False) for name in _ASKED]
            mutual[:, tied.shape[1] :] = np.logical_and(*flags).reshape(-1, len(self._asks))
        cells = predicted, rows["correct"].to_numpy().astype(np.int64)
        np.add.at(self._images, cells, 1)
        np.add.at(self._mutual, cells, mutual)

    def table(self, model: str, parts: str) -> pa.Table:
        """Rows of the table `cues`: of classes predicted for `FEWEST` images, no row or column all zeros."""
        wrong, right = self._mutual[:, 0], self._mutual[:, 1]
        other_wrong, other_right = (self._images[:, kind, None] - self._mutual[:, kind] for kind in (0, 1))
        sums = (wrong + right, other_wrong + other_right, wrong + other_wrong, right + other_right)
        tested = (self._images.sum(axis=1) >= FEWEST)[:, None] & np.all(sums, axis=0)
        classes, texts = np.nonzero(tested)
        cells = [one[tested] for one in (wrong, right, other_wrong, other_right)]
        from scipy.stats import false_discovery_control  # noqa: PLC0415 - slow to import

        p = fisher_p(*cells)
        columns = {
            "class": [self._language.names[number] for number in classes],
            "text": [self._text(number, text) for number, text in zip(classes.tolist(), texts.tolist(), strict=True)],
            "asked": texts >= self._language.count,
            "images": np.sum(cells, axis=0),
            **dict(zip(("mutual_wrong", "mutual_right", "other_wrong", "other_right"), cells, strict=True)),
            "p": p,
            "q": false_discovery_control(p) if len(p) else p,
        }
        for name, estimates in (("odds_ratio", odds_ratio(*cells)), ("error_difference", share_difference(*cells))):
            columns |= zip((name, f"{name}_low", f"{name}_high"), estimates, strict=True)
        whole = {"model": [model] * len(p), "parts": [parts] * len(p), **columns}
        schema = TABLES["cues"]
        return pa.table([whole.get(name, pa.nulls(len(p))) for name in schema.names], schema=schema)

    def _text(self, number: int, text: int) -> str:
        tied = self._language.by_class[self._language.names[number]]
        return tied[text] if text < self._language.count else self._asks[text - self._language.count]


def found_cues(table: pa.Table) -> list[TableRow]:
    """Rows of the table `cues` with q below `SIGNIFICANT`: those that mislead first, then those that support, by q."""
    rows: list[TableRow] = table.filter(pc.less(table["q"], SIGNIFICANT)).to_pylist()
    return sorted(rows, key=lambda row: (not misleads(row), row["q"], row["p"], -abs(row["error_difference"])))


def misleads(cue: TableRow) -> bool:
    """Whether predictions are wrong more often where the text is mutual."""
    return bool(cue["error_difference"] > 0)

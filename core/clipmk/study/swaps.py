"""What a study's written concepts say beside other classes, other images and other sizes of D_y; no image is opened."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from clipmk.concepts.mutual import chance, swapped_classes
from clipmk.concepts.statistics import mean
from clipmk.study.schema import SWAPPED, TableRow

Numbers = NDArray[np.integer[Any]]

_SIZES: Final = ("mutual_count", "mi_paper", "auc", "auc_unpadded", "chance_auc", "beats_all")
"""Columns of the table `language_counts` that are means over images."""
REFERENCES: Final = 10_000  # most images whose D_v is swapped in; of more, an evenly spaced sample
_AT_ONCE: Final = 500  # classes compared with these images at once


class ClassConcepts:
    """D_y of every class of one model, nearest first, as numbers of descriptors; from the table `schema.LANGUAGE`."""

    def __init__(self, table: pa.Table, *, count: int, vocabulary_size: int) -> None:
        nearest = table.sort_by("rank").group_by("class", use_threads=False).aggregate([("descriptor", "list")])
        found = dict(zip(nearest["class"].to_pylist(), nearest["descriptor_list"].to_pylist(), strict=True))
        self.by_class: dict[str, list[str]] = {name: found[name] for name in table["class"].unique().to_pylist()}
        self.count, self.vocabulary_size, self.names = count, vocabulary_size, list(self.by_class)
        numbers = {text: number for number, text in enumerate(dict.fromkeys(chain.from_iterable(found.values())))}
        self._descriptors, self._classes = pa.array(numbers), pa.array(self.names)
        self.tied = np.array([[numbers[text] for text in tied] for tied in self.by_class.values()])
        """D_y as numbers of descriptors, (classes, depth), nearest first."""
        compared = swapped_classes(len(self.names), vocabulary_size)
        self.compared = np.array(sorted(compared, key=lambda number: self.names[number]))
        """Numbers of the classes of the class swap, by name."""
        self.compared_with = lru_cache(8)(lambda count: self.held_by(self.compared, count))
        """What `held_by` says of them for a u."""

    def numbers_of(self, rows: pa.Table, most: int) -> tuple[Numbers, Numbers]:
        """Of explained images: D_v as numbers (images, `most`), filled up with one that no class holds; the classes."""
        lists = rows["vision_concepts"].combine_chunks()
        seen = np.full((rows.num_rows, most), len(self._descriptors), dtype=np.int32)
        inside = np.arange(most) < pc.list_value_length(lists).to_numpy()[:, None]
        numbers = pc.index_in(lists.flatten(), value_set=self._descriptors).fill_null(len(self._descriptors))
        seen[inside] = numbers.to_numpy()
        return seen, pc.index_in(rows["predicted"].combine_chunks(), value_set=self._classes).to_numpy()

    def held_by(self, classes: Numbers, count: int) -> NDArray[np.uint16]:
        """Which descriptor (and the one that no class holds) is in which D_y of size `count`: 0 or 1."""
        held = np.zeros((len(self._descriptors) + 1, len(classes)), dtype=np.uint16)
        held[self.tied[classes, :count], np.arange(len(classes))[:, None]] = 1
        return held

    def class_swap(self, seen: Numbers, predicted: Numbers, shared: Numbers, count: int) -> tuple[NDArray[Any], ...]:
        """`concepts.mutual.class_swap` of many images: p, at_least, number of the next class, its count."""
        counts = shared_counts(seen, self.compared_with(count)).astype(np.int32)
        columns = {number: column for column, number in enumerate(self.compared.tolist())}
        own = np.array([columns.get(number, -1) for number in predicted.tolist()], dtype=np.int64)
        inside = own >= 0
        counts[inside, own[inside]] = -1
        at_least = (counts >= shared[:, None]).sum(axis=1)
        following = counts.argmax(axis=1)
        return (1 + at_least) / (len(columns) + ~inside), at_least, self.compared[following], counts.max(axis=1)

    def with_class_swap(self, rows: pa.Table, most: int) -> pa.Table:
        """Rows of a shard and the columns `schema.SWAPPED`: null for failed images, and where there is one class."""
        explained = rows["predicted"].is_valid().to_numpy()
        places = np.cumsum(explained) * explained
        kept = rows.filter(pa.array(explained))
        swaps = self.class_swap(*self.numbers_of(kept, most), kept["mutual_count"].to_numpy(), self.count)
        p, at_least, following, counts = (found.tolist() for found in swaps)
        names = [self.names[number] if count > 0 else None for number, count in zip(following, counts, strict=True)]
        for wanted, found in zip(SWAPPED, (p, at_least, names, counts), strict=True):
            known = found if len(self.names) > 1 else [None] * len(found)
            rows = rows.append_column(wanted, pa.array([None, *known], wanted.type).take(pa.array(places)))
        return rows


def shared_counts(seen: Numbers, held: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """How many concepts every image shares with every class, (images, classes)."""
    total = np.zeros((len(seen), held.shape[1]), dtype=np.uint16)
    for column in seen.T:
        total += held[column]
    return total


class Overlaps:
    """The images of one model and part method beside other images and other sizes of D_y, shard by shard."""

    def __init__(self, language: ClassConcepts, counts: Sequence[int], most: int) -> None:
        self._language, self._most = language, most
        self._images: list[tuple[Numbers, ...]] = []
        self._sizes: dict[int, list[NDArray[np.float64]]] = {count: [] for count in counts}

    def add(self, rows: pa.Table) -> None:
        """Add the rows (by `schema.IMAGE`) of one shard and one part method, failed images excluded."""
        rows = rows.filter(rows["predicted"].is_valid())
        seen, predicted = self._language.numbers_of(rows, self._most)
        images, lengths, shared = (rows[name].to_numpy() for name in ("image", "vision_count", "mutual_count"))
        self._images.append((images, seen, predicted, shared))
        for count, found in self._sizes.items():
            found.append(self._strengths(seen, predicted, lengths, count))

    def _strengths(self, seen: Numbers, predicted: Numbers, lengths: Numbers, count: int) -> NDArray[np.float64]:
        """The columns `_SIZES` of images (`concepts.mutual.measure` of many at once)."""
        points, tied = self._most + 1, self._language.tied[predicted, None, :count]
        flags = (seen[:, :, None] == tied).any(axis=2)
        left = flags[:, ::-1].cumsum(axis=1)[:, ::-1]  # without the 0, 1, ... most important concepts
        curve = np.log(np.where(left, lengths[:, None] * count * left, 1))
        total = curve.sum(axis=1)
        size = self._language.vocabulary_size
        expected = [chance(length, count, size, length=points).auc for length in lengths.tolist()]
        _, at_least, *_ = self._language.class_swap(seen, predicted, left[:, 0], count)
        return np.column_stack(
            [left[:, 0], curve[:, 0], total / points, total / (lengths + 1), expected, at_least == 0]
        )

    def size_rows(self, model: str, parts: str) -> list[TableRow]:
        """The rows of the table `language_counts`."""
        rows = []
        for count, pieces in self._sizes.items():
            found = np.concatenate(pieces)
            means = {name: mean(column) for name, column in zip(_SIZES, found.T, strict=True)}
            if len(self._language.names) < 2:
                means["beats_all"] = None
            about = {"model": model, "parts": parts, "language_count": count, "images": len(found)}
            rows.append({**about, "vocabulary_size": self._language.vocabulary_size, **means})
        return rows

    def image_swap(self) -> tuple[Numbers, NDArray[np.float64], Numbers]:
        """Images, p = (1 + #{m' >= m}) / c, and c = 1 + others: D_y stays, D_v is that of images predicted otherwise.

        So descriptors that are near to every image count for all images alike.
        """
        images, seen, predicted, shared = (np.concatenate(found) for found in zip(*self._images, strict=True))
        most = min(len(images), REFERENCES)
        chosen = np.arange(most) * len(images) // max(1, most)
        order, p = np.argsort(predicted, kind="stable"), np.ones(len(images))
        compared = np.ones(len(images), dtype=np.int64)
        classes = np.unique(predicted)
        for start in range(0, len(classes), _AT_ONCE):
            block = classes[start : start + _AT_ONCE]
            counts = shared_counts(seen[chosen], self._language.held_by(block, self._language.count))
            for number, column in zip(block, counts.T, strict=True):
                others = np.sort(column[predicted[chosen] != number])
                members = order[slice(*np.searchsorted(predicted, (number, number + 1), sorter=order))]
                compared[members] = 1 + len(others)
                p[members] = 1 + len(others) - np.searchsorted(others, shared[members])
        return images, p / compared, compared

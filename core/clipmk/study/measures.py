"""What was measured on every image of one model, as columns of numbers: gathered shard by shard, no text kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from clipmk.concepts.mutual import chance_curve

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

UNKNOWN: Final = -1
"""Code of a class that is not known."""
SIGNIFICANT: Final = 0.05

COLUMNS: Final = (
    "mi_paper",
    "mi_textbook",
    "auc",
    "auc_unpadded",
    "chance_mi",
    "chance_auc",
    "part_count",
    "vision_count",
    "mutual_count",
)
"""Numbers of an image that are averaged."""


class ClassCodes:
    """Class names as small numbers, in the order in which they turn up."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}

    @property
    def names(self) -> list[str]:
        """Name of every code."""
        return list(self._codes)

    def encode(self, column: pa.Array) -> Integers:
        """Codes of a column of names; `UNKNOWN` for null."""
        encoded = column.dictionary_encode()
        codes = [self._codes.setdefault(name, len(self._codes)) for name in encoded.dictionary.to_pylist()]
        indices = np.asarray(encoded.indices.fill_null(len(codes)).to_numpy(zero_copy_only=False), dtype=np.int64)
        return np.asarray([*codes, UNKNOWN], dtype=np.int64)[indices]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """One way of finding parts (or the mean of several) on n images, failed ones included; NaN for what is unknown."""

    image: Integers
    """(n,), rising."""
    explained: NDArray[np.bool_]
    """(n,), False where there is an error."""
    label: Integers
    """(n,), code of the true class or `UNKNOWN`."""
    predicted: Integers
    """(n,), likewise."""
    correct: Floats
    """(n,), 1 or 0; NaN where the label is unknown."""
    label_rank: Floats
    """(n,), 1-based."""
    values: Mapping[str, Floats]
    """Each (n,): `COLUMNS`, and `above_chance`: 1 where p < 0.05, else 0."""
    curves: Floats
    """(n, 3L + 1), padded with zeros."""
    sizes: Integers
    """(n, ways, 2): L_v and L_T under each way."""

    def at(self, chosen: NDArray[Any]) -> Measures:
        """The images at some positions, or where a mask is True."""
        return Measures(
            **{name: getattr(self, name)[chosen] for name in self.__slots__ if name != "values"},
            values={name: column[chosen] for name, column in self.values.items()},
        )

    def mean_chance_curve(self, vocabulary_size: int) -> Floats:
        """Expected curve of random concepts of the same numbers, padded with zeros, averaged over images and ways.

        Args:
            vocabulary_size: |D|.

        Returns:
            float64 (3L + 1,); zeros where there are no images.
        """
        total = np.zeros(self.curves.shape[1])
        pairs, counts = np.unique(self.sizes.reshape(-1, 2), axis=0, return_counts=True)
        for (seen, tied), count in zip(pairs.tolist(), counts.tolist(), strict=True):
            total[: seen + 1] += count * np.asarray(chance_curve(seen, tied, vocabulary_size))
        return total / max(1, int(counts.sum()))


def measures(rows: pa.Table, codes: ClassCodes, *, points: int) -> Measures:
    """Columns of a shard's rows of one way.

    Args:
        rows: by `schema.IMAGE`, one chunk per column.
        codes: of all classes; new ones are added.
        points: 3L + 1, at least as many as the longest curve has.

    Raises:
        ValueError: a curve is longer than `points`.
    """
    rows = rows.take(pc.sort_indices(rows, sort_keys=[("image", "ascending")])).combine_chunks()
    explained = np.asarray(rows.column("error").is_null().to_numpy())
    values = {name: _floats(rows, name) for name in COLUMNS}
    sizes = [np.nan_to_num(_floats(rows, name)).astype(np.int64) for name in ("vision_count", "language_count")]
    return Measures(
        image=np.asarray(rows.column("image").to_numpy(), dtype=np.int64),
        explained=explained,
        label=codes.encode(_array(rows, "label")),
        predicted=codes.encode(_array(rows, "predicted")),
        correct=_floats(rows, "correct"),
        label_rank=_floats(rows, "label_rank"),
        values={**values, "above_chance": (_floats(rows, "p_value") < SIGNIFICANT).astype(np.float64)},
        curves=_padded(_array(rows, "curve"), points),
        sizes=np.stack(sizes, axis=-1)[:, None, :],
    )


def joined(pieces: Sequence[Measures]) -> Measures:
    """One behind the other, in the order of the images."""
    plain = {
        name: np.concatenate([getattr(piece, name) for piece in pieces])
        for name in Measures.__slots__
        if name != "values"
    }
    values = {name: np.concatenate([piece.values[name] for piece in pieces]) for name in pieces[0].values}
    whole = Measures(**plain, values=values)
    return whole.at(np.argsort(whole.image, kind="stable"))


def mean_of_ways(ways: Sequence[Measures]) -> Measures:
    """Per image the mean over the ways of finding parts; explained where every way explained it.

    The prediction does not depend on the way; the first one's is taken.
    """
    common = reduce(np.intersect1d, [way.image for way in ways])
    aligned = [way.at(np.searchsorted(way.image, common)) for way in ways]
    first = aligned[0]
    return Measures(
        image=common,
        explained=np.logical_and.reduce([way.explained for way in aligned]),
        label=first.label,
        predicted=first.predicted,
        correct=first.correct,
        label_rank=first.label_rank,
        values={name: _mean([way.values[name] for way in aligned]) for name in first.values},
        curves=_mean([way.curves for way in aligned]),
        sizes=np.concatenate([way.sizes for way in aligned], axis=1),
    )


def _mean(columns: Sequence[Floats]) -> Floats:
    return np.asarray(np.stack(columns).sum(axis=0) / len(columns))


def _array(rows: pa.Table, name: str) -> pa.Array:
    column = rows.column(name)
    return column.chunk(0) if column.num_chunks else pa.array([], type=column.type)


def _floats(rows: pa.Table, name: str) -> Floats:
    return np.asarray(_array(rows, name).cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)


def _padded(curves: pa.Array, points: int) -> Floats:
    """Curves of different lengths as rows of one matrix, zeros at their ends."""
    lengths = np.asarray(pc.list_value_length(curves).fill_null(0).to_numpy(zero_copy_only=False), dtype=np.int64)
    if lengths.max(initial=0) > points:
        raise ValueError(f"a curve of {lengths.max()} points does not fit into {points}")
    matrix = np.zeros((len(curves), points))
    matrix[np.arange(points) < lengths[:, None]] = curves.flatten().to_numpy(zero_copy_only=False)
    return matrix

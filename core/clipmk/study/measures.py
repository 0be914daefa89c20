"""What was measured on every image of one model, as columns of numbers, collected shard by shard; no text is kept."""

from __future__ import annotations

from collections.abc import Sequence
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

AVERAGED: Final = (
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
"""Columns of `schema.IMAGE` that are averaged."""


class ClassCodes:
    """Class names as small numbers, in order of appearance."""

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


@dataclass(frozen=True, slots=True)
class Measures:
    """One part method (or the mean of several) on n images, failed ones included; NaN: unknown.

    The columns, each with the images along its first axis, are int64 `image` (rising), `label` and `predicted` (codes);
    bool `explained`; float64 `correct` (1 or 0), `label_rank`, those of `AVERAGED`, `above_chance` (1 where p < 0.05),
    `curve` (n, 3L + 1), padded with zeros; and int64 `sizes` (n, part methods, 2): L_v and L_T under each part method.
    """

    columns: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.columns["image"])

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    def at(self, chosen: NDArray[Any]) -> Measures:
        """The images at some positions, or where a mask is True."""
        return Measures({name: column[chosen] for name, column in self.columns.items()})

    def mean_chance_curve(self, vocabulary_size: int) -> Floats:
        """Expected curve of random concepts of the same numbers, padded with zeros, averaged over images and methods.

        Args:
            vocabulary_size: |D|.

        Returns:
            float64 (3L + 1,); zeros where there are no images.
        """
        total = np.zeros(self["curve"].shape[1])
        pairs, counts = np.unique(self["sizes"].reshape(-1, 2), axis=0, return_counts=True)
        for (seen, tied), count in zip(pairs.tolist(), counts.tolist(), strict=True):
            total[: seen + 1] += count * np.asarray(chance_curve(seen, tied, vocabulary_size))
        return total / max(1, int(counts.sum()))


def measures(rows: pa.Table, codes: ClassCodes, *, points: int) -> Measures:
    """Columns of a shard's rows of one part method.

    Args:
        rows: by `schema.IMAGE`, one chunk per column.
        codes: of all classes; new ones are added.
        points: 3L + 1, at least as many as the longest curve has.

    Raises:
        ValueError: a curve is longer than `points`.
    """
    rows = rows.sort_by("image").combine_chunks()
    sizes = [np.nan_to_num(_floats(rows, name)).astype(np.int64) for name in ("vision_count", "language_count")]
    return Measures(
        {
            "image": np.asarray(rows.column("image").to_numpy(), dtype=np.int64),
            "explained": np.asarray(rows.column("error").is_null().to_numpy()),
            "label": codes.encode(_array(rows, "label")),
            "predicted": codes.encode(_array(rows, "predicted")),
            **{name: _floats(rows, name) for name in ("correct", "label_rank", *AVERAGED)},
            "above_chance": (_floats(rows, "p_value") < SIGNIFICANT).astype(np.float64),
            "curve": _padded(_array(rows, "curve"), points),
            "sizes": np.stack(sizes, axis=-1)[:, None, :],
        }
    )


def joined(pieces: Sequence[Measures]) -> Measures:
    """All pieces together, sorted by image."""
    whole = Measures({name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0].columns})
    return whole.at(np.argsort(whole["image"], kind="stable"))


def mean_of_methods(methods: Sequence[Measures]) -> Measures:
    """The mean over the part methods, image by image; an image counts as explained if every method explained it.

    The prediction does not depend on the part method; the first one's is kept.
    """
    common = reduce(np.intersect1d, [one["image"] for one in methods])
    aligned = [one.at(np.searchsorted(one["image"], common)) for one in methods]
    averaged = {
        name: np.stack([one[name] for one in aligned]).sum(axis=0) / len(aligned)
        for name in (*AVERAGED, "above_chance", "curve")
    }
    explained = np.logical_and.reduce([one["explained"] for one in aligned])
    sizes = np.concatenate([one["sizes"] for one in aligned], axis=1)
    return Measures(aligned[0].columns | averaged | {"explained": explained, "sizes": sizes})


def _array(rows: pa.Table, name: str) -> pa.Array:
    column = rows.column(name)
    return column.chunk(0) if column.num_chunks else pa.array([], type=column.type)


def _floats(rows: pa.Table, name: str) -> Floats:
    return np.asarray(_array(rows, name).cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)


def _padded(curves: pa.Array, points: int) -> Floats:
    """Curves of different lengths as rows of one matrix, padded with zeros."""
    lengths = np.asarray(pc.list_value_length(curves).fill_null(0).to_numpy(zero_copy_only=False), dtype=np.int64)
    if lengths.max(initial=0) > points:
        raise ValueError(f"a curve of {lengths.max()} points does not fit into {points}")
    matrix = np.zeros((len(curves), points))
    matrix[np.arange(points) < lengths[:, None]] = curves.flatten().to_numpy(zero_copy_only=False)
    return matrix

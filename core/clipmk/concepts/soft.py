"""Soft mutual concepts: different wordings of the same concept, matched one-to-one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from clipmk.concepts.float64 import host64

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class SoftMatch(NamedTuple):
    """Positions of the two wordings, and their similarity."""

    vision: int
    language: int
    cosine: float


def soft_matches(
    vision: Float[Tensor, "vision embed"], language: Float[Tensor, "language embed"], *, threshold: float
) -> tuple[SoftMatch, ...]:
    """The argmax over one-to-one matchings of the sum of cos(v, l), pairs with cos > `threshold` only.

    A linear assignment in which all other pairs count 0. Leave out concepts that are mutual by identity: they do not
    need a second wording.

    Args:
        vision: text embeddings of the vision concepts, rows L2-normalised.
        language: text embeddings of the language concepts, rows L2-normalised, same dtype.
        threshold: cosine in [0, 1).

    Returns:
        The pairs, highest cosine first, then in the order of `vision`.

    Raises:
        ValueError: the threshold lies outside [0, 1).
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold {threshold} is not a cosine in [0, 1)")
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 - 0.6 s, and soft matches are off by default

    cosines = host64(vision @ language.T).numpy()
    reachable = cosines > threshold
    rows, columns = linear_sum_assignment(np.where(reachable, cosines, 0.0), maximize=True)
    found = [
        SoftMatch(int(row), int(column), float(cosines[row, column]))
        for row, column in zip(rows, columns, strict=True)
        if reachable[row, column]
    ]
    return tuple(sorted(found, key=lambda match: (-match.cosine, match.vision)))

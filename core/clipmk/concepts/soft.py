"""Soft mutual concepts: different wordings of the same concept, matched one-to-one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clipmk.concepts.float64 import host64

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def soft_matches(
    vision: Float[Tensor, "vision embed"], language: Float[Tensor, "language embed"], *, threshold: float
) -> list[tuple[int, int, float]]:
    """The argmax over one-to-one matchings of the sum of cos(v, l), pairs with cos > `threshold` only.

    A linear assignment in which all other pairs count 0. Leave out concepts that are mutual by identity: they do not
    need a second wording.

    Args:
        vision: text embeddings of the vision concepts, rows L2-normalised.
        language: text embeddings of the language concepts, rows L2-normalised, same dtype.
        threshold: cosine in [0, 1).

    Returns:
        (position in `vision`, position in `language`, cosine) of the pairs, highest cosine first, then in the order of
        `vision`.

    Raises:
        ValueError: the threshold lies outside [0, 1).
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold {threshold} is not a cosine in [0, 1)")
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 - 0.6 s, and soft matches are off by default

    cosines = host64(vision @ language.T).numpy()
    reachable = cosines > threshold
    rows, columns = linear_sum_assignment(np.where(reachable, cosines, 0.0), maximize=True)
    pairs = zip(rows.tolist(), columns.tolist(), cosines[rows, columns].tolist(), strict=True)
    return sorted((pair for pair in pairs if reachable[pair[:2]]), key=lambda pair: (-pair[2], pair[0]))

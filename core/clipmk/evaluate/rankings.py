"""Baselines that rank descriptors without looking at any part of the picture.

Each is a list of descriptors, best first, held against the truth in the same way as D_v. A ranking that knows the class
only (`class_lookup`) is the one to beat: what is no better on counterfactual scenes recites the class.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from clipmk.concepts.selection import highest
from clipmk.world.combinations import typical_descriptors

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def class_lookup(class_name: str, *, most: int) -> tuple[str, ...]:
    """The descriptors that scenes of the class usually show, most usual first: no picture is looked at."""
    return typical_descriptors(class_name)[:most]


def nearest_descriptors(
    embedding: Float[Tensor, " embed"], bank: Float[Tensor, "descriptors embed"], *, most: int
) -> tuple[int, ...]:
    """Rows of the bank by cos(image, d), descending; ties in the bank's order.

    Args:
        embedding: of the image, L2-normalised.
        bank: the embedded descriptors, rows L2-normalised.
        most: length of the ranking.
    """
    return tuple(highest(bank @ embedding, most).tolist())


def random_descriptors(size: int, *, most: int, seed: int | Sequence[int]) -> tuple[int, ...]:
    """`most` different rows of a vocabulary of `size` descriptors, drawn uniformly."""
    return tuple(np.random.default_rng(seed).permutation(size)[:most].tolist())

"""Rankings of descriptors that look at no part of the picture, held against the truth as D_v is.

One that knows the class only (`class_lookup`) is the one to beat: what is not better on counterfactual scenes recites
the class.
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

LOOKUP = "class lookup, predicted class"
TRUE_LOOKUP = "class lookup, true class"
NEAREST = "nearest to the whole image"
SPARSE = "sparse decomposition"
RANDOM = "random descriptors"
TRUE_PARTS = ", true parts"
"""Ends the name of a variant that is given the true masks."""
BASELINES = (LOOKUP, TRUE_LOOKUP, NEAREST, SPARSE, RANDOM)


def class_lookup(class_name: str, *, most: int) -> tuple[str, ...]:
    """The descriptors that scenes of the class usually show, most usual first."""
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

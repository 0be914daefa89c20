"""The language side: the descriptors around a class in text space."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from clipmk.concepts.selection import highest

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


class LanguageConcepts(NamedTuple):
    """D_y, nearest first."""

    indices: Int[Tensor, " concepts"]
    """Rows of the descriptor bank, int64."""
    cosines: Float[Tensor, " concepts"]
    """Between the class embedding and each descriptor."""


def language_concepts(
    class_embedding: Float[Tensor, " embed"], bank: Float[Tensor, "descriptors embed"], *, count: int
) -> LanguageConcepts:
    """D_y = the u = `count` descriptors with the highest cosine to the class; ties in the bank's order.

    Args:
        class_embedding: float32 or float64, L2-normalised.
        bank: templated descriptors of the same dtype, rows L2-normalised.
        count: u; more than |D| gives all of them.
    """
    cosines = bank @ class_embedding
    indices = highest(cosines, count)
    return LanguageConcepts(indices, cosines[indices])

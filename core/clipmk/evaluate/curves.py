"""Deletion, insertion and their like (docs/method.md, 6): pure functions on masks, cosines and descriptors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from math import fsum, log

import numpy as np
from numpy.typing import NDArray


def concept_order(part_cosines: NDArray[np.floating], descriptor_cosines: NDArray[np.floating]) -> NDArray[np.intp]:
    """Order of the parts by w_l = cos(image, part_l) · cos(image, descriptor_l), highest first, ties in order.

    Args:
        part_cosines: (parts,) cosine of the whole image's embedding with each part's.
        descriptor_cosines: (parts,) cosine of the whole image's embedding with that of each part's first descriptor.

    Returns:
        int (parts,): positions of the parts.
    """
    return np.argsort(-(part_cosines * descriptor_cosines), kind="stable")


def hidden_regions(
    masks: NDArray[np.bool_], order: Sequence[int] | NDArray[np.intp], *, reveal: bool
) -> NDArray[np.bool_]:
    """What is blurred at each of the L + 1 steps of deletion, or of insertion (`reveal`).

    With U_t the union of the first t regions of the order, t = 0..L: deletion hides U_t, from the untouched picture on;
    insertion hides the complement of U_t, from the wholly blurred picture on. What lies outside every region stays
    visible in deletion and hidden in insertion.

    Args:
        masks: regions, bool (L, H, W).
        order: positions of the regions.
        reveal: insertion.

    Returns:
        bool (L + 1, H, W).
    """
    start = np.zeros((1, *masks.shape[1:]), dtype=bool)
    unions = np.concatenate([start, np.logical_or.accumulate(masks[np.asarray(order, dtype=np.intp)], axis=0)])
    return ~unions if reveal else unions


def descriptor_entropy(part_descriptors: Sequence[Sequence[Hashable]]) -> float:
    """H = - sum over d of p_d · ln p_d, p_d = how often descriptor d is given to a part / all descriptors given.

    Diversity of the descriptors over the parts: L parts with k different descriptors each reach at most ln(L · k);
    where all parts carry the same k it is ln k. The paper states neither logarithm nor k. Its 2.33 and 2.34 exceed the
    most that one descriptor per part could give (ln 5 = 1.609 nats, log2 5 = 2.322 bits), so they are read as nats over
    the k = 3 descriptors of each of the L = 5 parts, of at most ln 15 = 2.708.

    Args:
        part_descriptors: for each part its descriptors.

    Raises:
        ValueError: no descriptor is given.
    """
    counts = Counter(descriptor for part in part_descriptors for descriptor in part)
    total = counts.total()
    if not total:
        raise ValueError("the entropy of no descriptors is undefined")
    return abs(fsum(count / total * log(count / total) for count in counts.values()))

"""Regions to hold a method's parts against: its own shapes put elsewhere in the object."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

NEARLY_BEST = 0.9
"""A place is good enough where this share of what the best place covers is covered."""


def moved_regions(
    masks: NDArray[np.bool_], inside: NDArray[np.bool_], *, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Random regions of the same shapes and areas as `masks`, inside the object as far as they fit.

    Largest first; each is moved, within the picture, to a place drawn evenly from those that cover at least 0.9 of the
    most of the object not yet covered that any place covers. So the random regions hide nearly as much of the object as
    the method's own do.

    Args:
        masks: bool (parts, H, W).
        inside: the object, bool (H, W).
        rng: draws the places.

    Returns:
        bool (parts, H, W), in the order of `masks`; empty masks stay empty.
    """
    moved = np.zeros_like(masks)
    free = inside.copy()
    for index in np.argsort(-masks.sum(axis=(1, 2)), kind="stable").tolist():
        moved[index] = _moved(masks[index], free if free.any() else inside, rng)
        free &= ~moved[index]
    return moved


def _moved(mask: NDArray[np.bool_], inside: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return mask
    shape = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    covered = np.rint(fftconvolve(inside.astype(np.float64), shape[::-1, ::-1].astype(np.float64), mode="valid"))
    places = np.argwhere(covered >= NEARLY_BEST * covered.max())
    top, left = places[rng.integers(len(places))].tolist()
    placed = np.zeros_like(mask)
    placed[top : top + shape.shape[0], left : left + shape.shape[1]] = shape
    return placed

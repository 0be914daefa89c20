"""The ways of dividing a foreground into parts, by name; importing this loads neither torch nor numpy.

To add one, write its formulas in a module of this room, here a function that calls it, and a row of `PART_METHODS`. Its
keyword-only arguments are the settings that it reads. Settings, config file and pipeline take its name from the row.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clipmk.concepts.foreground import CentredTokens
    from clipmk.concepts.superpixels import WorkingCopy


class GridForeground(NamedTuple):
    """Images that are divided together, and their foreground on the patch grid."""

    copies: Sequence[WorkingCopy]
    """Of each what is divided along its own edges."""
    tokens: CentredTokens
    saliency: NDArray[np.floating]
    """(images, rows, columns)"""
    masks: NDArray[np.bool_]
    """(images, rows, columns): where the saliency is positive, in the components that were kept."""


Labels = tuple["NDArray[np.int64]", tuple[str, ...]]
"""Of one image, (rows, columns) or on the square (S, S): 0 is background, parts count from 1; and warnings."""


def _kmeans(images: GridForeground, *, part_count: int, seed: int) -> Iterable[Labels]:
    from clipmk.concepts.paper_parts import kmeans_parts  # noqa: PLC0415 - torch

    found = kmeans_parts(images.tokens.patches, images.masks, count=part_count, seed=seed)
    return ((labels, found.warnings) for labels in found.labels)


def _pca(images: GridForeground, *, part_count: int) -> Iterable[Labels]:
    from clipmk.concepts.paper_parts import pca_parts  # noqa: PLC0415 - torch

    found = pca_parts(images.tokens.patches, images.masks, count=part_count)
    return ((labels, found.warnings) for labels in found.labels)


def _superpixels(images: GridForeground, *, part_limit: int) -> Iterable[Labels]:
    from clipmk.concepts.foreground import CentredTokens, restrict  # noqa: PLC0415 - torch
    from clipmk.concepts.superpixels import superpixel_parts  # noqa: PLC0415 - torch

    every, grid = images.tokens, images.tokens.grid
    each = [every] if len(images.copies) == 1 else [CentredTokens(one[None], grid) for one in every.patches]
    for copy, tokens, saliency, mask in zip(images.copies, each, images.saliency, images.masks, strict=True):
        yield superpixel_parts(copy, restrict(saliency, mask), tokens=tokens, limit=part_limit)


PART_METHODS: Final[Mapping[str, Callable[..., Iterable[Labels]]]] = {
    "kmeans": _kmeans,
    "pca": _pca,
    "superpixels": _superpixels,
}


@cache
def settings_read(method: str) -> tuple[str, ...]:
    """Names of the settings that a part method reads."""
    return tuple(inspect.signature(PART_METHODS[method]).parameters)[1:]

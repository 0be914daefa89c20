"""The paper's visual parts: the foreground's patches divided by k-means or by principal components.

Both divide all given images together: one image for the per-image fit, several of one class for the joint fit, in which
a label means the same in every image (and need not occur in each). `masks` is the foreground on the patch grid, bool
(images, rows, columns); without a patch, or for `count` (L) below 1, they raise ValueError. scikit-learn is imported on
first use: it takes half as long as torch, and the default settings never need it.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipmk.concepts.float64 import host64

if TYPE_CHECKING:
    from jaxtyping import Float
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped] # comes with scikit-learn
    from torch import Tensor

RESTARTS = 4  # k-means runs, of which the best is kept; one run takes 1.3 ms for 196 patches
GRAIN = 1e-6
"""Unit features are rounded to this grain, so that k does not exceed the number of distinct points."""


class Parts(NamedTuple):
    """Which part each patch belongs to, or each pixel of one image."""

    labels: NDArray[np.int64]
    """(images, rows, columns), or (rows, columns): 0 is background, parts count from 1."""
    warnings: tuple[str, ...]


def kmeans_parts(
    patches: Float[Tensor, "images patches dim"], masks: NDArray[np.bool_], *, count: int, seed: int
) -> Parts:
    """Parts = k-means of the L2-normalised foreground features, euclidean, k = min(`count`, distinct features).

    scikit-learn's k-means++ and Lloyd, the best of 4 seeded runs, in float64. With fewer distinct patches than parts,
    each distinct patch is a part, with a warning.
    """
    features = _foreground_features(patches, masks, count)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    grains = np.round(features / np.maximum(lengths, np.finfo(np.float64).tiny) / GRAIN)
    wanted = min(count, _distinct(grains, enough=count))
    if wanted == 1:
        return _parts(np.zeros(len(features), dtype=np.int64), masks, count)
    from sklearn.cluster import KMeans  # noqa: PLC0415

    model = KMeans(wanted, n_init=RESTARTS, random_state=seed)
    with _pools().limit(limits=1):
        found = model.fit_predict(grains * GRAIN)
    return _parts(found, masks, count)


def pca_parts(patches: Float[Tensor, "images patches dim"], masks: NDArray[np.bool_], *, count: int) -> Parts:
    """Part = argmax over L principal components of the patch's min-max scaled score.

    Components of the un-normalised foreground features with the signs that scikit-learn's PCA gives them (they change
    the argmax); each component's scores are scaled to [0, 1] over everything fitted. Components without variance are
    dropped, so that fewer patches than parts give fewer parts, with a warning; identical patches give one.
    """
    features = _foreground_features(patches, masks, count)
    spread = np.abs(features - features[0]).max()
    if spread <= GRAIN * np.abs(features).max():
        return _parts(np.zeros(len(features), dtype=np.int64), masks, count)
    from sklearn.decomposition import PCA  # noqa: PLC0415

    model = PCA(min(count, *features.shape), svd_solver="full")
    with _pools().limit(limits=1):
        scores = model.fit_transform(features)
    scores = scores[:, model.singular_values_ > GRAIN * model.singular_values_[0]]
    low, high = scores.min(axis=0), scores.max(axis=0)
    return _parts(((scores - low) / (high - low)).argmax(axis=1), masks, count)


def part_masks(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """One mask per part that occurs, by rising label: int (rows, columns) -> bool (parts, rows, columns)."""
    found = 1 + np.flatnonzero(np.bincount(labels.ravel())[1:])
    return np.asarray(labels[None] == found[:, None, None])


def _foreground_features(patches: Tensor, masks: NDArray[np.bool_], count: int) -> NDArray[np.float64]:
    if count < 1:
        raise ValueError(f"count is {count}; it must be at least 1")
    if not masks.any():
        raise ValueError("the foreground has no patch")
    everything = host64(patches).numpy()
    return np.asarray(everything[masks.reshape(everything.shape[:2])])


def _distinct(rows: NDArray[np.float64], *, enough: int) -> int:
    """How many different rows there are, or `enough`: a few rows usually suffice, and sorting all is slow."""
    few = len(np.unique(rows[: 4 * enough], axis=0))
    return few if few >= enough else len(np.unique(rows, axis=0))


@cache
def _pools() -> ThreadpoolController:
    """The thread pools of this process, found once: this reads the map of its memory and takes milliseconds.

    Fits use one thread: several add up in the order in which they end, and on a busy machine wait for each other. Only
    pools of imported libraries are found; scikit-learn is imported before.
    """
    from threadpoolctl import ThreadpoolController  # noqa: PLC0415

    return ThreadpoolController()


def _parts(found: NDArray[np.integer], masks: NDArray[np.bool_], count: int) -> Parts:
    """Put the foreground's cluster numbers on the grid, from 1 in order of appearance."""
    _, first, inverse = np.unique(found, return_index=True, return_inverse=True)
    ranks = first.argsort().argsort() + 1
    labels = np.zeros(masks.shape, dtype=np.int64)
    labels[masks] = ranks[inverse.ravel()]
    if len(first) < count:
        return Parts(labels, (f"the foreground divides into {len(first)} of {count} parts",))
    return Parts(labels, ())

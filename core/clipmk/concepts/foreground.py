"""Where the thing is: a saliency for every patch from the patch features alone, and the grid mask made of it.

Two ways. `second_eigenvector` is the paper's; `centred_direction` is ours. Both fit all given images together: pass one
image for the paper's per-image fit, several of one class for its joint fit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from clipmk.concepts.float64 import device64, host64

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

SECOND_COMPONENT_MIN = 5
"""Patches that the second component needs to be kept (reference code)."""
OUTLIER_Z = 6.0
"""Robust z-score of a token's norm beyond which it is an artefact: real ViTs park global notes in such tokens."""
OUTLIER_RATIO = 1.5
"""An outlier is also this many times as long as the median token, so that narrow norms make no outliers."""
MAD_TO_SIGMA = 1.4826
"""Standard deviation of a normal distribution in units of its median absolute deviation."""
TIE = 1e-12
"""Relative difference below which two cuts are equally good."""
FLAT = 1e-6
"""Unit tokens closer than this to their mean are all the same to us: float32 noise has no direction."""

NO_FOREGROUND = "no foreground was found; the whole image is explained"
NO_CONTRAST = "the patch features are all alike; they show no foreground"


class Saliency(NamedTuple):
    """How much each patch belongs to the thing rather than to what surrounds it."""

    values: Float[Tensor, "images patches"]
    """float64; above 0 is foreground. All 0 where the features show no direction. Unit norm over everything fitted."""
    outliers: Bool[Tensor, "images patches"]
    """High-norm tokens that were replaced by the mean of their neighbours before fitting."""
    warnings: tuple[str, ...]


def second_eigenvector(patches: Float[Tensor, "images patches dim"]) -> Saliency:
    """Eigenvector of the second largest eigenvalue of A = f f^T, f the L2-normalised rows of all images (paper).

    It is the second left singular vector of f, taken from the smaller of f f^T and f^T f. Its sign: the entry largest
    in size is made positive (LAPACK leaves the sign open), then the paper's rule flips it if the share of positive
    entries lies in (0.5, 1.0).

    Args:
        patches: patch features, float32 or float64, finite; one image, or several to fit together.
    """
    images, count, dim = patches.shape
    unit = torch.nn.functional.normalize(device64(patches).reshape(images * count, dim), dim=-1)
    vector = _left_singular_vector(unit, rank=2)
    return _saliency(_flip_if_mostly_positive(vector), torch.zeros(images, count, dtype=torch.bool))


def centred_direction(
    patches: Float[Tensor, "images patches dim"],
    *,
    grid: tuple[int, int],
    attention: Float[Tensor, "images patches"] | None = None,
) -> Saliency:
    """First principal direction of the centred unit tokens: s = first left singular vector of normalise(f - mean f).

    Robust in two ways. High-norm artefact tokens (`norm_outliers`) are replaced by the mean of their 8 neighbours
    before anything is fitted; and the centred tokens are scaled to unit length again, so that no token weighs more
    than another in the direction. Needs no CLS token.

    Sign: two votes, each a correlation over everything fitted, are added up; a negative sum flips. (1) with lying
    inside the image rather than on its border ring; (2) where given, with the CLS attention, outliers left out (they
    draw attention without being foreground). Without any vote the paper's rule decides.

    Args:
        patches: patch features, float32 or float64, finite; one image, or several to fit together.
        grid: (rows, columns), row-major in `patches`.
        attention: CLS-to-patch attention of the last block, averaged over heads.

    Raises:
        ValueError: the grid does not hold the patches.
    """
    images, count, dim = patches.shape
    if grid[0] * grid[1] != count:
        raise ValueError(f"a grid of {grid[0]} x {grid[1]} does not hold {count} patches")
    cleaned, outliers = clean_tokens(patches, grid=grid)
    unit = torch.nn.functional.normalize(cleaned, dim=-1)
    centred = (unit - unit.mean(dim=(0, 1))).reshape(images * count, dim)
    lengths = centred.norm(dim=-1, keepdim=True)
    directions = torch.where(lengths > FLAT, centred / lengths.clamp_min(FLAT), 0.0)
    vector = _left_singular_vector(directions, rank=1)
    vote = _vote(vector.reshape(images, count), outliers, grid, attention)
    vector = _flip_if_mostly_positive(vector) if vote == 0 else vector * (1.0 if vote > 0 else -1.0)
    return _saliency(vector, outliers)


def norm_outliers(patches: Float[Tensor, "images patches dim"]) -> Bool[Tensor, "images patches"]:
    """Tokens with |f| > median + 6 · 1.4826 · MAD and |f| > 1.5 · median, over the norms of all images."""
    norms = torch.linalg.vector_norm(patches, dim=-1)
    if norms.numel() == 0:
        return torch.zeros_like(norms, dtype=torch.bool)
    median = norms.median()
    spread = MAD_TO_SIGMA * (norms - median).abs().median()
    found: Tensor = (norms > median + OUTLIER_Z * spread) & (norms > OUTLIER_RATIO * median)
    return found


def clean_tokens(
    patches: Float[Tensor, "images patches dim"], *, grid: tuple[int, int]
) -> tuple[Float[Tensor, "images patches dim"], Bool[Tensor, "images patches"]]:
    """Replace `norm_outliers` by the mean of their ordinary 8 neighbours; float64 tokens, and which these were.

    An outlier without an ordinary neighbour becomes the mean of all ordinary tokens.
    """
    tokens = device64(patches)
    outliers = norm_outliers(tokens)
    return _without_outliers(tokens, outliers, grid), outliers


def foreground_mask(
    saliency: NDArray[np.floating], *, threshold: Literal["zero", "otsu"] = "zero"
) -> NDArray[np.bool_]:
    """Saliency > 0 (paper), or above Otsu's threshold; any shape."""
    return np.asarray(saliency > (otsu(saliency) if threshold == "otsu" else 0.0))


def otsu(values: NDArray[np.number]) -> float:
    """Otsu's threshold: the t that maximises w0 · w1 · (mean1 - mean0)^2.

    w0 and mean0 are share and mean of the values <= t, w1 and mean1 of those > t.

    Exact: every distinct value is tried, no histogram. The lowest t on a tie; the common value where all are the same.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64), axis=None)
    if ordered.size < 2 or ordered[0] == ordered[-1]:
        return float(ordered[-1]) if ordered.size else 0.0
    below = np.arange(1, ordered.size)
    above = ordered.size - below
    sums = np.cumsum(ordered)
    gap = (sums[-1] - sums[:-1]) / above - sums[:-1] / below
    between = np.where(ordered[1:] > ordered[:-1], below * above * gap**2, -1.0)
    best = between >= between.max() * (1 - TIE)
    return float(ordered[int(best.argmax())])


def largest_components(
    mask_grid: NDArray[np.bool_], *, keep_second: bool, second_min: int = SECOND_COMPONENT_MIN
) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """Keep the largest 8-connected component, and the second largest if it has at least `second_min` patches.

    Equal sizes: the one met first, row by row. An empty mask becomes the whole grid, with a warning.

    Args:
        mask_grid: bool (rows, columns).
        keep_second: False keeps the largest only (paper's text), True the second as well (reference code).
        second_min: in patches.

    Returns:
        bool (rows, columns) and warnings.
    """
    labels, found = ndimage.label(mask_grid, structure=np.ones((3, 3), dtype=int))
    if not found:
        return np.ones_like(mask_grid, dtype=bool), (NO_FOREGROUND,)
    sizes = np.bincount(labels.ravel(), minlength=found + 1)[1:]
    order = np.argsort(-sizes, kind="stable")
    kept = [order[0] + 1]
    if keep_second and found > 1 and sizes[order[1]] >= second_min:
        kept.append(order[1] + 1)
    return np.isin(labels, kept), ()


def restrict(saliency_grid: NDArray[np.floating], mask_grid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Saliency whose sign says what the mask says: |s| inside the mask, -|s| outside, never 0; (rows, columns).

    For readers of the saliency that must respect the components chosen by `largest_components`.
    """
    size = np.maximum(np.abs(np.asarray(saliency_grid, dtype=np.float64)), FLAT)
    return np.where(mask_grid, size, -size)


def upsample(saliency_grid: NDArray[np.floating], *, side: int) -> NDArray[np.float32]:
    """Saliency (rows, columns) at every pixel of the square input, float32 (side, side), bilinear, pixel-centred."""
    resized = cv2.resize(np.asarray(saliency_grid, dtype=np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, dtype=np.float32)


def _left_singular_vector(rows: Tensor, *, rank: int) -> Tensor:
    """The left singular vector of the `rank`-th largest singular value, largest entry positive; 0 where that is 0."""
    count, dim = rows.shape
    if min(count, dim) < rank:
        return rows.new_zeros(count)
    wide = count <= dim
    eigenvalues, eigenvectors = torch.linalg.eigh(rows @ rows.T if wide else rows.T @ rows)
    if eigenvalues[-rank] <= FLAT**2 * count:
        return rows.new_zeros(count)
    vector = eigenvectors[:, -rank] if wide else rows @ eigenvectors[:, -rank]
    vector = vector / vector.norm()
    signed: Tensor = vector * vector[vector.abs().argmax()].sign()
    return signed


def _flip_if_mostly_positive(vector: Tensor) -> Tensor:
    share = float(host64(vector > 0).mean()) if vector.numel() else 0.0
    return -vector if 0.5 < share < 1.0 else vector


def _saliency(vector: Tensor, outliers: Tensor) -> Saliency:
    warnings = () if bool((vector != 0).any()) else (NO_CONTRAST,)
    return Saliency(vector.reshape(outliers.shape), outliers.to(vector.device), warnings)


def _without_outliers(tokens: Tensor, outliers: Tensor, grid: tuple[int, int]) -> Tensor:
    if not outliers.any():
        return tokens
    cleaned = tokens.clone()
    ordinary = tokens[~outliers].mean(dim=0)
    for image, position in outliers.nonzero().tolist():
        row, column = divmod(position, grid[1])
        near = torch.zeros(grid, dtype=torch.bool, device=tokens.device)
        near[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = True
        near_ordinary = near.flatten() & ~outliers[image]
        cleaned[image, position] = tokens[image, near_ordinary].mean(dim=0) if near_ordinary.any() else ordinary
    return cleaned


def _vote(values: Tensor, outliers: Tensor, grid: tuple[int, int], attention: Tensor | None) -> float:
    """Sum of the correlations of the saliency with lying inside the border ring and with the attention."""
    inside = torch.zeros(grid, dtype=values.dtype, device=values.device)
    inside[1:-1, 1:-1] = 1.0
    vote = _correlation(values, inside.flatten().expand_as(values))
    if attention is not None:
        vote += _correlation(values[~outliers], attention.detach().to(values)[~outliers])
    return vote


def _correlation(one: Tensor, other: Tensor) -> float:
    """Pearson's r, 0 where either side is constant."""
    if not one.numel():
        return 0.0
    one, other = one - one.mean(), other - other.mean()
    size = float(one.norm() * other.norm())
    return float((one * other).sum()) / size if size > 0 else 0.0

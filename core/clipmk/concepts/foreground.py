"""Foreground saliency per patch, from the patch features alone, and the mask on the patch grid.

`second_eigenvector` is the paper's method, `centred_direction` is ours. Both fit all given images together, float32 or
float64: one image for the paper's per-image fit, several of one class for its joint fit. The saliency is float64, above
0 is foreground; it is all 0 if the features have no direction, else of unit norm over everything fitted.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from clipmk.concepts.float64 import host64

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Bool, Float
    from torch import Tensor

SECOND_COMPONENT_MIN = 5  # patches that the second component needs to be kept (reference code)
OUTLIER_Z = 6.0
"""Robust z-score of a token's norm above which it is an artefact: large ViTs keep global information in such tokens."""
OUTLIER_RATIO = 1.5
"""An outlier is also this many times as long as the median token, so that norms close together have no outliers."""
MAD_TO_SIGMA = 1.4826  # standard deviation of a normal distribution in units of its median absolute deviation
FLAT = 1e-6  # unit tokens closer than this to their mean count as equal: float32 noise has no direction
BASIS, ROUNDS = 16, 40  # vectors and most rounds of the subspace iteration that finds eigenvectors

NO_FOREGROUND = "no foreground was found; the whole image is explained"
NO_CONTRAST = "the patch features are all alike; they show no foreground"


def second_eigenvector(patches: Float[Tensor, "images patches dim"]) -> Float[Tensor, "images patches"]:
    """Eigenvector of the second largest eigenvalue of A = f f^T, f the L2-normalised rows of all images (paper).

    It is the second left singular vector of f, taken from the smaller of f f^T and f^T f. Its sign: the entry largest
    in size is made positive (LAPACK leaves the sign open), then the paper's rule flips it if the share of positive
    entries is in (0.5, 1.0).
    """
    images, count, dim = patches.shape
    unit = torch.nn.functional.normalize(host64(patches).reshape(images * count, dim), dim=-1)
    vector = _left_singular_vector(unit, rank=2)
    return _flip_if_mostly_positive(vector).reshape(images, count)


class CentredTokens:
    """The unit tokens of images, `norm_outliers` replaced, less their mean; their products are computed once.

    `patches` are on a grid (rows, columns); ValueError if it does not hold them.
    """

    def __init__(self, patches: Float[Tensor, "images patches dim"], grid: tuple[int, int]) -> None:
        if grid[0] * grid[1] != patches.shape[1]:
            raise ValueError(f"a grid of {grid[0]} x {grid[1]} does not hold {patches.shape[1]} patches")
        self.patches, self.grid = patches, grid
        cleaned, self.outliers = clean_tokens(patches, grid=grid)
        unit = torch.nn.functional.normalize(cleaned, dim=-1)
        self.rows: Float[Tensor, "tokens dim"] = (unit - unit.mean(dim=(0, 1))).flatten(0, 1)

    @cached_property
    def products(self) -> Float[Tensor, "tokens tokens"]:
        """Of each row with each."""
        return self.rows @ self.rows.mT


def centred_direction(
    tokens: CentredTokens, *, attention: Float[Tensor, "images patches"] | None = None
) -> Float[Tensor, "images patches"]:
    """First principal direction of the centred unit tokens: s = first left singular vector of normalise(f - mean f).

    High-norm artefact tokens (`norm_outliers`) are replaced by the mean of their 8 neighbours before the fit, and the
    centred tokens are scaled to unit length again, so that all count alike. The sign is the sum of two votes, each a
    correlation over everything fitted: with being inside the image rather than on its border ring; and with the CLS
    attention, if given, without outliers (they attract attention without being foreground). A negative sum flips; if it
    is 0, the paper's rule decides.
    """
    outliers = tokens.outliers
    lengths = tokens.rows.norm(dim=-1, keepdim=True)
    scale = (lengths > FLAT) / lengths.clamp_min(FLAT)
    vector = _left_singular_vector(tokens.rows * scale, rank=1, products=lambda: scale * tokens.products * scale.mT)
    vote = _vote(vector.reshape(outliers.shape), outliers, tokens.grid, attention)
    vector = _flip_if_mostly_positive(vector) if vote == 0 else vector * (1.0 if vote > 0 else -1.0)
    return host64(vector.reshape(outliers.shape))


def norm_outliers(patches: Float[Tensor, "images patches dim"]) -> Bool[Tensor, "images patches"]:
    """Tokens with |f| > median + 6 · 1.4826 · MAD and |f| > 1.5 · median, over the norms of all images."""
    norms = torch.linalg.vector_norm(patches, dim=-1)
    median = norms.median()
    spread = MAD_TO_SIGMA * (norms - median).abs().median()
    found: Tensor = (norms > median + OUTLIER_Z * spread) & (norms > OUTLIER_RATIO * median)
    return found


def clean_tokens(
    patches: Float[Tensor, "images patches dim"], *, grid: tuple[int, int]
) -> tuple[Float[Tensor, "images patches dim"], Bool[Tensor, "images patches"]]:
    """Tokens with the `norm_outliers` replaced by the mean of their ordinary 8 neighbours, else of all; and which."""
    tokens = patches.detach().cpu()
    outliers = norm_outliers(tokens)
    if not outliers.any():
        return tokens, outliers
    cleaned = tokens.clone()
    ordinary = tokens[~outliers].mean(dim=0)
    for image, position in outliers.nonzero().tolist():
        row, column = divmod(position, grid[1])
        near = torch.zeros(grid, dtype=torch.bool, device=tokens.device)
        near[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = True
        near_ordinary = near.flatten() & ~outliers[image]
        cleaned[image, position] = tokens[image, near_ordinary].mean(dim=0) if near_ordinary.any() else ordinary
    return cleaned, outliers


def largest_components(mask_grid: NDArray[np.bool_], *, keep_second: bool) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """Keep the largest 8-connected component, and the second largest if it has at least 5 patches.

    Paper's text: the largest only; reference code: the second as well. Of equal sizes the first, row by row. An empty
    mask, bool (rows, columns), becomes the whole grid, with a warning.
    """
    labels, found = ndimage.label(mask_grid, structure=np.ones((3, 3), dtype=int))
    if not found:
        return np.ones_like(mask_grid, dtype=bool), (NO_FOREGROUND,)
    sizes = np.bincount(labels.ravel(), minlength=found + 1)[1:]
    order = np.argsort(-sizes, kind="stable")
    kept = [order[0] + 1]
    if keep_second and found > 1 and sizes[order[1]] >= SECOND_COMPONENT_MIN:
        kept.append(order[1] + 1)
    return np.isin(labels, kept), ()


def restrict(saliency_grid: NDArray[np.floating], mask_grid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Give the saliency the sign of the mask, by which parts are found: |s| inside, -|s| outside, never 0."""
    size = np.maximum(np.abs(np.asarray(saliency_grid, dtype=np.float64)), FLAT)
    return np.where(mask_grid, size, -size)


def leading_eigenvectors(
    gram: Float[Tensor, "size size"], count: int, *, tolerance: float = 64
) -> tuple[Float[Tensor, " some"], Float[Tensor, "size some"]]:
    """At least `count` of the largest eigenvalues of a positive semidefinite matrix, rising, and their eigenvectors.

    By subspace iteration from some of its columns, which takes half the time of finding all; where the largest
    |A v - λ v| does not fall below `tolerance` · eps · (largest λ) in `ROUNDS` rounds, all are found.
    """
    basis = gram[:, :: -(-len(gram) // BASIS)]
    for number in range(1, 1 + ROUNDS):
        unit = torch.linalg.qr(basis).Q
        basis = gram @ unit
        if number % 4 == 0:
            values, turn = torch.linalg.eigh(unit.mT @ basis)
            vectors = unit @ turn
            off = (basis @ turn - vectors * values)[:, -count:].norm(dim=0).max()
            if off <= tolerance * torch.finfo(gram.dtype).eps * values[-1]:
                return values, vectors
    values, vectors = torch.linalg.eigh(gram)
    return values, vectors


def _left_singular_vector(rows: Tensor, *, rank: int, products: Callable[[], Tensor] | None = None) -> Tensor:
    """The left singular vector of the `rank`-th largest singular value, largest entry positive; 0 where that is 0."""
    count, dim = rows.shape
    if min(count, dim) < rank:
        return rows.new_zeros(count)
    wide = count <= dim
    gram = rows.mT @ rows if not wide else rows @ rows.mT if products is None else products()
    eigenvalues, eigenvectors = leading_eigenvectors(gram, rank)
    if eigenvalues[-rank] <= FLAT**2 * count:
        return rows.new_zeros(count)
    vector = eigenvectors[:, -rank] if wide else rows @ eigenvectors[:, -rank]
    vector = vector / vector.norm()
    signed: Tensor = vector * vector[vector.abs().argmax()].sign()
    return signed


def _flip_if_mostly_positive(vector: Tensor) -> Tensor:
    share = float(host64(vector > 0).mean()) if vector.numel() else 0.0
    return -vector if 0.5 < share < 1.0 else vector


def _vote(values: Tensor, outliers: Tensor, grid: tuple[int, int], attention: Tensor | None) -> float:
    """Sum of the correlations of the saliency with lying inside the border ring and with the attention."""
    inside = torch.zeros(grid, dtype=values.dtype, device=values.device)
    inside[1:-1, 1:-1] = 1.0
    vote = _correlation(values, inside.flatten().expand_as(values))
    if attention is not None:
        vote += _correlation(values[~outliers], attention.detach().to(values)[~outliers])
    return vote


def _correlation(one: Tensor, other: Tensor) -> float:
    """Pearson's r, 0 if either side is constant."""
    one, other = one - one.mean(), other - other.mean()
    size = float(one.norm() * other.norm())
    return float((one * other).sum()) / size if size > 0 else 0.0

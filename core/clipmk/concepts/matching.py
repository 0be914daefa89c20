"""Each to each: descriptors shared among parts by optimal transport, wordings of one concept matched one-to-one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clipmk.concepts.float64 import host64

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def sinkhorn(
    scores: Float[Tensor, "parts descriptors"], *, scale: float = 2.5, tolerance: float = 1e-6, most_rounds: int = 1_000
) -> Float[Tensor, "parts descriptors"]:
    """P = Sinkhorn(exp(scale · scores)): rows and columns normalised in turn, columns last; float64 on the CPU.

    Columns sum to 1, rows to n/m (m parts, n descriptors). The rounds stop when max |row sum · m/n - 1| < `tolerance`:
    after about five; the reference code runs 1,000, and names the scale epsilon. Computed with logarithms, so that no
    scale overflows. One part takes every descriptor whole, one descriptor is shared evenly.
    """
    parts, descriptors = scores.shape
    logs = scale * host64(scores)
    rounds, residual = 0, float("inf") if logs.numel() else 0.0
    while rounds < most_rounds and residual >= tolerance:
        logs = logs - logs.logsumexp(dim=1, keepdim=True)
        logs = logs - logs.logsumexp(dim=0, keepdim=True)
        residual = float((logs.exp().sum(dim=1) * (parts / descriptors) - 1).abs().max())
        rounds += 1
    return logs.exp()


def soft_matches(
    vision: Float[Tensor, "vision embed"], language: Float[Tensor, "language embed"], *, threshold: float
) -> list[tuple[int, int, float]]:
    """The argmax over one-to-one matchings of the sum of cos(v, l), pairs with cos > `threshold` only.

    A linear assignment of L2-normalised rows in which all other pairs count 0. Gives (position in `vision`, position in
    `language`, cosine), highest cosine first, then in the order of `vision`. ValueError for a threshold outside [0, 1).
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold {threshold} is not a cosine in [0, 1)")
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 - 0.6 s, and soft matches are off by default

    cosines = host64(vision @ language.T).numpy()
    reachable = cosines > threshold
    rows, columns = linear_sum_assignment(np.where(reachable, cosines, 0.0), maximize=True)
    pairs = zip(rows.tolist(), columns.tolist(), cosines[rows, columns].tolist(), strict=True)
    return sorted((pair for pair in pairs if reachable[pair[:2]]), key=lambda pair: (-pair[2], pair[0]))

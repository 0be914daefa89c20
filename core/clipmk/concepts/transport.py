"""Optimal transport between parts and descriptors, which spreads the parts over different descriptors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipmk.concepts.float64 import host64

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def sinkhorn(
    scores: Float[Tensor, "parts descriptors"], *, scale: float = 2.5, tolerance: float = 1e-6, most_rounds: int = 1_000
) -> Float[Tensor, "parts descriptors"]:
    """P = Sinkhorn(exp(scale · scores)): rows and columns normalised in turn, columns last.

    Columns sum to 1, rows to n/m (m parts, n descriptors). The rounds stop when max |row sum · m/n - 1| < `tolerance`:
    after about five; the reference code runs 1,000. Computed with logarithms in float64, so that no scale overflows.

    One part takes every descriptor whole, one descriptor is shared evenly (m = 1 and n = 1, one round each). Without
    parts or descriptors the plan is empty.

    Args:
        scores: cosines, finite.
        scale: the reference's `epsilon`, which acts as 1/epsilon there.
        tolerance: of the row sums, relative.
        most_rounds: stop here.

    Returns:
        float64 on the CPU, columns sum to 1: each part's share of each descriptor.
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

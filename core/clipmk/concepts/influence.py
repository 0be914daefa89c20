"""What the parts and the named concepts of an image do to its prediction, in float64. Imports nothing heavy at once."""

from __future__ import annotations

from math import fsum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from jaxtyping import Float
    from numpy.typing import NDArray
    from torch import Tensor

LEAST_COSINE = 0.05  # cos(image, class - mean class) up to which there is no similarity to take a share of
_FLAT = 1e-13  # slopes up to which more weight brings nothing but rounding


def part_margins(
    parts: Float[Tensor, "parts embed"], explained: Float[Tensor, " embed"], other: Float[Tensor, " embed"]
) -> tuple[float, ...]:
    """m_k = cos(p_k, y) - cos(p_k, y'): the margin of a class over another one as part k alone sees it.

    Parts may have any length; the classes are L2-normalised. Each cosine is rounded to float32, so that differences of
    these are exact, too: the margins over one class give those over every other without the model, bit for bit.
    """
    from clipmk.concepts.float64 import host64  # noqa: PLC0415 - torch

    wide = host64(parts)
    units = wide / wide.norm(dim=1, keepdim=True)
    own, others = (host64((units @ host64(one)).float()) for one in (explained, other))
    return tuple((own - others).tolist())


def concept_influence(margins: Sequence[float], areas: Sequence[float]) -> float | None:
    """Sum over k of a_k m_k / sum over k of a_k: the mean margin of the parts that carry a concept; None without area.

    A mean, not the largest: a part that speaks against the class counts as well, and a concept does not gain by being
    carried by many parts. Weighted by area, as masked pooling over all of them would.
    """
    total = fsum(areas)
    return fsum(a * m for a, m in zip(areas, margins, strict=True)) / total if total > 0 else None


def named_part(
    image: Float[Tensor, " embed"], concepts: Float[Tensor, "concepts embed"], centre: Float[Tensor, " embed"]
) -> Float[Tensor, " embed"]:
    """What concepts explain of an image: g' = sum over d of w_d (t_d - c), w = argmin over w >= 0 of |g - g'|.

    Image and concepts are L2-normalised, c is the mean of the bank. As in SpLiCE it is taken off the texts: what all
    texts have in common would otherwise stand for the gap between images and texts, and any words would recover most of
    an image. The mean image is not known; it adds the same for all classes but for its part along their differences.
    """
    from clipmk.concepts.float64 import host64  # noqa: PLC0415 - torch

    texts = host64(concepts) - host64(centre)
    if not len(texts):
        return texts.sum(0)
    weights = nonnegative_weights(texts.T.numpy(), host64(image).numpy())
    return texts.T @ texts.new_tensor(weights)


def nonnegative_weights(columns: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Argmin over w >= 0 of |A w - b|, |b| about 1, by the active sets of Lawson and Hanson (1974).

    It is scipy.optimize's `nnls`, which takes 0.1 s to import; here dependent columns share their weight.
    """
    import numpy as np  # noqa: PLC0415 - slow to import

    basis, columns = np.linalg.qr(columns)
    target = basis.T @ target
    weights = np.zeros(columns.shape[1])
    used = weights > 0
    for _ in range(9 * len(weights)):
        best = np.zeros(len(weights))
        best[used] = np.linalg.lstsq(columns[:, used], target)[0]
        falling = np.flatnonzero(best < 0)
        if len(falling):
            steps = weights[falling] / (weights[falling] - best[falling])
            weights = np.maximum(weights + steps.min() * (best - weights), 0.0)
            used[falling[steps.argmin()]] = False
            continue
        weights = best
        slopes = np.where(used, 0.0, columns.T @ (target - columns @ weights))
        if slopes.max() <= _FLAT:
            break
        used[slopes.argmax()] = True
    return weights


def share_explained(
    image: Float[Tensor, " embed"],
    named: Float[Tensor, " embed"],
    explained: Float[Tensor, " embed"],
    centre: Float[Tensor, " embed"],
) -> float | None:
    """The named share of the similarity to a class, beyond that to the mean class: g' · (y - c) / g · (y - c).

    Here c is the mean of all classes. The rest, (g - g') · (y - c), is in the image but not in its concepts. It may be
    negative, and the share above 1. None where g · (y - c) / |y - c| is at most `LEAST_COSINE`.
    """
    from clipmk.concepts.float64 import host64  # noqa: PLC0415 - torch

    direction = host64(explained) - host64(centre)
    similarity = float(host64(image) @ direction)
    return float(named @ direction) / similarity if similarity > LEAST_COSINE * float(direction.norm()) else None

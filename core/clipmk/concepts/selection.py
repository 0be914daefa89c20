"""Which descriptors count: for the parts (candidates, relevance filter, order of importance), and around a class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import torch

from clipmk.concepts.float64 import host64

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

NO_COMMON_CANDIDATE = "no descriptor is near every part; the union of the parts' candidates was used"
NOTHING_RELEVANT = "no candidate passed the relevance filter; all of them were kept"

BLOCK = 2**16  # rows of the bank per product
SORTED_WHOLE = 2_000  # length up to which sorting everything is as fast
PRODUCTS = 2**22  # cosines of classes and descriptors held at once
NEAR = 2e-6  # cosines of unit vectors in float32 differ by less between products of different sizes


class Nearest(NamedTuple):
    """The descriptors that are near any part."""

    indices: Int[Tensor, " near"]
    """Rows of the bank, int64, ascending."""
    scores: Float[Tensor, "parts near"]
    """Of all parts with these rows."""


class OrderedConcepts(NamedTuple):
    """D_v, most important first."""

    indices: Int[Tensor, " concepts"]
    """Positions among the descriptors that were ordered, int64, each once."""
    importance: Float[Tensor, " concepts"]
    """score_scale · cos(raw descriptor, un-prompted image)."""
    part_ids: tuple[tuple[int, ...], ...]
    """For each concept the parts that carry it, 0-based, ascending."""


class LanguageConcepts(NamedTuple):
    """D_y, nearest first."""

    indices: Int[Tensor, " concepts"]
    """Rows of the descriptor bank, int64."""
    cosines: Float[Tensor, " concepts"]


def highest(scores: Float[Tensor, "*rows items"], count: int) -> Int[Tensor, "*rows chosen"]:
    """Positions of the `count` highest scores along the last axis, highest first, equal scores in order of position.

    Of a long vector only the values from the `count`-th highest on are sorted.
    """
    if scores.ndim == 1 and count < len(scores) and len(scores) > SORTED_WHOLE:
        reaching = (~(scores < scores.topk(count).values[-1])).nonzero().flatten()  # NaN sorts highest
        if len(reaching) < len(scores):
            return reaching[highest(scores[reaching], count)]
    return torch.sort(scores, dim=-1, descending=True, stable=True).indices[..., :count]


def nearest(
    part_embeddings: Float[Tensor, "parts embed"],
    bank: Float[Tensor, "descriptors embed"],
    *,
    count: int,
    block: int = BLOCK,
) -> Nearest:
    """The union over the parts of the top `count` of S = E_parts · B^T, ties in the bank's order, without holding S.

    The bank, which may be memory-mapped, is read once, `block` rows at a time. Rows kept so far are compared ahead of
    those of the block, so that the result is that of sorting whole rows of S. Up to `block` rows the numbers are those
    of one product, too; beyond, a score can differ in the last bit, as it does between products of different sizes.
    """
    indices = torch.empty(0, dtype=torch.int64, device=bank.device)
    scores = part_embeddings.new_empty(len(part_embeddings), 0)
    floor = scores.new_full((len(part_embeddings), 1), float("-inf"))
    for start in range(0, len(bank), block):
        product = part_embeddings @ bank[start : start + block].T
        rows = torch.arange(start, start + product.shape[1], device=bank.device)
        if start:
            above = (~(product <= floor)).any(dim=0)  # equal to the last one kept comes too late
            rows, product = rows[above], product[:, above]
        indices, scores = torch.cat([indices, rows]), torch.cat([scores, product], dim=1)
        chosen = taken(scores, count)
        keep = chosen.any(dim=0).nonzero().flatten()
        if scores.shape[1] >= count and start + block < len(bank):
            floor = scores.masked_fill(~chosen, float("inf")).amin(dim=1, keepdim=True)
        indices, scores = indices[keep], scores.index_select(1, keep)
    return Nearest(indices, scores)


def taken(scores: Float[Tensor, "parts items"], count: int) -> Bool[Tensor, "parts items"]:
    """Whether `highest` takes each item of its row; without sorting, which takes longer."""
    if count >= scores.shape[1]:
        return torch.ones_like(scores, dtype=torch.bool)
    least = scores.kthvalue(scores.shape[1] - count + 1, dim=1, keepdim=True).values
    reaching = scores >= least
    if int(reaching.sum()) == count * len(scores):  # no ties at the end of a row
        return reaching
    above, equal = scores > least, scores == least
    return above | (equal & (equal.cumsum(dim=1) <= count - above.sum(dim=1, keepdim=True)))


def candidates(
    scores: Float[Tensor, "parts descriptors"], *, count: int
) -> tuple[Int[Tensor, " candidates"], tuple[str, ...]]:
    """C = ∩ over the parts of their top k descriptors, k = min(`count`, |D|), as ascending columns; and warnings.

    The scores are those with the whole bank, or those of `nearest` with the same k. An empty intersection becomes the
    union, with a warning. Without parts or descriptors C is empty.
    """
    chosen = taken(scores, count)
    union = chosen.any(dim=0)
    common = chosen.all(dim=0) & union
    if common.any():
        return common.nonzero().flatten(), ()
    return union.nonzero().flatten(), (NO_COMMON_CANDIDATE,)


def relevance_filter(
    raw_cosines: Float[Tensor, " candidates"], *, statistic: Literal["mean", "median"], offset: float
) -> tuple[Bool[Tensor, " candidates"], tuple[str, ...]]:
    """Keep c_i > statistic(c) + offset; if none is, keep all, with a warning.

    c is cos(raw descriptor, whole un-prompted image). The statistic is taken in float64: "mean" with offset -0.02 in
    the reference code, "median" with +0.02 in the paper's text; that of an even number is the mean of the middle two.
    """
    if raw_cosines.numel() == 0:
        return torch.ones_like(raw_cosines, dtype=torch.bool), ()
    cosines = host64(raw_cosines)
    centre = cosines.mean() if statistic == "mean" else cosines.quantile(0.5)
    keep = (cosines > centre + offset).to(raw_cosines.device)
    if keep.any():
        return keep, ()
    return torch.ones_like(keep), (NOTHING_RELEVANT,)


def contrast(
    cosines: Float[Tensor, "parts descriptors"], whole: Float[Tensor, " descriptors"], *, weight: float
) -> Float[Tensor, "parts descriptors"]:
    """c_pd = s_pd + w · (g_d - mean over parts q of s_qd): what sets a part apart, beside the whole image.

    s and g are the cosines of templated descriptors with parts and with the un-prompted image, w is in [0, 1]. What all
    parts have in common says little about any one of them (region embeddings keep much of their image); for a share w
    of it the whole image counts instead. w = 0 is the plain nearest descriptor.
    """
    return cosines + weight * (whole - cosines.mean(dim=0))


def vision_concepts(
    carried: Bool[Tensor, "parts descriptors"], cosines: Float[Tensor, " descriptors"], *, most: int, scale: float = 2.5
) -> OrderedConcepts:
    """D_v: at most `most` (3L) descriptors that any part carries, by importance = scale · cosine, descending.

    The cosine is cos(raw descriptor, un-prompted image) in the reference code. Equal importance in order of position.
    """
    some = carried.any(dim=0).nonzero().flatten()
    indices = some[highest(cosines[some], most)]
    carriers = tuple(tuple(column.nonzero().flatten().tolist()) for column in carried[:, indices].T)
    return OrderedConcepts(indices, scale * cosines[indices], carriers)


def language_concepts(
    class_embedding: Float[Tensor, " embed"], bank: Float[Tensor, "descriptors embed"], *, count: int
) -> LanguageConcepts:
    """D_y = the u = `count` descriptors with the highest cosine to the class, at most |D|; ties in bank order."""
    cosines = bank @ class_embedding
    indices = highest(cosines, count)
    return LanguageConcepts(indices, cosines[indices])


def language_sets(
    classes: Float[Tensor, "classes embed"], bank: Float[Tensor, "descriptors embed"], *, count: int
) -> Int[Tensor, "classes concepts"]:
    """D_y of many classes as sets: the rows that `language_concepts` takes, in no particular order, int32.

    One product for many classes is faster, but its last bits are others: a class whose last concept is within `NEAR` of
    the first that is left out is ranked by itself.
    """
    count = min(count, len(bank))
    chosen = torch.arange(count, dtype=torch.int32).repeat(len(classes), 1)
    step = max(1, PRODUCTS // len(bank))
    for start in range(0, len(classes) if count < len(bank) else 0, step):
        block = classes[start : start + step]
        cosines, rows = (block @ bank.T).topk(count + 1)
        chosen[start : start + step] = rows[:, :count]
        for place in (cosines[:, -2] - cosines[:, -1] < NEAR).nonzero().flatten().tolist():
            chosen[start + place] = language_concepts(block[place], bank, count=count).indices.int()
    return chosen

"""From part embeddings to vision concepts: candidates -> relevance -> assignment to parts -> order of importance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipmk.concepts.float64 import host64
from clipmk.concepts.matching import sinkhorn
from clipmk.concepts.relevance import SHARPNESS
from clipmk.concepts.selection import candidates, contrast, highest, nearest, relevance_filter, taken, vision_concepts

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from clipmk.settings import Settings
    from clipmk.vocabulary.embeddings import TextBank

NAME_IMAGE, NAME_SHARE = 0.1, 0.01
"""Weights of cos(image, d) and of log(share of d) beside the contrast score, where they order a part's few candidates.
Both were chosen on `val` scenes (docs/findings.md)."""


@dataclass(frozen=True, slots=True, eq=False)
class VisionConcepts:
    """What the vision encoder sees in one image, in rows of the descriptor bank."""

    candidates: Int[Tensor, " candidates"]
    """Descriptors that passed the relevance filter."""
    scores: Float[Tensor, "parts candidates"]
    """Part embedding x templated candidate, as it enters the transport; smaller than the cosine for prompted parts."""
    cosines: Float[Tensor, "parts candidates"]
    """cos(part, templated candidate)."""
    shares: Float[Tensor, "parts candidates"]
    """Each part's share of each candidate, in [0, 1]."""
    top_columns: Int[Tensor, "parts chosen"]
    """For each part its best few candidates, as columns of the tensors above, best first."""
    top_descriptors: tuple[tuple[int, ...], ...]
    """The same as rows of the bank."""
    concepts: tuple[int, ...]
    """D_v, most important first."""
    importance: tuple[float, ...]
    part_ids: tuple[tuple[int, ...], ...]
    """For each concept the parts that carry it, 0-based."""
    warnings: tuple[str, ...]


def rank_vision_concepts(
    bank: TextBank,
    settings: Settings,
    *,
    embedding: Float[Tensor, " embed"],
    part_embeddings: Float[Tensor, "parts embed"],
) -> VisionConcepts:
    """Give an image's parts their descriptors and order the vision concepts (docs/method.md, 2.6 and 2.7).

    Everything is on the CPU; `embedding`, of the whole un-prompted image, is L2-normalised. Memory and, but for one
    product with the bank, time depend on the candidates, not on the size of the bank.
    """
    near = nearest(part_embeddings, bank.descriptors, count=settings.candidate_count)
    rows, scores, notes = near.indices, near.scores, tuple[str, ...]()
    if settings.intersect_candidates:
        found, notes = candidates(near.scores, count=settings.candidate_count)
        rows, scores = rows[found], scores[:, found]
    raw_cosines = bank.raw.index_select(0, rows) @ embedding  # faster than bank.raw[rows]
    keep, more = relevance_filter(raw_cosines, statistic=settings.relevance, offset=settings.relevance_offset)
    rows, scores, raw_cosines = rows[keep], scores[:, keep], raw_cosines[keep]
    cosines = scores
    if settings.grounding == "prompts":  # a mean of three unit vectors is shorter than one
        cosines = scores / part_embeddings.norm(dim=1, keepdim=True)
    count = settings.descriptors_per_part
    if settings.assignment == "transport":
        preferences, shares = cosines, sinkhorn(scores, scale=settings.score_scale)
        chosen, carried = highest(shares, count), taken(shares, count)
    else:
        whole = bank.descriptors.index_select(0, rows) @ embedding
        preferences = contrast(cosines, whole, weight=settings.contrast_weight)
        shares, listed = (SHARPNESS * host64(cosines)).softmax(0), taken(preferences, count)
        names = preferences + NAME_IMAGE * whole + NAME_SHARE * shares.log()
        chosen = highest(names.where(listed, float("-inf")), count)
        carried = listed & (shares >= (shares * listed).max(0).values / 2)
    worth = importance(raw_cosines, preferences, settings)
    ordered = vision_concepts(carried, worth, most=settings.vision_limit, scale=settings.score_scale)
    return VisionConcepts(
        candidates=rows,
        scores=scores,
        cosines=cosines,
        shares=shares,
        top_columns=chosen,
        top_descriptors=tuple(tuple(row) for row in rows[chosen].tolist()),
        concepts=tuple(rows[ordered.indices].tolist()),
        importance=tuple(ordered.importance.tolist()),
        part_ids=ordered.part_ids,
        warnings=notes + more,
    )


def importance(
    raw_cosines: Float[Tensor, " candidates"], preferences: Float[Tensor, "parts candidates"], settings: Settings
) -> Float[Tensor, " candidates"]:
    """cos(raw descriptor, image), the highest preference of a part, or the mean of both; see `Settings.importance`."""
    if settings.importance == "image":
        return raw_cosines
    best = preferences.max(0).values
    return best if settings.importance == "part" else (raw_cosines + best) / 2

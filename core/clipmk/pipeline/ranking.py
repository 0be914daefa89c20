"""The vision side of an explanation: part embeddings -> candidates -> transport -> ordered vision concepts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipmk.concepts.float64 import host64
from clipmk.concepts.selection import candidates, contrast, highest, nearest, relevance_filter, vision_concepts
from clipmk.concepts.transport import sinkhorn, top_descriptors

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from clipmk.settings import Settings
    from clipmk.vocabulary.embeddings import TextBank


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What the vision encoder sees in one image, in rows of the descriptor bank."""

    scores: Float[Tensor, "parts candidates"]
    """cos(part, templated candidate)."""
    candidates: Int[Tensor, " candidates"]
    """Descriptors that passed the relevance filter."""
    shares: Float[Tensor, "parts candidates"]
    """Each part's share of each candidate, in [0, 1]."""
    picks: tuple[tuple[int, ...], ...]
    """For each part its descriptors, best first."""
    concepts: tuple[int, ...]
    """D_v, most important first."""
    importance: tuple[float, ...]
    """Of each concept."""
    carriers: tuple[tuple[int, ...], ...]
    """For each concept the parts that carry it, 0-based."""
    warnings: tuple[str, ...]


def see(
    bank: TextBank,
    settings: Settings,
    *,
    embedding: Float[Tensor, " embed"],
    part_embeddings: Float[Tensor, "parts embed"],
) -> Seen:
    """Give an image's parts their descriptors and order the vision concepts (method.md 2.6 and 2.7).

    Memory and, but for one product with the bank, time depend on the candidates, not on the size of the bank.

    Args:
        bank: embedded vocabulary on the embeddings' device.
        settings: candidates, relevance, assignment and importance are read.
        embedding: of the whole un-prompted image, L2-normalised.
        part_embeddings: see `clipmk.pipeline.grounding.part_embeddings`.
    """
    near = nearest(part_embeddings, bank.descriptors, count=settings.candidate_count)
    found = candidates(near.scores, count=settings.candidate_count, intersect=settings.intersect_candidates)
    rows, scores = near.indices[found.indices], near.scores[:, found.indices]
    raw_cosines = bank.raw[rows] @ embedding
    relevant = relevance_filter(raw_cosines, statistic=settings.relevance, offset=settings.relevance_offset)
    rows, scores, raw_cosines = rows[relevant.keep], scores[:, relevant.keep], raw_cosines[relevant.keep]
    whole = bank.descriptors[rows] @ embedding
    shares, chosen = _assign(scores, whole, settings)
    worth = importance(raw_cosines, scores, settings)
    ordered = vision_concepts(chosen.tolist(), worth, most=settings.vision_limit, scale=settings.score_scale)
    return Seen(
        scores=scores,
        candidates=rows,
        shares=shares,
        picks=tuple(tuple(row) for row in rows[chosen.to(rows.device)].tolist()),
        concepts=tuple(rows[ordered.indices].tolist()),
        importance=tuple(ordered.importance.tolist()),
        carriers=ordered.parts,
        warnings=found.warnings + relevant.warnings,
    )


def importance(
    raw_cosines: Float[Tensor, " candidates"], scores: Float[Tensor, "parts candidates"], settings: Settings
) -> Float[Tensor, " candidates"]:
    """cos(raw descriptor, image), the highest cos(descriptor, part), or the mean of both; see `Settings.importance`."""
    if settings.importance == "image":
        return raw_cosines
    best = scores.max(0).values
    return best if settings.importance == "part" else (raw_cosines + best) / 2


def _assign(
    scores: Float[Tensor, "parts candidates"], whole: Float[Tensor, " candidates"], settings: Settings
) -> tuple[Float[Tensor, "parts candidates"], Int[Tensor, "parts chosen"]]:
    """Shares of the candidates and each part's best few, by transport or by contrast."""
    count = settings.descriptors_per_part
    if settings.assignment == "transport":
        plan = sinkhorn(scores, scale=settings.score_scale).plan
        return plan, top_descriptors(plan, count=count)
    shares = (settings.score_scale * host64(scores)).softmax(0)
    return shares, highest(contrast(scores, whole, weight=settings.contrast_weight), count)

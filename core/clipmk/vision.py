"""The vision side of an explanation: part embeddings -> candidates -> transport -> ordered vision concepts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from clipmk.concepts.selection import candidates, contrast, highest, part_scores, relevance_filter, vision_concepts
from clipmk.concepts.transport import sinkhorn, top_descriptors

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from clipmk.settings import Settings
    from clipmk.textbank import TextBank


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What the vision encoder sees in one image, in rows of the descriptor bank."""

    scores: Float[Tensor, "parts descriptors"]
    """cos(part, templated descriptor)."""
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

    Args:
        bank: embedded vocabulary on the embeddings' device.
        settings: candidates, relevance, assignment and importance are read.
        embedding: of the whole un-prompted image, L2-normalised.
        part_embeddings: see `clipmk.grounding.part_embeddings`.
    """
    scores = part_scores(part_embeddings, bank.descriptors)
    near = candidates(scores, count=settings.candidate_count, intersect=settings.intersect_candidates)
    raw_cosines = bank.raw @ embedding
    relevant = relevance_filter(
        raw_cosines[near.indices], statistic=settings.relevance, offset=settings.relevance_offset
    )
    kept = near.indices[relevant.keep]
    whole = bank.descriptors[kept] @ embedding
    shares, chosen = _assign(scores[:, kept], whole, settings)
    picks = tuple(tuple(kept[row].tolist()) for row in chosen.to(kept.device))
    worth = importance(raw_cosines, scores, settings)
    ordered = vision_concepts(picks, worth, most=settings.vision_limit, scale=settings.score_scale)
    return Seen(
        scores=scores,
        candidates=kept,
        shares=shares,
        picks=picks,
        concepts=tuple(ordered.indices.tolist()),
        importance=tuple(ordered.importance.tolist()),
        carriers=ordered.parts,
        warnings=near.warnings + relevant.warnings,
    )


def importance(
    raw_cosines: Float[Tensor, " descriptors"], scores: Float[Tensor, "parts descriptors"], settings: Settings
) -> Float[Tensor, " descriptors"]:
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
    shares = (settings.score_scale * scores.to("cpu", torch.float64)).softmax(0)
    return shares, highest(contrast(scores, whole, weight=settings.contrast_weight), count)

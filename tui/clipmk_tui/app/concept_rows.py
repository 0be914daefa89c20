"""The concept tree as data: which concept is in which group, and which ones the filter keeps. Pure Python."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from clipmk_tui.show.signs import Kind
from clipmk_tui.show.text import matches

if TYPE_CHECKING:
    from clipmk.explanation import Explanation
    from clipmk.records import Part


@dataclass(frozen=True, slots=True, kw_only=True)
class ConceptRow:
    """One concept of one group."""

    kind: Kind
    """"mutual", "vision" or "language", whether left out or not."""
    text: str
    importance: float | None
    """Of a vision concept."""
    cosine: float | None
    """Of a language concept, with the class."""
    parts: tuple[int, ...]
    """Ids of the parts that carry it, the most similar first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRow:
    """One part below a concept."""

    part: Part
    cosine: float | None
    """Between part and concept, where the concept is among the part's descriptors."""
    text: str
    """Of the concept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRow:
    """One of the three groups."""

    kind: Kind
    rows: tuple[ConceptRow, ...]
    of: int
    """Their number without the filter."""


def groups(explanation: Explanation, *, wanted: str = "") -> tuple[GroupRow, ...]:
    """Mutual, vision only, language only, each most important first.

    Args:
        explanation: what to show.
        wanted: keep the concepts that match this filter.
    """
    cosines = {concept.text: concept.cosine for concept in explanation.language_concepts}
    found = _similarities(explanation)
    vision = [
        ConceptRow(
            kind="mutual" if concept.mutual else "vision",
            text=concept.text,
            importance=concept.importance,
            cosine=cosines.get(concept.text),
            parts=tuple(sorted(concept.parts, key=lambda part: -found.get((part, concept.text), -inf))),
        )
        for concept in explanation.vision_concepts
    ]
    language = [
        ConceptRow(kind="language", text=concept.text, importance=None, cosine=concept.cosine, parts=())
        for concept in explanation.language_concepts
        if not concept.mutual
    ]
    rows = [*vision, *language]
    kinds: tuple[Kind, ...] = ("mutual", "vision", "language")
    return tuple(
        GroupRow(
            kind=kind,
            rows=tuple(row for row in rows if row.kind == kind and matches(wanted, row.text)),
            of=sum(row.kind == kind for row in rows),
        )
        for kind in kinds
    )


def part_rows(explanation: Explanation, row: ConceptRow) -> list[PartRow]:
    """The parts that carry a concept, in the order of its row."""
    parts, found = {part.id: part for part in explanation.parts}, _similarities(explanation)
    return [
        PartRow(part=parts[part], cosine=found.get((part, row.text)), text=row.text)
        for part in row.parts
        if part in parts
    ]


def _similarities(explanation: Explanation) -> dict[tuple[int, str], float]:
    """(part, concept) -> cosine between them, where the concept is among the part's descriptors."""
    return {(part.id, one.text): one.cosine for part in explanation.parts for one in part.descriptors}

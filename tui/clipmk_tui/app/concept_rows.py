"""The concept tree as data: what is in which group, and which rows the filter keeps. Pure Python."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Literal

from clipmk_tui.show.signs import Kind
from clipmk_tui.show.text import matches

if TYPE_CHECKING:
    from clipmk.explanation import Explanation
    from clipmk.records import Asked, Part


Answers = tuple[tuple[str, "Asked | None"], ...]
"""Texts that the user asked for, the latest first, and what the model says of each; None: awaited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConceptRow:
    """One concept of one group."""

    kind: Kind | Literal["none", "awaited"]
    """"mutual", "vision" or "language", whether left out or not; the others only of what was asked for."""
    text: str
    importance: float | None = None
    """Of a vision concept."""
    cosine: float | None = None
    """Of a language concept, with the class."""
    parts: tuple[int, ...] = ()
    """Ids of the parts that carry it, the most similar first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedRow(ConceptRow):
    """A text that the user asked for."""

    answer: Asked | None
    """None: awaited."""


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
    """One of the groups."""

    kind: Kind | Literal["asked"]
    rows: tuple[ConceptRow, ...]
    of: int
    """Their number without the filter."""


def groups(explanation: Explanation, asked: Answers = (), *, wanted: str = "") -> tuple[GroupRow, ...]:
    """What the user asked for, if anything; then mutual, vision only, language only, each most important first.

    Args:
        explanation: what to show.
        asked: texts of the user's own with their answers.
        wanted: keep the rows that match this filter.
    """
    own: list[ConceptRow] = [_asked_row(text, answer) for text, answer in asked]
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
        ConceptRow(kind="language", text=concept.text, cosine=concept.cosine)
        for concept in explanation.language_concepts
        if not concept.mutual
    ]
    members: dict[Kind | Literal["asked"], list[ConceptRow]] = {
        **({"asked": own} if own else {}),
        "mutual": [row for row in vision if row.kind == "mutual"],
        "vision": [row for row in vision if row.kind == "vision"],
        "language": language,
    }
    return tuple(
        GroupRow(kind=kind, rows=tuple(row for row in rows if matches(wanted, row.text)), of=len(rows))
        for kind, rows in members.items()
    )


def _asked_row(text: str, answer: Asked | None) -> AskedRow:
    if answer is None:
        return AskedRow(kind="awaited", text=text, answer=None)
    cosine = answer.ties[0].cosine if answer.ties[0].in_d_y else None
    return AskedRow(kind=answer.status, text=text, cosine=cosine, parts=answer.parts, answer=answer)


def part_rows(explanation: Explanation, row: ConceptRow) -> list[PartRow]:
    """The parts that carry a concept or what was asked for, in the order of its row."""
    parts, found = {part.id: part for part in explanation.parts}, _similarities(explanation)
    return [
        PartRow(part=parts[part], cosine=found.get((part, row.text)), text=row.text)
        for part in row.parts
        if part in parts
    ]


def _similarities(explanation: Explanation) -> dict[tuple[int, str], float]:
    """(part, concept) -> cosine between them, where the concept is among the part's descriptors."""
    return {(part.id, one.text): one.cosine for part in explanation.parts for one in part.descriptors}

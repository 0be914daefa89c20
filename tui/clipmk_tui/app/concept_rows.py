"""The concept tree as data and as text: its groups and rows, the columns of a line, the answer, the numbers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Literal

from rich.cells import cell_len
from rich.text import Text

from clipmk.output.sentences import beaten, overlap_sentence, swap_clause, times_chance
from clipmk.system.text import printable
from clipmk_tui.show.signs import Kind
from clipmk_tui.show.text import bar, matches, sparkline

if TYPE_CHECKING:
    from clipmk.explanation import Explanation
    from clipmk.records import Asked, Mutual, Part

Answers = tuple[tuple[str, "Asked | None"], ...]
"""Texts that the user asked for, the latest first, and what the model says of each; None: awaited."""

NOTHING = "–"  # in a column that does not apply
_NOT_SEEN = "not seen"
_GAP = 2  # cells between two columns
_TIED = 4  # cells of a cosine, `.831`
_FULL_SCORE = 4  # standard deviations above the vocabulary's mean at which what was asked for has a whole bar
_WHOLE, _SHORTENED, _CUT = 20, 18, 14
"""Cells that a name gets before all parts are listed, influence is, any part is; more only where there is room."""
_SIZES = (
    *((14, 6, 9, 99), (8, 6, 9, 99), (8, 0, 9, 99), (8, 0, 5, 99), (5, 0, 5, 99), (5, 0, 5, 8), (4, 0, 5, 5)),
    *((5, 0, 0, 99), (5, 0, 0, 8), (4, 0, 0, 5), (4, 0, 0, 0)),
)
"""Cells of a bar, of the number after it (` 1.176`) and of the influence (`+.041`), most cells of the parts: the first
that leaves room for the names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConceptRow:
    """One concept of one group."""

    kind: Kind | Literal["none", "awaited"]
    """"mutual", "vision" or "language", whether left out or not; the others only of what was asked for."""
    text: str
    importance: float | None = None  # of a vision concept
    influence: float | None = None  # of its parts, on the margin over the runner-up
    cosine: float | None = None  # of a language concept, with the class
    parts: tuple[int, ...] = ()  # ids of the parts that carry it, the most similar first


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedRow(ConceptRow):
    """A text that the user asked for."""

    answer: Asked | None  # None: awaited


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRow:
    """One part below a concept."""

    part: Part
    cosine: float | None  # between part and concept, where the concept is among the part's descriptors
    text: str  # of the concept
    influence: float | None  # on the margin over the runner-up


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRow:
    """One of the groups."""

    kind: Kind | Literal["asked"]
    rows: tuple[ConceptRow, ...]
    of: int  # their number without the filter


def groups(explanation: Explanation, asked: Answers = (), *, wanted: str = "") -> tuple[GroupRow, ...]:
    """What the user asked for, if anything; then mutual, vision only, language only, each most important first.

    Only rows that match the filter `wanted` are in them.
    """
    own: list[ConceptRow] = [_asked_row(text, answer) for text, answer in asked]
    cosines = {concept.text: concept.cosine for concept in explanation.language_concepts}
    found = _similarities(explanation)
    vision = [
        ConceptRow(
            kind="mutual" if concept.mutual else "vision",
            text=concept.text,
            importance=concept.importance,
            influence=concept.influence,
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
    parts, found, other = (
        {part.id: part for part in explanation.parts},
        _similarities(explanation),
        explanation.runner_up,
    )
    margins = {} if other is None else dict(zip(parts, other.part_margins, strict=False))
    return [
        PartRow(part=parts[part], cosine=found.get((part, row.text)), text=row.text, influence=margins.get(part))
        for part in row.parts
        if part in parts
    ]


def _similarities(explanation: Explanation) -> dict[tuple[int, str], float]:
    """(part, concept) -> cosine between them, where the concept is among the part's descriptors."""
    return {(part.id, one.text): one.cosine for part in explanation.parts for one in part.descriptors}


@dataclass(frozen=True, slots=True)
class Columns:
    """Cells of the columns of a line, and what their bars stand for."""

    name: int
    bar: int
    number: int  # 0: no room
    influence: int  # 0: no room
    parts: int  # 0: no room
    least: float  # the smallest importance, where bars begin
    most: float  # the largest one, a whole bar

    def heading(self) -> Text:
        """The names of the columns."""
        cells = ["concept".ljust(self.name), "seen".ljust(self.bar + self.number), "tied"]
        cells += [("infl." if self.influence < len("influence") else "influence")] if self.influence else []
        return Text((" " * _GAP).join([*cells, "parts"] if self.parts else cells), "dim")

    def cells(self, row: ConceptRow, ink: str) -> Text:
        """Bar, number, cosine and parts of a concept, after its name; of what was asked for also p and rank."""
        drawn, beside, parts, width = NOTHING, "", self._parts(row), self.bar + self.number
        margin = NOTHING if row.influence is None else f"{row.influence:+z.3f}".replace("0.", ".", 1)
        if isinstance(row, AskedRow) and row.answer is not None:
            value, where = row.answer.presence.p_value, _where(row.answer)
            p, short = f" p {p_text(value)}".replace("0.", ".", 1), f"p {value:.2f}".replace("0.", ".")
            beside = p if width > len(p) + 4 else ""
            if beside:
                parts = where
            elif self.influence:  # it has none
                margin = short
            else:
                parts = f"{p[1:]} {where}" if len(p) + len(where) <= self.parts else short
            score = row.answer.presence.score / _FULL_SCORE
            drawn = bar(score, width - len(beside)) if row.answer.presence.seen else "no"
        elif row.importance is not None:
            drawn = bar(self.share(row.importance), self.bar)
            beside = f" {row.importance:.3f}".ljust(self.number)[: self.number]
        seen = Text(drawn.ljust(width - len(beside)), "dim" if drawn == NOTHING else ink)
        tied = NOTHING if row.cosine is None else f"{row.cosine:.2f}".replace("0.", ".", 1)  # ".83"
        text = Text.assemble(" " * _GAP, seen, (beside, "not bold default"), " " * _GAP, tied.ljust(_TIED))
        if self.influence:
            text.append(" " * _GAP + margin.ljust(self.influence))
        return text.append(" " * _GAP + parts.ljust(self.parts), "dim") if self.parts else text

    def share(self, importance: float) -> float:
        """The length of a bar in [0, 1]: nearly 0 for the smallest importance, which is not nothing."""
        spread = self.most - self.least
        return max(0.01, (importance - self.least) / spread) if spread > 0 else 1.0

    def _parts(self, row: ConceptRow) -> str:
        """The numbers of some parts: whole numbers, `…` for those that do not fit."""
        if row.importance is None and not row.parts:
            return _NOT_SEEN if self.parts >= len(_NOT_SEEN) else NOTHING
        for count in range(len(row.parts), 0, -1):
            text = _listed(row.parts[:count]) + ("…" if count < len(row.parts) else "")
            if len(text) <= self.parts:
                return text
        return "…" if row.parts else NOTHING


def _where(asked: Asked) -> str:
    """Parts and rank of what was asked for."""
    return f"{_listed(asked.parts) or NOTHING}, rank {asked.ties[0].rank}"


def columns(explanation: Explanation, room: int) -> Columns:
    """Share a line of `room` cells after the sign: names are whole if that is possible."""
    seen = explanation.vision_concepts
    names = [concept.text for concept in seen] + [concept.text for concept in explanation.language_concepts]
    longest = max((cell_len(printable(name)) for name in names), default=0)
    widest = max([len(_NOT_SEEN), *(len(_listed(concept.parts)) for concept in seen)])
    widest = max([widest, *(len(_where(one)) for one in explanation.asked)])
    name = bar_cells = number = influence = parts = 0
    for bar_cells, number, influence, most in _SIZES:
        parts = min(widest, most)
        name = room - bar_cells - number - _TIED - influence - parts - _GAP * (2 + bool(influence) + bool(parts))
        if name >= (longest if number else min(longest, _WHOLE if most > 5 else _SHORTENED if influence else _CUT)):
            break
    more = min(max(0, name - longest), widest - parts) if parts else 0  # nothing is cut where a column is empty
    importances = [concept.importance for concept in seen] or [0.0]
    return Columns(max(4, name - more), bar_cells, number, influence, parts + more, min(importances), max(importances))


def answer(explanation: Explanation, after: Mutual | None, left_out: Sequence[str], width: int) -> Text:
    """How many of the seen concepts are tied to the class, and to how many other classes fewer are, in a sentence.

    With some left out also what it was. The second clause begins a line of its own where that holds the first one.
    """
    mutual, seen = explanation.mutual, [concept.text for concept in explanation.vision_concepts]
    out = [f'"{printable(text)}"' for text in seen if text in left_out]
    now, name = mutual if after is None else after, explanation.class_name
    more = Text(swap_clause(now))
    found = overlap_sentence(now, name).removesuffix(more.plain)
    if after is None:
        text = Text(f"{found[0].upper()}{found[1:].rstrip()}", "bold")
    else:
        without = " and ".join(out) if len(out) < 3 else f"{len(out)} concepts"
        text = Text(f"without {without}: {found.rstrip()}", "bold")
        more.append(f" before: {mutual.count}, beats {beaten(mutual)}", "dim")
    breaks = text.cell_len <= width < text.cell_len + 1 + more.cell_len
    return Text("\n" if breaks else " ").join([text, more])


def asked_words(asked: Asked) -> tuple[str, str]:
    """Whether what was asked for is seen, and whether it is tied to the class, with the numbers behind it."""
    presence, tie = asked.presence, asked.ties[0]
    near = f"nearer than {100 * presence.percentile:.1f} % of the vocabulary, p {p_text(presence.p_value)}"
    verb = "tied" if tie.in_d_y else "not tied"
    return (
        f"{'seen' if presence.seen else 'not seen'}: {near}",
        f'{verb} to "{printable(tie.class_name)}": rank {tie.rank}, cosine {tie.cosine:.2f}',
    )


def numbers(mutual: Mutual, after: Mutual | None, width: int, words: str) -> Text:
    """Strength, AUC beside chance and the dynamics in one line: as much as fits, the key for `words` at its end."""
    now = mutual if after is None else after

    def measured(name: str, field: str, *, before: bool) -> str:
        was, value = getattr(mutual, field), getattr(now, field)
        return f"{name} {was:.2f} → {value:.2f}" if before and after is not None else f"{name} {value:.2f}"

    short, paper, mi = words.partition(" ")[0], "strength (paper's MI)", "strength"
    u = f", u {now.language_count}"
    chance, least = f" chance{u}", ((True, mi, u, short, -2), (True, mi, "", short, -2), (False, mi, "", short, -2))
    tries = ((True, paper, chance, words, 4), (True, mi, chance, words, 4), (True, mi, chance, short, 4))
    for before, name, held, end, fewest in (*tries, *least):
        text = Text(f"{measured(name, 'mi_paper', before=before)}  {measured('AUC', 'auc', before=before)}")
        text.append(f" ({times_chance(now)} x{held})")
        cells = min(len(now.curve), width - text.cell_len - len(end) - 4)
        if cells >= fewest:
            break
    if cells > 0:
        text.append("  " + sparkline([now.curve[i * len(now.curve) // cells] for i in range(cells)]))
    text.append(f"  {end}")
    text.stylize("dim")
    return text


def p_text(value: float) -> str:
    """``0.017``, ``2e-6``."""
    if value >= 0.995:
        return "1"
    return f"{value:.2g}" if value >= 0.001 else f"{value:.0e}".replace("e-0", "e-")


def _listed(parts: Iterable[int]) -> str:
    return " ".join(map(str, parts))

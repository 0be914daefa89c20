"""A comparison for people: its sentences, and one table of signs that the app and `clipmk compare` both draw.

A column per model, families together and apart from others; first a row per predicted class, then a row per concept.
Every cell is a sign, so that colour is never needed, and narrow, so that thirteen models fit side by side.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from clipmk.records import ComparedCell, ComparedConcept, ComparedModel, Comparison
from clipmk.system.text import one_or_many, printable, quoted
from clipmk.vocabulary.classes import class_key
from clipmk_tui.show.bars import sparkline
from clipmk_tui.show.signs import ANSI, FAILED, NEITHER, PREDICTED, RIGHT, SIGN, WORD, WRONG, Kind
from clipmk_tui.show.text import FAMILY_WORDS, fitted, shown

ROWS_SHOWN: Final = 20
"""Concepts that the command lists without --verbose."""
BEST: Final = "▲"
"""Marks the highest AUC within a family."""
BEST_WORDS: Final = f"{BEST} best AUC of its family"
AWAITED: Final = "…"
UNKNOWN_FAMILY: Final = "?"

_NARROWEST, _ROOMY, _WIDEST = 3, 9, 20
"""Cells of a column, the gap to the next one included: at least, where there is room, at most."""
_LABEL, _LONGEST_LABEL = 22, 44
"""Cells of a row's name where there is room, and at most."""
_HEAD_LINES: Final = 3
"""Lines that a model's name may take."""

_ANSWERS_NAMED: Final = 3
"""Other answers that the first sentence names."""

Mark = Kind | Literal["right", "wrong"]
"""What a sign stands for; its colour follows from it."""


class Cell(NamedTuple):
    """A cell of the table."""

    text: str
    mark: Mark | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table: a predicted class or a concept."""

    text: str
    """The class or the concept."""
    label: str
    """What is written; not yet printable."""
    cells: tuple[Cell, ...]
    """One per column of the comparison."""
    count: int
    """How many models predict the class, or hold the concept mutual."""
    is_class: bool


class Piece(NamedTuple):
    """A part of a line, of exactly the cells it takes."""

    text: str
    mark: Mark | None = None
    column: int | None = None
    """Index of the model that it is about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where the columns of the table stand."""

    families: tuple[tuple[str, tuple[int, ...]], ...]
    """(family in words, indices of its models), in the order shown."""
    names: tuple[tuple[str, ...], ...]
    """For each model the lines of its heading."""
    label: int
    """Cells of the names of rows."""
    across: int
    """Cells of each model, with the gap behind it."""
    count: int
    """Cells of the last column; 0: there is no room for it."""

    @property
    def order(self) -> tuple[int, ...]:
        """Indices of the models from left to right."""
        return tuple(index for _, members in self.families for index in members)

    def line(self, label: str, cells: Sequence[Cell], count: str = "") -> Iterator[Piece]:
        """One line: a name, a cell per model, a count."""
        yield Piece(fitted(label, self.label))
        for _, members in self.families:
            yield Piece(" ")
            for index in members:
                cell = cells[index]
                yield Piece(fitted(cell.text, self.across - 1), cell.mark, index)
                yield Piece(" ")
        if self.count:
            yield Piece(printable(count).rjust(self.count))

    def family_line(self, label: str, texts: Sequence[str], count: str = "") -> Iterator[Piece]:
        """One line with a text per family."""
        yield Piece(fitted(label, self.label))
        for (_, members), text in zip(self.families, texts, strict=True):
            yield Piece(f" {fitted(text, self.across * len(members) - 1)} ")
        if self.count:
            yield Piece(printable(count).rjust(self.count))

    def column_at(self, x: int) -> int | None:
        """The model at a place of a line; None beside them."""
        at = self.label
        for _, members in self.families:
            at += 1
            inside = (x - at) // self.across
            if x >= at and inside < len(members):
                return members[inside]
            at += self.across * len(members)
        return None


def layout(models: Sequence[str], families: Sequence[str | None], rows: Sequence[str], *, width: int) -> Layout:
    """Place the columns: the more room, the longer their names, up to what they need.

    Args:
        models: ids, in the order of the comparison.
        families: of each; None: not known.
        rows: labels of all rows.
        width: cells of a line; from 60 on thirteen models fit.
    """
    members: dict[str, list[int]] = {}
    for index, family in enumerate(families):
        members.setdefault(family or UNKNOWN_FAMILY, []).append(index)
    count = len(f" of {len(models)}") + 1
    wanted = min(_LONGEST_LABEL, max([_LABEL, *(cell_len(printable(row)) for row in rows)]))
    room = width - len(members) - len(models) * _NARROWEST
    across = _NARROWEST + max(0, room - count - wanted) // len(models)
    if across == _NARROWEST and room - len(models) >= _LABEL:  # rather readable names than counts
        across, count = _NARROWEST + 1, 0
    count = 0 if room - count < _LABEL else count
    names = short_names(models)
    if max(map(len, names)) >= across:
        without = dict(pair for indices in members.values() for pair in _short_names(names, indices))
        names = tuple(without[index] for index in range(len(models)))
    across = min(across, max(_ROOMY, *(cell_len(printable(name)) + 2 for name in names)), _WIDEST)
    label = max(8, min(wanted, width - count - len(members) - len(models) * across))
    placed: list[tuple[str, tuple[int, ...]]] = []
    for family, found in members.items():
        long, brief = FAMILY_WORDS.get(family, (family, family))
        placed.append((long if len(long) < across * len(found) else brief, tuple(found)))
    return Layout(
        families=tuple(placed),
        names=tuple(_heading(name, across - 1) for name in names),
        label=label,
        across=across,
        count=count,
    )


def short_names(ids: Sequence[str]) -> tuple[str, ...]:
    """The part of each id after its last slash, unless two would be the same."""
    short = [one.rstrip("/").rpartition("/")[2] or one for one in ids]
    return tuple(long if short.count(brief) > 1 else brief for long, brief in zip(ids, short, strict=True))


def _short_names(names: Sequence[str], indices: Sequence[int]) -> Iterator[tuple[int, str]]:
    """The names of the models of one family, without the words that all of them begin with."""
    words = [_words(names[index]) for index in indices]
    same = 0
    while all(len(one) > same + 1 and one[same] == words[0][same] for one in words):
        same += 1
    if len(indices) == 1:
        same = min(1, len(words[0]) - 1)
    for index, one in zip(indices, words, strict=True):
        yield index, "".join(one[same:]).lstrip("-:_")


def _words(name: str) -> list[str]:
    """A name, cut before each `-`, `_` and `:`."""
    words = [""]
    for character in name:
        if character in "-_:" and words[-1]:
            words.append("")
        words[-1] += character
    return words


def _heading(name: str, cells: int) -> tuple[str, ...]:
    """A name on a few lines, cut between its words where they fit."""
    lines = [""]
    for word in _words(name):
        if len(lines[-1]) + len(word) <= cells:
            lines[-1] += word
            continue
        rest = word.lstrip("-_:") if lines[-1] else word
        lines += [rest[start : start + cells] for start in range(0, len(rest), cells)]
    lines = [line for line in lines if line]
    if len(lines) > _HEAD_LINES:
        lines = [*lines[: _HEAD_LINES - 1], fitted("".join(lines[_HEAD_LINES - 1 :]), cells)]
    return tuple(lines)


def head(layout: Layout, comparison: Comparison | None, places: Sequence[int | None]) -> list[list[Piece]]:
    """The lines above the rows: families, how many of each are right, models.

    Args:
        layout: of the models.
        comparison: of those that answered or failed; None: of none.
        places: for each model its column in the comparison; None: it is awaited.
    """
    of = "" if comparison is None else f"of {comparison.answered}"
    lines = [list(layout.family_line(_truth(comparison), [word for word, _ in layout.families], of))]
    if comparison is not None and comparison.true_class is not None:
        texts = []
        for _, members in layout.families:
            columns = [comparison.columns[place] for index in members if (place := places[index]) is not None]
            right, answered = sum(one.right is True for one in columns), sum(one.error is None for one in columns)
            long = f"{right} of {answered}"
            texts.append(long if len(long) < layout.across * len(members) else f"{right}/{answered}")
        lines.append(list(layout.family_line("right, by family", texts, str(comparison.right_count))))
    return [*lines, *_name_lines(layout)]


def _name_lines(layout: Layout) -> Iterator[list[Piece]]:
    """The headings of the models."""
    for place in range(max(map(len, layout.names))):
        yield list(layout.line("", [Cell(name[place] if place < len(name) else "") for name in layout.names]))


def _truth(comparison: Comparison | None) -> str:
    if comparison is None:
        return ""
    return "true class not known" if comparison.true_class is None else f"true class: {comparison.true_class}"


def class_rows(comparison: Comparison) -> tuple[Row, ...]:
    """A row per predicted class: the true one first, then by how many models predict it."""
    true, columns = comparison.true_class, comparison.columns
    votes = Counter(column.predictions[0].class_name for column in columns if column.predictions)
    names = sorted(votes, key=lambda name: (not _same(name, true), -votes[name], name))
    if true is not None and not any(_same(name, true) for name in names):
        names.insert(0, true)
    rows = []
    for name in names:
        verdict = "" if true is None else " (right)" if _same(name, true) else " (wrong)"
        cells = tuple(_answer_cell(column, name) for column in columns)
        rows.append(Row(name, name + verdict, cells, votes[name], is_class=True))
    return tuple(rows)


def _answer_cell(column: ComparedModel, class_name: str) -> Cell:
    if column.error is not None:
        return Cell(FAILED, "wrong")
    if column.predictions[0].class_name != class_name:
        return Cell(NEITHER)
    if column.right is None:
        return Cell(PREDICTED)
    return Cell(RIGHT, "right") if column.right else Cell(WRONG, "wrong")


def concept_row(row: ComparedConcept) -> Row:
    """The row of a concept."""
    return Row(row.text, row.text, tuple(_concept_cell(cell) for cell in row.cells), row.mutual_count, is_class=False)


def _concept_cell(cell: ComparedCell | None) -> Cell:
    if cell is None:
        return Cell("")
    return Cell(NEITHER) if cell.status == "none" else Cell(SIGN[cell.status], cell.status)


def _same(name: str, other: str | None) -> bool:
    return other is not None and class_key(name) == class_key(other)


# Sentences.


def answer_sentence(comparison: Comparison) -> str:
    """Who is right: ``4 of 13 say 'cat', the true class; 5 say 'castle', 2 'robot'``."""
    rows, of = class_rows(comparison), comparison.answered
    if not of:
        return "no model has answered"
    first, *others = rows
    everybody = {1: "1 of 1", 2: "both"}.get(of, f"all {of}")
    count = "none" if not first.count else everybody if first.count == of else f"{first.count} of {of}"
    truth = ", the true class" if comparison.true_class is not None else ""
    found = [(row.count, quoted(row.text)) for row in others[:_ANSWERS_NAMED]]
    found += [(more, "something else")] if (more := sum(row.count for row in others[_ANSWERS_NAMED:])) else []
    told = [f"{number} {_say(number)} {name}" for number, name in found[:1]]
    told += [f"{number} {name}" for number, name in found[1:]]
    rest = f"; {', '.join(told)}" if told else ""
    ending = "" if truth else " (the true class is not known)"
    return f"{count} {_say(first.count)} {quoted(first.text)}{truth}{rest}{ending}"


def _say(count: int) -> str:
    return one_or_many(max(1, count), "says", "say")


def separating(comparison: Comparison) -> str:
    """What the models that are right see more often than the others, and the other way round; empty where all agree.

    Of all concepts the one with the largest difference s_1 / n_1 - s_2 / n_2, where s_i of the n_i models of group i
    see it; of several the one that more of the first tie to their class, too. The groups are the models with the most
    frequent answer and the others where the true class is not known, or all are right or all wrong.
    """
    columns = {index: column for index, column in enumerate(comparison.columns) if column.error is None}
    right = [index for index, column in columns.items() if column.right]
    wrong = len(columns) - len(right)
    names = (f"the right {one_or_many(len(right), 'one', 'ones')}", f"the wrong {one_or_many(wrong, 'one', 'ones')}")
    if len(right) in {0, len(columns)}:
        right = [i for i, column in columns.items() if column.predictions[0].class_name == comparison.agreed_class]
        who = one_or_many(len(right), "the one that says", "those that say")
        names = (
            f"{who} {quoted(comparison.agreed_class or '')}",
            one_or_many(len(columns) - 1, "the other", "the others"),
        )
    others = [index for index in columns if index not in right]
    if not right or not others:
        return ""
    found = (_seen_more(comparison, right, others), _seen_more(comparison, others, right))
    told = [f"{name}: {words}" for name, words in zip(names, found, strict=True) if words]
    return f"seen more often by {', by '.join(told)}" if told else ""


def _seen_more(comparison: Comparison, group: Sequence[int], others: Sequence[int]) -> str:
    """The concept that a group sees more often than the others, with both counts."""

    def seen(row: ComparedConcept, indices: Sequence[int]) -> list[ComparedCell]:
        return [cell for index in indices if (cell := row.cells[index]) is not None and cell.importance is not None]

    def difference(row: ComparedConcept) -> tuple[float, int]:
        ours, theirs = seen(row, group), seen(row, others)
        return len(ours) / len(group) - len(theirs) / len(others), sum(cell.status == "mutual" for cell in ours)

    best = max(comparison.rows, key=difference, default=None)
    if best is None or difference(best)[0] <= 0:
        return ""
    if len(group) == len(others) == 1:
        return quoted(best.text)
    counts = f"{len(seen(best, group))} of {len(group)}, else {len(seen(best, others))} of {len(others)}"
    return f"{quoted(best.text)} ({counts})"


def headline(target: str | None) -> str:
    """Which class the models explain."""
    return "each model explains its own prediction" if target is None else f"all explain {quoted(target)}"


def legend() -> str:
    """What the signs of a table mean."""
    kinds: tuple[Kind, ...] = ("mutual", "vision", "language")
    return "  ".join([*(f"{SIGN[kind]} {WORD[kind]}" for kind in kinds), f"{NEITHER} neither"])


def model_facts(column: ComparedModel, *, cells: int = 16) -> tuple[str, str, str, str, str, str]:
    """Of a model that answered: answer, probability, MI and AUC with chance, p, dynamics."""
    mutual = column.mutual
    if mutual is None:
        return ("failed", "", "", "", "", "")
    first = column.predictions[0]
    verdict = {None: "", True: f" {RIGHT}", False: f" {WRONG}"}[column.right]
    best = f" {BEST}" if column.best_in_family else ""
    return (
        f"{first.class_name}{verdict}",
        f"{100 * first.probability:.0f} %",
        f"{mutual.mi_paper:.2f} / {mutual.chance.mi_paper:.2f}",
        f"{mutual.auc:.2f} / {mutual.chance.auc:.2f}{best}",
        f"{mutual.p_value:.2g}",
        dynamics(mutual.curve, cells),
    )


def dynamics(curve: Sequence[float], cells: int) -> str:
    """The curve as a sparkline of at most `cells` characters; a longer curve is sampled evenly."""
    if len(curve) > cells > 1:
        curve = [curve[round(i * (len(curve) - 1) / (cells - 1))] for i in range(cells)]
    return sparkline(curve)


def alike(value: float | None) -> str:
    """A Jaccard index in percent, in at most two digits; ``=`` for the same concepts."""
    return "-" if value is None else "=" if value == 1 else f"{min(99.0, 100 * value):.0f}"


def cell_words(text: str, cell: ComparedCell, column: ComparedModel) -> str:
    """A concept in one model, in words and numbers."""
    class_name = quoted(column.class_name or "")
    if cell.status == "none":
        return f"{text}: neither seen by {column.id} nor tied to {class_name}"
    numbers = [f"importance {cell.importance:.3f}"] if cell.importance is not None else []
    numbers += [f"cosine with {class_name} {cell.cosine:.3f}"] if cell.cosine is not None else []
    return f"{SIGN[cell.status]} {text}: {WORD[cell.status]} for {column.id}, {', '.join(numbers)}"


# What the command prints.


def report(comparison: Comparison, *, width: int, most: int | None = ROWS_SHOWN) -> RenderableType:
    """Lay out a comparison.

    Args:
        comparison: of at least one answer.
        width: columns of the terminal.
        most: how many concepts; None: all.
    """
    rows = [*class_rows(comparison), *map(concept_row, comparison.rows[:most])]
    ids = [column.id for column in comparison.columns]
    placed = layout(ids, [column.family for column in comparison.columns], [row.label for row in rows], width=width)
    path = comparison.image.path
    pieces: list[RenderableType] = [
        Text.assemble(shown(path or "an image in memory", "bold"), (f"  {headline(comparison.target)}", "dim")),
        *(shown(sentence(text)) for text in (answer_sentence(comparison), separating(comparison)) if text),
        Text(),
        *(_line(line, "bold") for line in head(placed, comparison, range(len(ids)))),
    ]
    for before, row in zip([None, *rows], rows, strict=False):
        pieces += [Text()] if before is not None and before.is_class and not row.is_class else []
        pieces.append(_line(placed.line(row.label, row.cells, str(row.count))))
    more = len(comparison.rows) - len(comparison.rows[:most])
    if more:
        pieces.append(Text(f"and {more} more (--verbose)", "dim"))
    pieces += [Text(), Text(legend(), "dim"), Text(), _models(comparison, placed)]
    if any(column.best_in_family for column in comparison.columns):
        pieces.append(Text(f"{BEST_WORDS}; AUC is not comparable across families", "dim"))
    if comparison.answered > 1:
        pieces += [Text(), *_similarity(comparison, placed)]
    pieces += [
        shown(f"{column.id} failed: {column.error.message}")
        for column in comparison.columns
        if column.error is not None
    ]
    return Group(*pieces)


def plain_text(comparison: Comparison, *, width: int = 120) -> str:
    """The whole table without colours, for the clipboard."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, color_system=None, markup=False, emoji=False, highlight=False)
    console.print(report(comparison, width=width, most=None))
    return "".join(line.rstrip() + "\n" for line in stream.getvalue().splitlines())


def _models(comparison: Comparison, placed: Layout) -> Table:
    """A row per model that answered: what it says, and how strong its shared knowledge is."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("model", "says", "", "MI / chance", "AUC / chance", "p", "dynamics"):
        table.add_column(name, overflow="fold", justify="right" if not name else "left")
    names = short_names([column.id for column in comparison.columns])
    for index in placed.order:
        column = comparison.columns[index]
        if column.error is None:
            *facts, curve = model_facts(column)
            table.add_row(shown(names[index]), *map(shown, facts), Text(curve, ANSI["mutual"]))
    return table


def _similarity(comparison: Comparison, placed: Layout) -> Iterator[Text]:
    """A row and a column per model."""
    yield Text.assemble(("alike", "bold"), ("  % of the concepts seen by either model that both see", "dim"))
    for line in _name_lines(placed):
        yield _line(line, "bold")
    names = short_names([column.id for column in comparison.columns])
    for index in placed.order:
        found = [Cell(alike(value)) for value in comparison.similarity.vision[index]]
        found[index] = Cell(NEITHER)
        yield _line(placed.line(names[index], found))


def _line(pieces: Sequence[Piece] | Iterator[Piece], style: str = "") -> Text:
    parts = ((text, style if mark is None else _colour(mark)) for text, mark, _ in pieces)
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _colour(mark: Mark) -> str:
    return {"right": "green", "wrong": "red"}.get(mark) or ANSI[mark]  # type: ignore[index]


def sentence(text: str) -> str:
    """A clause as a sentence."""
    return f"{text[:1].upper()}{text[1:]}."

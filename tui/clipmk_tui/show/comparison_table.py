"""The table of a comparison, which the app and `clipmk compare` both draw: a column per model, families apart.

First a row per predicted class, then a row per concept. Every cell is a sign, so that colour is never needed, and
narrow, so that thirteen models fit side by side.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final, Literal, NamedTuple

from rich.cells import cell_len

from clipmk.comparison import ComparedConcept, ComparedModel, Comparison
from clipmk.records import Asked, ConceptStatus
from clipmk.system.text import printable
from clipmk.vocabulary.classes import class_key
from clipmk_tui.show.signs import FAILED, NEITHER, PREDICTED, RIGHT, SIGN, WRONG, Kind
from clipmk_tui.show.text import family_words, fitted

AWAITED: Final = "…"
UNKNOWN_FAMILY: Final = "?"
COUNTED: Final = f"{SIGN['mutual']}/seen"  # what the last column counts of a concept

_NARROWEST, _ROOMY, _WIDEST = 3, 9, 20
"""Cells of a column, the gap to the next one included: at least, where there is room, at most."""
_LABEL, _LONGEST_LABEL = 22, 44  # cells of a row's name where there is room, and at most
_HEAD_LINES: Final = 3  # lines that a model's name may take


Mark = Kind | Literal["right", "wrong"]  # what a sign stands for; its colour follows from it


class Cell(NamedTuple):
    """A cell of the table, or a part of a line: exactly the terminal's cells that it takes."""

    text: str
    mark: Mark | None = None
    column: int | None = None  # index of the model that it is about, in a line


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table: a predicted class or a concept."""

    text: str  # the class or the concept
    label: str  # what is written; not yet printable
    cells: tuple[Cell, ...]  # one per column of the comparison
    count: int  # how many models predict the class, or hold the concept mutual
    seen: int  # how many models see the concept; 0 for a class
    is_class: bool

    @property
    def total(self) -> str:
        """The last column: ``4`` of the models predict a class; a concept is mutual for 4, seen by 11: ``4/11``."""
        return str(self.count) if self.is_class else f"{self.count}/{self.seen}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where the columns of the table stand."""

    families: tuple[tuple[str, tuple[int, ...]], ...]
    """(family in words, indices of its models), in the order shown."""
    names: tuple[tuple[str, ...], ...]  # for each model the lines of its heading
    label: int  # cells of the names of rows
    across: int  # cells of each model, with the gap behind it
    count: int  # cells of the last column; 0: there is no room for it

    @property
    def order(self) -> tuple[int, ...]:
        """Indices of the models from left to right."""
        return tuple(index for _, members in self.families for index in members)

    def line(self, label: str, cells: Sequence[Cell], count: str = "") -> Iterator[Cell]:
        """One line: a name, a cell per model, a count."""
        yield Cell(fitted(label, self.label))
        for _, members in self.families:
            yield Cell(" ")
            for index in members:
                cell = cells[index]
                yield Cell(fitted(cell.text, self.across - 1), cell.mark, index)
                yield Cell(" ")
        if self.count:
            yield Cell(printable(count).rjust(self.count))

    def family_line(self, label: str, texts: Sequence[str], count: str = "") -> Iterator[Cell]:
        """One line with a text per family."""
        yield Cell(fitted(label, self.label))
        for (_, members), text in zip(self.families, texts, strict=True):
            yield Cell(f" {fitted(text, self.across * len(members) - 1)} ")
        if self.count:
            yield Cell(printable(count).rjust(self.count))

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
    """Place the columns in lines of `width` cells: the more room, the longer their names, up to what they need.

    Models (ids) and their families (None: not known) are in the order of the comparison; `rows` are all rows' labels.
    From 60 cells on thirteen models fit.
    """
    members: dict[str, list[int]] = {}
    for index, family in enumerate(families):
        members.setdefault(family or UNKNOWN_FAMILY, []).append(index)
    count = max(len(f" of {len(models)}"), len(COUNTED)) + 1
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
        long, brief = family_words(family)
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
    shared = (
        1 if len(words) == 1 else sum(1 for _ in takewhile(lambda at: len(set(at)) == 1, zip(*words, strict=False)))
    )
    same = min(shared, *(len(one) - 1 for one in words))
    for index, one in zip(indices, words, strict=True):
        yield index, "".join(one[same:]).lstrip("-:_")


def _words(name: str) -> list[str]:
    """A name, cut before each `-`, `_` and `:`."""
    return re.findall(r".[^-_:]*", name, re.DOTALL) or [""]


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


def head(layout: Layout, comparison: Comparison | None, places: Sequence[int | None]) -> list[list[Cell]]:
    """The lines above the rows: families, how many of each are right, models.

    `places` has for each model its column in the comparison; None: it is awaited.
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
    return [*lines, *name_lines(layout, COUNTED)]


def name_lines(layout: Layout, count: str = "") -> Iterator[list[Cell]]:
    """The headings of the models; in the last of their lines that of the counts."""
    most = max(map(len, layout.names))
    for place in range(most):
        cells = [Cell(name[place] if place < len(name) else "") for name in layout.names]
        yield list(layout.line("", cells, count if place == most - 1 else ""))


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
        rows.append(Row(name, name + verdict, cells, votes[name], 0, is_class=True))
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
    cells = tuple(Cell("") if cell is None else _status_cell(cell.status) for cell in row.cells)
    return Row(row.text, row.text, cells, row.mutual_count, row.seen_count, is_class=False)


def asked_row(text: str, answers: Sequence[Asked | None]) -> Row:
    """The row of what was asked for, with a cell per model; None: a model has not answered."""
    found = [None if one is None else one.status for one in answers]
    cells = tuple(Cell(AWAITED) if status is None else _status_cell(status) for status in found)
    seen = sum(status in {"mutual", "vision"} for status in found)
    return Row(text, f"? {text}", cells, found.count("mutual"), seen, is_class=False)


def _status_cell(status: ConceptStatus) -> Cell:
    return Cell(NEITHER) if status == "none" else Cell(SIGN[status], status)


def _same(name: str, other: str | None) -> bool:
    return other is not None and class_key(name) == class_key(other)

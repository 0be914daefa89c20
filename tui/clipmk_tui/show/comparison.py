"""A comparison for people: the words and signs of its cells, and the table that the command prints.

The app's comparison screen shows the same words. Every cell has a sign, so that colour is never needed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from math import ceil
from typing import Final, NamedTuple

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from clipmk.records import ComparedCell, ComparedConcept, ComparedModel, Comparison
from clipmk.system.text import printable, quoted
from clipmk_tui.show.bars import sparkline
from clipmk_tui.show.signs import ANSI, SIGN, WORD, Kind
from clipmk_tui.show.text import shown

ROWS_SHOWN: Final = 20
"""Concepts that the command lists without --verbose."""
BEST: Final = "▲"
"""Marks the highest AUC within a family."""
BEST_WORDS: Final = f"{BEST} best AUC of its family"
NEITHER: Final = "·"
FACT_NAMES: Final = ("family", "top-1", "MI / by chance", "AUC / by chance", "p", "dynamics")
"""The first lines of a table, about each model."""

_AGREED: Final = "agreed"
_GAP: Final = 2
_NARROWEST, _WIDEST = 14, 26


class Fact(NamedTuple):
    """A cell of the table: its text, not yet made printable, and what it stands for."""

    text: str
    kind: Kind | None = None


def facts(column: ComparedModel, *, cells: int) -> tuple[Fact, ...]:
    """The facts about a model, one per name of `FACT_NAMES`.

    Args:
        column: of the comparison.
        cells: most characters of the dynamics.
    """
    mutual = column.mutual
    if mutual is None or column.error is not None:
        code = "" if column.error is None else f": {column.error.code}"
        return (Fact("-"), Fact(f"failed{code}"), *(Fact("-") for _ in FACT_NAMES[2:]))
    best = f" {BEST}" if column.best_in_family else ""
    return (
        Fact(column.family or "-"),
        Fact(top(column)),
        Fact(f"{mutual.mi_paper:.2f} / {mutual.chance.mi_paper:.2f}"),
        Fact(f"{mutual.auc:.2f} / {mutual.chance.auc:.2f}{best}"),
        Fact(f"{mutual.p_value:.2g}"),
        Fact(dynamics(mutual.curve, cells), "mutual"),
    )


def short_names(ids: Sequence[str]) -> tuple[str, ...]:
    """Headings: the part of each id after its last slash, unless two would be the same."""
    short = [one.rstrip("/").rpartition("/")[2] or one for one in ids]
    return tuple(long if short.count(brief) > 1 else brief for long, brief in zip(ids, short, strict=True))


def top(column: ComparedModel, *, width: int | None = None) -> str:
    """The predicted class and its probability; the class is shortened to fit `width` cells."""
    first = column.predictions[0]
    share = f"{100 * first.probability:.0f} %"
    name = Text(printable(first.class_name))
    if width is not None:
        name.truncate(max(1, width - len(share) - 1), overflow="ellipsis")
    return f"{name.plain} {share}"


def cell_fact(cell: ComparedCell | None) -> Fact:
    """Sign and number of a concept in one model; empty if the model failed."""
    if cell is None:
        return Fact("")
    if cell.status == "none":
        return Fact(NEITHER)
    if cell.status == "language":
        return Fact(f"{SIGN['language']} cos {cell.cosine or 0.0:.2f}", "language")
    return Fact(f"{SIGN[cell.status]} {cell.importance or 0.0:.3f}", cell.status)


def agreed(row: ComparedConcept) -> str:
    """For how many of the models that answered a concept is mutual."""
    return f"{row.mutual_count}/{row.of}"


def dynamics(curve: Sequence[float], cells: int) -> str:
    """The curve as a sparkline of at most `cells` characters; a longer curve is sampled evenly."""
    if len(curve) > cells > 1:
        curve = [curve[round(i * (len(curve) - 1) / (cells - 1))] for i in range(cells)]
    return sparkline(curve)


def headline(target: str | None) -> str:
    """Which class the models explain."""
    return "each model explains its own prediction" if target is None else f"all explain {quoted(target)}"


def legend() -> str:
    """What the signs of a table mean."""
    kinds: tuple[Kind, ...] = ("mutual", "vision", "language")
    return "  ".join([*(f"{SIGN[kind]} {WORD[kind]}" for kind in kinds), f"{NEITHER} neither"])


def report(comparison: Comparison, *, width: int, most: int | None = ROWS_SHOWN) -> RenderableType:
    """Lay out a comparison; columns that do not fit side by side follow in blocks below.

    Args:
        comparison: of at least one answer.
        width: columns of the terminal.
        most: how many concepts; None: all.
    """
    rows = comparison.rows[:most]
    path = comparison.image.path
    pieces: list[RenderableType] = [
        Text.assemble(shown(path or "an image in memory", "bold"), (f"  {headline(comparison.target)}", "dim")),
    ]
    for block, label, across in _blocks(comparison, rows, width):
        pieces += [Text(), _table(comparison, rows, block, label=label, across=across)]
    more = len(comparison.rows) - len(rows)
    if more:
        pieces.append(Text(f"and {more} more (--verbose)", "dim"))
    pieces += [Text(), Text(legend(), "dim")]
    if any(column.best_in_family for column in comparison.columns):
        pieces.append(Text(f"{BEST_WORDS}; AUC is not comparable across families", "dim"))
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


def _blocks(comparison: Comparison, rows: Sequence[ComparedConcept], width: int) -> Iterator[tuple[range, int, int]]:
    """(columns side by side, width of their labels, width of each) of every block."""
    names = [*FACT_NAMES, *(row.text for row in rows)]
    natural = max(Text(printable(name)).cell_len for name in names)
    label = min(natural, max(_NARROWEST, width * 3 // 10))
    room = max(_NARROWEST + _GAP, width - label - _GAP - len(_AGREED))
    count = len(comparison.columns)
    pages = ceil(count / max(1, room // (_NARROWEST + _GAP)))
    beside = ceil(count / pages)
    headings = short_names([column.id for column in comparison.columns])
    outcomes = [facts(column, cells=1)[1].text for column in comparison.columns]
    wanted = max(Text(printable(text)).cell_len for text in (*headings, *outcomes))
    across = min(max(_NARROWEST, wanted, 16), _WIDEST, room // beside - _GAP)
    for start in range(0, count, beside):
        yield range(start, min(count, start + beside)), label, across


def _table(comparison: Comparison, rows: Sequence[ComparedConcept], block: range, *, label: int, across: int) -> Table:
    columns = [comparison.columns[index] for index in block]
    headings = short_names([column.id for column in comparison.columns])
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    table.add_column("", width=label, overflow="fold")
    for index in block:
        table.add_column(shown(headings[index]), width=across, overflow="fold")
    table.add_column(_AGREED, width=len(_AGREED), justify="right")
    described = [facts(column, cells=across) for column in columns]
    for index, name in enumerate(FACT_NAMES):
        share = f"{comparison.agreed_count}/{comparison.answered}" if name == "top-1" and comparison.answered else ""
        table.add_row(Text(name, "dim"), *(_styled(fact[index]) for fact in described), share)
    for row in rows:
        table.add_row(shown(row.text), *(_styled(cell_fact(row.cells[index])) for index in block), agreed(row))
    return table


def _styled(fact: Fact) -> Text:
    return shown(fact.text, "" if fact.kind is None else ANSI[fact.kind])

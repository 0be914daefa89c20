"""A comparison for people: its sentences, the words of its cells, and all that the command prints."""

import io
from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from clipmk.comparison import ComparedCell, ComparedConcept, ComparedModel, Comparison
from clipmk.output.sentences import beaten, times_chance
from clipmk.records import Mutual
from clipmk.system.text import one_or_many, quoted
from clipmk_tui.show import comparison_table as grid
from clipmk_tui.show.signs import ANSI, FAILED, NEITHER, RIGHT, SIGN, WORD, WRONG, Kind
from clipmk_tui.show.text import shown, sparkline

ROWS_SHOWN: Final = 20  # concepts that the command lists without --verbose
BEST: Final = "▲"  # marks the highest AUC within a family
BEST_WORDS: Final = f"{BEST} best AUC of its family"

_FACTS: Final = ("says", "", "tied", "beats", "strength", "AUC", "/ chance", "unpadded", "dynamics")
"""What a row says of a model."""
_ROOMY: Final = 110  # from so many columns on the AUC without padding and the dynamics are shown, too
_ANSWERS_NAMED: Final = 3  # other answers that the first sentence names


# Sentences.


def answer_sentence(comparison: Comparison) -> str:
    """Who is right: ``4 of 13 say 'cat', the true class; 5 say 'castle', 2 'robot'``."""
    rows, of = grid.class_rows(comparison), comparison.answered
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


def legend(comparison: Comparison | None = None) -> str:
    """What the signs of a table mean; that of a failed model only where one failed."""
    kinds: tuple[Kind, ...] = ("mutual", "vision", "language")
    failed = comparison is not None and any(column.error is not None for column in comparison.columns)
    signs = [*(f"{SIGN[kind]} {WORD[kind]}" for kind in kinds), f"{NEITHER} neither"]
    return "  ".join([*signs, f"{FAILED} failed"] if failed else signs)


def model_facts(column: ComparedModel, *, cells: int = 16) -> tuple[str, ...]:
    """Of a model that answered: the cells of `_FACTS`."""
    mutual = column.mutual
    if mutual is None:
        return ("failed", *[""] * (len(_FACTS) - 1))
    first = column.predictions[0]
    verdict = {None: "", True: f" {RIGHT}", False: f" {WRONG}"}[column.right]
    best = f" {BEST}" if column.best_in_family else ""
    return (
        f"{first.class_name}{verdict}",
        f"{100 * first.probability:.0f} %",
        f"{mutual.count}/{mutual.vision_count}",
        beaten(mutual),
        f"{mutual.mi_paper:.2f}",
        f"{mutual.auc:.2f}{best}",
        times_chance(mutual),
        f"{mutual.auc_unpadded:.2f}",
        dynamics(mutual.curve, cells),
    )


def strength_line(mutual: Mutual) -> str:
    """``5/13 tied (u 8), beats all 28 classes · strength 6.80 · AUC 5.50 (10.1 x chance)``."""
    tied = f"{mutual.count}/{mutual.vision_count} tied (u {mutual.language_count}), beats {beaten(mutual)} classes"
    return f"{tied} · strength {mutual.mi_paper:.2f} · AUC {mutual.auc:.2f} ({times_chance(mutual)} x chance)"


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
    """Lay out a comparison of at least one answer in `width` columns, with at most so many concepts (None: all)."""
    rows = [*grid.class_rows(comparison), *map(grid.concept_row, comparison.rows[:most])]
    ids = [column.id for column in comparison.columns]
    families, labels = [column.family for column in comparison.columns], [row.label for row in rows]
    placed = grid.layout(ids, families, labels, width=width)
    path = comparison.image.path
    pieces: list[RenderableType] = [
        Text.assemble(shown(path or "an image in memory", "bold"), (f"  {headline(comparison.target)}", "dim")),
        *(shown(sentence(text)) for text in (answer_sentence(comparison), separating(comparison)) if text),
        Text(),
        *(_line(line, "bold") for line in grid.head(placed, comparison, range(len(ids)))),
    ]
    for before, row in zip([None, *rows], rows, strict=False):
        pieces += [Text()] if before is not None and before.is_class and not row.is_class else []
        pieces.append(_line(placed.line(row.label, row.cells, row.total)))
    more = len(comparison.rows) - len(comparison.rows[:most])
    if more:
        pieces.append(Text(f"and {more} more (--verbose)", "dim"))
    pieces += [Text(), Text(legend(comparison), "dim"), Text(), _models(comparison, placed, width)]
    pieces.append(Text(_meaning(comparison), "dim"))
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


def _models(comparison: Comparison, placed: grid.Layout, width: int) -> Table:
    """A row per model that answered: what it says, and how strong its shared knowledge is."""
    table = Table(box=None, pad_edge=False, padding=(0, 2 if width >= _ROOMY else 1, 0, 0), header_style="bold")
    chosen = _FACTS if width >= _ROOMY else _FACTS[:-2]
    for name in ("model", *chosen):
        table.add_column(name, overflow="fold", justify="right" if not name else "left")
    names = grid.short_names([column.id for column in comparison.columns])
    for index in placed.order:
        column = comparison.columns[index]
        if column.error is None:
            table.add_row(shown(names[index]), *map(shown, model_facts(column)[: len(chosen)]))
    return table


def _meaning(comparison: Comparison) -> str:
    """What the columns of `_models` count."""
    sizes = {(one.mutual.language_count, one.mutual.vocabulary_size) for one in comparison.columns if one.mutual}
    words = ", ".join(f"u = {u} of {size:,} ({100 * u / size:.2g} %)" for u, size in sorted(sizes))
    return f"tied: concepts seen that are tied to the class, {words}; beats: other classes with fewer; strength: MI"


def _similarity(comparison: Comparison, placed: grid.Layout) -> Iterator[Text]:
    """A row and a column per model."""
    yield Text.assemble(("alike", "bold"), ("  % of the concepts seen by either model that both see", "dim"))
    for line in grid.name_lines(placed):
        yield _line(line, "bold")
    names = grid.short_names([column.id for column in comparison.columns])
    for index in placed.order:
        found = [grid.Cell(alike(value)) for value in comparison.similarity.vision[index]]
        found[index] = grid.Cell(NEITHER)
        yield _line(placed.line(names[index], found))


def _line(pieces: Sequence[grid.Cell] | Iterator[grid.Cell], style: str = "") -> Text:
    parts = ((text, style if mark is None else _colour(mark)) for text, mark, _ in pieces)
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _colour(mark: grid.Mark) -> str:
    return {"right": "green", "wrong": "red"}.get(mark) or ANSI[mark]  # type: ignore[index]


def sentence(text: str) -> str:
    """A clause as a sentence."""
    return f"{text[:1].upper()}{text[1:]}."

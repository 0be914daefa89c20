"""A study's numbers as tables of text, for the terminal and the report; models grouped by family, never ranked.

AUC is comparable only within a family, so no table sorts by it and no column marks a best model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Any, Final

from clipmk.concepts.statistics import Estimate, RankEstimate
from clipmk.study.concepts import ConceptTotals
from clipmk.study.paper import PRINTED_FIT, Compared, PublishedModel, against_paper, published_fit, published_models
from clipmk.study.results import Results, family_name
from clipmk.study.schema import TableRow
from clipmk.system.text import counted

NONE: Final = "–"
"""Where there is no number."""
CLASSES_SHOWN: Final = 40
"""Classes shown per model, in tables and pictures; of more, half as many from either end."""


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table ready to be shown: columns of text are aligned to the left, the others to the right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: tuple[int, ...] = (0,)


Columns = tuple[tuple[str, Callable[[Any], str]], ...]
"""Headings, and what writes the cell of each from a row of a study's table, or from a fit."""

_PARTS: Final = ("parts", lambda row: str(row["parts"]))
_IMAGES: Final = ("images", lambda row: str(row["images"]))


def _times_chance(row: TableRow) -> str:
    """AUC as a multiple of that of as many random concepts."""
    return f"{row['auc'] / row['chance_auc']:.1f}" if row["chance_auc"] else NONE


def _tied(row: TableRow) -> str:
    """The size of D_y and its share of the descriptors: `10 (1.5 %)`."""
    count = row["language_count"]
    return NONE if count is None else f"{count:.0f} ({100 * count / row['vocabulary_size']:.2g} %)"


_M_FIRST: Final[Columns] = (
    ("m", lambda row: number(row["mutual_count"], 1)),
    ("beats all %", lambda row: percent(row["beats_all"], 0)),
    ("strength", lambda row: number(row["mi_paper"])),
    ("AUC", lambda row: number(row["auc"])),
    ("AUC / chance", _times_chance),
    ("u", _tied),
    ("unpadded", lambda row: number(row["auc_unpadded"])),
)
_WITH_INTERVALS: Final[Columns] = (
    ("m [95 %]", lambda row: interval(row, "mutual_count")),
    ("beats all % [95 %]", lambda row: interval(row, "beats_all", factor=100, digits=1)),
    ("strength [95 %]", lambda row: interval(row, "mi_paper")),
    ("AUC [95 %]", lambda row: interval(row, "auc")),
    ("AUC / chance", _times_chance),
    ("AUC unpadded", lambda row: number(row["auc_unpadded"])),
    ("u", _tied),
    ("L_v", lambda row: number(row["vision_count"], 1)),
    _IMAGES,
    ("failed", lambda row: str(row["failed"])),
)
_BRIEF: Final[Columns] = (("top-1 %", lambda row: interval(row, "top1", factor=100, digits=1)), *_M_FIRST, _IMAGES)
_WIDE: Final[Columns] = (
    ("top-1 % [95 %]", lambda row: interval(row, "top1", factor=100, digits=1)),
    ("top-5 %", lambda row: percent(row["top5"])),
    *_WITH_INTERVALS,
    ("class swap p < .05, %", lambda row: percent(row["class_swap_below"], 0)),
    ("image swap p < .05, %", lambda row: percent(row["image_swap_below"], 0)),
)
BY_METHOD: Final[Columns] = (_PARTS, ("parts found", lambda row: number(row["part_count"], 1)), *_WITH_INTERVALS)
RIGHT_WRONG: Final[Columns] = (
    ("m right", lambda row: interval(row, "mutual_count_right")),
    ("m wrong", lambda row: interval(row, "mutual_count_wrong")),
    ("strength right", lambda row: interval(row, "mi_paper_right")),
    ("strength wrong", lambda row: interval(row, "mi_paper_wrong")),
    ("AUC right", lambda row: interval(row, "auc_right")),
    ("AUC wrong", lambda row: interval(row, "auc_wrong")),
)
_CLASS: Final[Columns] = (
    ("class", lambda row: str(row["class"])),
    ("images", lambda row: str(row["images"])),
    ("top-1 %", lambda row: percent(row["top1"])),
    ("m", lambda row: number(row["mutual_count"])),
    ("strength", lambda row: number(row["mi_paper"])),
    ("AUC", lambda row: number(row["auc"])),
    ("most often predicted instead", lambda row: row["confused_with"] or NONE),
)
_ASKED: Final[Columns] = (
    ("text", lambda row: str(row["text"])),
    ("seen % [95 %]", lambda row: interval(row, "seen", factor=100, digits=1)),
    ("chance", lambda row: percent(row["seen_by_chance"])),
    ("tied %", lambda row: percent(row["tied"])),
    ("chance", lambda row: percent(row["tied_by_chance"])),
    ("both %", lambda row: percent(row["mutual"])),
    ("images", lambda row: str(row["images"])),
)
_FIT: Final[Columns] = (
    ("family", lambda one: family_name(one.group)),
    ("models", lambda one: str(one.count)),
    ("top-1 % =", lambda one: line(one.slope, one.intercept)),
    ("r [95 %]", lambda one: estimate(one.pearson)),
    ("rho [95 %] or (p)", lambda one: estimate(one.spearman)),
)

_RIVAL: Final[Columns] = (
    ("accuracy against", lambda one: one.name),
    ("r [95 %]", lambda one: estimate(one.pearson)),
    ("rho [95 %] or (p)", lambda one: estimate(one.spearman)),
    ("r [without one recipe]", lambda one: estimate(one.without_one)),
)
BEHIND: Final[Columns] = (
    ("behind", lambda row: str(row["reference"])),
    ("top-1 points [95 %]", lambda row: interval(row, "top1_behind", factor=100, digits=1)),
    ("m [95 %]", lambda row: interval(row, "mutual_count_behind")),
    ("AUC [95 %]", lambda row: interval(row, "auc_behind")),
)


def family_tables(results: Results, *, wide: bool = False) -> list[TextTable]:
    """One table per family: accuracy, then m, whether it beats all classes, strength, AUC and its multiple of chance.

    Args:
        results: of a study.
        wide: with an interval for every mean, top-5, and the number of failed images.
    """
    columns = _WIDE if wide else _BRIEF
    return [model_table(family_name(one), results, rows, columns) for one, rows in results.families.items()]


def model_table(title: str, results: Results, rows: Iterable[TableRow], columns: Columns) -> TextTable:
    """Rows of the table `models` under these columns, such as `BY_METHOD` or `RIGHT_WRONG`."""
    names = results.names
    return _table(title, rows, (("model", lambda row: names.get(row["model"], str(row["model"]))), *columns))


def asked_tables(results: Results) -> list[TextTable]:
    """For each model how often texts of one's own are seen, and tied to the prediction."""
    rows = groupby(results.rows("asked"), key=lambda row: str(row["model"]))
    return [_table(results.names.get(model, model), own, _ASKED) for model, own in rows]


def size_table(results: Results) -> TextTable:
    """What other sizes of D_y would give, per model and part method."""
    columns = (*((_PARTS,) if len(results.manifest.parts) > 1 else ()), ("u", _tied), *_M_FIRST[:-2], _M_FIRST[-1])
    return model_table("Other sizes of D_y", results, results.rows("language_counts"), columns)


def fit_table(results: Results) -> TextTable:
    """The line through the models of each family, and through all."""
    return _table("AUC against accuracy", results.fits, _FIT)


def rival_tables(results: Results) -> Iterator[TextTable]:
    """How closely AUC and its rivals follow accuracy, in each family and over all."""
    for group, rivals in groupby(results.lines, key=lambda one: (one.group, one.count, one.recipes)):
        name, models, recipes = group
        title = f"{family_name(name)}: {models} models of {counted(recipes, 'recipe')}"
        yield _table(title, rivals, _RIVAL)


def paper_tables(results: Results, *, wide: bool = False) -> list[TextTable]:
    """Our numbers beside the paper's, for every model in both, and the lines; empty if there is no such model.

    Args:
        results: of a study.
        wide: the paper's numbers, ours and the differences in separate columns.
    """
    rows = against_paper(results.all_rows)
    if not rows:
        return []
    measures = ["top-1 %", "MI pca", "MI kmeans", "AUC pca", "AUC kmeans"]
    title, columns = "Ours (ours - the paper's)", measures
    if wide:
        title = "The paper's numbers, ours, and ours - the paper's"
        columns = [text for one in measures for text in (f"{one} paper", "ours", "difference")]
    names = results.names
    cells = []
    for row in rows:
        digits = {name: 1 if name == "top1_percent" and not wide else 2 for name in row.numbers}
        numbers = (_compared(one, digits[name], wide=wide) for name, one in row.numbers.items())
        cells.append((names.get(row.model, row.model), *chain.from_iterable(numbers)))
    return [TextTable(title, ("model", *columns), tuple(cells)), _lines(results, [row.published for row in rows])]


def class_table(rows: Iterable[TableRow]) -> TextTable:
    """Classes of one model from the lowest AUC to the highest, `CLASSES_SHOWN` at most."""
    ordered = sorted(rows, key=lambda row: (row["auc"] is None, row["auc"] or 0.0, row["class"]))
    half = CLASSES_SHOWN // 2
    shown = ordered if len(ordered) <= CLASSES_SHOWN else [*ordered[:half], *ordered[-half:]]
    return _table("", shown, _CLASS, text_columns=(0, 6))


def concept_table(totals: ConceptTotals, name: str) -> TextTable:
    """The concepts that are most often "mutual" or "missed", with all their counts."""
    counts = ("mutual", "missed", "seen", "tied", "mutual_right", "mutual_wrong")
    columns = ("concept", *(count.replace("_", ", ") for count in counts))
    rows = tuple((row["descriptor"], *(f"{row[count]:,}" for count in counts)) for row in totals.most(name))
    return TextTable("Most shared" if name == "mutual" else "Most missed", columns, rows)


def interval(row: TableRow, name: str, *, factor: float = 1, digits: int = 2) -> str:
    """`3.61 [3.52, 3.70]`: a value of a row and its interval."""
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    if value is None:
        return NONE
    ends = "" if low is None else f" [{factor * low:.{digits}f}, {factor * high:.{digits}f}]"
    return f"{factor * value:.{digits}f}{ends}"


def number(value: float | None, digits: int = 2) -> str:
    """A number, or a dash."""
    return NONE if value is None else f"{value:.{digits}f}"


def percent(value: float | None, digits: int = 1) -> str:
    """A share in per cent without the sign, or a dash."""
    return NONE if value is None else f"{100 * value:.{digits}f}"


def estimate(one: Estimate | RankEstimate) -> str:
    """`0.91 [0.54, 0.99]`, `0.79 (p 0.048)`, `1.00`, or a dash."""
    if one.value is None:
        return NONE
    certainty = "" if one.low is None or one.high is None else f" [{one.low:.2f}, {one.high:.2f}]"
    if isinstance(one, RankEstimate) and one.p is not None:
        certainty = " (p < 0.001)" if one.p < 0.001 else f" (p {one.p:.3f})"
    return f"{one.value:.2f}{certainty}"


def line(slope: float, intercept: float) -> str:
    """`11.25 AUC + 25.90`."""
    return f"{slope:.2f} AUC {'-' if intercept < 0 else '+'} {abs(intercept):.2f}"


def _table(title: str, rows: Iterable[Any], columns: Columns, text_columns: tuple[int, ...] = (0,)) -> TextTable:
    cells = tuple(tuple(cell(row) for _, cell in columns) for row in rows)
    return TextTable(title, tuple(heading for heading, _ in columns), cells, text_columns)


def _compared(one: Compared, digits: int, *, wide: bool) -> tuple[str, ...]:
    """`3.55 (-0.06)`, or in three cells `3.61`, `3.55`, `-0.06`; a dash where we have no number."""
    difference = NONE if one.difference is None else f"{one.difference:+.{digits}f}"
    if wide:
        return number(one.paper, digits), number(one.ours, digits), difference
    return (NONE if one.ours is None else f"{one.ours:.{digits}f} ({difference})",)


def _lines(results: Results, matched: Sequence[PublishedModel]) -> TextTable:
    """Lines per family: as printed, refitted to the paper's table, refitted to the models in both, and ours."""
    rows: list[tuple[str, ...]] = []
    published = published_models()
    for family in dict.fromkeys(model.family for model in published):
        name = family_name(family)
        if family == "vit":
            rows.append((f"{name}, as the paper prints it", "7", line(*PRINTED_FIT), NONE, NONE))
        variants = [("the paper's table", published_fit(family, published))]
        if sum(model.family == family for model in matched) < sum(model.family == family for model in published):
            variants.append(("the paper's table, models studied here", published_fit(family, matched)))
        variants.append(("this study", next((one for one in results.fits if one.group == family), None)))
        rows += [
            (f"{name}, {words}", *(cell(one) for _, cell in _FIT[1:])) for words, one in variants if one is not None
        ]
    return TextTable("Lines", ("line through", *(heading for heading, _ in _FIT[1:])), tuple(rows))

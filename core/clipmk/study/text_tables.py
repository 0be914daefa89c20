"""A study's numbers as tables of text, for the terminal and the report; models grouped by family, never ranked.

AUC is comparable only within a family, so no table sorts by it and no column marks a best model.
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, groupby
from typing import Any, Final

import numpy as np

from clipmk.concepts.statistics import Estimate, RankEstimate
from clipmk.study.concepts import ConceptTotals
from clipmk.study.paper import PRINTED_FIT, Compared, PublishedModel, against_paper, published_fit, published_models
from clipmk.study.results import Results, family_name
from clipmk.study.schema import TableRow
from clipmk.system.locations import assets_dir
from clipmk.system.text import counted

NONE: Final = "–"  # where there is no number
_WORDS: Final = ("behind", "concept", "parts", "to class", "most often predicted instead")
"""Columns of text besides the first."""
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


@cache
def columns(table: str) -> Columns:
    """The columns of a table of texts, by its name in `assets/study_tables.csv`."""
    with (assets_dir() / "study_tables.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["table"] == table]
    return tuple((row["heading"], lambda one, row=row: _FORMS[row["form"]](one, row["column"])) for row in rows)


def family_tables(results: Results, *, wide: bool = False) -> list[TextTable]:
    """One table per family: accuracy, then m, whether it beats all classes, strength, AUC and its multiple of chance.

    `wide` adds an interval for every mean, top-5, and the number of failed images.
    """
    table = "wide" if wide else "brief"
    return [model_table(family_name(one), results, rows, table) for one, rows in results.families.items()]


def model_table(title: str, results: Results, rows: Iterable[TableRow], table: str) -> TextTable:
    """Rows of the table `models` under the `columns` of this name, but for the part method where there is one only."""
    names, single = results.names, len(results.manifest.parts) == 1
    shown = [column for column in columns(table) if not single or column[0] != "parts"]
    named = [row | {key: names.get(row[key], row[key]) for key in ("model", "reference") if key in row} for row in rows]
    return _table(title, named, (("model", lambda row: str(row["model"])), *shown))


def asked_tables(results: Results) -> list[TextTable]:
    """For each model how often texts of one's own are seen, and tied to the prediction."""
    rows = groupby(results.rows("asked"), key=lambda row: str(row["model"]))
    return [_table(results.names.get(model, model), own, columns("asked")) for model, own in rows]


def threshold_table(results: Results) -> TextTable:
    """Below which probability each model is wrong more often."""
    rows = [row for row in results.wrong() if row["threshold"] is not None]
    return model_table("", results, rows, "threshold")


def auroc_table(results: Results, name: str) -> TextTable:
    """A line per model and a column per measure: "auroc", or "less_probability"."""
    rows = results.wrong()
    measures = [one for one in dict.fromkeys(row["measure"] for row in rows) if name == "auroc" or one != "probability"]
    cells = {(row["model"], row["measure"]): interval(row, name) for row in rows}
    lines = [(shown, *(cells[model, one] for one in measures)) for model, shown in results.names.items()]
    return TextTable("", ("model", *measures), tuple(lines))


def size_table(results: Results) -> TextTable:
    """What other sizes of D_y would give, per model and part method."""
    return model_table("Other sizes of D_y", results, results.rows("language_counts"), "sizes")


def fit_table(results: Results) -> TextTable:
    """The line through the models of each family, and through all."""
    return _table("AUC against accuracy", results.fits, columns("fits"))


def rival_tables(results: Results) -> Iterator[TextTable]:
    """How closely AUC and its rivals follow accuracy, in each family and over all."""
    for group, rivals in groupby(results.lines, key=lambda one: (one.group, one.count, one.recipes)):
        name, models, recipes = group
        title = f"{family_name(name)}: {models} models of {counted(recipes, 'recipe')}"
        yield _table(title, rivals, columns("rivals"))


def paper_tables(results: Results, *, wide: bool = False) -> list[TextTable]:
    """Our numbers beside the paper's, for every model in both, and the lines; empty if there is no such model.

    `wide` puts the paper's numbers, ours and the differences into separate columns.
    """
    rows = against_paper(results.all_rows)
    if not rows:
        return []
    measures = ["top-1 %", "MI pca", "MI kmeans", "AUC pca", "AUC kmeans"]
    title, headings = "Ours (ours - the paper's)", measures
    if wide:
        title = "The paper's numbers, ours, and ours - the paper's"
        headings = [text for one in measures for text in (f"{one} paper", "ours", "difference")]
    names = results.names
    cells = []
    for row in rows:
        digits = {name: 1 if name == "top1_percent" and not wide else 2 for name in row.numbers}
        numbers = (_compared(one, digits[name], wide=wide) for name, one in row.numbers.items())
        cells.append((names.get(row.model, row.model), *chain.from_iterable(numbers)))
    return [TextTable(title, ("model", *headings), tuple(cells)), _lines(results, [row.published for row in rows])]


def class_table(rows: Iterable[TableRow]) -> TextTable:
    """Classes of one model from the lowest AUC to the highest, `CLASSES_SHOWN` at most."""
    ordered = sorted(rows, key=lambda row: (row["auc"] is None, row["auc"] or 0.0, row["class"]))
    half = CLASSES_SHOWN // 2
    shown = ordered if len(ordered) <= CLASSES_SHOWN else [*ordered[:half], *ordered[-half:]]
    return _table("", shown, columns("classes"))


@dataclass(frozen=True, slots=True)
class ClassLine:
    """AUC of a class under every model."""

    name: str
    cells: tuple[tuple[str, float], ...]
    """AUC, and from -1 to 1 how far it is above the model's mean over classes: this may be compared across families."""


def class_grid(results: Results, rows: Sequence[TableRow]) -> list[ClassLine]:
    """Classes from the highest AUC above the models' means to the lowest, `CLASSES_SHOWN` at most, from either end."""
    models = [row["model"] for row in results.models]
    known = {(row["class"], row["model"]): row["auc"] for row in rows if row["auc"] is not None}
    names = sorted({name for name, _ in known})
    if not names:
        return []
    auc = np.ma.masked_invalid([[known.get((name, model), np.nan) for model in models] for name in names])
    above = auc - auc.mean(axis=0)
    order = np.argsort(-above.mean(axis=1), kind="stable").tolist()
    if len(order) > CLASSES_SHOWN:
        order = order[: CLASSES_SHOWN // 2] + order[-CLASSES_SHOWN // 2 :]
    weights = (above / max(0.1, float(np.abs(above[order]).max()))).filled(0)
    texts = [[number(known.get((name, model))) for model in models] for name in names]
    return [ClassLine(names[place], tuple(zip(texts[place], weights[place].tolist(), strict=True))) for place in order]


def concept_table(totals: ConceptTotals, name: str) -> TextTable:
    """The concepts that are most often "mutual" or "missed", with all their counts."""
    return _table("Most shared" if name == "mutual" else "Most missed", totals.most(name), columns("concepts"))


def interval(row: TableRow, name: str, *, factor: float = 1, digits: int = 2) -> str:
    """`3.61 [3.52, 3.70]`: a value of a row and its interval."""
    ends = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    return estimate(Estimate(*(None if one is None else factor * one for one in ends)), digits)


def number(value: float | None, digits: int = 2) -> str:
    """A number, or a dash."""
    return NONE if value is None else f"{value:.{digits}f}"


def percent(value: float | None, digits: int = 1) -> str:
    """A share in per cent without the sign, or a dash."""
    return NONE if value is None else f"{100 * value:.{digits}f}"


_FORMS: Final[Mapping[str, Callable[[Any, str], str]]] = {
    "text": lambda row, name: NONE if row[name] is None else str(row[name]),
    "count": lambda row, name: f"{row[name]:,}",
    "number": lambda row, name: number(row[name]),
    "number 1": lambda row, name: number(row[name], 1),
    "percent": lambda row, name: percent(row[name]),
    "percent 0": lambda row, name: percent(row[name], 0),
    "share below": lambda row, name: "cannot be" if row[name] is None else percent(row[name], 0),
    "small": lambda row, name: f"{row[name]:.2g}",
    "errors": lambda row, name: f"{row[f'{name}_wrong']:,} of {row[f'{name}_wrong'] + row[f'{name}_right']:,}",
    "flips": lambda row, name: NONE if row[name] is None else f"{row[name]:,} of {row['blurred']:,}",
    "interval": interval,
    "odds": lambda row, name: interval(row, name, digits=0 if row[name] >= 100 else 2),
    "interval %": lambda row, name: interval(row, name, factor=100, digits=1),
    "times chance": lambda row, name: f"{row[name] / row['chance_auc']:.1f}" if row["chance_auc"] else NONE,
    "tied": lambda row, name: (
        NONE if row[name] is None else f"{row[name]:.0f} ({100 * row[name] / row['vocabulary_size']:.2g} %)"
    ),
    "fact": lambda one, name: family_name(str(getattr(one, name))),
    "estimate": lambda one, name: estimate(getattr(one, name)),
    "line": lambda one, _: line(one.slope, one.intercept),
}
"""How `assets/study_tables.csv` has a column of a row written, or (last) of a fitted line; tied: D_y and its share."""


def estimate(one: Estimate, digits: int = 2) -> str:
    """`0.91 [0.54, 0.99]`, `0.79 (p 0.048)`, `1.00`, or a dash."""
    if one.value is None:
        return NONE
    certainty = "" if one.low is None or one.high is None else f" [{one.low:.{digits}f}, {one.high:.{digits}f}]"
    if isinstance(one, RankEstimate) and one.p is not None:
        certainty = " (p < 0.001)" if one.p < 0.001 else f" (p {one.p:.3f})"
    return f"{one.value:.{digits}f}{certainty}"


def line(slope: float, intercept: float) -> str:
    """`11.25 AUC + 25.90`."""
    return f"{slope:.2f} AUC {'-' if intercept < 0 else '+'} {abs(intercept):.2f}"


def _table(title: str, rows: Iterable[Any], cells: Columns) -> TextTable:
    headings = tuple(heading for heading, _ in cells)
    words = tuple(place for place, heading in enumerate(headings) if not place or heading in _WORDS)
    return TextTable(title, headings, tuple(tuple(cell(row) for _, cell in cells) for row in rows), words)


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
            (f"{name}, {words}", *(cell(one) for _, cell in columns("fits")[1:]))
            for words, one in variants
            if one is not None
        ]
    return TextTable("Lines", ("line through", *(heading for heading, _ in columns("fits")[1:])), tuple(rows))

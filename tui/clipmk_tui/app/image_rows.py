"""The columns of the images screen's tables: images, models, classes, concepts; and an image in words."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from clipmk_tui.app.concept_rows import p_text
from clipmk_tui.app.widgets.row_table import Column
from clipmk_tui.show.signs import FAILED, RIGHT, WRONG
from clipmk_tui.show.text import sparkline

if TYPE_CHECKING:
    from clipmk.browse.image_table import ImageResult, ImageRow, ImageTable
    from clipmk.study.results import Results

MARKED = "★"
UNKNOWN = "–"


def image_columns(table: ImageTable, names: Sequence[str]) -> list[Column]:
    """Of `ImageRow`s; `names` are those of one model or two."""
    columns = [
        Column("", 1, lambda row: (MARKED if row.marked else "", "accent")),
        Column("image", 12, lambda row: row.key.rpartition("/")[2], 0, 2, "image"),
    ]
    if table.has_labels:
        columns.append(Column("truth", 8, lambda row: row.label or UNKNOWN, 1, 1, "truth"))
    for at, (side, name) in enumerate(zip(("", "b."), names, strict=False)):
        columns += _result_columns(at, side, name)
    if len(table.models) > 1:
        columns.append(Column("agree", -6, lambda row: _percent(row.agreement), 7, key="agree"))
    if len(names) > 1:
        columns.append(Column("differs in", 12, _difference, 5, 4, "differs"))
    return [*columns, Column("note", 6, lambda row: row.note, 4, 2, "note")]


def _result_columns(at: int, side: str, name: str) -> list[Column]:
    """What a model says of an image."""
    return [
        Column(name, 18, lambda row: prediction(row.results[at]), 2 * at, 2, f"{side}prob"),
        Column("p", -5, lambda row: _number(row.results[at].p, p_text), 3, key=f"{side}p"),
        Column("m", -3, lambda row: _number(row.results[at].m, str), 6 + at, key=f"{side}m"),
        Column("MI", -4, lambda row: _number(row.results[at].mi), 9, key=f"{side}mi"),
        Column("AUC", -4, lambda row: _number(row.results[at].auc), 9, key=f"{side}auc"),
    ]


def prediction(result: ImageResult) -> tuple[str, str]:
    """``✗ house 71 %`` and its colour; why there is none; or that it is awaited."""
    if result.error is not None or result.predicted is None:
        return ("…", "") if result.error is None else (f"{FAILED} {result.error}", "warning")
    said = f"{result.predicted} {_percent(result.probability)}"
    if result.correct is None:
        return said, ""
    return (f"{RIGHT} {said}", "success") if result.correct else (f"{WRONG} {said}", "error")


def model_columns(results: Results, first: str, second: str | None) -> list[Column]:
    """Of rows of the table `models`, by family: AUC is comparable within one only."""
    return [
        Column("", 1, lambda row: ({first: "a", second: "b"}.get(row["model"], ""), "accent")),
        Column("model", 12, lambda row: results.names[row["model"]], 0, 2),
        Column("right [95 %]", 16, _accuracy, 1),
        Column("sure", -5, lambda row: _percent(row["probability"]), 4),
        Column("m", -4, lambda row: _number(row["mutual_count"]), 2),
        Column("beats all", -9, lambda row: _percent(row["beats_all"]), 5),
        Column("MI", -4, lambda row: _number(row["mi_paper"]), 3),
        Column("AUC", -5, lambda row: _number(row["auc"], "{:.2f}".format), 1),
        Column("dynamics", 16, lambda row: sparkline(row["curve"][:16]), 3),
        Column("failed", -6, lambda row: str(row["failed"] or ""), 6),
    ]


def _accuracy(row: dict[str, Any]) -> str:
    if row["top1"] is None:
        return UNKNOWN
    return f"{_percent(row['top1'])} [{100 * row['top1_low']:.0f}, {100 * row['top1_high']:.0f}]"


def class_columns(names: Sequence[str]) -> list[Column]:
    """Of `ClassCount`s."""
    wrong = [
        Column(f"wrong {name}", -14, partial(_counted, key, None, "error"), key=key)
        for name, key in zip(names, ("wrong_a", "wrong_b"), strict=False)
    ]
    return [
        Column("class", 12, lambda one: one.name, 0, 3, "name"),
        Column("images", -7, lambda one: f"{one.images:,}", 1, key="images"),
        *wrong,
        Column("m", -4, lambda one: _number(one.m_a), 2, key="m_a"),
        Column("AUC", -4, lambda one: _number(one.auc_a), 2, key="auc_a"),
        Column("taken for", 10, lambda one: one.confused_with or "", 1, 3),
    ]


def concept_columns(names: Sequence[str], explained: tuple[int, int, int], wrong: int | None) -> list[Column]:
    """Of `ConceptCount`s; `explained` as `ImageTable.explained` counts, `wrong` of the first model, if known."""
    counts = [
        Column(f"{word} {name}", -15, partial(_counted, f"{word}_{side}", of, ""), rank, key=f"{word}_{side}")
        for word, among, rank in (("mutual", explained[:2], 0), ("only", explained[2:] * 2, 3))[: len(names)]
        for side, name, of in zip("ab", names, among, strict=False)
    ]
    rates = [
        Column("wrong with it", -13, lambda one: _share(one.wrong_a, one.mutual_a), 1, key="wrong_a"),
        Column("without it", -12, lambda one: _share((wrong or 0) - one.wrong_a, explained[0] - one.mutual_a), 2),
    ]
    return [Column("concept", 16, lambda one: one.text, 0, 3, "text"), *counts, *(rates if wrong is not None else [])]


def row_words(row: ImageRow, names: Sequence[str]) -> list[str]:
    """An image in lines: its name, truth and note; what the models say; where two of them differ."""
    truth = f"true class: {row.label}" if row.label else ""
    said = [f"{name}: {_result_words(result)}" for name, result in zip(names, row.results, strict=False)]
    differs = f"mutual in one model only: {differs}" if (differs := _difference(row)) else ""
    facts = filter(None, (MARKED if row.marked else "", row.key, truth, row.note))
    return [" · ".join(facts), "   ".join(said), differs]


def _difference(row: ImageRow) -> str:
    """The concepts that are mutual in one of two models only, once both have answered."""
    return ", ".join(row.differs_in) if all(result.predicted for result in row.results) else ""


def _result_words(result: ImageResult) -> str:
    said, numbers = prediction(result)[0], ("p", "m", "MI", "AUC")
    values = (_number(result.p, p_text), _number(result.m, str), _number(result.mi), _number(result.auc))
    return ", ".join([said, *(f"{name} {value}" for name, value in zip(numbers, values, strict=True) if value)])


def _number(value: float | None, form: Any = "{:.1f}".format) -> str:
    return "" if value is None else str(form(value))


def _counted(key: str, of: int | None, colour: str, row: Any) -> tuple[str, str]:
    """A count of a row as a share, of its images where no number is given."""
    return _share(getattr(row, key), row.images if of is None else of, colour)


def _share(count: int | None, of: int, colour: str = "error") -> tuple[str, str]:
    """``12 (40 %)``; coloured from a half on."""
    if not count or not of:
        return UNKNOWN if count is None else "0", ""
    return f"{count:,} ({_percent(count / of)})", colour if 2 * count >= of else ""


def _percent(share: float | None) -> str:
    return UNKNOWN if share is None else f"{100 * share:.0f} %"

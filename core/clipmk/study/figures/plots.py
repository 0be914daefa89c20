"""Every picture of a study's report, and what it shows in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from clipmk.study.concepts import ConceptTotals
from clipmk.study.figures import drawings
from clipmk.study.figures.style import png
from clipmk.study.results import Results
from clipmk.study.schema import TableRow
from clipmk.study.text_tables import number


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture of the report."""

    name: str
    """Of its file, without ".png"."""
    alt: str
    """What it shows, with the numbers."""
    png: bytes


def plots(results: Results, *, published_line: bool = False, dpi: int) -> Iterator[Plot]:
    """Draw every picture the results allow, about 9 inches wide: those about accuracy need labels."""
    dynamics = _by_model(
        results, lambda row: f"strength {row['curve'][0]:.2f}, AUC {row['auc']:.2f}, chance {row['chance_auc']:.2f}"
    )
    text = f"Mean strength before any concept is left out, and AUC: {dynamics}"
    yield Plot("dynamics", text, png(lambda: drawings.draw_dynamics(results), dpi))
    if any(row["top1"] is not None for row in results.models):
        drawn = png(lambda: drawings.draw_scatter(results, published_line=published_line), dpi)
        yield Plot("auc_accuracy", _scatter_text(results), drawn)
    rows = results.classes()
    if any(row["auc"] is not None for row in rows):
        grid = drawings.class_grid(results, rows)
        yield Plot("classes", _classes_text(grid), png(lambda: drawings.draw_classes(results, grid), dpi))
    totals = results.concepts()
    yield Plot("concepts", _concepts_text(totals), png(lambda: drawings.draw_concepts(totals), dpi))
    if any(row["auc_wrong"] is not None or row["auc_right"] is not None for row in results.models):
        text = _by_model(results, lambda row: f"AUC right {number(row['auc_right'])}, wrong {number(row['auc_wrong'])}")
        yield Plot("right_wrong", text, png(lambda: drawings.draw_split(results), dpi))


def _scatter_text(results: Results) -> str:
    def text(row: TableRow) -> str:
        return f"AUC {row['auc']:.2f}, top-1 " + ("unknown" if row["top1"] is None else f"{100 * row['top1']:.1f} %")

    return f"{_by_model(results, text)}. {'; '.join(map(drawings.fit_text, results.fits))}"


def _classes_text(grid: drawings.ClassGrid) -> str:
    ends = [*zip(grid.classes, grid.mean_above, strict=True)]
    shown = ends if len(ends) <= 10 else ends[:5] + ends[-5:]
    values = "; ".join(f"{name} {value:+.2f}" for name, value in shown)
    return f"AUC above the models' means, strongest and weakest classes: {values}"


def _concepts_text(totals: ConceptTotals) -> str:
    def text(name: str) -> str:
        most = totals.most(name, 5)
        shares = [f"{row['descriptor']} {100 * row[name] / max(1, totals.explanations):.1f} %" for row in most]
        return ", ".join(shares) or "none"

    return f"Most shared: {text('mutual')}. Most missed: {text('missed')}."


def _by_model(results: Results, text: Callable[[TableRow], str]) -> str:
    names = results.names
    return "; ".join(f"{names[row['model']]}: {text(row)}" for row in results.models)

"""The pictures of a study's report (matplotlib's Agg, without pyplot). Slow to import: import it when you draw."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from matplotlib.figure import Figure

from clipmk.study.concept_totals import concept_totals
from clipmk.study.figures.classes import MOST_ROWS, class_grid, draw_classes
from clipmk.study.figures.concepts import draw_concepts
from clipmk.study.figures.dynamics import draw_dynamics
from clipmk.study.figures.scatter import draw_scatter, fit_words
from clipmk.study.figures.split import draw_split
from clipmk.study.figures.style import png, styled
from clipmk.study.results import Results
from clipmk.study.summary import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A picture and its words."""

    name: str
    """Of its file, without ".png"."""
    title: str
    reading: str
    """How to read it, one sentence."""
    alt: str
    """What it shows, with the numbers."""
    png: bytes


def plots(results: Results, *, published_line: bool = False, dpi: int) -> Iterator[Plot]:
    """Draw every picture that the results allow: those about accuracy need labels.

    Args:
        results: of a study.
        published_line: draw the paper's line for ViTs beside ours.
        dpi: pixels per inch; a picture is about 9 inches wide.
    """
    yield _dynamics(results, dpi)
    if any(row["top1"] is not None for row in results.models):
        yield _scatter(results, published_line, dpi)
    rows = results.classes()
    if any(row["auc"] is not None for row in rows):
        yield _classes(results, rows, dpi)
    yield _concepts(results, dpi)
    if any(row["auc_wrong"] is not None or row["auc_right"] is not None for row in results.models):
        yield _split(results, dpi)


def _rendered(draw: Callable[[], Figure], dpi: int) -> bytes:
    with styled():
        return png(draw(), dpi)


def _dynamics(results: Results, dpi: int) -> Plot:
    return Plot(
        name="dynamics",
        title="MI dynamics",
        reading=(
            "Each panel follows the mutual information while the vision concepts of an image are left out one at a "
            "time, the most important first, averaged over images; the filled area is the AUC, the dotted line what "
            "random concepts of the same numbers would give."
        ),
        alt="Mean MI before any concept is left out, and AUC: "
        + _told(results, lambda row: f"MI {row['curve'][0]:.2f}, AUC {row['auc']:.2f}, chance {row['chance_auc']:.2f}"),
        png=_rendered(lambda: draw_dynamics(results), dpi),
    )


def _scatter(results: Results, published_line: bool, dpi: int) -> Plot:
    def words(row: Row) -> str:
        return f"AUC {row['auc']:.2f}, top-1 " + ("unknown" if row["top1"] is None else f"{100 * row['top1']:.1f} %")

    return Plot(
        name="auc_accuracy",
        title="AUC against accuracy",
        reading=(
            "A mark is a model; where a family has at least four, the line is its least-squares fit and the shade its "
            "95 % confidence band. Compare marks of one shape only: AUC means nothing across families."
        ),
        alt=f"{_told(results, words)}. {'; '.join(map(fit_words, results.fits))}",
        png=_rendered(lambda: draw_scatter(results, published_line=published_line), dpi),
    )


def _classes(results: Results, rows: list[Row], dpi: int) -> Plot:
    grid = class_grid(results, rows)
    reading = "Numbers are AUC; colour is how far a class lies above or below the same model's mean over its classes."
    if len(grid.classes) > MOST_ROWS:
        reading = (
            f"The {MOST_ROWS // 2} classes with the strongest and the {MOST_ROWS // 2} with the weakest shared "
            "knowledge; a mark is a model, its place how far the class lies above or below that model's mean."
        )
    ends = [*zip(grid.classes, grid.mean_above, strict=True)]
    shown = ends if len(ends) <= 10 else ends[:5] + ends[-5:]
    return Plot(
        name="classes",
        title="AUC by class",
        reading=reading,
        alt="AUC above the models' means, strongest and weakest classes: "
        + "; ".join(f"{name} {value:+.2f}" for name, value in shown),
        png=_rendered(lambda: draw_classes(results, grid), dpi),
    )


def _concepts(results: Results, dpi: int) -> Plot:
    totals = concept_totals(results, results.concepts())

    def words(name: str) -> str:
        most = totals.most(name, 5)
        shares = [f"{text} {100 * getattr(one, name) / max(1, totals.explanations):.1f} %" for text, one in most]
        return ", ".join(shares) or "none"

    return Plot(
        name="concepts",
        title="Most shared and most missed concepts",
        reading=(
            "Left: concepts that both encoders most often tie to the prediction; right: concepts that the text side "
            "ties to it but that were not seen in the image; over all models, as a share of all explanations."
        ),
        alt=f"Most shared: {words('mutual')}. Most missed: {words('missed')}.",
        png=_rendered(lambda: draw_concepts(totals), dpi),
    )


def _split(results: Results, dpi: int) -> Plot:
    def words(row: Row) -> str:
        pair = [row["auc_right"], row["auc_wrong"]]
        return "AUC right {}, wrong {}".format(*("–" if one is None else f"{one:.2f}" for one in pair))

    return Plot(
        name="right_wrong",
        title="Right against wrong predictions",
        reading=(
            "Filled marks are means over images predicted right, open ones over images predicted wrong, with 95 % "
            "intervals; where they lie apart, mutual knowledge tells something about correctness."
        ),
        alt=_told(results, words),
        png=_rendered(lambda: draw_split(results), dpi),
    )


def _told(results: Results, words: Callable[[Row], str]) -> str:
    return "; ".join(f"{results.names[row['model']]}: {words(row)}" for row in results.models)

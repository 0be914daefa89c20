"""Every picture of a study's report, with its title and what it shows in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from matplotlib.figure import Figure

from clipmk.study.concepts import concept_totals
from clipmk.study.figures.classes import MOST_ROWS, class_grid, draw_classes
from clipmk.study.figures.concepts import draw_concepts
from clipmk.study.figures.dynamics import draw_dynamics
from clipmk.study.figures.scatter import draw_scatter, fit_text
from clipmk.study.figures.split import draw_split
from clipmk.study.figures.style import png, styled
from clipmk.study.results import Results
from clipmk.study.schema import Row
from clipmk.study.text_tables import number


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A picture and its text."""

    name: str
    """Of its file, without ".png"."""
    title: str
    reading: str
    """How to read it, one sentence."""
    alt: str
    """What it shows, with the numbers."""
    png: bytes


def plots(results: Results, *, published_line: bool = False, dpi: int) -> Iterator[Plot]:
    """Draw every picture the results allow: those about accuracy need labels.

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


def _dynamics(results: Results, dpi: int) -> Plot:
    return Plot(
        name="dynamics",
        title="MI dynamics",
        reading=(
            "Each panel follows the mutual information while the vision concepts of an image are left out one at a "
            "time, the most important first, averaged over images; the filled area is the AUC, the dotted line the "
            "curve of as many random concepts."
        ),
        alt="Mean MI before any concept is left out, and AUC: "
        + _by_model(
            results, lambda row: f"MI {row['curve'][0]:.2f}, AUC {row['auc']:.2f}, chance {row['chance_auc']:.2f}"
        ),
        png=_rendered(lambda: draw_dynamics(results), dpi),
    )


def _scatter(results: Results, published_line: bool, dpi: int) -> Plot:
    def text(row: Row) -> str:
        return f"AUC {row['auc']:.2f}, top-1 " + ("unknown" if row["top1"] is None else f"{100 * row['top1']:.1f} %")

    return Plot(
        name="auc_accuracy",
        title="AUC against accuracy",
        reading=(
            "A mark is a model. In families of at least four models the line is the least-squares fit, the shade its "
            "95 % confidence band. Compare marks of one shape only: AUC is not comparable across families."
        ),
        alt=f"{_by_model(results, text)}. {'; '.join(map(fit_text, results.fits))}",
        png=_rendered(lambda: draw_scatter(results, published_line=published_line), dpi),
    )


def _classes(results: Results, rows: list[Row], dpi: int) -> Plot:
    grid = class_grid(results, rows)
    reading = (
        "Numbers are AUC; the colour is the difference between a class and the mean of the same model over its classes."
    )
    if len(grid.classes) > MOST_ROWS:
        reading = (
            f"The {MOST_ROWS // 2} classes with the strongest and the {MOST_ROWS // 2} with the weakest shared "
            "knowledge. A mark is a model; its position is the difference between the class and that model's mean."
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
    totals = concept_totals(results.all_rows, results.concepts())

    def text(name: str) -> str:
        most = totals.most(name, 5)
        shares = [f"{text} {100 * getattr(one, name) / max(1, totals.explanations):.1f} %" for text, one in most]
        return ", ".join(shares) or "none"

    return Plot(
        name="concepts",
        title="Most shared and most missed concepts",
        reading=(
            "Left: concepts that both encoders most often tie to the prediction. Right: concepts that the text side "
            "ties to it but that were not seen in the image. Over all models, as a share of all explanations."
        ),
        alt=f"Most shared: {text('mutual')}. Most missed: {text('missed')}.",
        png=_rendered(lambda: draw_concepts(totals), dpi),
    )


def _split(results: Results, dpi: int) -> Plot:
    return Plot(
        name="right_wrong",
        title="Right and wrong predictions",
        reading=(
            "Filled marks are means over images predicted right, open ones over images predicted wrong, with 95 % "
            "intervals. Where they are apart, mutual knowledge says something about correctness."
        ),
        alt=_by_model(results, lambda row: f"AUC right {number(row['auc_right'])}, wrong {number(row['auc_wrong'])}"),
        png=_rendered(lambda: draw_split(results), dpi),
    )


def _rendered(draw: Callable[[], Figure], dpi: int) -> bytes:
    with styled():
        return png(draw(), dpi)


def _by_model(results: Results, text: Callable[[Row], str]) -> str:
    names = results.names
    return "; ".join(f"{names[row['model']]}: {text(row)}" for row in results.models)

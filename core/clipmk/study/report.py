"""A study as one self-contained HTML file, its pictures beside it as PNG files (see `assets/templates/study.html`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from clipmk.output.html import png_base64, render
from clipmk.study import text_tables
from clipmk.study.paper import departures
from clipmk.study.results import Results, failed_images
from clipmk.system.files import atomic_write, make_folder

if TYPE_CHECKING:
    from clipmk.study.figures.plots import Plot

PAGE: Final = "index.html"
DPI: Final = 150


def write_report(results: Results, *, against: Literal["paper"] | None = None, dpi: int = DPI) -> Path:
    """Write `report/index.html` and the pictures as PNG files into a study's folder.

    Args:
        results: see `read_results`.
        against: "paper" adds the published numbers.
        dpi: pixels per inch of the pictures.

    Returns:
        The HTML file.

    Raises:
        InputError: a table of the study is damaged; the message names it.
        ClipmkError: a file cannot be written.
    """
    from clipmk.study.figures.plots import plots  # noqa: PLC0415 - matplotlib

    folder = results.folder.report
    make_folder(folder)
    drawn = list(plots(results, published_line=against == "paper", dpi=dpi))
    for plot in drawn:
        _write(folder / f"{plot.name}.png", plot.png)
    target = folder / PAGE
    _write(target, study_page(results, drawn, against=against).encode())
    return target


def study_page(results: Results, drawn: Sequence[Plot], *, against: Literal["paper"] | None = None) -> str:
    """The HTML text of the report."""
    manifest = results.manifest
    failed, failed_count = failed_images(results.folder)
    context = {
        "results": results,
        "manifest": manifest,
        "plots": {plot.name: plot for plot in drawn},
        "families": text_tables.family_tables(results, wide=True),
        "part_methods": text_tables.part_method_table(results),
        "fits": text_tables.fit_table(results),
        "right_wrong": text_tables.right_wrong_table(results),
        "failed_count": failed_count,
        "failed": failed,
        "settings": {name: json.dumps(value, ensure_ascii=False) for name, value in manifest.settings.items()},
        **_classes(results),
        **_concepts(results),
    }
    if against == "paper":
        context |= {
            "paper_tables": text_tables.paper_tables(results, wide=True),
            "departures": departures(manifest),
        }
    title = f"clipmk study of {manifest.dataset.name}"
    return render("study.html", title=title, against=against, png_base64=png_base64, **context)


def _write(path: Path, data: bytes) -> None:
    with atomic_write(path, private=False) as handle:
        handle.write(data)


def _classes(results: Results) -> dict[str, object]:
    rows = results.classes()
    by_model = {
        results.names[model["model"]]: text_tables.class_table(row for row in rows if row["model"] == model["model"])
        for model in results.models
    }
    return {
        "class_tables": by_model,
        "class_count": len(rows) // max(1, len(results.models)),
        "class_limit": text_tables.CLASSES_SHOWN,
    }


def _concepts(results: Results) -> dict[str, object]:
    totals = results.concepts()
    return {
        "explanations": totals.explanations,
        "concept_tables": [text_tables.concept_table(totals, name) for name in ("mutual", "missed")],
    }

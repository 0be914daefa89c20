"""A study as one self-contained HTML file, its pictures beside it as PNG files (see `assets/templates/study.html`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, Literal

from clipmk.output.html import png_base64, render
from clipmk.study import text_tables
from clipmk.study.paper import departures
from clipmk.study.results import Results, failed_images
from clipmk.system.files import atomic_write, make_folder, write_text

PAGE: Final = "index.html"
DPI: Final = 150


def write_report(results: Results, *, against: Literal["paper"] | None = None, dpi: int = DPI) -> Path:
    """Write `report/index.html`, which is returned, and the pictures as PNG files into a study's folder.

    "paper" adds the published numbers. InputError if a table is damaged; ClipmkError if a file cannot be written.
    """
    from clipmk.study.figures.plots import plots  # noqa: PLC0415 - matplotlib

    folder = results.folder.report
    make_folder(folder)
    drawn = {plot.name: plot for plot in plots(results, published_line=against == "paper", dpi=dpi)}
    for name, plot in drawn.items():
        with atomic_write(folder / f"{name}.png", private=False) as file:
            file.write(plot.png)
    failed, failed_count = failed_images(results.folder)
    page = render(
        "study.html",
        title=f"clipmk study of {results.manifest.dataset.name}",
        against=against,
        png_base64=png_base64,
        results=results,
        manifest=results.manifest,
        plots=drawn,
        settings={name: json.dumps(value, ensure_ascii=False) for name, value in results.manifest.settings.items()},
        tables=text_tables,
        departures=departures(results.manifest),
        failed=failed,
        failed_count=failed_count,
    )
    write_text(page, folder / PAGE)
    return folder / PAGE

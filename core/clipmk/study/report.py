"""A study as one self-contained HTML file, its charts beside it as SVG files (see `assets/templates/study.html`)."""

import base64
import hashlib
import json
from itertools import filterfalse
from pathlib import Path
from typing import Final, Literal

from markupsafe import Markup

from clipmk.errors import InputError
from clipmk.output.html import render
from clipmk.study import text_tables
from clipmk.study.advice import advice
from clipmk.study.cues import misleads
from clipmk.study.gallery import add_cards, cue_groups, wrong_groups
from clipmk.study.paper import departures
from clipmk.study.results import Results, failed_images
from clipmk.study.schema import TableRow
from clipmk.system.files import make_folder, write_text
from clipmk.system.locations import assets_dir
from clipmk.system.rows import read_rows
from clipmk.system.text import quoted

PAGE: Final = "index.html"
CUES_SHOWN: Final = 60  # most lines of either table of cues
CUES_PICTURED: Final = 8  # most cues whose images are shown
NOTES_BYTES: Final = 64 * 2**20  # largest file of notes read


def write_report(results: Results, *, against: Literal["paper"] | None = None) -> Path:
    """Write `report/index.html`, which is returned, and its charts as SVG files into a study's folder.

    "paper" adds the published numbers. InputError if a table is damaged; ClipmkError if a file cannot be written.
    """
    from clipmk.study.charts import charts  # noqa: PLC0415 - matplotlib

    folder = results.folder.report
    make_folder(folder)
    drawn = {chart.name: chart for chart in charts(results, published_line=against == "paper")}
    for chart in drawn.values():
        write_text(chart.svg, folder / f"{chart.name}.svg")
    failed, failed_count = failed_images(results.folder)
    cues = results.cues()
    clearest: dict[tuple[str, str], TableRow] = {}  # of all models
    for row in filter(misleads, cues):
        clearest.setdefault((row["text"], row["class"]), row)
    pictured = list(clearest.values())[:CUES_PICTURED]
    wrong, of_cues = wrong_groups(results), cue_groups(results, pictured)
    left_out = add_cards(results, [*of_cues, *wrong])
    script = (assets_dir() / "templates" / "study.js").read_text(encoding="utf-8")
    page = render(
        "study.html",
        title=f"clipmk study of {results.manifest.dataset.name}",
        script=Markup(script),  # noqa: S704 - ours
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        against=against,
        advice=advice(results),
        results=results,
        manifest=results.manifest,
        charts=drawn,
        cues=cues,
        misleading=list(filter(misleads, cues))[:CUES_SHOWN],
        supporting=list(filterfalse(misleads, cues))[:CUES_SHOWN],
        tests=results.cues_tested,
        wrong=wrong,
        of_cues=list(zip(pictured, of_cues, strict=True)),
        left_out=left_out,
        notes=_notes(results),
        settings={name: json.dumps(value, ensure_ascii=False) for name, value in results.manifest.settings.items()},
        tables=text_tables,
        departures=departures(results.manifest),
        failed=failed,
        failed_count=failed_count,
    )
    write_text(page, folder / PAGE)
    return folder / PAGE


def _notes(results: Results) -> text_tables.TextTable:
    """Marks and notes that people left on images, from `notes.csv` in the study's folder; its title is a warning."""
    path, columns = results.folder.root / "notes.csv", ("image", "mark", "note")
    rows: list[tuple[str, ...]] = []
    warning = ""
    if path.exists():
        try:
            named, lines = read_rows(path, limit=NOTES_BYTES, noun="notes", error=InputError)
            if tuple(named) == columns:
                rows = [tuple(map(str, line)) for line in lines]
            else:
                warning = f"notes {quoted(path)} have other columns than {', '.join(columns)}"
        except InputError as reason:
            warning = str(reason)
    return text_tables.TextTable(warning, columns, tuple(rows), text_columns=(0, 1, 2))

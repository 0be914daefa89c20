"""Every number of a study's report as plain data: one JSON object, or flat tables for CSV."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from clipmk.concepts.statistics import LineFit
from clipmk.study.advice import advice
from clipmk.study.paper import against_paper
from clipmk.study.results import Results, failed_images
from clipmk.study.schema import TableRow
from clipmk.system.rows import csv_text
from clipmk.system.serialization import plain

_RIVAL: Final = ("recipes", "pearson", "spearman", "without_one")


def results_document(results: Results, *, against: str | None = None) -> dict[str, Any]:
    """What `--json` prints under "study": advice, rows of the tables, fits, and the paper's numbers if asked for."""
    paper = [{"model": row.model} | plain(row.numbers) for row in against_paper(results.all_rows)]
    failed, failed_count = failed_images(results.folder)
    totals = results.concepts()
    return {
        "folder": str(results.folder.root),
        "done_shards": results.completeness.done,
        "total_shards": results.completeness.total,
        "shown_parts": results.shown_parts,
        "advice": plain(advice(results)),
        "models": list(results.all_rows),
        "wrong": results.rows("wrong"),
        "cues": results.cues(),
        "cues_tested": results.cues_tested,
        "fits": [_numbers(one, "slope", "intercept", "pearson", "spearman") for one in results.fits],
        "rivals": [{"name": one.name} | _numbers(one, *_RIVAL) for one in results.lines],
        "classes": results.classes(),
        "concepts": totals.rows,
        "explanations": totals.explanations,
        "asked": results.rows("asked"),
        "language_counts": results.rows("language_counts"),
        "failures": plain(failed),
        "failed": failed_count,
        "paper": paper if against == "paper" else None,
    }


def csv_files(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and text of a CSV file for each list of the document; nested numbers have dotted names."""
    for name, rows in document.items():
        if rows and isinstance(rows, list):
            flat = [dict(_flat(row)) for row in rows]
            yield f"{name}.csv", csv_text(flat, list(dict.fromkeys(key for row in flat for key in row)))


def csv_lines(document: Mapping[str, Any]) -> str:
    """The same as one table: a line per value, with the name of its list, the number of its row, and its own name."""
    lists = [(name, rows) for name, rows in document.items() if isinstance(rows, list)]
    rows = [(name, number, row) for name, rows in lists for number, row in enumerate(rows, 1)]
    columns = ("table", "row", "name", "value")
    lines = ((name, number, key, one) for name, number, row in rows for key, one in _flat(row) if one is not None)
    return csv_text((dict(zip(columns, line, strict=True)) for line in lines), columns)


def _flat(row: TableRow, before: str = "") -> Iterator[tuple[str, Any]]:
    """Values by dotted name."""
    for name, value in row.items():
        yield from _flat(value, f"{before}{name}.") if isinstance(value, dict) else [(f"{before}{name}", value)]


def _numbers(line: LineFit, *names: str) -> dict[str, Any]:
    return {"group": line.group, "models": line.count} | {name: plain(getattr(line, name)) for name in names}

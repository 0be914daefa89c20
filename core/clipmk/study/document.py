"""A study as JSON."""

from __future__ import annotations

from typing import Any

from clipmk.concepts.statistics import LineFit
from clipmk.study.paper import against_paper
from clipmk.study.results import Results
from clipmk.system.serialization import plain


def results_document(results: Results, *, against: str | None = None) -> dict[str, Any]:
    """What `--json` prints under "study": rows of the table `models`, fits, and the paper's numbers if asked for."""
    return {
        "folder": str(results.folder.root),
        "done_shards": results.completeness.done,
        "total_shards": results.completeness.total,
        "shown_parts": results.shown_parts,
        "models": list(results.all_rows),
        "fits": [_fit(one) for one in results.fits],
        "paper": _paper(results) if against == "paper" else None,
    }


def _fit(one: LineFit) -> dict[str, Any]:
    return {
        "group": one.group,
        "models": one.count,
        "slope": one.slope,
        "intercept": one.intercept,
        "pearson": plain(one.pearson),
        "spearman": plain(one.spearman),
    }


def _paper(results: Results) -> list[dict[str, Any]]:
    return [
        {
            "model": row.model,
            **{name: {**plain(one), "difference": one.difference} for name, one in row.numbers.items()},
        }
        for row in against_paper(results.all_rows)
    ]

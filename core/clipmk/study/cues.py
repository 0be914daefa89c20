"""Which concepts go with errors: for every text and predicted class, is it mutual more often where that is wrong?

The class is the predicted one, not the true one: D_y of the predicted class decides what can be mutual, so that among
images of one prediction a concept is mutual exactly where the image shows it, and "wrong more often where it is mutual"
says that the concept misleads to this class. Texts that are not tied to a class have no table with it.
"""

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipmk.concepts.contingency import fisher_p, odds_ratio, share_difference
from clipmk.study.concepts import ConceptCounts
from clipmk.study.manifest import StudyFolder
from clipmk.study.schema import CUE_CHECKS, TABLES, TableRow
from clipmk.system.parquet import read_table

CueKey = tuple[Any, ...]

SIGNIFICANT: Final = 0.05  # q below which a cue counts as found
FEWEST: Final = 10
"""Images with a known label that must be predicted as a class, so that its texts are tested."""


def cue_table(counts: ConceptCounts, model: str, parts: str) -> pa.Table:
    """Rows of the table `cues`: of classes predicted for `FEWEST` images, no row or column all zeros."""
    from scipy.stats import false_discovery_control  # noqa: PLC0415 - slow to import

    images, language = counts.images[:, :2, None], counts.language
    wrong, right, other_wrong, other_right = cells = [
        one[:, kind] for one in (counts.mutual, images - counts.mutual[:, :2]) for kind in (0, 1)
    ]
    sums = (wrong + right, other_wrong + other_right, wrong + other_wrong, right + other_right)
    tested = (images.sum(axis=1) >= FEWEST) & np.all(sums, axis=0)
    cells = [one[tested] for one in cells]
    texts = [(*language.by_class[name][: language.count], *counts.asks) for name in language.names]
    places = np.argwhere(tested).tolist()
    p = fisher_p(*cells)
    columns = {
        "model": [model] * len(p),
        "parts": [parts] * len(p),
        "class": [language.names[number] for number, _ in places],
        "text": [texts[number][place] for number, place in places],
        "asked": [place >= language.count for _, place in places],
        "images": np.sum(cells, axis=0),
        **dict(zip(("mutual_wrong", "mutual_right", "other_wrong", "other_right"), cells, strict=True)),
        "p": p,
        "q": false_discovery_control(p) if len(p) else p,
    }
    for name, estimates in (("odds_ratio", odds_ratio(*cells)), ("error_difference", share_difference(*cells))):
        columns |= zip((name, f"{name}_low", f"{name}_high"), estimates, strict=True)
    schema = TABLES["cues"]
    return pa.table([columns[name] for name in schema.names], schema=schema)


def found_cues(folder: StudyFolder) -> list[TableRow]:
    """Rows of the table `cues` with q below `SIGNIFICANT`, and of `CUE_CHECKS`, nulls where a cue was not checked.

    Those that mislead come first, then those that support, by q. `InputError` if a table is damaged.
    """
    table, checks = read_table(folder.table("cues"), TABLES["cues"]), cue_checks(folder)
    unchecked = dict.fromkeys(CUE_CHECKS.names)
    found: list[TableRow] = table.filter(pc.less(table["q"], SIGNIFICANT)).to_pylist()
    rows = [unchecked | checks.get(cue_key(row), {}) | row for row in found]
    return sorted(rows, key=lambda row: (not misleads(row), row["q"], row["p"], -abs(row["error_difference"])))


def cue_checks(folder: StudyFolder) -> dict[CueKey, TableRow]:
    """Rows of `CUE_CHECKS`, none before a check; `InputError` if the table is damaged."""
    path = folder.table("cue_checks")
    rows: list[TableRow] = read_table(path, CUE_CHECKS).to_pylist() if path.is_file() else []
    return {cue_key(row): row for row in rows}


def cue_key(row: TableRow) -> CueKey:
    """Which cue a row of `cues` or `CUE_CHECKS` is about."""
    return tuple(row[name] for name in ("model", "parts", "class", "text", "asked"))


def misleads(cue: TableRow) -> bool:
    """Whether predictions are wrong more often where the text is mutual."""
    return bool(cue["error_difference"] > 0)

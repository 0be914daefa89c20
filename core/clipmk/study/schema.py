"""The columns of everything a study writes, as Apache Arrow schemas: the contract between engine, tables and report.

A study folder:

    study.json                        the manifest: dataset, models, settings, versions, hashes (see `manifest`)
    plan.parquet                      one row per image (PLAN)
    language/<model>.parquet          D_y of every class, per model (LANGUAGE)
    shards/<model>/00000.parquet      one row per image and part method (IMAGE), one file per unit of work
    tables/models.parquet, .csv       one row per model and part method (TABLES)
    tables/classes.parquet, .csv      one row per model, part method and true class (TABLES)
    tables/concepts.parquet           one row per model, part method and descriptor (TABLES)
    tables/asked.parquet              one row per model and text of one's own (TABLES); only where there are texts
    tables/language_counts.parquet    one row per model, part method and u (TABLES); where several u are named
    tables/wrong.parquet              one row per model, part method and measure (TABLES)
    tables/cues.parquet               one row per model, part method, predicted class and text (TABLES)
    tables/cue_checks.parquet         one row per cue that `clipmk study cues --check` has blurred (CUE_CHECKS)
    tables/images.parquet             all shards in the order of the plan, model by model (IMAGE, SWAPPED)
    report/                           index.html and SVG files, written by `clipmk study report`

`<model>` is the model's id made safe for a file name (see `manifest.file_name`). What the columns mean is written in
`assets/study_columns.csv`; ASKED_IMAGE is IMAGE with columns for texts of one's own. A column that does not apply is
null.
"""

import csv
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from clipmk.system.locations import assets_dir

TableRow = dict[str, Any]  # a value (or None) per column of a schema

MEAN = "mean"
"""In the column `parts`: the mean over a model's part methods (the paper plots that of PCA and k-means)."""

WITH_INTERVAL = ("probability", "mi_paper", "mi_textbook", "auc", "auc_unpadded")
SPLIT = ("mi_paper", "auc", "mutual_count")
BEHIND = {"top1_behind": "correct", "mutual_count_behind": "mutual_count", "auc_behind": "auc"}
"""Columns of MODELS with the difference to the most accurate model of the family -> what differs."""


def _fields(table: str) -> Iterator[pa.Field]:
    """The columns of a table; an interval is three: the value, its lower and its upper end."""
    with (assets_dir() / "study_columns.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["table"] == table:
                kind, _, shape = row["type"].partition(" ")
                values = pa.type_for_alias(kind)
                for end in ("", "_low", "_high") if shape == "interval" else ("",):
                    yield pa.field(row["column"] + end, pa.list_(values) if shape == "list" else values)


PLAN, LANGUAGE, IMAGE = (pa.schema(_fields(table)) for table in ("plan", "language", "image"))
ASKED_IMAGE = pa.schema([*IMAGE, *_fields("asked_image")])
SWAPPED = pa.schema(_fields("swapped"))
TABLES = {
    name: pa.schema(_fields(name))
    for name in ("cues", "concepts", "asked", "language_counts", "wrong", "classes", "models")
}
"""Tables of rows that fit into memory, in the order in which they are written."""


CUE_CHECKS = pa.schema(_fields("cue_checks"))
"""What does not follow from the shards: it stays when the tables are written again."""


def image_schema(asks: Sequence[str]) -> pa.Schema:
    """`IMAGE`, or `ASKED_IMAGE` where images are asked for texts."""
    return ASKED_IMAGE if asks else IMAGE


def images_schema(asks: Sequence[str]) -> pa.Schema:
    """Of `tables/images.parquet`: what shards have, and the class swap."""
    return pa.schema([*image_schema(asks), *SWAPPED])


def check_concepts(rows: pa.Table) -> None:
    """ArrowInvalid unless each row of images has as many flags and importances (where read) as vision concepts."""
    names = [name for name in ("vision_concepts", "importance", "mutual") if name in rows.column_names]
    lengths = [pc.list_value_length(rows[name]).fill_null(0) for name in names]
    if any(not one.equals(lengths[0]) for one in lengths[1:]):
        raise pa.ArrowInvalid(f"lists of {' and '.join(names)} differ in length; a new run of the study rebuilds it")

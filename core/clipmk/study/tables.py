"""The final tables of a study, from its shards: the same bytes whatever the order or number of runs that wrote them.

Models and shards are read in the manifest's order, one shard in memory at a time; of an image only numbers are kept.
Nothing is random, no time is recorded.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.lib.recfunctions import repack_fields
from numpy.typing import NDArray

from clipmk.records import ModelInfo
from clipmk.study import image_columns as of_images
from clipmk.study.concepts import ConceptCounts
from clipmk.study.cues import cue_table
from clipmk.study.manifest import Manifest, StudyFolder
from clipmk.study.schema import BEHIND, LANGUAGE, MEAN, PLAN, TABLES, TableRow, image_schema, images_schema
from clipmk.study.swaps import ClassConcepts, Overlaps
from clipmk.study.wrong import wrong_rows
from clipmk.system.files import write_text
from clipmk.system.parquet import is_intact, read_table, table_writer, write_rows
from clipmk.system.rows import csv_text

_VERSION: Final = 5  # raised when the columns of a table change: tables of an older version are written again
_ROWS: Final = 8192
"""Least rows in a row group of the table of images, but for the last of a model: many small ones are slow to open."""


@dataclass(frozen=True, slots=True)
class Completeness:
    """How much of a study is done."""

    done: int
    """Shards that exist."""
    total: int
    """Shards of all models."""

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return self.done == self.total


@dataclass(slots=True)
class _Tables:
    """Rows collected model by model, and where the rows of single images are written at once."""

    folder: StudyFolder
    manifest: Manifest
    images: pq.ParquetWriter
    cues: pq.ParquetWriter
    groups: NDArray[np.int64]
    """Number of the group that each image of the dataset was fitted with."""
    measured: dict[tuple[str, str], of_images.ImageColumns] = field(default_factory=dict)
    """Model and part method -> its images, without curves."""
    codes: dict[str, int] = field(default_factory=dict)
    """Class -> its number in order of appearance."""
    rows: dict[str, list[TableRow]] = field(default_factory=lambda: {name: [] for name in TABLES})

    def add(self, model: ModelInfo, shards: Sequence[int]) -> None:
        """Add the rows of one model from its shards."""
        methods, made_of = self.manifest.parts, self.manifest.made_of(model)
        pieces: dict[str, list[of_images.ImageColumns]] = {parts: [] for parts in methods}
        most, language = int(self.manifest.settings["vision_limit"]), self._language(model)
        overlaps = {parts: Overlaps(language, self.manifest.language_counts, most) for parts in methods}
        counts = {parts: ConceptCounts(language, self.manifest.asks, most) for parts in methods}
        waiting: list[pa.Table] = []
        sizes = {"points": most + 1, "compared": len(language.compared)}
        for number in shards:
            columns = image_schema(self.manifest.asks)
            shard = read_table(self.folder.shard(model.id, number), columns, made_of=made_of, newer=("margin",))
            shard = language.with_class_swap(shard, most)
            waiting.append(shard)
            if number == shards[-1] or sum(map(len, waiting)) >= _ROWS:
                self.images.write_table(pa.concat_tables(waiting))
                waiting.clear()
            for parts in methods:
                rows = shard.filter(pc.equal(shard.column("parts"), parts))
                pieces[parts].append(of_images.image_columns(rows, self.codes, self.groups, **sizes))
                counts[parts].add(rows)
                overlaps[parts].add(rows)
        self.rows["asked"] += counts[methods[0]].asked_rows(model.id)
        for parts, counted in counts.items():
            self.rows["concepts"] += counted.rows(model.id, parts)
            self.cues.write_table(cue_table(counted, model.id, parts))
        found: dict[str, of_images.ImageColumns] = {}
        for parts in methods:
            joined = np.concatenate(pieces.pop(parts))
            found[parts] = joined[np.argsort(joined["image"], kind="stable")]
            images, p, compared = overlaps[parts].image_swap()
            swapped = np.searchsorted(found[parts]["image"], images)
            found[parts]["image_swap_below"][swapped] = of_images.below(p, compared)
            self.rows["language_counts"] += overlaps[parts].size_rows(model.id, parts)
        if len(found) > 1:
            found[MEAN] = of_images.mean_of_methods(list(found.values()))
        for parts, measured in found.items():
            descriptors = self.manifest.vocabulary.descriptors
            self.rows["models"].append(of_images.model_row(model, parts, measured, vocabulary_size=descriptors))
            self.rows["wrong"] += wrong_rows(model.id, parts, measured)
            about = {"model": model.id, "parts": parts, "vocabulary_size": descriptors}
            self.rows["classes"] += of_images.class_rows(about, measured, list(self.codes))
            self.measured[model.id, parts] = repack_fields(measured[["image", "group", "explained", *BEHIND.values()]])

    def compare(self) -> None:
        """Add to the row of each model how far it is behind the most accurate one of its family, on the same images."""
        models = self.rows["models"]
        for row in models:
            family = [one for one in models if (one["family"], one["parts"]) == (row["family"], row["parts"])]
            best = max(family, key=lambda one: one["top1"] or 0.0)["model"]
            row["reference"] = None if best == row["model"] else best
            row.update(of_images.behind(self.measured[row["model"], row["parts"]], self.measured[best, row["parts"]]))

    def _language(self, model: ModelInfo) -> ClassConcepts:
        made_of, about = self.manifest.made_of_language(model), self.manifest.vocabulary
        table = read_table(self.folder.language(model.id), LANGUAGE, made_of=made_of)
        return ClassConcepts(table, count=self.manifest.language_count, vocabulary_size=about.descriptors)


def write_tables(folder: StudyFolder, manifest: Manifest, *, unless_current: bool = False) -> Completeness:
    """Write `tables/`: models, classes, concepts, images and what was asked, from the shards that exist.

    A model without any shard has no row; with several part methods there are also rows of their mean, over images that
    every method explained. The table `models` is written last. `unless_current` keeps tables that were made of exactly
    the shards that exist. InputError if a shard or the D_y of a model is missing, damaged or of another version;
    ClipmkError if a table cannot be written.
    """
    done = {
        model.id: [number for number in range(manifest.shards) if folder.shard(model.id, number).is_file()]
        for model in manifest.models
    }
    completeness = Completeness(sum(map(len, done.values())), len(manifest.models) * manifest.shards)
    made_of = manifest.made_of(manifest.models, list(done.values()), _VERSION, manifest.language_counts)
    if unless_current and all(is_intact(folder.table(name), made_of) for name in ("images", *tables_of(manifest))):
        return completeness
    with (
        table_writer(folder.table("images"), images_schema(manifest.asks), made_of) as images,
        table_writer(folder.table("cues"), TABLES["cues"], made_of) as cues,
    ):
        plan = read_table(folder.plan, PLAN, ["image", "group"], made_of=manifest.made_of()).sort_by("image")
        tables = _Tables(folder, manifest, images, cues, plan.column("group").to_numpy())
        for model in manifest.models:
            if done[model.id]:
                tables.add(model, done[model.id])
    tables.compare()
    for name in tables_of(manifest):
        if name in {"classes", "models"}:
            write_text(csv_text(tables.rows[name], TABLES[name].names), folder.table(name, ".csv"))
        if name != "cues":  # written already
            write_rows(tables.rows[name], folder.table(name), TABLES[name], made_of)
    return completeness


def tables_of(manifest: Manifest) -> list[str]:
    """Which of `schema.TABLES` a study has."""
    optional = {"asked": manifest.asks, "language_counts": manifest.language_counts}
    return [name for name in TABLES if optional.get(name, True)]

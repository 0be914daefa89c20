"""The final tables of a study, from its shards: the same bytes whatever the order or number of runs that made them.

Models and shards are gone through in the manifest's order, one shard in memory at a time; of an image only numbers
are kept. Nothing random, no times.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clipmk.errors import InputError
from clipmk.records import ModelInfo
from clipmk.study.concept_counts import ConceptCounts, language_concepts
from clipmk.study.layout import StudyFolder
from clipmk.study.manifest import Manifest
from clipmk.study.measures import ClassCodes, Measures, joined, mean_of_ways, measures
from clipmk.study.schema import CLASSES, CONCEPTS, IMAGE, LANGUAGE, MEAN, MODELS
from clipmk.study.summary import Row, Way, class_rows, model_row
from clipmk.system.files import atomic_write, make_folder
from clipmk.system.parquet import read_metadata, read_table, table_writer, write_rows
from clipmk.system.text import quoted

_MADE_OF: Final = "clipmk_shards"
"""Metadata of the table `models`: digest of the shards that it was made of."""


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
    """Rows gathered model by model."""

    models: list[Row] = field(default_factory=list)
    classes: list[Row] = field(default_factory=list)
    concepts: list[Row] = field(default_factory=list)


def write_tables(folder: StudyFolder, manifest: Manifest) -> Completeness:
    """Write `tables/`: models, classes, concepts and images, of the shards that exist.

    A model without any shard has no row; one with several ways of finding parts also has rows of their mean, over
    images that every way explained. The table `models` is written last.

    Returns:
        How many shards there are of how many.

    Raises:
        InputError: a shard or the D_y of a model is missing, damaged or of another version; the message names it.
        ClipmkError: a table cannot be written.
    """
    done = _shards(folder, manifest)
    tables, codes = _Tables(), ClassCodes()
    with table_writer(folder.table("images"), IMAGE) as images:
        for model in manifest.models:
            if done[model.id]:
                _add_model(folder, manifest, model, done[model.id], tables=tables, codes=codes, images=images)
    write_rows(tables.concepts, folder.table("concepts"), CONCEPTS)
    _write_both(folder, "classes", tables.classes, CLASSES)
    _write_both(folder, "models", tables.models, MODELS.with_metadata({_MADE_OF: _digest(done)}))
    return _completeness(done, manifest)


def ensure_tables(folder: StudyFolder, manifest: Manifest) -> Completeness:
    """Write the tables unless they are there already and made of exactly the shards that exist.

    Returns:
        How many shards there are of how many.

    Raises:
        InputError: as in `write_tables`.
        ClipmkError: a table cannot be written.
    """
    done = _shards(folder, manifest)
    there = all(folder.table(name).is_file() for name in ("images", "concepts", "classes", "models"))
    if there and read_metadata(folder.table("models")).get(_MADE_OF) == _digest(done):
        return _completeness(done, manifest)
    return write_tables(folder, manifest)


def _shards(folder: StudyFolder, manifest: Manifest) -> dict[str, list[int]]:
    """Numbers of the shards that exist, by model."""
    return {
        model.id: [number for number in range(manifest.shards) if folder.shard(model.id, number).is_file()]
        for model in manifest.models
    }


def _digest(done: dict[str, list[int]]) -> str:
    return hashlib.sha256(repr(sorted(done.items())).encode("utf-8", "backslashreplace")).hexdigest()


def _completeness(done: dict[str, list[int]], manifest: Manifest) -> Completeness:
    return Completeness(sum(map(len, done.values())), len(manifest.models) * manifest.shards)


def _add_model(
    folder: StudyFolder,
    manifest: Manifest,
    model: ModelInfo,
    shards: Sequence[int],
    *,
    tables: _Tables,
    codes: ClassCodes,
    images: pq.ParquetWriter,
) -> None:
    pieces: dict[str, list[Measures]] = {way: [] for way in manifest.parts}
    counts = {way: ConceptCounts() for way in manifest.parts}
    points = int(manifest.settings["vision_limit"]) + 1
    for number in shards:
        path = folder.shard(model.id, number)
        shard = read_table(path, IMAGE)
        images.write_table(shard)
        with _damage(path):
            for way in manifest.parts:
                rows = shard.filter(pc.equal(shard.column("parts"), way)).combine_chunks()
                pieces[way].append(measures(rows, codes, points=points))
                counts[way].add(rows)
    language = language_concepts(read_table(folder.language(model.id), LANGUAGE))
    with _damage(folder.language(model.id)):
        for way, counted in counts.items():
            tables.concepts += counted.rows(model.id, way, language)
    found = {way: joined(pieces.pop(way)) for way in manifest.parts}  # frees what was joined
    if len(found) > 1:
        found[MEAN] = mean_of_ways(list(found.values()))
    for name, measured in found.items():
        way_of_model = Way(model, name, measured)
        tables.models.append(model_row(way_of_model, vocabulary_size=manifest.vocabulary.descriptors))
        tables.classes += class_rows(way_of_model, codes.names)


@contextlib.contextmanager
def _damage(path: Any) -> Iterator[None]:
    """Name the file whose content contradicts itself."""
    try:
        yield
    except KeyError as reason:
        raise InputError(f"table {quoted(path)} is damaged: class {quoted(str(reason.args[0]))} is missing") from reason
    except (ValueError, pa.ArrowException) as reason:
        raise InputError(f"table {quoted(path)} is damaged: {reason}") from reason


def _write_both(folder: StudyFolder, name: str, rows: Sequence[Row], schema: pa.Schema) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(schema.names)
    writer.writerows([_cell(row[column]) for column in schema.names] for row in rows)
    path = folder.table(name, ".csv")
    make_folder(path.parent)
    with atomic_write(path, private=False) as handle:
        handle.write(text.getvalue().encode())
    metadata = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    write_rows(rows, folder.table(name), schema, metadata)


def _cell(value: Any) -> Any:
    """A value of a CSV file; a curve becomes its numbers with spaces between."""
    return " ".join(map(repr, value)) if isinstance(value, list) else value

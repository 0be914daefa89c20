"""Tables of images of plain Python rows, and studies whose plan names its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from clipmk.browse.image_table import MODEL, Concepts, ImageTable
from clipmk.browse.notes import Notes
from clipmk.datasets.entries import Entry
from clipmk.study.manifest import Manifest, StudyFolder
from clipmk.study.plan import make_plan, write_plan
from study_shards import class_names


@dataclass(frozen=True)
class Said:
    """What a model says of an image; by default nothing."""

    predicted: str | None = None
    error: str | None = None
    p: float | None = None
    prob: float | None = None
    m: int | None = None
    mi: float | None = None
    auc: float | None = None
    concepts: tuple[tuple[str, bool], ...] = ()


@dataclass(frozen=True)
class Shown:
    """An image."""

    name: str
    truth: str | None = None
    models: tuple[Said, ...] = field(default_factory=lambda: (Said(),))


class PlainTable(ImageTable):
    """A table of rows that are there already."""

    def __init__(self, rows: Sequence[Shown], notes: Notes | None = None) -> None:
        self.rows = rows
        columns = ([row.name for row in rows], [row.truth for row in rows])
        names, truth = (pa.chunked_array([pa.array(column, pa.string())]) for column in columns)
        models = [f"model {number}" for number in range(len(rows[0].models))]
        super().__init__(names, truth, models, notes or Notes(Path("/nowhere/notes.csv")))
        for number in range(len(models)):
            for place, row in enumerate(rows):
                said = row.models[number].predicted
                if said is not None:
                    self.predicted[number, place] = self.classes.setdefault(said, len(self.classes))

    def read(self, model: str) -> tuple[pa.Table, Concepts]:
        said = [row.models[self.models.index(model)] for row in self.rows]
        table = pa.Table.from_pylist([{name: getattr(one, name) for name in MODEL.names} for one in said], MODEL)
        flat = [(place, text, mutual) for place, one in enumerate(said) for text, mutual in one.concepts]
        codes = [self.concepts.setdefault(text, len(self.concepts)) for _, text, _ in flat]
        return table, Concepts(
            np.array([place for place, _, _ in flat], np.int32),
            np.array(codes, np.int32),
            np.array([mutual for _, _, mutual in flat], np.bool_),
        )


def write_named_plan(folder: StudyFolder, manifest: Manifest) -> None:
    """The plan of a study of `study_shards`, with the names and labels of its shards."""
    count, names = manifest.dataset.images, class_names(manifest.vocabulary.classes)
    labels = [None if image % 17 == 3 else names[image * len(names) // count] for image in range(count)]
    entries = [Entry(key=f"{image:05d}.jpg", label=None, path=f"{image:05d}.jpg", size=1) for image in range(count)]
    plan = make_plan(entries, labels, fit="image", shard_size=manifest.shard_size)
    write_plan(plan, folder.plan, manifest.made_of())

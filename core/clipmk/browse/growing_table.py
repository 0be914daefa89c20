"""The table of images of a folder, filled by the app while they are explained."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from clipmk.browse.image_table import MODEL, Concepts, ImageTable
from clipmk.browse.notes import FOLDER_NOTES, Notes
from clipmk.records import ExplanationRecord
from clipmk.system.text import encodable


class GrowingTable(ImageTable):
    """Images that have rows before anything is known of them.

    `images` are paths and true classes (None: not known), in order; an image's name is its path below `folder`, where
    notes are kept.
    """

    complete = False

    def __init__(self, folder: str | Path, images: Sequence[tuple[str, str | None]], models: Sequence[str]) -> None:
        self.paths = [path for path, _ in images]
        self._places = {path: place for place, path in enumerate(self.paths)}
        names = pa.array([encodable(os.path.relpath(path, folder)) for path in self.paths], pa.string())
        truth = pa.array([label for _, label in images], pa.string())
        notes = Notes(Path(folder) / FOLDER_NOTES)
        super().__init__(pa.chunked_array([names]), pa.chunked_array([truth]), models, notes)
        self._found: dict[str, list[dict[str, Any]]] = {model: [{} for _ in images] for model in models}

    def read(self, model: str) -> tuple[pa.Table, Concepts]:
        """What a model says so far."""
        found = self._found[model]
        places = np.repeat(np.arange(len(found), dtype=np.int32), [len(row.get("codes", ())) for row in found])
        codes, mutual = ([one for row in found for one in row.get(name, ())] for name in ("codes", "mutual"))
        return pa.Table.from_pylist(found, MODEL), Concepts(
            places, np.array(codes, np.int32), np.array(mutual, np.bool_)
        )

    def add(self, explanation: ExplanationRecord, path: str, model: str) -> None:
        """Fill the row of an image with what a model says of it."""
        predicted, mutual = explanation.predictions[0], explanation.mutual
        code = self.classes.setdefault(predicted.class_name, len(self.classes))
        self.predicted[self.models.index(model), self._places[path]] = code
        concepts = explanation.vision_concepts
        self._fill(
            path,
            model,
            predicted=predicted.class_name,
            p=mutual.class_swap and mutual.class_swap.p_value,
            prob=predicted.probability,
            m=mutual.count,
            mi=mutual.mi_paper,
            auc=mutual.auc,
            codes=[self.concepts.setdefault(one.text, len(self.concepts)) for one in concepts],
            mutual=[one.mutual for one in concepts],
        )

    def fail(self, path: str, model: str, message: str) -> None:
        """Say why a model cannot explain an image."""
        self._fill(path, model, error=message)

    def missing(self, model: str) -> list[str]:
        """Paths of the images that a model neither explained nor failed on, in order."""
        return [path for path, row in zip(self.paths, self._found[model], strict=True) if not row]

    def _fill(self, path: str, model: str, **row: Any) -> None:
        self._found[model][self._places[path]] = row
        self._data.pop(model, None)

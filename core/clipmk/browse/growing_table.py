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
        split = [os.path.split(path) for path in self.paths]
        root, real = os.path.realpath(folder), {parent: os.path.realpath(parent) for parent, _ in split}  # links
        keys = (os.path.relpath(f"{real[parent]}{os.sep}{name}", root) for parent, name in split)
        names = pa.array([encodable(key) for key in keys], pa.string())
        truth = pa.array([label for _, label in images], pa.string())
        notes = Notes(Path(folder) / FOLDER_NOTES)
        super().__init__(pa.chunked_array([names]), pa.chunked_array([truth]), models, notes)
        self._found: dict[str, list[dict[str, Any]]] = {model: [{} for _ in images] for model in models}

    def read(self, model: str) -> tuple[pa.Table, Concepts]:
        """What a model says so far."""
        found = self._found[model]
        nothing = Concepts(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.bool_))
        concepts = [nothing, *(row["concepts"] for row in found if "concepts" in row)]
        return pa.Table.from_pylist(found, MODEL), Concepts(*map(np.concatenate, zip(*concepts, strict=True)))

    def add(self, explanation: ExplanationRecord, path: str, model: str) -> None:
        """Fill the row of an image with what a model says of it."""
        place, first, mutual = self._places[path], explanation.predictions[0], explanation.mutual
        code = self.classes.setdefault(first.class_name, len(self.classes))
        self.predicted[self.models.index(model), place] = code
        p = mutual.class_swap and mutual.class_swap.p_value
        values = (first.class_name, None, p, first.probability, mutual.count, mutual.mi_paper, mutual.auc)
        seen = explanation.vision_concepts
        codes = [self.concepts.setdefault(one.text, len(self.concepts)) for one in seen]
        flags = np.array([one.mutual for one in seen], np.bool_)
        concepts = Concepts(np.full(len(seen), place, np.int32), np.array(codes, np.int32), flags)
        self._fill(path, model, **dict(zip(MODEL.names, values, strict=True)), concepts=concepts)

    def fail(self, path: str, model: str, message: str) -> None:
        """Say why a model cannot explain an image."""
        self._fill(path, model, error=message)

    def missing(self, model: str) -> list[str]:
        """Paths of the images that a model neither explained nor failed on, in order."""
        return [path for path, row in zip(self.paths, self._found[model], strict=True) if not row]

    def _fill(self, path: str, model: str, **row: Any) -> None:
        self._found[model][self._places[path]] = row
        self._data.pop(model, None)

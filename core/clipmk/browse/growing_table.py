"""The table of images of a folder, filled by the app while they are explained."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from clipmk.browse.image_table import RESULTS, UNKNOWN, Concepts, ImageTable, Results, flattened
from clipmk.browse.notes import FOLDER_NOTES, Notes
from clipmk.records import ExplanationRecord
from clipmk.system.text import encodable


class GrowingTable(ImageTable):
    """Images that have rows before anything is known of them.

    `images` are paths and true classes (None: not known), in order; an image's key is its path below `folder`, in which
    notes are kept; `models` are ids, at least one.
    """

    complete = False

    def __init__(self, folder: str | Path, images: Sequence[tuple[str, str | None]], models: Sequence[str]) -> None:
        self._paths = [path for path, _ in images]
        self._places = {path: place for place, path in enumerate(self._paths)}
        keys = pa.array([encodable(os.path.relpath(path, folder)) for path in self._paths], pa.string())
        labels = pa.chunked_array([pa.array([label for _, label in images], pa.string())])
        super().__init__(keys, labels, models, Notes(Path(folder) / FOLDER_NOTES))
        self._results = {model: np.full(len(images), np.nan, RESULTS) for model in models}
        self._errors: dict[str, dict[int, str]] = {model: {} for model in models}
        self._pieces: dict[str, dict[int, Concepts]] = {model: {} for model in models}
        self._concepts: dict[str, Concepts] = {}

    def add(self, explanation: ExplanationRecord, path: str, model: str) -> None:
        """Fill the row of an image with what a model says of it."""
        place, found, first = self._places[path], explanation.mutual, explanation.predictions[0]
        self.predicted[self.models.index(model), place] = self.class_names.code(first.class_name)
        p = np.nan if found.class_swap is None else found.class_swap.p_value
        self._results[model][place] = (p, first.probability, found.count, found.mi_paper, found.auc)
        self._errors[model].pop(place, None)
        codes = [self.concept_names.code(one.text) for one in explanation.vision_concepts]
        mutual = [one.mutual for one in explanation.vision_concepts]
        places = np.full(len(codes), place, np.int64)
        self._pieces[model][place] = Concepts(places, np.array(codes, np.int32), np.array(mutual, np.bool_))
        self._concepts.pop(model, None)

    def fail(self, path: str, model: str, message: str) -> None:
        """Say why a model cannot explain an image."""
        self._errors[model][self._places[path]] = message

    def missing(self, model: str) -> list[str]:
        """Paths of the images that a model neither explained nor failed on, in order."""
        open_places = np.flatnonzero(self.predicted[self.models.index(model)] == UNKNOWN).tolist()
        return [self._paths[place] for place in open_places if place not in self._errors[model]]

    def path(self, place: int) -> str:
        """The file of an image, as it was named."""
        return self._paths[place]

    def results(self, model: str) -> Results:
        """Its numbers so far."""
        return self._results[model]

    def errors(self, model: str) -> dict[int, str]:
        """Its failures so far."""
        return self._errors[model]

    def concepts(self, model: str) -> Concepts:
        """Its vision concepts so far."""
        if model not in self._concepts:
            self._concepts[model] = flattened(self._pieces[model].values())
        return self._concepts[model]

"""The table of images of a study, read from `tables/images.parquet`, or from its shards where that is missing.

Read are the predictions of all models, and numbers and concepts of those that are shown. Nothing is written, so a study
may be opened while a run works on it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import Timeout

from clipmk.browse.image_table import RESULTS, UNKNOWN, Concepts, ImageTable, Results, flattened
from clipmk.browse.notes import STUDY_NOTES, Notes
from clipmk.errors import InputError, UsageError, suggest
from clipmk.study.manifest import StudyFolder, read_manifest
from clipmk.study.results import Results as StudyResults
from clipmk.study.results import read_results
from clipmk.study.schema import IMAGE, PLAN, image_schema, images_schema
from clipmk.system.files import file_lock
from clipmk.system.parquet import open_table, readable
from clipmk.system.text import counted, quoted

_COLUMNS: Final = {"prob": "probability", "p": "class_swap_p", "m": "mutual_count", "mi": "mi_paper", "auc": "auc"}
"""Field of `RESULTS` -> column."""
_NEWER: Final = ("margin",)
_CODES: Final = ("parts", "predicted", "error", "vision_concepts.list.element")
"""Columns of texts that are read as codes."""


class StudyTable(ImageTable):
    """The images of a study as far as it is done; the two most accurate models are shown first.

    InputError if `root` is not a study, is of another version, or its manifest or plan is damaged.
    """

    def __init__(self, root: str | Path) -> None:
        self.folder = StudyFolder(Path(root))
        self.manifest = read_manifest(self.folder.manifest)
        self.parts = self.manifest.parts[0]
        """The part method whose numbers are shown."""
        with open_table(self.folder.plan, PLAN) as file:
            plan = file.read()
        self.plan = plan.take(np.argsort(plan["image"].to_numpy())).combine_chunks()
        """Rows of the table `PLAN`, by place."""
        models = [model.id for model in self.manifest.models]
        keys = self.plan["key"].combine_chunks()
        super().__init__(keys, self.plan["label"], models, Notes(self.folder.root / STUDY_NOTES))
        self._numbers: dict[str, tuple[Results, dict[int, str]]] = {}
        self._concepts: dict[str, Concepts] = {}
        self.closing = contextlib.ExitStack()
        """Closes the file that is read, and removes copies of images."""
        self._shards = {
            model: [number for number in range(self.manifest.shards) if self.folder.shard(model, number).is_file()]
            for model in models
        }
        self._file: pq.ParquetFile | None = None
        images = self.folder.table("images")
        try:
            if images.exists():
                table = open_table(images, images_schema(self.manifest.asks), None, _NEWER, _CODES)
                self._file = self.closing.enter_context(table)
            self._read_predictions()
        except InputError as reason:  # about the table: shards that cannot be read are left out
            self.warnings.append(f"{reason}; the shards are read instead")
            self._file = None
            self._read_predictions()
        self._warn()
        right = ((self.predicted == self.labels) & (self.labels != UNKNOWN)).sum(axis=1)
        self.use(*(models[number] for number in np.argsort(-right, kind="stable")[:2]))

    def use(self, a: str, b: str | None = None, parts: str | None = None) -> None:
        """Choose the models, and the part method (None: as before); UsageError if the study does not have it."""
        if parts not in {None, *self.manifest.parts}:
            raise UsageError(f"the study has no part method {parts!r}; {suggest(str(parts), self.manifest.parts)}")
        super().use(a, b)
        kept = {self.a, self.b} if parts in {None, self.parts} else set()
        self.parts = parts or self.parts
        self._numbers = {model: one for model, one in self._numbers.items() if model in kept}
        self._concepts = {model: one for model, one in self._concepts.items() if model in kept}

    def path(self, place: int) -> str | None:
        """The file that holds an image, below the dataset's root; None where it is rendered."""
        path: str | None = self.plan["path"][place].as_py()
        return path

    def results(self, model: str) -> Results:
        """The numbers of a model, read once while it is shown."""
        return self._measured(model)[0]

    def errors(self, model: str) -> dict[int, str]:
        """Why a model failed, by place."""
        return self._measured(model)[1]

    def concepts(self, model: str) -> Concepts:
        """The vision concepts of a model, read once while it is shown."""
        if model not in self._concepts:
            pieces = []
            for rows in self._read(model, ["vision_concepts", "mutual"]):
                mutual, counts = rows["mutual"], pc.list_value_length(rows["mutual"]).fill_null(0).to_numpy()
                codes = self.concept_names.codes(pc.list_flatten(rows["vision_concepts"]))
                pieces.append(
                    Concepts(np.repeat(rows["image"].to_numpy(), counts), codes, pc.list_flatten(mutual).to_numpy())
                )
            self._concepts[model] = flattened(pieces)
        return self._concepts[model]

    def tables(self) -> StudyResults:
        """The study's other tables, brought up to date unless a run works on it.

        InputError if a run does and there are none yet, or as for `read_results`.
        """
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(file_lock(self.folder.lock, seconds=0))
            except Timeout as reason:
                raise InputError(
                    f"a run is working on {quoted(self.folder.root)}; tables follow at its end"
                ) from reason
            except OSError:
                pass  # a folder that cannot be written: no run works on it
            return read_results(self.folder)

    def _measured(self, model: str) -> tuple[Results, dict[int, str]]:
        if model not in self._numbers:
            found, errors = np.full(len(self), np.nan, RESULTS), dict[int, str]()
            for rows in self._read(model, ["error", *_COLUMNS.values()]):
                for name, column in _COLUMNS.items():
                    if column in rows.column_names:  # shards have no class swap
                        found[name][rows["image"].to_numpy()] = rows[column].cast(pa.float64()).to_numpy()
                failed = rows.filter(rows["error"].is_valid())
                errors |= zip(failed["image"].to_pylist(), failed["error"].to_pylist(), strict=True)
            self._numbers[model] = found, errors
        return self._numbers[model]

    def _read_predictions(self) -> None:
        for model, predicted in zip(self.models, self.predicted, strict=True):
            for rows in self._read(model, ["predicted"]):
                predicted[rows["image"].to_numpy()] = self.class_names.codes(rows["predicted"])

    def _read(self, model: str, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Columns of a model's images under the part method, and their places, a row group at a time."""
        if self._file is not None:
            for number in self._groups.get(model, ()):
                with readable(self.folder.table("images")):
                    rows = self._rows(self._file, number, columns)
                yield rows
            return
        for number in self._shards[model]:
            path, schema = self.folder.shard(model, number), image_schema(self.manifest.asks)
            try:
                with open_table(path, schema, None, _NEWER, _CODES) as file:
                    rows = self._rows(file, 0, columns)
            except InputError as reason:
                self.warnings += [str(reason)] if str(reason) not in self.warnings else []
            else:
                yield rows

    def _rows(self, file: pq.ParquetFile, number: int, columns: Sequence[str]) -> pa.Table:
        wanted = [name for name in ("image", "parts", *columns) if name in file.schema_arrow.names]
        rows = file.read_row_group(number, columns=wanted)
        return rows.filter(pc.equal(rows["parts"], self.parts)) if len(self.manifest.parts) > 1 else rows

    @cached_property
    def _groups(self) -> dict[str, list[int]]:
        """Model -> its row groups in the table of images; each holds one model."""
        found: dict[str, list[int]] = {}
        if self._file is not None:
            for number in range(self._file.num_row_groups):
                column = self._file.metadata.row_group(number).column(IMAGE.get_field_index("model"))
                found.setdefault(column.statistics.min, []).append(number)
        return found

    def _warn(self) -> None:
        """Tell what is missing or older than it could be."""
        done, total = sum(map(len, self._shards.values())), len(self.models) * self.manifest.shards
        sizes = np.bincount(self.plan["shard"].to_numpy(), minlength=self.manifest.shards)
        rows = len(self.manifest.parts) * sum(int(sizes[shards].sum()) for shards in self._shards.values())
        if done < total:
            self.warnings.append(f"{done:,} of {counted(total, 'shard')} are done; the other images are empty")
        if self._file is None:
            self.warnings.append("the tables are not written yet; p follows with them")
        elif self._file.metadata.num_rows < rows:
            self.warnings.append("the tables are older than the shards; `clipmk study report` brings them up to date")

"""The table of images of a study, read from `tables/images.parquet`, or from its shards where that is missing.

Read are the predictions of all models, and the rest of those that are shown. Nothing is written, so a study may be
opened while a run works on it.
"""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from filelock import Timeout

from clipmk.browse.image_table import MODEL, UNKNOWN, Concepts, ImageTable
from clipmk.browse.notes import STUDY_NOTES, Notes
from clipmk.datasets.entries import FileReader
from clipmk.datasets.opening import reader_of
from clipmk.errors import InputError, UsageError, raised_as, suggest
from clipmk.images.paths import EXTENSIONS
from clipmk.study.image_columns import encode
from clipmk.study.manifest import StudyFolder, read_manifest
from clipmk.study.plan import entry_of, missing_parts
from clipmk.study.results import Results, read_results
from clipmk.study.schema import PLAN, check_concepts, images_schema
from clipmk.system.files import file_lock
from clipmk.system.parquet import read_table
from clipmk.system.text import counted, listed, quoted, slug

_OF_TABLES: Final = "class_swap_p"  # the column that shards do not have
_COLUMNS: Final = ("predicted", "error", _OF_TABLES, "probability", "mutual_count", "mi_paper", "auc")
"""What becomes the columns of `MODEL`."""
_CODES: Final = frozenset({"predicted", "vision_concepts.list.element"})  # texts that are read as codes


class StudyTable(ImageTable):
    """The images of a study as far as it is done; the two most accurate models are shown first.

    `parts` is the part method whose numbers are shown, by default the first of `manifest.parts`. InputError if `root`
    is not a study, is of another version, or its manifest or plan is damaged.
    """

    def __init__(self, root: str | Path, parts: str | None = None) -> None:
        self.folder = StudyFolder(Path(root))
        self.manifest = read_manifest(self.folder.manifest)
        self.parts = parts or self.manifest.parts[0]
        if self.parts not in self.manifest.parts:
            raise UsageError(f"the study has no part method {parts!r}; {suggest(self.parts, self.manifest.parts)}")
        plan = read_table(self.folder.plan, PLAN, ["image", "key", "label", "shard"]).sort_by("image")
        shards = plan["shard"].to_numpy()
        if not ((shards >= 0) & (shards < self.manifest.shards)).all():
            what = f"plan {quoted(self.folder.plan)} is damaged: its shards are not those of the study"
            raise InputError(f"{what}; a new run of the study rebuilds it")
        models = [model.id for model in self.manifest.models]
        super().__init__(plan["key"], plan["label"], models, Notes(self.folder.root / STUDY_NOTES))
        images = self.folder.table("images")
        self._files = {model: [images] for model in models}
        try:
            rows = self._read_predictions()
        except InputError as reason:
            missing = missing_parts(self.folder, self.manifest)
            for model in models:
                lost = {number for number, names in missing.shards.items() if model in names}
                sound = sorted({*range(self.manifest.shards)} - lost)
                self._files[model] = [self.folder.shard(model, number) for number in sound]
            damaged = [f"damaged files are left out: {listed(missing.damaged, most=3)}"] if missing.damaged else []
            unread = f"{reason}; the shards are read instead" if images.exists() else "the tables are not written yet"
            self.warnings += [f"{unread}; p follows with them", *damaged]
            rows = self._read_predictions()
        self._warn(rows, shards)
        truth = encode(plan["label"], self.classes)
        right = ((self.predicted == truth) & (truth != UNKNOWN)).sum(axis=1)
        self.use(*(models[number] for number in np.argsort(-right, kind="stable")[:2]))

    def data(self, model: str) -> tuple[pa.Table, Concepts]:
        """What `read` returned; InputError if the file is damaged."""
        with self._reading(model):
            return super().data(model)

    def read(self, model: str) -> tuple[pa.Table, Concepts]:
        """Read what a model says."""
        rows = self._read(model, [*_COLUMNS, "vision_concepts", "mutual"])
        check_concepts(rows)
        if (np.diff(rows["image"].to_numpy()) < 0).any():  # sorting costs time and memory
            rows = rows.sort_by("image")
        places = rows["image"].to_numpy()
        counts = pc.list_value_length(rows["mutual"]).fill_null(0).to_numpy()
        codes = encode(pc.list_flatten(rows["vision_concepts"]), self.concepts).astype(np.int32)
        concepts = Concepts(
            np.repeat(places.astype(np.int32), counts), codes, pc.list_flatten(rows["mutual"]).to_numpy()
        )
        found = rows.select(_COLUMNS).rename_columns(MODEL.names).cast(MODEL)
        row = np.full(len(self), UNKNOWN)
        row[places] = np.arange(len(rows))
        return found.take(pa.array(row, mask=row == UNKNOWN)), concepts

    def tables(self) -> Results:
        """The study's other tables, brought up to date; InputError if a run works on it, or as for `read_results`."""
        try:
            with file_lock(self.folder.lock, seconds=0):
                return read_results(self.folder)
        except Timeout as reason:
            raise InputError("a run works on it; tables follow at its end") from reason
        except OSError:  # a folder that cannot be written: no run works on it
            return read_results(self.folder)

    def image(self, place: int) -> str:
        """Path of an image; of one in a shard or rendered that of a private copy, which `closing.close()` removes.

        InputError if the dataset is not where it was, ImageError if the image is missing or cannot be decoded.
        """
        row = read_table(self.folder.plan, PLAN).filter(pc.field("image") == place).to_pylist()[0]
        entry, reader = entry_of(row), reader_of(self.manifest.dataset)
        if isinstance(reader, FileReader) and entry.offset is None:
            return reader.place_of(entry)
        image = reader.read(entry).image
        stem, ending = os.path.splitext(entry.key)  # noqa: PTH122 - not a path
        name = f"{slug(stem if ending.lower() in EXTENSIONS else entry.key)}.png"
        copy = Path(self.closing.enter_context(TemporaryDirectory(prefix="clipmk-")), name)
        image.save(copy)
        return str(copy)

    def _read_predictions(self) -> int:
        """Read the predictions of all models; returns the number of rows."""
        self.predicted[:], count = UNKNOWN, 0
        for model, predicted in zip(self.models, self.predicted, strict=True):
            with self._reading(model):
                rows = self._read(model, ["predicted"])
                predicted[rows["image"].to_numpy()] = encode(rows["predicted"], self.classes)
            count += len(rows)
        return count

    def _reading(self, model: str) -> AbstractContextManager[None]:
        """Where damage to a model's files is an InputError."""
        what = f"{quoted(next(iter(self._files[model]), self.folder.root))} is damaged or cannot be read"
        return raised_as(InputError, what, OSError, ValueError, LookupError, pa.ArrowException)

    def _read(self, model: str, columns: Sequence[str]) -> pa.Table:
        """Columns of a model's images under the part method, and their places."""
        import pyarrow.dataset as ds  # noqa: PLC0415 - imports pandas where it is installed

        wanted = ["image", *columns]
        if not self._files[model]:
            return images_schema(()).empty_table().select(wanted)
        what = f"{quoted(self._files[model][0])} is damaged or cannot be read"
        with raised_as(InputError, what, OSError, ValueError, LookupError, pa.ArrowException):
            files = ds.dataset(
                [str(path) for path in self._files[model]], format=ds.ParquetFileFormat(dictionary_columns=_CODES)
            )
            known = [name for name in wanted if name in files.schema.names or name != _OF_TABLES]
            rows = files.to_table(known, filter=(pc.field("model") == model) & (pc.field("parts") == self.parts))
        return rows if known == wanted else rows.append_column(_OF_TABLES, pa.nulls(len(rows)))

    def _warn(self, rows: int, shards: np.ndarray) -> None:
        """Tell what is missing or older than it could be."""
        sizes = np.bincount(shards, minlength=self.manifest.shards)
        written = {path for model in self.models for path in self.folder.shard(model, 0).parent.glob("*")}
        numbers = range(self.manifest.shards)
        done = [number for number in numbers for model in self.models if self.folder.shard(model, number) in written]
        total = len(self.models) * self.manifest.shards
        if len(done) < total:
            self.warnings.append(f"{len(done):,} of {counted(total, 'shard')} are done; the other images are empty")
        if rows < sizes[done].sum():
            self.warnings.append("the tables are older than the shards; `clipmk study report` brings them up to date")

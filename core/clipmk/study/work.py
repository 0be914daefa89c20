"""Work on shards: decode each image once for all models, examine it with each, write one file per shard and model.

Both engines do nothing but hand shard numbers to a `ShardWorker`. What it writes depends on the shard and the model
alone, never on what was done before or elsewhere; so a study that was killed and resumed ends in the same bytes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from clipmk.datasets.dataset import Reader
from clipmk.errors import ImageError
from clipmk.images.square import Square, square_image
from clipmk.models.loading import load
from clipmk.pipeline.encoder import worker_threads
from clipmk.study import schema
from clipmk.study.examine import Examiner, Row, Step
from clipmk.study.paths import StudyFolder
from clipmk.study.plan import PlanRow, read_shard
from clipmk.system.memory import memory_named
from clipmk.system.parquet import open_parquet, write_rows
from clipmk.system.text import quoted
from clipmk.vocabulary.embeddings import load_bank

if TYPE_CHECKING:
    from clipmk.pipeline.grounding import Progress
    from clipmk.settings import PartMethod, Settings
    from clipmk.vocabulary.vocabulary import Vocabulary

Geometry = tuple[int, str]
"""(side of the square input in pixels, interpolation)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """All that work on shards needs to know; small, and fit to travel to other processes and machines."""

    folder: StudyFolder
    reader: Reader
    vocabulary: Vocabulary
    settings: Settings
    ways: tuple[PartMethod, ...]
    batch_size: int
    device: str
    precision: str
    threads: int
    """Of torch on a CPU, and of each pool of threads beside it."""
    cache: bool = True
    """Keep embedded texts on disk."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A shard whose images are being decoded."""

    number: int
    rows: list[PlanRow]
    decoded: list[Future[_Decoded]]


@dataclass(frozen=True, slots=True)
class _Decoded:
    """One image at all sizes that are needed, or why it could not be decoded."""

    squares: dict[Geometry, NDArray[np.uint8]]
    warnings: tuple[str, ...] = ()
    error: str | None = None


class ShardWorker:
    """Some models, loaded once, and the threads that decode, find parts and draw prompts beside them.

    Use it in a `with` block, which ends the threads.

    Args:
        task: what to do.
        models: ids of the models to hold.
        progress: hears ("loading MODEL", 0, 0) and of the texts that are embedded.
    """

    def __init__(self, task: Task, models: Sequence[str], *, progress: Progress | None = None) -> None:
        self.task = task
        torch.set_num_threads(task.threads)
        self._numbers = {name: number for number, name in enumerate(task.vocabulary.classes)}
        with contextlib.ExitStack() as opened:
            pools = opened.enter_context(worker_threads(task.threads, task.threads))
            self._decoders, self._workers = pools
            self.examiners = {name: self._examiner(name, progress) for name in models}
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def prepare(self, number: int) -> Prepared:
        """Begin to decode a shard; returns at once."""
        rows = read_shard(self.task.folder.plan, number)
        wanted = {(one.backbone.info.input_size, one.backbone.interpolation) for one in self.examiners.values()}
        return Prepared(number, rows, [self._decoders.submit(self._decode, row, wanted) for row in rows])

    def work(self, prepared: Prepared, models: Sequence[str], *, step: Step) -> None:
        """Examine a shard with each of the models and write its files; `step` hears of images done, per model.

        Raises:
            ClipmkError: a file cannot be written.
            OutOfMemoryError: the device's memory does not suffice for the batch size.
        """
        torch.set_num_threads(self.task.threads)  # of the calling thread, which need not be that of the constructor
        decoded = [future.result() for future in prepared.decoded]
        for model in models:
            with _memory_named(self.task, model):
                rows = self._examined(prepared.rows, decoded, self.examiners[model], step)
            write_rows(rows, self.task.folder.shard(model, prepared.number), schema.IMAGE)

    def _examiner(self, name: str, progress: Progress | None) -> Examiner:
        def embedding(done: int, total: int) -> None:
            if progress is not None:
                progress("texts", done, total)

        task = self.task
        if progress is not None:
            progress(f"loading {name}", 0, 0)
        backbone = load(name, device=task.device, precision=task.precision)
        with _memory_named(task, name):
            bank = load_bank(backbone, task.vocabulary, cache=task.cache, progress=embedding)
        made = Examiner(
            backbone=backbone,
            bank=bank,
            vocabulary=task.vocabulary,
            settings=task.settings,
            ways=task.ways,
            batch_size=task.batch_size,
            workers=self._workers,
        )
        path = task.folder.language(name)
        if not path.exists():
            write_rows(language_rows(made), path, schema.LANGUAGE)
        return made

    def _decode(self, row: PlanRow, wanted: set[Geometry]) -> _Decoded:
        try:
            picture = self.task.reader.read(row.entry)
        except ImageError as reason:
            return _Decoded({}, error=str(reason))
        height, width = picture.pixels.shape[:2]
        squares = {}
        for side, interpolation in wanted:
            place = Square(width=width, height=height, side=side, resize=self.task.settings.resize)
            squares[side, interpolation] = np.array(square_image(picture.image, place, interpolation=interpolation))
        return _Decoded(squares, picture.warnings)

    def _number(self, label: str | None) -> int | None:
        return None if label is None else self._numbers[label]

    def _examined(
        self, rows: list[PlanRow], decoded: list[_Decoded], examiner: Examiner, step: Step
    ) -> list[dict[str, Any]]:
        """All rows of the shard's file, in the order of the plan, the ways of one image together."""
        geometry = (examiner.backbone.info.input_size, examiner.backbone.interpolation)
        sound = [index for index, one in enumerate(decoded) if one.error is None]
        found: list[list[Row]] = [[{"parts": way} for way in self.task.ways] for _ in rows]
        if sound:
            examined = examiner.examine(
                np.stack([decoded[index].squares[geometry] for index in sound]),
                [rows[index].group for index in sound],
                [self._number(rows[index].entry.label) for index in sound],
                step=step,
            )
            for index, own in zip(sound, examined, strict=True):
                found[index] = own
        if len(sound) < len(rows):
            step(len(rows) - len(sound))
        model = examiner.backbone.info.id
        return [
            _full_row(row, model, one, own)
            for row, one, every in zip(rows, decoded, found, strict=True)
            for own in every
        ]


def _full_row(row: PlanRow, model: str, decoded: _Decoded, found: Row) -> dict[str, Any]:
    known = {"image": row.image, "key": row.entry.key, "label": row.entry.label, "model": model}
    full = {**known, "error": decoded.error, **found}
    if full["error"] is None:
        full["warnings"] = list(dict.fromkeys((*decoded.warnings, *found["warnings"])))
    return full


def language_rows(examiner: Examiner) -> list[dict[str, Any]]:
    """D_y of every class, as `schema.LANGUAGE`."""
    texts = examiner.vocabulary.descriptors
    rows = []
    for number, name in enumerate(examiner.vocabulary.classes):
        picks = examiner.language(number)
        for rank, (index, cosine) in enumerate(zip(picks.indices.tolist(), picks.cosines.tolist(), strict=True), 1):
            rows.append({"class": name, "rank": rank, "descriptor": texts[index], "cosine": cosine})
    return rows


def is_done(path: Path, rows: int) -> bool:
    """Whether a shard's file is there and holds as many rows as it must; anything else is made again."""
    try:
        return bool(open_parquet(path).metadata.num_rows == rows)
    except (OSError, pa.ArrowException):
        return False


def _memory_named(task: Task, model: str) -> AbstractContextManager[None]:
    """A plan keeps its batch size: another one needs another folder."""
    smaller = f"--batch-size {task.batch_size // 2} in a new folder"
    helps = [smaller] if task.batch_size > 1 else ["--grounding attend", "--precision bf16", "a smaller model"]
    return memory_named(task.device, f"{quoted(model)} at a batch size of {task.batch_size}", helps)

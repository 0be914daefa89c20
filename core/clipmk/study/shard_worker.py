"""Explain shards: decode each image once for all models, explain it with each, write one file per shard and model.

Both engines only hand shard numbers to a `ShardWorker`. What it writes depends on the shard and the model alone, never
on what was done before or elsewhere, so a study that was killed and resumed has the same bytes in the end.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
from numpy.typing import NDArray

from clipmk.concepts.relevance import SEEN_LEVEL
from clipmk.concepts.selection import language_concepts
from clipmk.concepts.superpixels import WorkingCopy
from clipmk.errors import ImageError
from clipmk.models.loading import load
from clipmk.pipeline.asking import Questions, embed_questions
from clipmk.pipeline.builder import ExplanationBuilder, blank_notes
from clipmk.pipeline.encoder import BatchEncoder, EncodedImage, ImageBatch, batch_slices, one_thread, worker_threads
from clipmk.pipeline.grounding import Progress, no_progress
from clipmk.pipeline.ranking import VisionConcepts, rank_vision_concepts
from clipmk.pipeline.segmentation import part_variants
from clipmk.study import schema
from clipmk.study.manifest import Manifest, StudyRequest
from clipmk.study.plan import PlannedImage, read_shard
from clipmk.study.schema import TableRow
from clipmk.system.memory import memory_named
from clipmk.system.parquet import is_intact, write_rows
from clipmk.system.text import quoted
from clipmk.vocabulary.embeddings import load_bank

_LOGGER = logging.getLogger(__name__)

Geometry = tuple[int, str]  # (side of the square input in pixels, interpolation)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyTask:
    """Everything a `ShardWorker` needs; small, and can be pickled for other processes and machines."""

    request: StudyRequest
    """With the settings of the manifest, and without the dataset's entries."""
    manifest: Manifest
    device: str
    threads: int
    """Of torch on a CPU, and of each thread pool beside it."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A shard whose images are being decoded."""

    number: int
    images: list[PlannedImage]
    decoded: list[Future[_Decoded]]


@dataclass(frozen=True, slots=True)
class _Decoded:
    """One image at every size needed, or why it could not be decoded."""

    squares: dict[Geometry, tuple[NDArray[np.uint8], WorkingCopy]]
    """With what parts are found on."""
    warnings: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ShardExplainer:
    """One model with the embedded vocabulary, ready for the images of shards; a variant for each part method."""

    encoder: BatchEncoder
    builder: ExplanationBuilder
    questions: Questions | None = None

    def explain(
        self,
        squares: NDArray[np.uint8],
        groups: Sequence[int],
        labels: Sequence[str | None],
        copies: Sequence[WorkingCopy],
    ) -> Iterator[list[Future[list[TableRow]]]]:
        """Explain images batch by batch, in order.

        Squares are uint8 RGB (images, S, S, 3), at the model's input size; members of a group are adjacent. For each
        image of a batch, once it is encoded, its rows to come are yielded, one per part method: the columns of
        `schema.image_schema` from "predicted" on and "parts", or only "parts" and "error".
        """
        slices = batch_slices(groups, self.encoder.batch_size)
        remaining = iter(labels)
        batches = (ImageBatch(squares[rows], groups[rows], copies=copies[rows]) for rows in slices)
        for images in self.encoder.encode_all(batches):
            pairs = zip(images, remaining, strict=False)
            yield [self.encoder.workers.submit(self._rows, image, label) for image, label in pairs]

    @one_thread()
    def _rows(self, image: EncodedImage, label: str | None) -> list[TableRow]:
        every = [variant.settings for variant in self.encoder.variants]
        if image.error is not None:
            return [{"parts": settings.parts, "error": str(image.error)} for settings in every]
        predictions = self.builder.predict(image.embedding, also=() if label is None else (label,), ranked=2)
        first, true = predictions[0], next((one for one in predictions if one.class_name == label), None)
        prediction = {
            "predicted": first.class_name,
            "probability": first.probability,
            "correct": None if true is None else true.rank == 1,
            "label_rank": None if true is None else true.rank,
            "label_probability": None if true is None else true.probability,
            "margin": first.probability - predictions[1].probability if len(predictions) > 1 else None,
            **self._asked(image, first.class_name),
        }
        notes = blank_notes(image.square)
        rows = []
        for settings, own, found in zip(every, image.part_embeddings, image.segmentations, strict=True):
            vision = rank_vision_concepts(self.builder.bank, settings, embedding=image.embedding, part_embeddings=own)
            warnings = dict.fromkeys(found.warnings + vision.warnings + notes)
            row = {"parts": settings.parts, "part_count": len(own), **prediction}
            rows.append(row | self._measured(vision, first.class_name) | {"warnings": list(warnings)})
        return rows

    def _asked(self, image: EncodedImage, class_name: str) -> TableRow:
        """Is each text seen in the image, and tied to the class?"""
        if self.questions is None:
            return {}
        bank, number = self.builder.bank, self.builder.vocabulary.classes.index(class_name)
        presence = self.questions.standing(image.embedding, bank).p_value
        ranks = self.questions.standing(bank.classes[number], bank).rank
        return {
            "asked_p_values": presence.tolist(),
            "asked_seen": (presence <= SEEN_LEVEL).tolist(),
            "asked_ranks": ranks.tolist(),
            "asked_tied": (ranks <= self.builder.language_count).tolist(),
        }

    def _measured(self, vision: VisionConcepts, class_name: str) -> TableRow:
        against = self.builder.against(class_name, vision)
        concepts, mutual = self.builder.vision_concepts(vision, against.language_concepts), against.mutual
        same = ("mi_paper", "mi_textbook", "auc", "auc_unpadded", "p_value")
        return {
            "vision_count": len(concepts),
            "language_count": len(against.language_concepts),
            "mutual_count": mutual.count,
            "chance_mi": mutual.chance.mi_paper,
            "chance_auc": mutual.chance.auc,
            **{name: getattr(mutual, name) for name in same},
            "curve": list(mutual.curve),
            "vision_concepts": [one.text for one in concepts],
            "importance": [one.importance for one in concepts],
            "mutual": [one.mutual for one in concepts],
        }


class ShardWorker:
    """Models, loaded once, and the threads that decode, find parts and draw prompts beside them; `close` ends them.

    `progress` is called with ("loading MODEL", 0, 0) and while texts are embedded.
    """

    def __init__(self, task: StudyTask, models: Sequence[str], *, progress: Progress = no_progress) -> None:
        self.task = task
        torch.set_num_threads(task.threads)
        self._made_of = {info.id: task.manifest.made_of(info) for info in task.manifest.models}
        with contextlib.ExitStack() as opened:
            self._decoders, self._workers = opened.enter_context(worker_threads(task.threads, task.threads))
            self.explainers = {name: self._explainer(name, progress) for name in models}
            self.close = opened.pop_all().close

    def prepare(self, number: int) -> Prepared:
        """Start to decode a shard; returns immediately."""
        images = read_shard(self.task.request.folder.plan, number)
        explainers = self.explainers.values()
        wanted = {_geometry(one): one.builder for one in explainers}
        return Prepared(number, images, [self._decoders.submit(self._decode, image, wanted) for image in images])

    def work(self, prepared: Prepared, models: Sequence[str]) -> Iterator[int]:
        """Explain a shard with each of the models and write its files; yields numbers of images that are done."""
        torch.set_num_threads(self.task.threads)  # of the calling thread, which may not be that of the constructor
        decoded = [future.result() for future in prepared.decoded]
        for model in models:
            with _memory_named(self.task, model):
                rows = yield from self._rows(prepared.images, decoded, model)
            path = self.task.request.folder.shard(model, prepared.number)
            write_rows(rows, path, schema.image_schema(self.task.manifest.asks), self._made_of[model])

    def _explainer(self, name: str, progress: Progress) -> ShardExplainer:
        task, request = self.task, self.task.request
        progress(f"loading {name}", 0, 0)
        backbone = load(name, device=task.device, precision=request.precision)
        with _memory_named(task, name):
            bank = load_bank(backbone, request.vocabulary, cache=request.cache, progress=partial(progress, "texts"))
        for warning in bank.warnings:
            _LOGGER.warning("model %s: %s", name, warning)
        builder = ExplanationBuilder(backbone, request.vocabulary, bank, request.settings)
        path = request.folder.language(name)
        made_of = next(task.manifest.made_of_language(one) for one in task.manifest.models if one.id == name)
        if not is_intact(path, made_of):
            write_rows(language_rows(builder, task.manifest.language_depth), path, schema.LANGUAGE, made_of)
        variants = part_variants(request.settings, task.manifest.parts)
        encoder = BatchEncoder(backbone, variants, task.manifest.batch_size, self._workers)
        asks = task.manifest.asks
        questions = embed_questions(backbone, request.vocabulary, asks) if asks else None
        return ShardExplainer(encoder, builder, questions)

    def _decode(self, image: PlannedImage, wanted: Mapping[Geometry, ExplanationBuilder]) -> _Decoded:
        try:
            picture = self.task.request.dataset.reader.read(image.entry)
        except ImageError as reason:
            return _Decoded({}, error=str(reason))
        shared = cache(partial(next(iter(wanted.values())).working_copy, picture))
        return _Decoded({key: builder.squares(picture, shared) for key, builder in wanted.items()}, picture.warnings)

    def _rows(
        self, images: Sequence[PlannedImage], decoded: Sequence[_Decoded], model: str
    ) -> Generator[int, None, list[TableRow]]:
        """All rows of the shard's file, in the order of the plan, the part methods of one image together."""
        explainer = self.explainers[model]
        sound = [index for index, one in enumerate(decoded) if one.error is None]
        found: list[list[TableRow]] = [[{"parts": parts} for parts in self.task.manifest.parts] for _ in images]
        if sound:
            geometry = _geometry(explainer)
            squares, copies = zip(*(decoded[index].squares[geometry] for index in sound), strict=True)
            waiting: list[Future[list[TableRow]]] = []
            for batch in explainer.explain(
                np.stack(squares),
                [images[index].group for index in sound],
                [images[index].entry.label for index in sound],
                copies,
            ):
                waiting += batch
                yield len(batch)
            for index, rows in zip(sound, waiting, strict=True):
                found[index] = rows.result()
        if len(sound) < len(images):
            yield len(images) - len(sound)
        name = explainer.encoder.backbone.info.id
        every = zip(images, decoded, found, strict=True)
        return [_full_row(image, name, one, row) for image, one, rows in every for row in rows]


def _geometry(explainer: ShardExplainer) -> Geometry:
    backbone = explainer.encoder.backbone
    return backbone.info.input_size, backbone.preprocessing.interpolation


def _full_row(image: PlannedImage, model: str, decoded: _Decoded, found: TableRow) -> TableRow:
    known = {"image": image.image, "key": image.entry.key, "label": image.entry.label, "model": model}
    full = {**known, "error": decoded.error, **found}
    if full["error"] is None:
        full["warnings"] = list(dict.fromkeys((*decoded.warnings, *found["warnings"])))
    return full


def language_rows(builder: ExplanationBuilder, count: int) -> list[TableRow]:
    """The `count` descriptors nearest to every class, as `schema.LANGUAGE`."""
    texts, bank = builder.vocabulary.descriptors, builder.bank
    rows = []
    for embedding, name in zip(bank.classes, builder.vocabulary.classes, strict=True):
        found = language_concepts(embedding, bank.descriptors, count=count)
        for rank, (index, cosine) in enumerate(zip(found.indices.tolist(), found.cosines.tolist(), strict=True), 1):
            rows.append({"class": name, "rank": rank, "descriptor": texts[index], "cosine": cosine})
    return rows


def _memory_named(task: StudyTask, model: str) -> AbstractContextManager[None]:
    """Name the model in an out-of-memory error; a study keeps its batch size, so another one needs another folder."""
    smaller = f"--batch-size {task.manifest.batch_size // 2} in a new folder"
    helps = [smaller] if task.manifest.batch_size > 1 else ["--grounding attend", "--precision bf16", "a smaller model"]
    return memory_named(task.device, f"{quoted(model)} at a batch size of {task.manifest.batch_size}", helps)

"""The orchestrator: image + backbone + vocabulary + settings -> Explanation."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Sequence
from functools import cache, cached_property
from importlib import metadata
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

import clipmk
from clipmk.backbones.catalog import RANDOM
from clipmk.concepts.language import LanguagePicks, language_concepts
from clipmk.concepts.mutual import language_count_for, measure, overlap
from clipmk.concepts.selection import highest
from clipmk.concepts.soft import soft_matches
from clipmk.errors import ImageError
from clipmk.grounding import part_embeddings
from clipmk.images import Picture
from clipmk.records import (
    Alternative,
    Elapsed,
    Explanation,
    LanguageConcept,
    Mutual,
    Part,
    PartDescriptor,
    Prediction,
    Provenance,
    Rle,
    SoftPair,
    VisionConcept,
    plain,
)
from clipmk.rle import rle_encode
from clipmk.segmentation import Segmentation, given_parts, segment
from clipmk.settings import GROUP_LIMIT
from clipmk.square import Square, square_image
from clipmk.textbank import TextBank, load_bank
from clipmk.vision import Seen, see
from clipmk.vocabulary import Vocabulary, resolve_class

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from clipmk.backbones.base import Backbone, Encoded
    from clipmk.grounding import Progress
    from clipmk.settings import Settings

BLANK = "the picture is of one colour; what is said of it comes from the model, not from the picture"
UNTRAINED = "the model has random weights, as was asked for: its predictions and concepts mean nothing"
FEW_DESCRIPTORS = 500
"""Below this size candidates are no selection any more (k = 500 in the reference code)."""


class Explainer:
    """One model and one vocabulary, ready for any number of images: texts are embedded once, here.

    Args:
        backbone: from `clipmk.load`.
        vocabulary: classes, templates and descriptors.
        settings: what to do (see `clipmk.Settings`).
        cache: keep the embedded texts on disk.
        progress: called with (stage, done, total) while working; an exception raised in it cancels the work.
        load_ms: what loading the model took, for the record.
    """

    def __init__(
        self,
        backbone: Backbone,
        vocabulary: Vocabulary,
        settings: Settings,
        *,
        cache: bool = True,
        progress: Progress | None = None,
        load_ms: float = 0.0,
    ) -> None:
        self.backbone = backbone
        self.vocabulary = vocabulary
        self.settings = settings
        self.load_ms = load_ms
        self._progress = progress

        def embedding(done: int, total: int) -> None:
            self._tell("texts", done, total)

        bank = load_bank(backbone, vocabulary, cache=cache, progress=embedding)
        untrained = (UNTRAINED,) if backbone.info.pretrained == RANDOM else ()
        self.warnings: tuple[str, ...] = untrained + bank.warnings + vocabulary_warnings(vocabulary)
        self.bank: TextBank = bank.to(backbone.device)
        self._language: dict[tuple[str, int], LanguagePicks] = {}

    @property
    def language_count(self) -> int:
        """U: how many descriptors make up D_y."""
        wanted = self.settings.language_count
        size = len(self.vocabulary.descriptors)
        return min(size, language_count_for(size) if wanted is None else wanted)

    def explain(
        self,
        pictures: Sequence[Picture],
        *,
        targets: Sequence[str | None] | None = None,
        masks: Sequence[NDArray[np.bool_] | None] | None = None,
    ) -> list[Explanation]:
        """Explain pictures, in order. They are fitted together where the settings say `fit="batch"`.

        Args:
            pictures: decoded images.
            targets: for each, the class to explain; None explains the predicted one.
            masks: for each, the user's own parts, bool (parts, height, width) in its pixels; None finds parts.

        Raises:
            UsageError: a target is not in the vocabulary.
            ImageError: masks do not fit their picture.
        """
        wanted = [None if t is None else resolve_class(self.vocabulary, t) for t in targets or [None] * len(pictures)]
        own = list(masks or [None] * len(pictures))
        together = GROUP_LIMIT if self.settings.fit == "batch" else 1
        results: list[Explanation] = []
        for start in range(0, len(pictures), together):
            rows = slice(start, start + together)
            results += self._explain_group(list(pictures[rows]), wanted[rows], own[rows])
        return results

    def predict(self, image_embedding: Float[Tensor, " embed"]) -> tuple[Prediction, ...]:
        """Rank the classes for one image: p = softmax(logit_scale · cos + logit_bias), the highest few."""
        cosines = (self.bank.classes @ image_embedding).double().cpu()
        logits = self.backbone.logit_scale * cosines + (self.backbone.logit_bias or 0.0)
        probabilities = logits.softmax(0)
        independent = logits.sigmoid() if self.backbone.logit_bias is not None else None
        order = highest(cosines, self.settings.prediction_count).tolist()
        return tuple(
            Prediction(
                rank=rank,
                class_name=self.vocabulary.classes[i],
                probability=float(probabilities[i]),
                cosine=float(cosines[i]),
                independent=None if independent is None else float(independent[i]),
            )
            for rank, i in enumerate(order, 1)
        )

    def square(self, picture: Picture) -> NDArray[np.uint8]:
        """The picture at the model's input size, uint8 RGB (S, S, 3)."""
        image = square_image(picture.image, self.geometry(picture), interpolation=self.backbone.interpolation)
        return np.array(image)

    def look(self, square: NDArray[np.uint8]) -> Encoded:
        """One forward: embedding and patch features of a square input, uint8 RGB (S, S, 3)."""
        pixels = self.backbone.normalise(torch.from_numpy(square)[None])
        return self.backbone.encode_with_patches(pixels, features=self.settings.features)

    def class_cosines(self, squares: Sequence[NDArray[np.uint8]], class_name: str) -> list[float]:
        """cos(image, class) of several square inputs, in one batch."""
        embedded = self.backbone.encode_images(self.backbone.normalise(torch.from_numpy(np.stack(squares))))
        row = self.bank.classes[self.vocabulary.classes.index(class_name)]
        return [float(value) for value in embedded @ row]

    def with_settings(self, settings: Settings) -> Explainer:
        """The same model and embedded texts under other settings."""
        other = copy.copy(self)
        other.settings = settings
        return other

    def _tell(self, stage: str, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(stage, done, total)

    def _explain_group(
        self, pictures: list[Picture], targets: list[int | None], masks: list[NDArray[np.bool_] | None]
    ) -> list[Explanation]:
        started = time.perf_counter()
        squares = [self.square(picture) for picture in pictures]
        encoded = []
        for done, square in enumerate(squares, 1):
            encoded.append(self.look(square))
            self._tell("image", done, len(squares))
        found = self._segment(pictures, squares, encoded, masks)
        self._tell("parts", 1, 1)
        shared_ms = 1_000 * (time.perf_counter() - started) / len(pictures)
        results = []
        for picture, square, one, parts, target in zip(pictures, squares, encoded, found, targets, strict=True):
            begun = time.perf_counter()
            embeddings = part_embeddings(
                self.backbone, self.settings, square=square, encoded=one, masks=parts.masks, progress=self._progress
            )
            seen = see(self.bank, self.settings, embedding=one.embeddings[0], part_embeddings=embeddings)
            result = self._assemble(picture, one, parts, seen, target)
            if is_blank(square):
                result = dataclasses.replace(result, warnings=(*result.warnings, BLANK))
            elapsed = Elapsed(load=self.load_ms, explain=shared_ms + 1_000 * (time.perf_counter() - begun))
            results.append(dataclasses.replace(result, elapsed_ms=elapsed))
        return results

    def _segment(
        self,
        pictures: list[Picture],
        squares: list[NDArray[np.uint8]],
        encoded: list[Encoded],
        masks: list[NDArray[np.bool_] | None],
    ) -> list[Segmentation]:
        if all(own is not None for own in masks):
            return [
                given_parts(self._own_masks(picture, own))
                for picture, own in zip(pictures, masks, strict=True)
                if own is not None
            ]
        found = segment(squares, encoded, self.settings)
        return [
            one if own is None else given_parts(self._own_masks(picture, own))
            for one, picture, own in zip(found, pictures, masks, strict=True)
        ]

    def _own_masks(self, picture: Picture, masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        height, width = picture.pixels.shape[:2]
        if masks.ndim != 3 or masks.shape[1:] != (height, width) or not len(masks):
            raise ImageError(
                f"part masks have shape {masks.shape}; (parts, {height}, {width}) with at least one part is needed"
            )
        square = self.geometry(picture)
        return np.stack([square.to_square(mask.astype(bool)) for mask in masks])

    def geometry(self, picture: Picture) -> Square:
        """How the model's square input maps to the picture's pixels."""
        height, width = picture.pixels.shape[:2]
        return Square(width=width, height=height, side=self.backbone.info.input_size, resize=self.settings.resize)

    def _assemble(
        self, picture: Picture, encoded: Encoded, found: Segmentation, seen: Seen, target: int | None
    ) -> Explanation:
        predictions = self.predict(encoded.embeddings[0])
        names = self.vocabulary.classes
        chosen = predictions[0].class_name if target is None else names[target]
        language, mutual = self._against(chosen, seen)
        vision = self._vision(seen, shared={concept.text for concept in language if concept.mutual})
        warnings = picture.warnings + self.warnings + found.warnings + seen.warnings
        return Explanation(
            image=picture.info,
            model=self.backbone.info,
            predictions=predictions,
            class_name=chosen,
            foreground=self._rle(picture, found.foreground),
            parts=self._parts(picture, found, seen),
            vision_concepts=vision,
            language_concepts=language,
            mutual=mutual,
            alternatives=tuple(
                Alternative(class_name=p.class_name, language_concepts=other[0], mutual=other[1])
                for p in predictions
                if p.class_name != chosen
                for other in [self._against(p.class_name, seen)]
            ),
            elapsed_ms=Elapsed(load=self.load_ms, explain=0.0),
            provenance=self._provenance(),
            warnings=tuple(dict.fromkeys(warnings)),
            picture=picture.image,
        )

    def _vision(self, seen: Seen, *, shared: set[str]) -> tuple[VisionConcept, ...]:
        texts = self.vocabulary.descriptors
        return tuple(
            VisionConcept(
                rank=rank,
                text=texts[i],
                importance=value,
                parts=tuple(part + 1 for part in parts),
                mutual=texts[i] in shared,
            )
            for rank, (i, value, parts) in enumerate(zip(seen.concepts, seen.importance, seen.carriers, strict=True), 1)
        )

    def _against(self, class_name: str, seen: Seen) -> tuple[tuple[LanguageConcept, ...], Mutual]:
        """D_y of a class and the knowledge it shares with what was seen."""
        bank = self.bank
        embedding = bank.classes[self.vocabulary.classes.index(class_name)]
        if (class_name, self.language_count) not in self._language:
            picks = language_concepts(embedding, bank.descriptors, count=self.language_count)
            self._language[class_name, self.language_count] = picks
        picks = self._language[class_name, self.language_count]
        ids = picks.indices.tolist()
        flags = overlap(ids, seen.concepts)
        language = tuple(
            LanguageConcept(rank=rank, text=self.vocabulary.descriptors[i], cosine=float(cosine), mutual=flag)
            for rank, (i, cosine, flag) in enumerate(zip(ids, picks.cosines.tolist(), flags, strict=True), 1)
        )
        mutual = measure(
            overlap(seen.concepts, ids),
            language_count=len(ids),
            vocabulary_size=len(self.vocabulary.descriptors),
            length=self.settings.curve_length,
            soft=self._soft(seen.concepts, ids),
        )
        return language, mutual

    def _soft(self, vision_ids: Sequence[int], language_ids: Sequence[int]) -> tuple[SoftPair, ...]:
        threshold = self.settings.soft_threshold
        if threshold is None:
            return ()
        left = [i for i in vision_ids if i not in set(language_ids)]
        right = [i for i in language_ids if i not in set(vision_ids)]
        texts = self.vocabulary.descriptors
        found = soft_matches(self.bank.raw[left], self.bank.raw[right], threshold=threshold)
        return tuple(
            SoftPair(vision=texts[left[m.vision]], language=texts[right[m.language]], cosine=m.cosine) for m in found
        )

    def _parts(self, picture: Picture, found: Segmentation, seen: Seen) -> tuple[Part, ...]:
        geometry = self.geometry(picture)
        column = {descriptor: c for c, descriptor in enumerate(seen.candidates.tolist())}
        parts = []
        for index, mask in enumerate(found.masks):
            pixels = geometry.to_pixels(mask)
            descriptors = tuple(
                PartDescriptor(
                    text=self.vocabulary.descriptors[i],
                    cosine=float(seen.scores[index, column[i]]),
                    transport=float(seen.shares[index, column[i]]),
                )
                for i in seen.picks[index]
            )
            parts.append(
                Part(
                    id=index + 1,
                    area=float(pixels.mean()),
                    bbox_xyxy=bounding_box(pixels),
                    mask=rle_encode(pixels),
                    descriptors=descriptors,
                )
            )
        return tuple(parts)

    def _rle(self, picture: Picture, mask: NDArray[np.bool_]) -> Rle:
        return rle_encode(self.geometry(picture).to_pixels(mask))

    @cached_property
    def _vocabulary_sha256(self) -> str:
        return self.vocabulary.sha256

    def _provenance(self) -> Provenance:
        return Provenance(
            clipmk=clipmk.__version__,
            torch=torch.__version__,
            open_clip=_open_clip_version(),
            device=str(self.backbone.device),
            dtype=str(self.backbone.dtype).removeprefix("torch."),
            templates=self.vocabulary.templates,
            descriptor_template=self.vocabulary.descriptor_template,
            vocabulary=self.vocabulary.name,
            vocabulary_sha256=self._vocabulary_sha256,
            settings=plain(self.settings),
        )


@cache
def _open_clip_version() -> str:
    return metadata.version("open_clip_torch")


def is_blank(square: NDArray[np.uint8]) -> bool:
    """Whether a square input, uint8 RGB (S, S, 3), is of one colour."""
    return bool((square == square[0, 0]).all())


def vocabulary_warnings(vocabulary: Vocabulary) -> tuple[str, ...]:
    """What a small vocabulary leaves to chance."""
    notes = []
    if len(vocabulary.classes) == 1:
        notes.append("the vocabulary has one class; whatever the image shows, it is predicted with certainty")
    if len(vocabulary.descriptors) < FEW_DESCRIPTORS:
        count = len(vocabulary.descriptors)
        notes.append(f"the vocabulary has {count} descriptors, fewer than {FEW_DESCRIPTORS}: many overlap by chance")
    return tuple(notes)


def bounding_box(mask_pixels: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1) of a mask's pixels, right and bottom exclusive; all 0 where it holds none."""
    ys, xs = np.nonzero(mask_pixels)
    if not len(ys):
        return (0, 0, 0, 0)
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1

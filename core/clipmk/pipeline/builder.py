"""The last stage of the pipeline: rank classes and concepts of an encoded image and build its `Explanation`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from importlib import metadata
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from clipmk import records
from clipmk.concepts.float64 import host64, mean64
from clipmk.concepts.influence import named_part, part_margins, share_explained
from clipmk.concepts.matching import soft_matches
from clipmk.concepts.mutual import class_swap, language_count_for, measure, overlap, swapped_classes
from clipmk.concepts.selection import LanguageConcepts, highest, language_concepts, language_sets
from clipmk.concepts.superpixels import WORK_SIDE, WorkingCopy
from clipmk.explanation import Explanation
from clipmk.images.masks import PixelMask, pixel_masks
from clipmk.images.square import Square, square_image
from clipmk.models.catalog import EMBEDDED
from clipmk.pipeline.asking import NO_PATCHES, VAGUE_MAPS, Questions, answer
from clipmk.pipeline.encoder import EncodedImage, one_thread
from clipmk.pipeline.ranking import VisionConcepts, rank_vision_concepts
from clipmk.system.serialization import plain
from clipmk.version import __version__
from clipmk.world.likeness import UNFAMILIAR, looks_rendered

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from jaxtyping import Float
    from PIL import Image
    from torch import Tensor

    from clipmk.backbones.backbone import Backbone
    from clipmk.images.decoder import Picture
    from clipmk.settings import Settings
    from clipmk.vocabulary.embeddings import TextBank
    from clipmk.vocabulary.vocabulary import Vocabulary

VAGUE_PARTS = (
    "a ConvNeXt tells parts apart with grounding 'prompts'; with 'attend' their names and influence are unsure"
)
BLANK = "the image has a single colour; its explanation comes from the model, not from the image"
LANGUAGES_KEPT = 4096  # classes whose D_y, and descriptors whose classes, a builder remembers


@dataclass(frozen=True, slots=True)
class SourceImage:
    """The image itself, as its record names it."""

    info: records.ImageInfo
    warnings: tuple[str, ...]
    image: Image.Image | None
    """The decoded pixels, where they are kept."""


@dataclass(frozen=True, eq=False)
class ExplanationBuilder:
    """A vocabulary as one model embeds it: ranks classes and concepts of encoded images and builds their records.

    Everything happens on the CPU, beside the model, of which only facts and logit scale are read. Threads may share it.
    """

    backbone: Backbone
    vocabulary: Vocabulary
    bank: TextBank
    settings: Settings
    load_ms: float = 0.0
    warnings: tuple[str, ...] = ()

    @cached_property
    def language_count(self) -> int:
        """|D_y|, the number of language concepts."""
        size, wanted = len(self.vocabulary.descriptors), self.settings.language_count
        alike = language_count_for(size, vision_count=self.settings.vision_limit)
        return min(size, alike if wanted is None else wanted)

    def geometry(self, info: records.ImageInfo) -> Square:
        """How the model's square input maps to the image's pixels."""
        return Square(info.width, info.height, self.backbone.info.input_size, self.settings.resize)

    def source(self, picture: Picture, *, keep_pixels: bool = True) -> SourceImage:
        """The image as its record names it; with a warning where an embedded model cannot know what it shows."""
        unfamiliar = self.backbone.info.id.startswith(EMBEDDED) and not looks_rendered(picture.pixels)
        warnings = (*picture.warnings, UNFAMILIAR) if unfamiliar else picture.warnings
        return SourceImage(picture.info, warnings, picture.image if keep_pixels else None)

    @cached_property
    def language(self) -> Callable[[int], LanguageConcepts]:
        """D_y of the class with a number; computed once for many images."""
        bank, count = self.bank, self.language_count
        return lru_cache(LANGUAGES_KEPT)(lambda i: language_concepts(bank.classes[i], bank.descriptors, count=count))

    @cached_property
    def _in_words(self) -> Callable[[int], tuple[records.LanguageConcept, ...]]:
        """`language` as records, none of them mutual; made once for many images."""
        texts = self.vocabulary.descriptors
        return lru_cache(LANGUAGES_KEPT)(
            lambda number: tuple(
                records.LanguageConcept(rank=rank, text=texts[i], cosine=cosine, mutual=False)
                for rank, (i, cosine) in enumerate(
                    zip(*map(torch.Tensor.tolist, self.language(number)), strict=True), 1
                )
            )
        )

    @cached_property
    def swapped(self) -> list[int]:
        """Numbers of the classes that a `ClassSwap` compares."""
        return swapped_classes(len(self.vocabulary.classes), len(self.vocabulary.descriptors))

    @cached_property
    def tied_to(self) -> Callable[[int], tuple[str, ...]]:
        """Names of the `swapped` classes whose D_y holds a descriptor; D_y of all of them is computed once."""
        chosen = language_sets(self.bank.classes[self.swapped], self.bank.descriptors, count=self.language_count)
        held, places = chosen.flatten().sort(stable=True)
        owners, names = places // chosen.shape[1], [self.vocabulary.classes[number] for number in self.swapped]

        def classes_of(descriptor: int) -> tuple[str, ...]:
            first, end = torch.searchsorted(held, torch.tensor([descriptor, descriptor + 1], dtype=held.dtype)).tolist()
            return tuple(names[owner] for owner in owners[first:end].tolist())

        return lru_cache(LANGUAGES_KEPT)(classes_of)

    def square(self, picture: Picture) -> NDArray[np.uint8]:
        """The picture at the model's input size, uint8 RGB (S, S, 3)."""
        geometry = self.geometry(picture.info)
        return square_image(picture.image, geometry, interpolation=self.backbone.preprocessing.interpolation)

    def working_copy(self, picture: Picture) -> WorkingCopy:
        """What `square` shows, `WORK_SIDE` wide; the same for all models."""
        return WorkingCopy(square_image(picture.image, replace(self.geometry(picture.info), side=WORK_SIDE)))

    def squares(
        self, picture: Picture, shared: Callable[[], WorkingCopy] | None = None
    ) -> tuple[NDArray[np.uint8], WorkingCopy]:
        """`square`, and what parts are found on: it, if it is as wide as that, else `shared` or a `working_copy`."""
        square = self.square(picture)
        if len(square) == WORK_SIDE:
            return square, WorkingCopy(square)
        return square, self.working_copy(picture) if shared is None else shared()

    @one_thread()
    def predict(
        self, image_embedding: Float[Tensor, " embed"], *, also: Collection[str] = (), ranked: int = 0
    ) -> tuple[records.Prediction, ...]:
        """Rank the classes for one image: p = softmax(logit_scale · cos + logit_bias), the highest few; float64.

        The highest few are at least `ranked`; those of `also` that are below follow them. ModelError if the embedding,
        L2-normalised and on the CPU, is not finite.
        """
        cosines = host64(self.bank.classes @ image_embedding)
        self.backbone.check_finite(cosines)
        logits = self.backbone.logit_scale * cosines + (self.backbone.logit_bias or 0.0)
        probabilities = logits.softmax(0)
        independent = logits.sigmoid() if self.backbone.logit_bias is not None else None
        names, count = self.vocabulary.classes, max(ranked, self.settings.prediction_count)
        order = highest(cosines, len(cosines) if also else count).tolist()
        return tuple(
            records.Prediction(
                rank=rank,
                class_name=names[i],
                probability=float(probabilities[i]),
                cosine=float(cosines[i]),
                independent=None if independent is None else float(independent[i]),
            )
            for rank, i in enumerate(order, 1)
            if rank <= count or names[i] in also
        )

    @one_thread()
    def build(
        self,
        source: SourceImage,
        encoded: EncodedImage,
        *,
        target: int | None = None,
        also: Collection[str] = (),
        ranked: int = 0,
        questions: Questions | None = None,
    ) -> Explanation:
        """Rank the concepts of an encoded image and build its record, with an `elapsed_ms.explain` of 0.

        `encoded` has one part method. `target` is the number of the class to explain; None explains the predicted one.
        `also` and `ranked` are those of `predict`; they add no alternative. `questions` need an image encoded
        `patchwise`. ModelError if the model's output for the image is not finite.
        """
        if encoded.error is not None:
            raise encoded.error
        (segmentation,), (part_embeddings,) = encoded.segmentations, encoded.part_embeddings
        vision = rank_vision_concepts(
            self.bank, self.settings, embedding=encoded.embedding, part_embeddings=part_embeddings
        )
        names, count = self.vocabulary.classes, self.settings.prediction_count
        asked_for = () if target is None else (names[target],)
        predictions = self.predict(encoded.embedding, also=(*also, *asked_for), ranked=ranked)
        chosen = predictions[0].class_name if target is None else names[target]
        classes = [chosen, *(one.class_name for one in predictions[:count] if one.class_name != chosen)]
        explained, *alternatives = self._with_margins(
            [self.against(name, vision) for name in classes], encoded.embedding, part_embeddings, vision
        )
        warnings = source.warnings + self.warnings + segmentation.warnings + vision.warnings
        if self.backbone.info.family == "convnext" and self.settings.grounding == "attend":
            warnings += (VAGUE_PARTS,)
        shown = np.stack([segmentation.foreground, *segmentation.masks])
        foreground, *masks = pixel_masks(shown, self.geometry(source.info))
        asked: tuple[records.Asked, ...] = ()
        if questions is not None:
            asked = answer(
                questions,
                encoded,
                bank=self.bank,
                geometry=self.geometry(source.info),
                classes={number: self.language(number).indices.tolist() for number in map(names.index, classes)},
                names=names,
                vision=vision.concepts,
                vision_limit=self.settings.vision_limit,
            )
            warnings += () if encoded.pool or encoded.patch_embeddings is not None else (NO_PATCHES,)
            warnings += (VAGUE_MAPS,) if self.backbone.info.family == "convnext" else ()
        return Explanation(
            image=source.info,
            model=self.backbone.info,
            predictions=predictions,
            class_name=chosen,
            foreground=foreground.rle,
            parts=self._parts(masks, vision),
            vision_concepts=self.vision_concepts(vision, explained.language_concepts),
            language_concepts=explained.language_concepts,
            mutual=explained.mutual,
            alternatives=tuple(alternatives),
            share_explained=explained.share_explained,
            elapsed_ms=records.Elapsed(load=self.load_ms, explain=0.0),
            provenance=self._provenance,
            warnings=tuple(dict.fromkeys(warnings + blank_notes(encoded.square))),
            asked=asked,
            picture=source.image,
        ).with_influence()

    def _with_margins(
        self,
        classes: Sequence[records.Alternative],
        embedding: Float[Tensor, " embed"],
        part_embeddings: Float[Tensor, "parts embed"],
        vision: VisionConcepts,
    ) -> list[records.Alternative]:
        """Classes with the margins of the first one over them in each part, and the shares of them that have a name."""
        rows = [self.bank.classes[self.vocabulary.classes.index(one.class_name)] for one in classes]
        of_texts, of_classes = self._centres
        named = named_part(embedding, self.bank.descriptors[list(vision.concepts)], of_texts)
        return [
            replace(
                one,
                part_margins=part_margins(part_embeddings, rows[0], row),
                share_explained=share_explained(embedding, named, row, of_classes),
            )
            for one, row in zip(classes, rows, strict=True)
        ]

    @cached_property
    def _centres(self) -> tuple[Float[Tensor, " embed"], Float[Tensor, " embed"]]:
        """The mean descriptor and the mean class."""
        return mean64(self.bank.descriptors), mean64(self.bank.classes)

    def vision_concepts(
        self, vision: VisionConcepts, language: Sequence[records.LanguageConcept]
    ) -> tuple[records.VisionConcept, ...]:
        """D_v in words, each with whether it is among the language concepts, too."""
        texts, shared = self.vocabulary.descriptors, {concept.text for concept in language if concept.mutual}
        return tuple(
            records.VisionConcept(
                rank=rank,
                text=texts[i],
                importance=value,
                parts=tuple(part + 1 for part in part_ids),
                mutual=texts[i] in shared,
                tied_to=self.tied_to(i),
            )
            for rank, (i, value, part_ids) in enumerate(
                zip(vision.concepts, vision.importance, vision.part_ids, strict=True), 1
            )
        )

    def against(self, class_name: str, vision: VisionConcepts) -> records.Alternative:
        """D_y of a class, and the knowledge that the image shares with it, without what needs the image's embedding."""
        number, total = self.vocabulary.classes.index(class_name), len(self.vocabulary.classes)
        ids = self.language(number).indices.tolist()
        flags = overlap(ids, vision.concepts)
        swap = class_swap(
            map(self.tied_to, vision.concepts),
            sum(flags),
            explained=class_name,
            classes=len({*self.swapped, number}),
            of=total,
        )
        return records.Alternative(
            class_name=class_name,
            language_concepts=tuple(
                replace(one, mutual=True) if flag else one
                for one, flag in zip(self._in_words(number), flags, strict=True)
            ),
            mutual=measure(
                overlap(vision.concepts, ids),
                language_count=len(ids),
                vocabulary_size=len(self.vocabulary.descriptors),
                length=self.settings.curve_length,
                swap=swap,
                soft=self._soft(vision.concepts, ids),
            ),
            part_margins=(),
            share_explained=None,
        )

    def _soft(self, vision_ids: Sequence[int], language_ids: Sequence[int]) -> tuple[records.SoftPair, ...]:
        threshold = self.settings.soft_threshold
        if threshold is None:
            return ()
        left = [i for i in vision_ids if i not in set(language_ids)]
        right = [i for i in language_ids if i not in set(vision_ids)]
        texts = self.vocabulary.descriptors
        found = soft_matches(self.bank.raw[left], self.bank.raw[right], threshold=threshold)
        return tuple(
            records.SoftPair(vision=texts[left[seen]], language=texts[right[tied]], cosine=cosine)
            for seen, tied, cosine in found
        )

    def _parts(self, masks: Sequence[PixelMask], vision: VisionConcepts) -> tuple[records.Part, ...]:
        texts = self.vocabulary.descriptors
        cosines, shares = (values.gather(1, vision.top_columns).tolist() for values in (vision.cosines, vision.shares))
        parts = []
        for index, mask in enumerate(masks):
            best = zip(vision.top_descriptors[index], cosines[index], shares[index], strict=True)
            descriptors = tuple(
                records.PartDescriptor(text=texts[i], cosine=cosine, share=share) for i, cosine, share in best
            )
            parts.append(
                records.Part(
                    id=index + 1, area=mask.area, bbox_xyxy=mask.bbox_xyxy, mask=mask.rle, descriptors=descriptors
                )
            )
        return tuple(parts)

    @cached_property
    def _provenance(self) -> records.Provenance:
        """Built once: hashing a large vocabulary takes a while."""
        return records.Provenance(
            clipmk=__version__,
            torch=torch.__version__,
            open_clip=metadata.version("open_clip_torch"),
            device=str(self.backbone.device),
            dtype=str(self.backbone.dtype).removeprefix("torch."),
            templates=self.vocabulary.templates,
            descriptor_template=self.vocabulary.descriptor_template,
            vocabulary=self.vocabulary.name,
            vocabulary_sha256=self.vocabulary.sha256,
            settings=plain(self.settings),
        )


def blank_notes(square: NDArray[np.uint8]) -> tuple[str, ...]:
    """A warning if a square input, uint8 RGB (S, S, 3), has one colour only."""
    return (BLANK,) if (square[0] == square[0, 0]).all() and (square == square[0, 0]).all() else ()

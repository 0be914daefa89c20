"""One model's look at a batch of pictures, everything computed once.

Ways of explaining differ in a step or two; what they share (the forward, the segmentation, the embeddings of the same
prompts) is kept here and made for the whole batch at a time. The numbers are those of `Explainer.explain`, up to the
rounding of a batched forward; no record is built around them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from clipmk.concepts.float64 import host64
from clipmk.concepts.language import language_concepts
from clipmk.concepts.mutual import overlap
from clipmk.concepts.prompts import Ellipse, draw_around, fit_ellipse
from clipmk.concepts.selection import highest
from clipmk.concepts.superpixels import PictureRegions, picture_regions
from clipmk.evaluate.feature_maps import feature_map_parts
from clipmk.images.decoder import read_picture
from clipmk.images.square import Square, square_image
from clipmk.pipeline.grounding import coverage
from clipmk.pipeline.ranking import VisionConcepts, rank_vision_concepts
from clipmk.pipeline.segmentation import Segmentation, find_foreground, given_parts, segment

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from clipmk.backbones.base import Encoded
    from clipmk.pipeline.explainer import Explainer
    from clipmk.settings import Features, Settings

FORWARD_IMAGES = {"cpu": 24}
"""Small pictures per forward; more than that no longer fits a CPU's cache."""
ACCELERATOR_IMAGES = 256


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """The parts of every picture of a batch."""

    key: Hashable
    """Two `Parts` of one lens with the same key are the same."""
    found: tuple[Segmentation, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """How one way explains one picture."""

    class_name: str
    """The predicted one."""
    part_pixels: NDArray[np.bool_]
    """(parts, height, width) in the picture's pixels."""
    foreground_pixels: NDArray[np.bool_]
    """(height, width)"""
    picks: tuple[tuple[str, ...], ...]
    """For each part its descriptors, best first."""
    concepts: tuple[str, ...]
    """D_v, most important first."""
    mutual: tuple[bool, ...]
    """For each concept whether it is in D_y too."""
    carriers: tuple[tuple[int, ...], ...]
    """For each concept the parts that carry it, 0-based."""


def segmentation_choices(settings: Settings) -> tuple[Hashable, ...]:
    """Everything that a segmentation reads: the same choices give the same parts."""
    reads = {"kmeans": ("part_count", "seed"), "pca": ("part_count",), "superpixels": ("part_limit",)}[settings.parts]
    names = ("resize", "features", "foreground", "second_component", "parts", *reads)
    return tuple(getattr(settings, name) for name in names)


class Pictures:
    """A batch of pictures of one size; what depends on the pictures alone is made once for all models.

    Args:
        images: uint8 RGB (height, width, 3), all of one size.
    """

    def __init__(self, images: Sequence[NDArray[np.uint8]]) -> None:
        self.pictures = [read_picture(image) for image in images]
        self._squares: dict[tuple[Square, str], NDArray[np.uint8]] = {}
        self._regions: dict[tuple[Square, str], list[PictureRegions]] = {}

    def squares(self, geometry: Square, interpolation: str) -> NDArray[np.uint8]:
        """The square inputs, uint8 RGB (images, S, S, 3)."""
        key = (geometry, interpolation)
        if key not in self._squares:
            squares = [square_image(one.image, geometry, interpolation=interpolation) for one in self.pictures]
            self._squares[key] = np.stack(squares)
        return self._squares[key]

    def regions(self, geometry: Square, interpolation: str) -> list[PictureRegions]:
        """Their regions of one colour."""
        key = (geometry, interpolation)
        if key not in self._regions:
            self._regions[key] = [picture_regions(square) for square in self.squares(geometry, interpolation)]
        return self._regions[key]


class Lens:
    """A batch of pictures of one size as one model sees them.

    Args:
        explainer: model and embedded vocabulary; of its settings only `resize` is read.
        pictures: the batch.

    Whatever is embedded here raises a `NotFiniteError`, a `ModelError`, where it is not finite: rendered scenes have no
    odd pixels, so a model that overflows on one is not worth measuring on the others.
    """

    def __init__(self, explainer: Explainer, pictures: Pictures) -> None:
        self.explainer = explainer
        self.geometry = explainer.geometry(pictures.pictures[0])
        self._pictures = pictures
        self.squares = pictures.squares(self.geometry, explainer.backbone.interpolation)
        self._encoded: dict[Features, Encoded] = {}
        self._parts: dict[Hashable, Parts] = {}
        self._prompts: dict[tuple[int, Ellipse], Tensor] = {}
        self._embedded: dict[Hashable, list[Tensor]] = {}
        self._seen: dict[Hashable, list[VisionConcepts]] = {}
        self._pixels: dict[Hashable, list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]] = {}

    def encoded(self, features: Features = "tokens") -> Encoded:
        """All pictures in one forward."""
        if features not in self._encoded:
            backbone = self.explainer.backbone
            pixels = backbone.normalise(torch.from_numpy(self.squares))
            encoded = backbone.encode_with_patches(pixels, features=features)
            backbone.check_finite(encoded.embeddings.cpu(), encoded.patches.cpu())
            self._encoded[features] = encoded
        return self._encoded[features]

    def singly(self, features: Features) -> list[Encoded]:
        """The same, one picture each, without the state that pools regions."""
        whole = self.encoded(features)
        return [
            dataclasses.replace(
                whole,
                embeddings=whole.embeddings[i : i + 1],
                patches=whole.patches[i : i + 1],
                attention=None if whole.attention is None else whole.attention[i : i + 1],
                state=None,
            )
            for i in range(len(self.squares))
        ]

    @cached_property
    def embeddings(self) -> Float[Tensor, "images embed"]:
        """The ordinary image embeddings, float32, L2-normalised."""
        if not self._encoded:
            self.encoded()
        return next(iter(self._encoded.values())).embeddings.cpu()

    @cached_property
    def predicted(self) -> list[str]:
        """The class with the highest cosine, for each picture."""
        cosines = host64(self.embeddings @ self.explainer.bank.classes.T)
        return [self.explainer.vocabulary.classes[int(i)] for i in highest(cosines, 1)[:, 0]]

    def embed(self, squares: NDArray[np.uint8]) -> Float[Tensor, "images embed"]:
        """Embed any square inputs, uint8 RGB (images, S, S, 3)."""
        backbone = self.explainer.backbone
        size = FORWARD_IMAGES.get(backbone.device.type, ACCELERATOR_IMAGES)
        batches = (torch.from_numpy(squares[start : start + size]) for start in range(0, len(squares), size))
        embedded = torch.cat([backbone.encode_images(backbone.normalise(batch)) for batch in batches])
        backbone.check_finite(embedded.cpu())
        return embedded.cpu()

    def find(self, settings: Settings) -> Parts:
        """The parts that the settings find in each picture alone."""
        key = ("found", *segmentation_choices(settings))
        if key not in self._parts:
            found = [
                segment([square], [one], settings, regions=None if own is None else [own])[0]
                for square, one, own in zip(
                    self.squares, self.singly(settings.features), self._regions(settings), strict=True
                )
            ]
            self._parts[key] = Parts(key, tuple(found))
        return self._parts[key]

    def foregrounds(self, settings: Settings, encoded: Sequence[Encoded]) -> list[NDArray[np.bool_]]:
        """Where the settings find the thing in each picture's pixels, with other features (each of batch 1)."""
        return [
            self.geometry.to_pixels(find_foreground(square, one, settings, regions=own))
            for square, one, own in zip(self.squares, encoded, self._regions(settings), strict=True)
        ]

    def feature_maps(self, settings: Settings) -> Parts:
        """The channels of highest norm as parts, `settings.part_count` of them."""
        key = ("feature maps", settings.resize, settings.features, settings.part_count)
        if key not in self._parts:
            whole, side = self.encoded(settings.features), self.squares.shape[1]
            found = [
                feature_map_parts(patches, grid=whole.grid, side=side, count=settings.part_count)
                for patches in whole.patches
            ]
            self._parts[key] = Parts(key, tuple(found))
        return self._parts[key]

    def give(self, masks: Sequence[NDArray[np.bool_]]) -> Parts:
        """Masks from outside, for each picture bool (parts, height, width); always the same ones for one lens."""
        key = "given"
        if key not in self._parts:
            squares = [np.stack([self.geometry.to_square(mask) for mask in own]) for own in masks]
            self._parts[key] = Parts(key, tuple(given_parts(own) for own in squares))
        return self._parts[key]

    def see(self, parts: Parts, settings: Settings) -> list[VisionConcepts]:
        """Name the parts of every picture and order the vision concepts."""
        key = (parts.key, dataclasses.replace(settings, seed=0))
        if key not in self._seen:
            bank = self.explainer.bank
            self._seen[key] = [
                rank_vision_concepts(bank, settings, embedding=whole, part_embeddings=own)
                for whole, own in zip(self.embeddings, self.part_embeddings(parts, settings), strict=True)
            ]
        return self._seen[key]

    def part_embeddings(self, parts: Parts, settings: Settings) -> list[Float[Tensor, "parts embed"]]:
        """The parts of every picture in the way that `settings.grounding` names, see `clipmk.pipeline.grounding`."""
        key = (parts.key, settings.grounding)
        if key not in self._embedded:
            drawn = settings.grounding == "prompts"
            self._embedded[key] = self._prompted(parts) if drawn else self._pooled(parts)
        return self._embedded[key]

    def pixels(self, parts: Parts) -> list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
        """Part masks (parts, height, width) and foreground (height, width) in each picture's own pixels."""
        if parts.key not in self._pixels:
            to_pixels = self.geometry.to_pixels
            self._pixels[parts.key] = [
                (np.stack([to_pixels(mask) for mask in one.masks]), to_pixels(one.foreground)) for one in parts.found
            ]
        return self._pixels[parts.key]

    def read(self, parts: Parts, settings: Settings) -> list[Reading]:
        """What the settings say of the predicted class, given the parts."""
        texts = self.explainer.vocabulary.descriptors
        readings = []
        for name, seen, (masks, foreground) in zip(
            self.predicted, self.see(parts, settings), self.pixels(parts), strict=True
        ):
            readings.append(
                Reading(
                    class_name=name,
                    part_pixels=masks,
                    foreground_pixels=foreground,
                    picks=tuple(tuple(texts[i] for i in row) for row in seen.top_descriptors),
                    concepts=tuple(texts[i] for i in seen.concepts),
                    mutual=overlap(seen.concepts, self._language(name, settings)),
                    carriers=seen.part_ids,
                )
            )
        return readings

    def _regions(self, settings: Settings) -> Sequence[PictureRegions | None]:
        if settings.parts != "superpixels":
            return [None] * len(self.squares)
        return self._pictures.regions(self.geometry, self.explainer.backbone.interpolation)

    def _language(self, class_name: str, settings: Settings) -> list[int]:
        explainer = self.explainer.with_settings(settings)
        row = explainer.bank.classes[explainer.vocabulary.classes.index(class_name)]
        picks = language_concepts(row, explainer.bank.descriptors, count=explainer.language_count)
        return picks.indices.tolist()

    def _prompted(self, parts: Parts) -> list[Tensor]:
        """Embeddings of drawn prompts; a part whose ellipse was drawn before costs nothing."""
        ellipses = [[fit_ellipse(mask) for mask in one.masks] for one in parts.found]
        every = dict.fromkeys((image, ellipse) for image, row in enumerate(ellipses) for ellipse in row)
        new = [key for key in every if key not in self._prompts]
        if new:
            drawn = np.concatenate([draw_around(self.squares[image], ellipse) for image, ellipse in new])
            means = self.embed(drawn).reshape(len(new), 3, -1).mean(dim=1)
            self._prompts.update(zip(new, means, strict=True))
        return [torch.stack([self._prompts[image, e] for e in row]) for image, row in enumerate(ellipses)]

    def _pooled(self, parts: Parts) -> list[Tensor]:
        """Masked pooling of all pictures at once; those with fewer parts are filled up with whole images."""
        encoded = self.encoded()
        counts = [len(one.masks) for one in parts.found]
        weights = torch.ones(len(counts), max(counts), encoded.patches.shape[1])
        filled = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
        weights[filled] = coverage(np.concatenate([one.masks for one in parts.found]), grid=encoded.grid)
        backbone = self.explainer.backbone
        pooled = backbone.pool_regions(encoded, weights.to(backbone.device)).cpu()
        backbone.check_finite(pooled)
        return [row[:count] for row, count in zip(pooled, counts, strict=True)]

"""The variants of explaining that are compared, the runner that explains an image by all of them, and what measures.

What variants share (the forward, the segmentation, the part embeddings, the ranking) is computed once per image.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from clipmk.evaluate.baselines import feature_map_finder
from clipmk.evaluate.report import TRUE_PARTS, Row, Tally, measure_texts
from clipmk.images.square import Square
from clipmk.pipeline.encoder import BatchEncoder, EncodedImage, ImageBatch
from clipmk.pipeline.explainer import Explainer
from clipmk.pipeline.grounding import images_per_forward
from clipmk.pipeline.ranking import VisionConcepts, rank_vision_concepts
from clipmk.pipeline.segmentation import PartFinder, PartVariant, Segmentation, given_parts, masks_at
from clipmk.settings import PRESETS, Grounding, Settings, preset
from clipmk.system.serialization import plain

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from clipmk.backbones.backbone import Backbone
    from clipmk.evaluate.samples import Sample
    from clipmk.images.decoder import Picture
    from clipmk.vocabulary.vocabulary import Vocabulary

PartSource = Literal["found", "true", "feature maps"]

FEATURE_MAPS = "feature maps"
ACCELERATOR_BATCH = 256  # square inputs per forward on an accelerator


@dataclass(frozen=True, slots=True)
class Variant:
    """One variant of explaining."""

    name: str
    settings: Settings
    parts: PartSource = "found"
    """`found` as the settings say; the `true` masks of the scene, which is the ceiling of the grounding; or regions of
    the `feature maps`, a baseline."""


def variants(presets: Sequence[str] = (), groundings: Sequence[str] = (), *, seed: int = 0) -> tuple[Variant, ...]:
    """Every preset with every grounding, with found and with true parts; then the regions of the feature maps.

    Each is fitted to every image alone; no names mean all. The feature maps are grounded by `attend` and named as the
    `default` preset names parts. UsageError if a name does not exist.
    """
    listed = []
    for name in presets or PRESETS:
        for grounding in groundings or get_args(Grounding):
            settings = preset(name, grounding=grounding, seed=seed)
            listed.append(Variant(f"{name}, {grounding}", settings))
            listed.append(Variant(f"{name}, {grounding}{TRUE_PARTS}", settings, parts="true"))
    maps = [feature_maps_variant(one.settings) for one in listed if one.name == "default, attend"]
    return (*listed, *maps)


def feature_maps_variant(settings: Settings) -> Variant:
    """The regions of the feature maps, grounded and named as the settings say."""
    return Variant(f"{FEATURE_MAPS}, {settings.grounding}", settings, parts="feature maps")


def with_found_parts(chosen: Iterable[Variant]) -> tuple[Variant, ...]:
    """The variants that find their own parts."""
    return tuple(variant for variant in chosen if variant.parts == "found")


@dataclass(frozen=True, slots=True, eq=False)
class VariantResult:
    """How one variant explains one image, on the CPU."""

    explainer: Explainer
    """With the variant's settings."""
    geometry: Square
    image: EncodedImage
    """Of all variants with the same `features` and `resize`."""
    segmentation: Segmentation
    part_embeddings: Float[Tensor, "parts embed"]
    vision: VisionConcepts

    @property
    def settings(self) -> Settings:
        """Of the variant."""
        return self.explainer.settings

    @property
    def masks(self) -> NDArray[np.bool_]:
        """Of the parts on the square input, bool (parts, S, S)."""
        return masks_at(self.segmentation.masks, len(self.image.square))

    def to_pixels(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """A mask on the square, bool (side, side) of any side, in the picture's pixels, bool (height, width)."""
        return replace(self.geometry, side=len(mask)).to_pixels(mask)

    @property
    def class_cosines(self) -> Float[Tensor, " classes"]:
        """cos(image, class)."""
        return self.explainer.bank.classes @ self.image.embedding

    @property
    def predicted(self) -> int:
        """Number of the class with the highest cosine."""
        return int(self.class_cosines.argmax())


class Measure:
    """Gathers one measure over the images of one dataset; memory holds a few images and one number a metric."""

    def __init__(self, name: str, variants: Sequence[Variant], *, seed: int) -> None:
        self.seed, self.variants, self.tally = seed, tuple(variants), Tally(seed=seed)
        self.settings: dict[str, Any] = {one.name: plain(one.settings) for one in variants}
        self.notes = tuple(measure_texts()[name].notes)

    def takes(self, sample: Sample) -> bool:
        """Whether an image is measured: any, unless a subclass says otherwise."""
        del sample
        return True

    def add(self, sample: Sample, results: Mapping[Variant, VariantResult]) -> None:
        """Measure one image that `takes` accepts."""
        raise NotImplementedError

    def finish(self, data: str) -> list[Row]:
        """Rows of the dataset, in the order in which they were added."""
        return self.tally.rows(data)


class VariantRunner:
    """One model, ready to explain any number of images by any variants; `patchwise` allows for maps."""

    def __init__(
        self, backbone: Backbone, vocabulary: Vocabulary, *, cache: bool = True, patchwise: bool = False
    ) -> None:
        self._patchwise = patchwise
        self.explainer = Explainer(backbone, vocabulary, preset("default"), cache=cache)
        self._explainers: dict[Settings, Explainer] = {}

    def run(
        self, picture: Picture, variants: Collection[Variant], *, true_masks: NDArray[np.bool_] | None = None
    ) -> dict[Variant, VariantResult]:
        """Explain one picture; one forward serves all variants with the same `features` and `resize`.

        Variants with `true` parts need `true_masks`, bool (parts, height, width). NotFiniteError (a `ModelError`) if
        the model's output for the picture is not finite.
        """
        views: dict[Hashable, list[Variant]] = {}
        for variant in variants:
            views.setdefault((variant.settings.features, variant.settings.resize), []).append(variant)
        results: dict[Variant, VariantResult] = {}
        for own in views.values():
            results |= self._run_view(picture, own, true_masks)
        return results

    def _run_view(
        self, picture: Picture, variants: Sequence[Variant], true_masks: NDArray[np.bool_] | None
    ) -> dict[Variant, VariantResult]:
        explainer = self._explainer(variants[0].settings)
        geometry = explainer.builder.geometry(picture.info)
        true = None if true_masks is None else _given_finder(true_masks, geometry)
        encoder = BatchEncoder(
            explainer.backbone, tuple(_part_variant(variant, true) for variant in variants), patchwise=self._patchwise
        )
        square, copy = explainer.builder.squares(picture)
        (image,) = encoder.encode(ImageBatch(square[None], [0], copies=[copy]))
        if image.error is not None:
            raise image.error
        ranked: dict[Hashable, VisionConcepts] = {}
        results = {}
        for variant, segmentation, parts in zip(variants, image.segmentations, image.part_embeddings, strict=True):
            explainer = self._explainer(variant.settings)
            key = id(parts), replace(variant.settings, seed=0)  # the seed is not read
            if key not in ranked:
                ranked[key] = rank_vision_concepts(
                    explainer.bank, variant.settings, embedding=image.embedding, part_embeddings=parts
                )
            results[variant] = VariantResult(explainer, geometry, image, segmentation, parts, ranked[key])
        return results

    def embed(self, squares: NDArray[np.uint8]) -> Float[Tensor, "squares embed"]:
        """Embed square inputs of any images in batches, on the CPU; NotFiniteError if an embedding is not finite."""
        backbone = self.explainer.backbone
        size = images_per_forward(backbone, side=squares.shape[1], most=ACCELERATOR_BATCH)
        starts = range(0, len(squares), size)
        embedded = torch.cat([self.explainer.embed(squares[start : start + size]) for start in starts])
        backbone.check_finite(embedded)
        return embedded

    def _explainer(self, settings: Settings) -> Explainer:
        if settings not in self._explainers:
            self._explainers[settings] = self.explainer.with_settings(settings)
        return self._explainers[settings]


def _part_variant(variant: Variant, true: PartFinder | None) -> PartVariant:
    if variant.parts == "found":
        return PartVariant(variant.settings)
    if variant.parts == "feature maps":
        return PartVariant(variant.settings, feature_map_finder(variant.settings.part_count))
    if true is None:
        raise ValueError(f"the variant {variant.name!r} needs the true masks")
    return PartVariant(variant.settings, true)


def _given_finder(masks: NDArray[np.bool_], geometry: Square) -> PartFinder:
    """Gives an image the parts with these masks, bool (parts, height, width) in its pixels."""
    given = given_parts(np.stack([geometry.to_square(mask) for mask in masks]))
    return lambda square, encoded: given

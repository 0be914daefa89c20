"""The variants of explaining that are compared, and the runner that explains an image by all of them.

What variants share (the forward, the segmentation, the part embeddings, the ranking) is computed once per image.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from clipmk.backbones.base import Encoded
from clipmk.concepts.superpixels import PictureRegions, picture_regions
from clipmk.evaluate.feature_maps import feature_map_parts
from clipmk.evaluate.report import TRUE_PARTS
from clipmk.images.square import Square
from clipmk.pipeline.encoder import fetch
from clipmk.pipeline.explainer import Explainer
from clipmk.pipeline.grounding import CPU_PIXELS, embed_parts
from clipmk.pipeline.ranking import VisionConcepts, rank_vision_concepts
from clipmk.pipeline.segmentation import Segmentation, given_parts, segment
from clipmk.settings import PRESETS, Grounding, Settings, preset

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from clipmk.backbones.backbone import Backbone
    from clipmk.images.decoder import Picture
    from clipmk.vocabulary.vocabulary import Vocabulary

PartSource = Literal["found", "true", "feature maps"]

FEATURE_MAPS = "feature maps"
ACCELERATOR_BATCH = 256
"""Square inputs per forward on an accelerator."""


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

    Each is fitted to every image alone. The feature maps are grounded by `attend` and named as the `default` preset
    names parts.

    Args:
        presets: only these; empty: all.
        groundings: only these; empty: all.
        seed: of k-means.

    Raises:
        UsageError: a name does not exist; the message lists those that do.
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


def segmentation_choices(settings: Settings) -> tuple[Hashable, ...]:
    """Everything that a segmentation reads: the same choices give the same parts."""
    reads = {"kmeans": ("part_count", "seed"), "pca": ("part_count",), "superpixels": ("part_limit",)}[settings.parts]
    names = ("resize", "features", "foreground", "second_component", "parts", *reads)
    return tuple(getattr(settings, name) for name in names)


@dataclass(frozen=True, eq=False)
class EncodedPicture:
    """A picture after one forward."""

    square: NDArray[np.uint8]
    """The square input, uint8 RGB (S, S, 3)."""
    geometry: Square
    """Maps the square to the picture's pixels."""
    encoded: Encoded
    """On the model's device."""
    on_cpu: Encoded
    """The same on the CPU, without `state`."""

    @cached_property
    def regions(self) -> PictureRegions:
        """The square's regions of one colour."""
        return picture_regions(self.square)


@dataclass(frozen=True, slots=True, eq=False)
class VariantResult:
    """How one variant explains one image; everything but `picture.encoded` is on the CPU."""

    explainer: Explainer
    """With the variant's settings."""
    picture: EncodedPicture
    segmentation: Segmentation
    part_embeddings: Float[Tensor, "parts embed"]
    vision: VisionConcepts

    @property
    def settings(self) -> Settings:
        """Of the variant."""
        return self.explainer.settings

    @property
    def embedding(self) -> Float[Tensor, " embed"]:
        """Of the whole image, L2-normalised."""
        return self.picture.on_cpu.embeddings[0]

    @property
    def class_cosines(self) -> Float[Tensor, " classes"]:
        """cos(image, class)."""
        return self.explainer.bank.classes @ self.embedding

    @property
    def predicted(self) -> int:
        """Number of the class with the highest cosine."""
        return int(self.class_cosines.argmax())


class VariantRunner:
    """One model, ready to explain any number of images by any variants.

    Args:
        backbone: the model.
        vocabulary: classes and descriptors.
        cache: keep the embedded texts on disk.
    """

    def __init__(self, backbone: Backbone, vocabulary: Vocabulary, *, cache: bool = True) -> None:
        self.explainer = Explainer(backbone, vocabulary, preset("default"), cache=cache)
        self._explainers: dict[Settings, Explainer] = {}

    def run(
        self,
        picture: Picture,
        variants: Collection[Variant],
        *,
        true_masks: NDArray[np.bool_] | None = None,
    ) -> dict[Variant, VariantResult]:
        """Explain one picture. Part embeddings of all variants come to the CPU in one copy.

        Args:
            picture: the image.
            variants: how.
            true_masks: bool (parts, height, width) in the picture's pixels, for variants with `true` parts.

        Raises:
            NotFiniteError: the model's output for the picture is not finite; a `ModelError`.
        """
        pictures: dict[Hashable, EncodedPicture] = {}
        segmentations: dict[Hashable, Segmentation] = {}
        shared: dict[tuple[Hashable, Grounding], tuple[EncodedPicture, Segmentation]] = {}
        for variant in variants:
            view, parts = (variant.settings.features, variant.settings.resize), _parts_key(variant)
            if view not in pictures:
                pictures[view] = self._encode(picture, variant.settings)
            if parts not in segmentations:
                segmentations[parts] = _segment(variant, pictures[view], true_masks)
            shared[parts, variant.settings.grounding] = pictures[view], segmentations[parts]
        embeddings = self._embed_parts(shared)
        ranked: dict[Hashable, VisionConcepts] = {}
        results = {}
        for variant in variants:
            key, explainer = (_parts_key(variant), variant.settings.grounding), self._explainer(variant.settings)
            ranking = (key, replace(variant.settings, seed=0))  # the seed is not read
            encoded, segmentation = shared[key]
            if ranking not in ranked:
                ranked[ranking] = rank_vision_concepts(
                    explainer.bank,
                    variant.settings,
                    embedding=encoded.on_cpu.embeddings[0],
                    part_embeddings=embeddings[key],
                )
            results[variant] = VariantResult(explainer, encoded, segmentation, embeddings[key], ranked[ranking])
        return results

    def _embed_parts(
        self, shared: Mapping[tuple[Hashable, Grounding], tuple[EncodedPicture, Segmentation]]
    ) -> dict[tuple[Hashable, Grounding], Float[Tensor, "parts embed"]]:
        """Part embeddings, all queued on the device before they are fetched in one copy."""
        queued = [
            own
            for (_, grounding), (picture, segmentation) in shared.items()
            for own in embed_parts(
                self.explainer.backbone,
                grounding,
                squares=[picture.square],
                forwards=[picture.encoded],
                masks=[segmentation.masks],
            )
        ]
        fetched = fetch(queued)
        self.explainer.backbone.check_finite(*fetched)
        return dict(zip(shared, fetched, strict=True))

    def embed(self, squares: NDArray[np.uint8]) -> Float[Tensor, "squares embed"]:
        """Embed square inputs of any images, uint8 RGB (squares, S, S, 3), in batches; on the CPU.

        Raises:
            NotFiniteError: an embedding is not finite; a `ModelError`.
        """
        backbone, size = self.explainer.backbone, batch_size(self.explainer.backbone, squares.shape[1])
        starts = range(0, len(squares), size)
        embedded = torch.cat([self.explainer.embed(squares[start : start + size]) for start in starts])
        backbone.check_finite(embedded)
        return embedded

    def _encode(self, picture: Picture, settings: Settings) -> EncodedPicture:
        explainer = self._explainer(settings)
        square = explainer.square(picture)
        encoded = explainer.encode(square)
        on_cpu = encoded.on_cpu()
        explainer.backbone.check_finite(on_cpu.embeddings, on_cpu.patches)
        return EncodedPicture(square, explainer.geometry(picture), encoded, on_cpu)

    def _explainer(self, settings: Settings) -> Explainer:
        if settings not in self._explainers:
            self._explainers[settings] = self.explainer.with_settings(settings)
        return self._explainers[settings]


def batch_size(backbone: Backbone, side: int) -> int:
    """Square inputs per forward: many on an accelerator; on a CPU as many as have the pixels of one of 224 px."""
    return max(1, CPU_PIXELS // side**2) if backbone.device.type == "cpu" else ACCELERATOR_BATCH


def _parts_key(variant: Variant) -> Hashable:
    settings = variant.settings
    if variant.parts == "found":
        return variant.parts, *segmentation_choices(settings)
    if variant.parts == "true":
        return variant.parts, settings.features, settings.resize
    return variant.parts, settings.features, settings.resize, settings.part_count


def _segment(variant: Variant, picture: EncodedPicture, true_masks: NDArray[np.bool_] | None) -> Segmentation:
    settings, encoded = variant.settings, picture.on_cpu
    if variant.parts == "found":
        regions = [picture.regions] if settings.parts == "superpixels" else None
        return segment([picture.square], [encoded], settings, regions=regions)[0]
    if variant.parts == "feature maps":
        side = picture.square.shape[0]
        return feature_map_parts(encoded.patches[0], grid=encoded.grid, side=side, count=settings.part_count)
    if true_masks is None:
        raise ValueError(f"the variant {variant.name!r} needs the true masks")
    return given_parts(np.stack([picture.geometry.to_square(mask) for mask in true_masks]))

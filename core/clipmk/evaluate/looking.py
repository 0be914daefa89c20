"""Every way of explaining looks at the same image; what two ways have in common is done once.

The one place of the evaluation that takes an explanation apart into its steps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import numpy as np
from numpy.typing import NDArray

from clipmk.errors import UsageError, suggest
from clipmk.evaluate.ways import Way
from clipmk.pipeline.encoder import fetch
from clipmk.pipeline.explainer import Explainer
from clipmk.pipeline.grounding import embed_parts
from clipmk.pipeline.ranking import VisionConcepts, rank_vision_concepts
from clipmk.pipeline.segmentation import Segmentation, segment
from clipmk.settings import PRESETS, Grounding, preset

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from clipmk.backbones.base import Backbone, Encoded
    from clipmk.images.decoder import Picture
    from clipmk.vocabulary.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What one way makes of one image."""

    explainer: Explainer
    square: NDArray[np.uint8]
    """uint8 RGB (S, S, 3)."""
    encoded: Encoded
    found: Segmentation
    parts: Float[Tensor, "parts embed"]
    """Part embeddings."""
    seen: VisionConcepts

    @property
    def embedding(self) -> Float[Tensor, " embed"]:
        """Of the whole image."""
        return self.encoded.embeddings[0].cpu()

    def embed_regions(self, masks: NDArray[np.bool_]) -> Float[Tensor, "regions embed"]:
        """Embed other regions of the image, bool (regions, S, S), as this way embeds its parts.

        Raises:
            NotFiniteError: an embedding is not finite; a `ModelError`.
        """
        made = self.explainer
        (embedded,) = fetch(
            embed_parts(
                made.backbone, made.settings.grounding, squares=[self.square], forwards=[self.encoded], masks=[masks]
            )
        )
        made.backbone.check_finite(embedded)
        return embedded


def ways_of(presets: Sequence[str] = (), groundings: Sequence[str] = (), *, seed: int = 0) -> tuple[Way, ...]:
    """Every preset with every grounding, fitted to each image alone.

    Args:
        presets: only these; empty: all.
        groundings: only these; empty: all.
        seed: of k-means.

    Raises:
        UsageError: a name does not exist; the message names those that do.
    """
    for word, named, known in (("preset", presets, tuple(PRESETS)), ("grounding", groundings, get_args(Grounding))):
        for name in named:
            if name not in known:
                raise UsageError(f"{word} {name!r} does not exist; {suggest(name, known)}")
    return tuple(
        Way(f"{name}, {grounding}", preset(name, grounding=grounding, seed=seed))
        for name in dict.fromkeys(presets or PRESETS)
        for grounding in dict.fromkeys(groundings or get_args(Grounding))
    )


class Looker:
    """One model, ready to look at any number of images in several ways.

    Args:
        backbone: the model.
        vocabulary: classes and descriptors.
        chosen: the ways; at least one.
        cache: keep the embedded texts on disk.
    """

    def __init__(
        self, backbone: Backbone, vocabulary: Vocabulary, chosen: Sequence[Way], *, cache: bool = True
    ) -> None:
        if not chosen:
            raise ValueError("at least one way of explaining is needed")
        first = Explainer(backbone, vocabulary, chosen[0].settings, cache=cache)
        self.explainers = {way.name: first.with_settings(way.settings) for way in chosen}

    @property
    def any(self) -> Explainer:
        """The first way's explainer: the model and the embedded texts, which all ways share."""
        return next(iter(self.explainers.values()))

    def look(self, picture: Picture) -> dict[str, Look]:
        """Way -> its look at the picture. Forwards and segmentations that ways share are done once.

        Raises:
            NotFiniteError: what the model makes of the picture is not finite; a `ModelError`.
        """
        encoded: dict[object, tuple[NDArray[np.uint8], Encoded, Encoded]] = {}
        found: dict[object, Segmentation] = {}
        looks = {}
        for name, explainer in self.explainers.items():
            settings = explainer.settings
            forward = (settings.features, settings.resize)
            if forward not in encoded:
                square = explainer.square(picture)
                image = explainer.encode(square)
                arrived = image.on_cpu()
                explainer.backbone.check_finite(arrived.embeddings, arrived.patches)
                encoded[forward] = square, image, arrived
            square, image, arrived = encoded[forward]
            division = dataclasses.replace(settings, grounding="attend")  # the grounding does not divide the image
            if division not in found:
                found[division] = segment([square], [arrived], settings)[0]
            (parts,) = fetch(
                embed_parts(
                    explainer.backbone,
                    settings.grounding,
                    squares=[square],
                    forwards=[image],
                    masks=[found[division].masks],
                )
            )
            explainer.backbone.check_finite(parts)
            seen = rank_vision_concepts(
                explainer.bank, settings, embedding=arrived.embeddings[0], part_embeddings=parts
            )
            looks[name] = Look(explainer, square, image, found[division], parts, seen)
        return looks

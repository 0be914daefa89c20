"""Is what the explanation points at what the model used? Deletion, insertion, entropy, place (docs/method.md, 6).

For each variant, the parts of an image are ordered by cos(image, part) · cos(image, first descriptor of the part) and
blurred (deletion) or revealed (insertion) in that order. Every variant is compared with baselines:

- `random order`: the same parts in a random order;
- `random descriptors`: the same parts, ordered with a random descriptor of the vocabulary for each part;
- `nearest descriptor`: the same parts with the descriptor nearest to the whole image: cos(image, part) orders them;
- `random regions`: regions of the same shapes and areas elsewhere in the object, in the order of the parts whose shapes
  they have. It is the true object where that is known, which the variant itself is not given; else the foreground;
- `feature maps`: the strongest channels as regions, with descriptors by the same grounding.

A sparse decomposition of the image's embedding has no regions and therefore no place here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import fsum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch.nn import functional

from clipmk.concepts.float64 import host64
from clipmk.concepts.matching import sinkhorn
from clipmk.concepts.selection import highest
from clipmk.evaluate.metrics import concept_order, descriptor_entropy, hidden_regions, localised
from clipmk.evaluate.perturbations import OccludedImages, OcclusionQueue, moved_regions
from clipmk.evaluate.report import Row
from clipmk.evaluate.variants import (
    Measure,
    Variant,
    VariantResult,
    VariantRunner,
    feature_maps_variant,
    with_found_parts,
)
from clipmk.images.masks import mask_box

if TYPE_CHECKING:
    from clipmk.evaluate.samples import Sample

SCORE_SCALE = 2.5  # of the cosine in deletion and insertion, as in the paper


@dataclass(frozen=True, slots=True, eq=False)
class _Sequence:
    """The regions of one row of one image, and the numbers of its occluded images."""

    row: str
    variant: str
    """Row that this one is a control of; itself for a variant."""
    delete: list[int]
    insert: list[int]
    extra: Mapping[str, float]


class Faithfulness(Measure):
    """Gathers the measure over the images of one dataset, for variants that find their own parts."""

    def __init__(self, runner: VariantRunner, variants: Sequence[Variant], *, seed: int) -> None:
        super().__init__("faithfulness", with_found_parts(variants), seed=seed)
        self._maps = _feature_maps(self.variants)
        self.variants = tuple(dict.fromkeys((*self._maps, *(each for each in self._maps.values() if each))))
        self._queue = OcclusionQueue(runner)

    def add(self, sample: Sample, results: Mapping[Variant, VariantResult]) -> None:
        """Queue the occluded images of one image, those of equal square inputs together."""
        by_picture: dict[int, tuple[VariantResult, OccludedImages, list[_Sequence]]] = {}
        for variant, maps in self._maps.items():
            result = results[variant]
            key, square = id(result.image), result.image.square
            _, images, sequences = by_picture.setdefault(key, (result, OccludedImages(square), []))
            rng = np.random.default_rng([self.seed, sample.index])
            sequences += _of_variant(variant.name, result, sample, images, rng)
            if maps is not None:
                sequences.append(_of_feature_maps(maps.name, results[maps], sample, images))
        for result, images, sequences in by_picture.values():
            self._queue.add(list(images.images()), partial(self._count, result, sample.label, sequences))

    def finish(self, data: str) -> list[Row]:
        """Rows of the dataset: variants and baselines."""
        self._queue.flush()
        return super().finish(data)

    def _count(
        self, result: VariantResult, label: str | None, sequences: Sequence[_Sequence], cosines: NDArray[np.float64]
    ) -> None:
        """Add up an image's occluded images: accuracy is against the label, else against the prediction."""
        predicted = result.predicted
        target = predicted if label is None else result.explainer.vocabulary.classes.index(label)
        scores = SCORE_SCALE * cosines[:, predicted]
        right = (cosines.argmax(axis=1) == target).astype(np.float64)
        areas: dict[str, dict[str, float]] = {}
        for sequence in sequences:
            values = areas[sequence.row] = _areas(sequence, scores, right)
            if sequence.variant != sequence.row:
                own = areas[sequence.variant]
                values["deletion_margin"] = values["deletion"] - own["deletion"]
                values["insertion_margin"] = own["insertion"] - values["insertion"]
            elif label is not None:
                values["top1"] = float(predicted == target)
            self.tally.add(sequence.row, {**values, **sequence.extra})


def _feature_maps(variants: Sequence[Variant]) -> dict[Variant, Variant | None]:
    """For each variant its feature maps; None where those of a variant before it are the same."""
    maps: dict[Variant, Variant | None] = {}
    known = set()
    for variant in variants:
        settings = variant.settings
        choices = (settings.features, settings.resize, settings.grounding, settings.part_count)
        maps[variant] = None if choices in known else feature_maps_variant(settings)
        known.add(choices)
    return maps


def _areas(sequence: _Sequence, scores: NDArray[np.float64], right: NDArray[np.float64]) -> dict[str, float]:
    """Areas under the curves: over an axis of length 1, whatever L is, and the sum that fits the paper's numbers."""
    curves = {
        "deletion": scores[sequence.delete],
        "insertion": scores[sequence.insert],
        "acc_drop": right[sequence.delete],
        "acc_inc": right[sequence.insert],
    }
    sums = {name: fsum(curve.tolist()) for name, curve in curves.items()}
    means = {name: total / len(curves[name]) for name, total in sums.items()}
    return means | {f"{name}_sum": total for name, total in sums.items()}


def _of_variant(
    name: str, result: VariantResult, sample: Sample, images: OccludedImages, rng: np.random.Generator
) -> list[_Sequence]:
    """The variant itself and its controls, on its own regions."""
    masks, raw = result.masks, result.explainer.bank.raw
    own = _order(result, [first for first, *_ in result.vision.top_descriptors])
    nearest = int((raw @ result.image.embedding).argmax())
    moved = moved_regions(masks, _object(result, sample), rng=rng)
    drawn = rng.integers(len(raw), size=len(masks)).tolist()
    rows: list[tuple[str, NDArray[np.bool_], NDArray[np.intp]]] = [
        (name, masks, own),
        (f"{name}: random order", masks, rng.permutation(len(masks))),
        (f"{name}: random descriptors", masks, _order(result, drawn)),
        (f"{name}: nearest descriptor", masks, _order(result, [nearest] * len(masks))),
        (f"{name}: random regions", moved, own),
    ]
    extra = {name: entropies(result) | _corloc(result, sample)}
    return [_sequence(row, name, images, regions, order, extra.get(row, {})) for row, regions, order in rows]


def _of_feature_maps(name: str, result: VariantResult, sample: Sample, images: OccludedImages) -> _Sequence:
    """The paper's "Feature Maps" baseline, each region with the descriptor nearest to it."""
    nearest = (result.part_embeddings @ result.explainer.bank.descriptors.T).argmax(dim=1).tolist()
    order = _order(result, nearest)
    return _sequence(name, name, images, result.masks, order, _corloc(result, sample))


def _sequence(
    row: str,
    variant: str,
    images: OccludedImages,
    masks: NDArray[np.bool_],
    order: NDArray[np.intp],
    extra: Mapping[str, float],
) -> _Sequence:
    size = {"parts": float(len(masks)), "area": float(masks.any(axis=0).mean())}
    return _Sequence(
        row,
        variant,
        images.add(hidden_regions(masks, order, reveal=False)),
        images.add(hidden_regions(masks, order, reveal=True)),
        {**size, **extra},
    )


def _order(result: VariantResult, firsts: Sequence[int]) -> NDArray[np.intp]:
    """Order of the parts with these descriptors."""
    whole = host64(result.image.embedding)
    part_cosines = (functional.normalize(host64(result.part_embeddings), dim=-1) @ whole).numpy()
    descriptor_cosines = (host64(result.explainer.bank.raw[list(firsts)]) @ whole).numpy()
    return concept_order(part_cosines, descriptor_cosines)


def entropies(result: VariantResult) -> dict[str, float]:
    """Entropy of the parts' descriptors: as the variant gives them, by nearness alone, and by optimal transport.

    The last two ablate the transport as the paper's appendix A.2 does: the same parts, the same candidates and the same
    number of descriptors each, taken by the highest cosine or by the largest share of the plan.
    """
    scores, settings = result.vision.scores, result.settings
    count = settings.descriptors_per_part
    plan = sinkhorn(scores, scale=settings.score_scale)
    return {
        "entropy": descriptor_entropy(result.vision.top_descriptors),
        "entropy_nearest": descriptor_entropy(highest(scores, count).tolist()),
        "entropy_transport": descriptor_entropy(highest(plan, count).tolist()),
    }


def _object(result: VariantResult, sample: Sample) -> NDArray[np.bool_]:
    """The true object on the square, else the foreground."""
    if sample.object_mask is not None:
        mask = result.geometry.to_square(sample.object_mask)
        if mask.any():
            return mask
    return np.asarray(result.masks.any(axis=0))


def _corloc(result: VariantResult, sample: Sample) -> dict[str, float]:
    if sample.object_mask is None:
        return {}
    foreground = result.to_pixels(result.segmentation.foreground)
    return {"corloc": float(localised(mask_box(foreground), mask_box(sample.object_mask)))}

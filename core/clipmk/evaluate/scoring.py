"""One explanation against the truth of its scene: one number per metric, NaN where it is undefined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipmk.concepts.mutual import overlap
from clipmk.evaluate import metrics
from clipmk.evaluate.samples import true_masks
from clipmk.world.combinations import typical_descriptors
from clipmk.world.scene import Scene

if TYPE_CHECKING:
    from clipmk.evaluate.variants import VariantResult


@dataclass(frozen=True, slots=True, eq=False)
class ScenePrediction:
    """What one variant says about one scene, in words and in the picture's pixels."""

    class_name: str
    """The predicted one."""
    part_pixels: NDArray[np.bool_]
    """(parts, height, width)"""
    foreground_pixels: NDArray[np.bool_]
    """(height, width)"""
    top_descriptors: tuple[tuple[str, ...], ...]
    """For each part, best first."""
    concepts: tuple[str, ...]
    """D_v, most important first."""
    mutual: tuple[bool, ...]
    """For each concept whether it is in D_y too."""
    part_ids: tuple[tuple[int, ...], ...]
    """For each concept the parts that carry it, 0-based."""

    @classmethod
    def of(cls, result: VariantResult) -> ScenePrediction:
        """From the rows and squares of a result."""
        explainer, vision = result.explainer, result.vision
        texts, to_pixels = explainer.vocabulary.descriptors, result.geometry.to_pixels
        language = explainer.builder.language(result.predicted).indices.tolist()
        return cls(
            class_name=explainer.vocabulary.classes[result.predicted],
            part_pixels=np.stack([to_pixels(mask) for mask in result.segmentation.masks]),
            foreground_pixels=to_pixels(result.segmentation.foreground),
            top_descriptors=tuple(tuple(texts[i] for i in row) for row in vision.top_descriptors),
            concepts=tuple(texts[i] for i in vision.concepts),
            mutual=overlap(vision.concepts, language),
            part_ids=vision.part_ids,
        )


def ranking_scores(ranked: Sequence[str], scene: Scene) -> dict[str, float]:
    """AP and R-precision of a ranked list of descriptors."""
    return {
        "ap": metrics.average_precision(ranked, scene.descriptors),
        "r_precision": metrics.r_precision(ranked, scene.descriptors),
    }


def concept_scores(scene: Scene, prediction: ScenePrediction, *, true_parts: bool) -> dict[str, float]:
    """The ranking of D_v, hits per true part, and how many mutual concepts are true and typical.

    A true part is hit@k if its descriptor is among the first k of the part with the highest IoU (of itself, where the
    true parts were given); one that no part overlaps is missed.
    """
    scores = ranking_scores(prediction.concepts, scene)
    holders = list(range(len(scene.parts))) if true_parts else _closest(prediction.part_pixels, true_masks(scene))
    for count in (1, 3):
        hits = [
            holder is not None and part.descriptor in prediction.top_descriptors[holder][:count]
            for part, holder in zip(scene.parts, holders, strict=True)
        ]
        scores[f"hit{count}"] = float(np.mean(hits))
    typical = set(typical_descriptors(prediction.class_name)) & set(scene.descriptors)
    mutual = [text for text, shared in zip(prediction.concepts, prediction.mutual, strict=True) if shared]
    scores["mutual_true"] = float(np.mean([text in typical for text in mutual])) if mutual else float("nan")
    scores["top1"] = float(prediction.class_name == scene.class_name)
    scores["parts"] = float(len(prediction.top_descriptors))
    return scores


def region_scores(
    scene: Scene, masks: NDArray[np.bool_], foreground: NDArray[np.bool_], *, grid: tuple[int, int]
) -> dict[str, float]:
    """Foreground against the object, also relative to the grid's ceiling and as boxes, and parts against the true ones.

    Args:
        scene: the truth.
        masks: discovered parts, bool (parts, S, S).
        foreground: bool (S, S).
        grid: of the model's patches.
    """
    overlap = metrics.iou(foreground, scene.object_mask)
    return {
        "foreground": overlap,
        "of_ceiling": overlap / metrics.grid_ceiling(scene.object_mask, grid=grid),
        "corloc": float(metrics.localised(metrics.mask_box(foreground), metrics.mask_box(scene.object_mask))),
        "part_iou": float(metrics.best_iou(masks, true_masks(scene)).mean()),
    }


def _closest(found: NDArray[np.bool_], true: NDArray[np.bool_]) -> list[int | None]:
    """For each true mask the found one with the highest IoU; None where none overlaps it."""
    shared = metrics.pairwise_iou(found, true)
    return [int(best) if shared[best, i] > 0 else None for i, best in enumerate(shared.argmax(axis=0))]

"""Explanations compared with the truth of rendered scenes (docs/evaluation.md).

Every variant explains the same scenes, and baselines stand beside it. Beyond the scores of an explanation, it is
measured what changes with another seed, a shifted picture, damaged patch tokens and hidden regions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipmk.concepts.mutual import overlap
from clipmk.concepts.prompts import blur_region
from clipmk.concepts.selection import highest
from clipmk.evaluate import asking, baselines, metrics
from clipmk.evaluate.perturbations import OcclusionQueue, inject_outliers, moved_inside, shifted
from clipmk.evaluate.report import BASELINES, LOOKUP, NEAREST, RANDOM, SPARSE, TRUE_LOOKUP, Row
from clipmk.evaluate.variants import Measure, Variant, VariantResult, VariantRunner, with_found_parts
from clipmk.images.decoder import read_picture
from clipmk.images.masks import mask_box
from clipmk.pipeline.comparison import jaccard
from clipmk.pipeline.segmentation import segment
from clipmk.system.serialization import plain
from clipmk.world.combinations import typical_descriptors
from clipmk.world.scene import Scene, render_scenes

if TYPE_CHECKING:
    from clipmk.evaluate.baselines import Splice
    from clipmk.evaluate.samples import Sample

CALIBRATION_SCENES = 100
CALIBRATION_START = 1_000_000
"""First index of the `val` scenes that the sparse decomposition is fitted on: far from any that are reported."""
MAP_BORDERS = "borders of maps"  # key of the thresholds among the settings
SHIFT = 2  # pixels that the picture moves for the stability

EffectRegions = dict[str, NDArray[np.bool_] | None]
"""Metric -> the region, bool (height, width), that is blurred for it; see `effect_regions`."""


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
        texts = explainer.vocabulary.descriptors
        language = explainer.builder.language(result.predicted).indices.tolist()
        return cls(
            class_name=explainer.vocabulary.classes[result.predicted],
            part_pixels=np.stack([result.to_pixels(mask) for mask in result.segmentation.masks]),
            foreground_pixels=result.to_pixels(result.segmentation.foreground),
            top_descriptors=tuple(tuple(texts[i] for i in row) for row in vision.top_descriptors),
            concepts=tuple(texts[i] for i in vision.concepts),
            mutual=overlap(vision.concepts, language),
            part_ids=vision.part_ids,
        )


class SceneMeasure(Measure):
    """A measure over the rendered scenes of one split."""

    fewest_parts = 1
    """Visible parts without which a scene is left out."""

    def takes(self, sample: Sample) -> bool:
        """Rendered scenes that show enough parts."""
        return sample.scene is not None and len(sample.scene.parts) >= self.fewest_parts


class TruthEvaluator(SceneMeasure):
    """Gathers the truth metrics over the scenes of one split; maps without a threshold by `calibrate` end half way."""

    def __init__(
        self,
        runner: VariantRunner,
        variants: Sequence[Variant],
        fitted: Splice,
        thresholds: Mapping[str, float],
        *,
        seed: int,
    ) -> None:
        super().__init__("truth", variants, seed=seed)
        self._runner, self._reported, self._splice = runner, variants, fitted
        self._thresholds = thresholds
        self._most = variants[0].settings.vision_limit
        self._found = with_found_parts(variants)
        self._other_seed = {
            one: replace(one, settings=replace(one.settings, seed=one.settings.seed + 1)) for one in self._found
        }
        self.variants = (*variants, *self._other_seed.values())
        self.settings = {
            **{one.name: {**plain(one.settings), "part_source": one.parts} for one in variants},
            MAP_BORDERS: dict(thresholds),
            SPARSE: {"penalty": fitted.penalty, "val_ap": fitted.score, "val_scenes": CALIBRATION_SCENES},
        }
        self._queue = OcclusionQueue(runner)

    def add(self, sample: Sample, results: Mapping[Variant, VariantResult]) -> None:
        """Measure one scene."""
        scene = sample.rendered
        ranked = self._baselines(scene, results[self._reported[0]])
        cosine, by_class = asking.presence_scores(scene, results[self._reported[0]])
        ranked[NEAREST] |= cosine
        ranked[LOOKUP] |= by_class
        maps = asking.scene_maps(scene, {one: results[one] for one in self._found})
        mapped = {
            name: asking.map_scores(one, scene, threshold=self._thresholds.get(name, 0.5)) for name, one in maps.items()
        }
        for name, scores in ranked.items():
            self.tally.add(name, scores)
        moved = self._runner.run(read_picture(shifted(scene.image, pixels=SHIFT)), self._found)
        regions: dict[int, dict[str, float]] = {}  # variants that share their parts share these scores
        predictions: dict[Variant, ScenePrediction] = {}
        for variant in self._reported:
            result = results[variant]
            prediction = predictions[variant] = ScenePrediction.of(result)
            scores = concept_scores(scene, prediction, true_parts=variant.parts == "true")
            if variant.parts != "true":
                key = id(result.segmentation)
                regions[key] = regions.get(key) or _region_scores(variant, result, prediction, scene)
                scores |= regions[key]
            if variant.parts == "found":
                again = results[self._other_seed[variant]], moved[variant]
                for name, other in zip(("stable_seed", "stable_shift"), again, strict=True):
                    share = jaccard(prediction.concepts, ScenePrediction.of(other).concepts)
                    scores[name] = 1.0 if share is None else share
            scores["margin"] = scores["ap"] - ranked[LOOKUP]["ap"]
            self.tally.add(variant.name, scores | mapped.pop(variant.name, {}))
        anywhere = dict.fromkeys(asking.MAP_METRICS, float(scene.part_masks.mean()))  # the share of the picture
        for name, scores in {**mapped, asking.ANYWHERE: anywhere}.items():
            self.tally.add(name, scores)
        self._add_effects(scene, results, {one: seen for one, seen in predictions.items() if one.parts != "true"})

    def finish(self, data: str) -> list[Row]:
        """Rows of the split: baselines, then variants."""
        self._queue.flush()
        maps = [one.name for one in self._reported if one.parts == "feature maps"]
        paper = [one.name for one in self._found if one.settings.preset == "paper"]
        return self.tally.rows(data, over=(*BASELINES, *maps, *paper[:1]))

    def _baselines(self, scene: Scene, result: VariantResult) -> dict[str, dict[str, float]]:
        """AP and R-precision of rankings that look at no part; what is not above class lookup recites the class."""
        explainer, most, embedding = result.explainer, self._most, result.image.embedding
        texts = explainer.vocabulary.descriptors
        weights = self._splice.weights(embedding[None].numpy())[0]
        drawn = np.random.default_rng([self.seed, scene.index]).permutation(len(texts))[:most]
        ranked: dict[str, Sequence[str]] = {
            LOOKUP: typical_descriptors(explainer.vocabulary.classes[result.predicted])[:most],
            TRUE_LOOKUP: typical_descriptors(scene.class_name)[:most],
            NEAREST: [texts[i] for i in highest(explainer.bank.descriptors @ embedding, most)],
            SPARSE: [texts[i] for i in baselines.ranked(weights, most=most)],
            RANDOM: [texts[i] for i in drawn],
        }
        return {name: ranking_scores(each, scene) for name, each in ranked.items()}

    def _add_effects(
        self, scene: Scene, results: Mapping[Variant, VariantResult], predictions: Mapping[Variant, ScenePrediction]
    ) -> None:
        """Queue the picture with regions of mutual concepts blurred; see `effect_regions`."""
        for variant, prediction in predictions.items():
            result, regions = results[variant], effect_regions(scene, prediction)
            hidden = [blur_region(scene.image, region) for region in regions.values() if region is not None]
            squares = [result.explainer.square(read_picture(one)) for one in hidden]
            self._queue.add(squares, partial(self._count_effects, variant.name, result, regions))

    def _count_effects(
        self, row: str, result: VariantResult, regions: EffectRegions, cosines: NDArray[np.float64]
    ) -> None:
        """Add by how much the cosine with the predicted class drops."""
        number, hidden = result.predicted, iter(cosines)
        whole, missing = float(result.class_cosines[number]), np.full(len(cosines.T), np.nan)
        drops = {
            name: whole - float((missing if region is None else next(hidden))[number])
            for name, region in regions.items()
        }
        self.tally.add(row, {**drops, "effect_margin": drops["effect"] - drops["effect_control"]})


def calibrate(runner: VariantRunner, variants: Sequence[Variant], *, seed: int) -> tuple[Splice, dict[str, float]]:
    """The sparse decomposition, and where maps of found parts and of baselines end, fitted on held-out `val` scenes."""
    rendered = render_scenes("val", count=CALIBRATION_SCENES, seed=seed, start=CALIBRATION_START)
    scenes, explainer = [one for one in rendered if one.parts], runner.explainer
    row = {text: i for i, text in enumerate(explainer.vocabulary.descriptors)}
    fitted = baselines.fit_splice(
        runner.embed(np.stack([explainer.square(read_picture(scene.image)) for scene in scenes])).numpy(),
        explainer.bank.descriptors.numpy(),
        [{row[text] for text in scene.descriptors} for scene in scenes],
        most=explainer.settings.vision_limit,
    )
    return fitted, asking.fit_thresholds(runner, with_found_parts(variants), scenes)


def ranking_scores(ranked: Sequence[str], scene: Scene) -> dict[str, float]:
    """AP and R-precision of a ranked list of descriptors."""
    return {
        "ap": metrics.average_precision(ranked, scene.descriptors),
        "r_precision": metrics.r_precision(ranked, scene.descriptors),
    }


def concept_scores(scene: Scene, prediction: ScenePrediction, *, true_parts: bool) -> dict[str, float]:
    """The ranking of D_v, hits per true part, also by single words, and how many mutual concepts are true and typical.

    A true part is hit@k if its descriptor is among the first k of the part with the highest IoU (of itself, where the
    true parts were given); one that no part overlaps is missed.
    """
    scores = ranking_scores(prediction.concepts, scene)
    holders = list(range(len(scene.parts))) if true_parts else _closest(prediction.part_pixels, scene.part_masks)
    named = [() if holder is None else prediction.top_descriptors[holder] for holder in holders]
    pairs = [(part.descriptor, texts) for part, texts in zip(scene.parts, named, strict=True)]
    for count in (1, 3):
        scores[f"hit{count}"] = float(np.mean([true in texts[:count] for true, texts in pairs]))
    for place, word in enumerate(("texture", "colour", "noun"), start=-3):  # "a striped red body"
        hits = [true.split()[place] in texts[0].split()[place:][:1] if texts else False for true, texts in pairs]
        scores[word] = float(np.mean(hits))
    typical = set(typical_descriptors(prediction.class_name)) & set(scene.descriptors)
    mutual = [text for text, shared in zip(prediction.concepts, prediction.mutual, strict=True) if shared]
    scores["mutual_true"] = float(np.mean([text in typical for text in mutual])) if mutual else float("nan")
    scores["top1"] = float(prediction.class_name == scene.class_name)
    scores["parts"] = float(len(prediction.top_descriptors))
    return scores


def region_scores(
    scene: Scene, masks: NDArray[np.bool_], foreground: NDArray[np.bool_], *, grid: tuple[int, int] | None = None
) -> dict[str, float]:
    """Foreground against the object, also relative to the grid's ceiling and as boxes; parts against the true ones."""
    shared = metrics.iou(foreground, scene.object_mask)
    return {
        "foreground": shared,
        "of_ceiling": shared / metrics.grid_ceiling(scene.object_mask, grid=grid) if grid else float("nan"),
        "corloc": float(metrics.localised(mask_box(foreground), mask_box(scene.object_mask))),
        "part_iou": float(metrics.pairwise_iou(masks, scene.part_masks).max(axis=0).mean()),
    }


def _closest(found: NDArray[np.bool_], true: NDArray[np.bool_]) -> list[int | None]:
    """For each true mask the found one with the highest IoU; None where none overlaps it."""
    shared = metrics.pairwise_iou(found, true)
    return [int(best) if shared[best, i] > 0 else None for i, best in enumerate(shared.argmax(axis=0))]


def effect_regions(scene: Scene, prediction: ScenePrediction) -> EffectRegions:
    """Which regions of a scene are blurred, one after the other, to see what they did for the predicted class.

    `effect_top`: the region of the top mutual concept. `effect`: that of the most important mutual concept whose region
    has another place inside the object (the top one's often fills the object), and `effect_control`: its shape at that
    place. None where there is no such region.
    """
    regions = [
        np.asarray(prediction.part_pixels[list(part_ids)].any(axis=0))
        for mutual, part_ids in zip(prediction.mutual, prediction.part_ids, strict=True)
        if mutual
    ]
    hidden: EffectRegions = {"effect_top": regions[0] if regions else None, "effect": None, "effect_control": None}
    for region in {one.tobytes(): one for one in regions}.values():
        elsewhere = moved_inside(region, scene.object_mask, seed=scene.index)
        if elsewhere is not None:
            return hidden | {"effect": region, "effect_control": elsewhere}
    return hidden


def _region_scores(
    variant: Variant, result: VariantResult, prediction: ScenePrediction, scene: Scene
) -> dict[str, float]:
    """Parts and foreground against the truth; for found parts also k-means on pixels, and outliers among the tokens."""
    image, foreground = result.image, prediction.foreground_pixels
    if image.forward is None:
        raise ValueError("the scores of regions need the patch tokens")
    scores = region_scores(scene, prediction.part_pixels, foreground, grid=image.forward.grid)
    if variant.parts != "found":
        return scores
    damaged = inject_outliers(image.forward, seed=scene.index)
    _, copy = result.explainer.builder.squares(read_picture(scene.image))
    found = segment([image.square], [damaged], result.settings, copies=[copy])[0].foreground
    pixels = baselines.pixel_clusters(scene.image, foreground, seed=result.settings.seed)
    scores["pixel_iou"] = float(metrics.pairwise_iou(pixels, scene.part_masks).max(axis=0).mean())
    scores["part_margin"] = scores["part_iou"] - scores["pixel_iou"]
    scores["outliers"] = metrics.iou(result.to_pixels(found), scene.object_mask)
    return scores

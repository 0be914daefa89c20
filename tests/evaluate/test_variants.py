"""The runner and the truth metrics against `Explainer.explain`, one picture and one variant at a time."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import numpy as np
import pytest

import embedded
from clipmk.concepts.prompts import blur_region
from clipmk.evaluate import metrics, truth
from clipmk.evaluate.perturbations import inject_outliers, moved_inside, shifted
from clipmk.evaluate.samples import Sample
from clipmk.evaluate.truth import ScenePrediction, TruthEvaluator
from clipmk.evaluate.variants import Variant, VariantResult, VariantRunner, variants
from clipmk.explanation import Explanation
from clipmk.images.decoder import read_picture
from clipmk.images.masks import rle_decode
from clipmk.models.loading import load
from clipmk.pipeline.comparison import jaccard
from clipmk.pipeline.segmentation import segment
from clipmk.settings import Settings, preset
from clipmk.vocabulary.vocabulary import load_vocabulary

FOUND = [variant for variant in variants() if variant.parts == "found"]
MODEL = "embedded/vit-xs8-48"
"""Small, and its squares are smaller than the pictures."""
SCENES = embedded.scenes("counterfactual", count=3)
SAMPLES = [Sample(one.index, read_picture(one.image), one.class_name, one.object_mask, one) for one in SCENES]


@cache
def runner(model: str = MODEL) -> VariantRunner:
    """One for all variants: what it keeps for one must not spoil another."""
    return VariantRunner(load(model, device="cpu"), load_vocabulary("world"), cache=False)


def results(model: str, *wanted: Variant) -> list[dict[Variant, VariantResult]]:
    return [runner(model).run(sample.picture, wanted, true_masks=sample.true_masks) for sample in SAMPLES]


def explained(settings: Settings, *, model: str = MODEL, true: bool = False, moved: bool = False) -> list[Explanation]:
    asked = runner(model).explainer.with_settings(settings)
    images = [shifted(scene.image, pixels=truth.SHIFT) if moved else scene.image for scene in SCENES]
    return [
        asked.explain([read_picture(image)], masks=[scene.part_masks if true else None])[0]
        for image, scene in zip(images, SCENES, strict=True)
    ]


@cache
def columns(variant: Variant) -> dict[str, list[float]]:
    """Every metric of one variant on each scene."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(truth, "CALIBRATION_SCENES", 6)
        fitted, _ = truth.calibrate(runner(), (), seed=0)
    evaluator = TruthEvaluator(runner(), (variant,), fitted, {}, seed=0)
    for sample, found in zip(SAMPLES, results(MODEL, *evaluator.variants), strict=True):
        evaluator.add(sample, found)
    evaluator.finish("counterfactual")
    return evaluator.tally.values[variant.name]


@pytest.mark.parametrize("model", [MODEL, "embedded/rn-xs"])
def test_a_result_equals_the_explanation(model: str) -> None:
    wanted = [one for one in variants() if one.parts != "feature maps"]
    if model == "embedded/rn-xs":
        wanted = [one for one in wanted if one.settings.grounding == "attend"]
    by_scene = results(model, *wanted)
    for variant in wanted:
        expected = explained(variant.settings, model=model, true=variant.parts == "true")
        for result, found in zip((one[variant] for one in by_scene), expected, strict=True):
            prediction = ScenePrediction.of(result)
            assert prediction.class_name == found.predictions[0].class_name
            assert prediction.concepts == tuple(concept.text for concept in found.vision_concepts), variant.name
            assert prediction.mutual == tuple(concept.mutual for concept in found.vision_concepts)
            carried = [tuple(p - 1 for p in concept.parts) for concept in found.vision_concepts]
            assert list(prediction.part_ids) == carried
            assert list(prediction.top_descriptors) == [tuple(d.text for d in part.descriptors) for part in found.parts]
            np.testing.assert_array_equal(prediction.part_pixels, embedded.pixels_of(found))
            np.testing.assert_array_equal(prediction.foreground_pixels, rle_decode(found.foreground))


@pytest.mark.parametrize("variant", FOUND[::3], ids=lambda variant: variant.name)
def test_stability_compares_with_another_seed_and_with_the_shifted_picture(variant: Variant) -> None:
    other = dataclasses.replace(variant.settings, seed=variant.settings.seed + 1)
    first = explained(variant.settings)
    for name, again in (("stable_seed", explained(other)), ("stable_shift", explained(variant.settings, moved=True))):
        expected = [
            jaccard([c.text for c in a.vision_concepts], [c.text for c in b.vision_concepts])
            for a, b in zip(first, again, strict=True)
        ]
        assert columns(variant)[name] == pytest.approx(expected), name


@pytest.mark.parametrize("variant", [FOUND[1], FOUND[3]], ids=lambda variant: variant.name)
def test_outliers_are_injected_before_the_foreground_is_found(variant: Variant) -> None:
    expected = []
    asked = runner().explainer.with_settings(variant.settings)
    for scene, sample in zip(SCENES, SAMPLES, strict=True):
        square, copy = asked.builder.squares(sample.picture)
        damaged = inject_outliers(asked.encode(square), seed=scene.index)
        foreground = segment([square], [damaged], variant.settings, copies=[copy])[0].foreground
        geometry = dataclasses.replace(asked.builder.geometry(sample.picture.info), side=len(foreground))
        expected.append(metrics.iou(geometry.to_pixels(foreground), scene.object_mask))
    assert columns(variant)["outliers"] == pytest.approx(expected)


def test_effects_are_drops_of_the_predicted_class() -> None:
    variant = FOUND[1]
    asked = runner().explainer.with_settings(variant.settings)
    defined = 0
    for index, (scene, found) in enumerate(zip(SCENES, explained(variant.settings), strict=True)):
        masks = embedded.pixels_of(found)
        regions = [masks[[p - 1 for p in c.parts]].any(0) for c in found.vision_concepts if c.mutual]
        expected = {"effect_top": float("nan"), "effect": float("nan"), "effect_control": float("nan")}

        def drop(region: np.ndarray, scene=scene, found=found) -> float:
            images = [scene.image, blur_region(scene.image, region)]
            towards = asked.bank.classes[asked.vocabulary.classes.index(found.class_name)]
            whole, hidden = asked.embed(np.stack([asked.square(read_picture(i)) for i in images])) @ towards
            return float(whole - hidden)

        if regions:
            expected["effect_top"] = drop(regions[0])
        for region in regions:
            elsewhere = moved_inside(region, scene.object_mask, seed=scene.index)
            if elsewhere is not None:
                expected |= {"effect": drop(region), "effect_control": drop(elsewhere)}
                defined += 1
                break
        expected["effect_margin"] = expected["effect"] - expected["effect_control"]
        got = {name: columns(variant)[name][index] for name in expected}
        assert got == pytest.approx(expected, abs=1e-5, nan_ok=True)
    assert defined  # or nothing was tested


def test_what_variants_share_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    own = VariantRunner(embedded.backbone(), load_vocabulary("world"))
    calls: list[str] = []
    backbone: Any = own.explainer.backbone
    for name in ("encode_with_patches", "pool_regions"):
        real = getattr(backbone, name)
        monkeypatch.setitem(vars(backbone), name, lambda *a, _n=name, _r=real, **k: (calls.append(_n), _r(*a, **k))[1])
    found = own.run(embedded.picture(), FOUND)
    assert calls.count("encode_with_patches") == 1
    assert calls.count("pool_regions") == 2  # once a preset
    assert [variant.name for variant in found] == [
        *("default, prompts", "default, attend", "paper, prompts", "paper, attend")
    ]
    assert found[FOUND[2]].segmentation is found[FOUND[3]].segmentation
    for variant, result in found.items():
        alone = embedded.explainer(variant.settings.preset, grounding=variant.settings.grounding)
        texts = result.explainer.vocabulary.descriptors
        (expected,) = alone.explain([embedded.picture()])
        assert [texts[i] for i in result.vision.concepts] == [c.text for c in expected.vision_concepts], variant.name


def test_equal_parts_are_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    backbone: Any = runner().explainer.backbone
    encode = backbone.encode_images
    monkeypatch.setitem(vars(backbone), "encode_images", lambda pixels: (drawn.append(len(pixels)), encode(pixels))[1])
    settings = preset("default", grounding="prompts")
    changes: tuple[dict[str, Any], ...] = ({}, {"descriptors_per_part": 2}, {"seed": 9})
    wanted = [Variant(str(change), dataclasses.replace(settings, **change)) for change in changes]
    found = runner().run(SAMPLES[0].picture, wanted)
    assert sum(drawn) == 3 * len(found[wanted[0]].segmentation.masks)
    assert found[wanted[2]].vision is found[wanted[0]].vision  # superpixels draw nothing
    assert found[wanted[1]].vision is not found[wanted[0]].vision


def test_feature_maps_are_named_like_given_parts() -> None:
    variant = next(one for one in variants() if one.parts == "feature maps")
    asked = embedded.explainer().with_settings(variant.settings)  # whose squares are the pictures
    own = VariantRunner(embedded.backbone(), load_vocabulary("world"))
    for sample in SAMPLES:
        result = own.run(sample.picture, [variant])[variant]
        found = asked.explain([sample.picture], masks=[result.segmentation.masks])[0]
        assert ScenePrediction.of(result).concepts == tuple(concept.text for concept in found.vision_concepts)


def test_a_variant_with_true_parts_needs_the_true_masks() -> None:
    variant = next(one for one in variants() if one.parts == "true")
    with pytest.raises(ValueError, match="needs the true masks"):
        runner().run(SAMPLES[0].picture, [variant])

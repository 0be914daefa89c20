"""The shared, batched look of the truth benchmark against `Explainer.explain`, one picture and one way at a time."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import pytest
import torch

import embedded
from clipmk.concepts.prompts import blur_region
from clipmk.evaluate import bench, metrics, scoring
from clipmk.evaluate.bench import Batch, SceneBatch
from clipmk.evaluate.disturbances import inject_outliers, moved_inside
from clipmk.evaluate.lens import Lens, segmentation_choices
from clipmk.evaluate.ways import Way, ways
from clipmk.explanation import Explanation
from clipmk.images.decoder import read_picture
from clipmk.images.masks import rle_decode
from clipmk.models.loading import load
from clipmk.pipeline.explainer import Explainer
from clipmk.pipeline.segmentation import segment
from clipmk.settings import Settings, preset
from clipmk.vocabulary.vocabulary import load_vocabulary

COUNT = 3
FOUND = [way for way in ways() if way.parts == "found"]


MODEL = "embedded/vit-xs8-48"
"""Small, and its squares are smaller than the pictures."""


@cache
def explainer(model: str = MODEL) -> Explainer:
    return Explainer(load(model, device="cpu"), load_vocabulary("world"), preset("default"), cache=False)


@cache
def scenes() -> SceneBatch:
    found = SceneBatch.of(embedded.scenes("counterfactual", count=COUNT))
    assert found is not None
    return found


@cache
def lens(model: str = MODEL, *, shifted: bool = False) -> Lens:
    """One lens for all ways: what it keeps for one must not spoil another."""
    return Lens(explainer(model), scenes().shifted if shifted else scenes().pictures)


def explained(model: str, settings: Settings, way: Way, *, shifted: bool = False) -> list[Explanation]:
    pictures = (scenes().shifted if shifted else scenes().pictures).pictures
    masks = [scoring.true_masks(scene) for scene in scenes().scenes]
    asked = explainer(model).with_settings(settings)
    return [
        asked.explain([picture], masks=[own if way.parts == "true" else None])[0]
        for picture, own in zip(pictures, masks, strict=True)
    ]


def batch() -> Batch:
    return Batch(scenes().scenes, {"squash": lens()}, {"squash": lens(shifted=True)})


@pytest.mark.parametrize("model", [MODEL, "embedded/rn-xs"])
def test_a_reading_says_what_the_explanation_says(model: str) -> None:
    for way in ways():
        if way.parts == "feature maps" or (model == "embedded/rn-xs" and way.settings.grounding == "prompts"):
            continue
        look = lens(model)
        true = way.parts == "true"
        parts = look.give([scoring.true_masks(s) for s in scenes().scenes]) if true else look.find(way.settings)
        readings = look.read(parts, way.settings)
        for reading, found in zip(readings, explained(model, way.settings, way), strict=True):
            assert reading.class_name == found.predictions[0].class_name
            assert reading.concepts == tuple(concept.text for concept in found.vision_concepts), way.name
            assert reading.mutual == tuple(concept.mutual for concept in found.vision_concepts)
            carried = [tuple(p - 1 for p in concept.parts) for concept in found.vision_concepts]
            assert list(reading.carriers) == carried
            assert list(reading.picks) == [tuple(d.text for d in part.descriptors) for part in found.parts]
            np.testing.assert_array_equal(reading.part_pixels, embedded.pixels_of(found))
            np.testing.assert_array_equal(reading.foreground_pixels, rle_decode(found.foreground))


@pytest.mark.parametrize("way", FOUND[::3], ids=lambda way: way.name)
def test_stability_compares_with_another_seed_and_with_the_shifted_picture(way: Way) -> None:
    columns = batch().scores(way, behaviour=True)
    other = dataclasses.replace(way.settings, seed=way.settings.seed + 1)
    first = explained(MODEL, way.settings, way)
    for name, again in (
        ("stable_seed", explained(MODEL, other, way)),
        ("stable_shift", explained(MODEL, way.settings, way, shifted=True)),
    ):
        expected = [
            metrics.jaccard([c.text for c in a.vision_concepts], [c.text for c in b.vision_concepts])
            for a, b in zip(first, again, strict=True)
        ]
        assert columns[name] == pytest.approx(expected), name


@pytest.mark.parametrize("way", [FOUND[1], FOUND[3]], ids=lambda way: way.name)
def test_outliers_are_injected_before_the_foreground_is_found(way: Way) -> None:
    expected = []
    asked = explainer().with_settings(way.settings)
    for scene, picture in zip(scenes().scenes, scenes().pictures.pictures, strict=True):
        square = asked.square(picture)
        damaged = inject_outliers(asked.encode(square), seed=scene.index)
        found = segment([square], [damaged], way.settings)[0]
        expected.append(metrics.iou(asked.geometry(picture).to_pixels(found.foreground), scene.object_mask))
    assert batch().scores(way, behaviour=False)["outliers"] == pytest.approx(expected)


def test_effects_are_drops_of_the_predicted_class() -> None:
    way = FOUND[1]
    columns = batch().scores(way, behaviour=True)
    asked = explainer().with_settings(way.settings)
    defined = 0
    for index, (scene, found) in enumerate(zip(scenes().scenes, explained(MODEL, way.settings, way), strict=True)):
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
        got = {name: columns[name][index] for name in expected}
        assert got == pytest.approx(expected, abs=1e-5, nan_ok=True)
    assert defined  # or nothing was tested


def test_prompts_are_drawn_once_for_all_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[object] = []
    own = Lens(explainer(), scenes().pictures)
    embed = own.embed

    def counted(squares: np.ndarray) -> torch.Tensor:
        drawn.append(len(squares))
        return embed(squares)

    monkeypatch.setattr(own, "embed", counted)
    settings = preset("default", grounding="prompts")
    parts = own.find(settings)
    own.see(parts, settings)
    first = sum(drawn)
    assert first <= 3 * sum(len(one.masks) for one in parts.found)
    own.see(parts, dataclasses.replace(settings, descriptors_per_part=2))
    own.see(own.find(dataclasses.replace(settings, seed=9)), dataclasses.replace(settings, seed=9))
    assert sum(drawn) == first


@pytest.mark.parametrize("method", ["kmeans", "pca", "superpixels"])
def test_equal_choices_mean_equal_parts(method: str) -> None:
    one = preset("paper", parts=method)
    for change in ({"grounding": "attend"}, {"importance": "part"}, {"descriptors_per_part": 1}):
        assert segmentation_choices(one) == segmentation_choices(dataclasses.replace(one, **change))
    read = {"kmeans": {"seed", "part_count"}, "pca": {"part_count"}, "superpixels": {"part_limit"}}[method]
    for name in ("seed", "part_count", "part_limit"):
        changed = dataclasses.replace(one, **{name: 3})
        assert (segmentation_choices(one) != segmentation_choices(changed)) == (name in read)
    for change in ({"resize": "crop"}, {"features": "keys"}, {"foreground": "centred"}, {"second_component": False}):
        assert segmentation_choices(one) != segmentation_choices(dataclasses.replace(one, **change))


def test_feature_maps_are_named_like_given_parts() -> None:
    way = next(way for way in ways() if way.parts == "feature maps")
    asked = embedded.explainer().with_settings(way.settings)  # whose squares are the pictures
    look = Lens(asked, scenes().pictures)
    parts = look.feature_maps(way.settings)
    for reading, one, picture in zip(
        look.read(parts, way.settings), parts.found, scenes().pictures.pictures, strict=True
    ):
        found = asked.explain([picture], masks=[one.masks])[0]
        assert reading.concepts == tuple(concept.text for concept in found.vision_concepts)


def test_scenes_without_visible_parts_are_left_out() -> None:
    empty = dataclasses.replace(scenes().scenes[0], parts=())
    assert bench.SceneBatch.of([empty]) is None
    both = bench.SceneBatch.of([empty, scenes().scenes[1]])
    assert both is not None
    assert both.scenes == (scenes().scenes[1],)

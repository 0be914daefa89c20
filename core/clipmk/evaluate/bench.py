"""One model measured on scene after scene: every way of explaining, every baseline, one value per scene each."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipmk.concepts.float64 import host64
from clipmk.concepts.prompts import blur_region
from clipmk.evaluate import metrics, rankings, scoring, splice
from clipmk.evaluate.disturbances import inject_outliers, moved_inside, shifted
from clipmk.evaluate.lens import Lens, Parts, Pictures, Reading
from clipmk.evaluate.report import Row, rows_of
from clipmk.evaluate.splice import Splice
from clipmk.evaluate.ways import BASELINES, LOOKUP, NEAREST, RANDOM, SPARSE, TRUE_LOOKUP, Way
from clipmk.images.decoder import read_picture
from clipmk.pipeline.explainer import Explainer
from clipmk.system.serialization import plain
from clipmk.vocabulary.vocabulary import load_vocabulary
from clipmk.world.scene import Scene, render_scenes

if TYPE_CHECKING:
    from clipmk.backbones.base import Backbone
    from clipmk.settings import Resize, Settings

CALIBRATION_SCENES = 100
CALIBRATION_START = 1_000_000
"""First index of the `val` scenes that the sparse decomposition is fitted on: far from any that are reported."""
SHIFT = 2
"""Pixels that the picture moves for the stability."""

Hiding = dict[str, NDArray[np.bool_] | None]
"""Metric -> the region, bool (S, S), that is blurred for it; see `hiding`."""


@dataclass(frozen=True, slots=True, eq=False)
class SceneBatch:
    """Scenes with their pictures, ready for any number of models."""

    scenes: tuple[Scene, ...]
    """Each with at least one visible part."""
    pictures: Pictures
    shifted: Pictures
    """The same, moved by `SHIFT` pixels."""

    @classmethod
    def of(cls, scenes: Sequence[Scene]) -> SceneBatch | None:
        """Those of the scenes that show a part; None where none does."""
        shown = tuple(scene for scene in scenes if scene.parts)
        if not shown:
            return None
        moved = Pictures([shifted(scene.image, pixels=SHIFT) for scene in shown])
        return cls(shown, Pictures([scene.image for scene in shown]), moved)


def calibration_scenes(seed: int) -> SceneBatch:
    """Held-out scenes that baselines are fitted on: of `val`, with indices that no report covers."""
    found = SceneBatch.of(tuple(render_scenes("val", count=CALIBRATION_SCENES, seed=seed, start=CALIBRATION_START)))
    if found is None:
        raise RuntimeError("no scene of val shows a part")
    return found


class Bench:
    """A model with its ways of explaining; `measure` scenes, then take the `rows`.

    Args:
        backbone: the model.
        ways: ways of explaining, at least one.
        calibration: held-out scenes for the sparse decomposition.
        seed: of the bootstrap and of what is drawn.
        behaviour: measure effect and stability too.
        cache: keep the embedded texts on disk.
    """

    def __init__(
        self,
        backbone: Backbone,
        ways: Sequence[Way],
        calibration: SceneBatch,
        *,
        seed: int,
        behaviour: bool,
        cache: bool = True,
    ) -> None:
        self._explainer = Explainer(backbone, load_vocabulary("world"), ways[0].settings, cache=cache)
        self._ways = tuple(ways)
        self._most = ways[0].settings.vision_limit
        self._seed, self._behaviour = seed, behaviour
        self._splice = self._fit(calibration)
        self._tally: dict[str, dict[str, list[float]]] = {}

    @property
    def model(self) -> str:
        """Id of the model."""
        return self._explainer.backbone.info.id

    def settings(self) -> dict[str, Any]:
        """Of each way, and what was chosen for the sparse decomposition."""
        used = {way.name: {**plain(way.settings), "part_source": way.parts} for way in self._ways}
        fitted = {"penalty": self._splice.penalty, "val_ap": self._splice.score, "val_scenes": CALIBRATION_SCENES}
        return {**used, SPARSE: fitted}

    def rows(self, split: str) -> list[Row]:
        """What was measured since the last call, as intervals."""
        tally, self._tally = self._tally, {}
        maps = [way.name for way in self._ways if way.parts == "feature maps"]
        paper = [way.name for way in self._ways if way.parts == "found" and way.settings.preset == "paper"]
        return rows_of(split, tally, over=(*BASELINES, *maps, *paper[:1]), seed=self._seed)

    def measure(self, scenes: SceneBatch) -> None:
        """Add scenes."""
        choices = {way.settings.resize: self._explainer.with_settings(way.settings) for way in self._ways}
        lenses = {resize: Lens(explainer, scenes.pictures) for resize, explainer in choices.items()}
        moved = {resize: Lens(explainer, scenes.shifted) for resize, explainer in choices.items()}
        batch = Batch(scenes.scenes, lenses, moved)
        baselines = self._rank(scenes.scenes, lenses[self._ways[0].settings.resize])
        for name, columns in baselines.items():
            self._add(name, columns)
        for way in self._ways:
            columns = batch.scores(way, behaviour=self._behaviour)
            columns["margin"] = _differences(columns["ap"], baselines[LOOKUP]["ap"])
            self._add(way.name, columns)

    def _add(self, name: str, columns: Mapping[str, Sequence[float]]) -> None:
        values = self._tally.setdefault(name, {})
        for metric, each in columns.items():
            values.setdefault(metric, []).extend(each)

    def _rank(self, scenes: Sequence[Scene], lens: Lens) -> dict[str, dict[str, list[float]]]:
        """AP and R-precision of every ranking that looks at no part."""
        bank, texts, most = self._explainer.bank, self._explainer.vocabulary.descriptors, self._most
        weights = self._splice.weights(lens.embeddings.cpu().numpy())
        scores: dict[str, list[dict[str, float]]] = defaultdict(list)
        for scene, predicted, embedding, row in zip(scenes, lens.predicted, lens.embeddings, weights, strict=True):
            drawn = rankings.random_descriptors(len(texts), most=most, seed=[self._seed, scene.index])
            listed = {
                LOOKUP: rankings.class_lookup(predicted, most=most),
                TRUE_LOOKUP: rankings.class_lookup(scene.class_name, most=most),
                NEAREST: [texts[i] for i in rankings.nearest_descriptors(embedding, bank.descriptors, most=most)],
                SPARSE: [texts[i] for i in splice.ranked(row, most=most)],
                RANDOM: [texts[i] for i in drawn],
            }
            for name, ranked in listed.items():
                scores[name].append(scoring.ranking_scores(ranked, scene))
        return {name: _columns(each) for name, each in scores.items()}

    def _fit(self, calibration: SceneBatch) -> Splice:
        lens = Lens(self._explainer, calibration.pictures)
        row = {text: i for i, text in enumerate(self._explainer.vocabulary.descriptors)}
        return splice.fit(
            lens.embed(lens.squares).cpu().numpy(),
            self._explainer.bank.descriptors.cpu().numpy(),
            [{row[text] for text in scene.descriptors} for scene in calibration.scenes],
            most=self._most,
        )


class Batch:
    """Some scenes through one model; what several ways share is computed once.

    Args:
        scenes: the truth.
        lenses: the model's look at their pictures, for each resize.
        moved: at the same pictures, shifted.
    """

    def __init__(self, scenes: Sequence[Scene], lenses: Mapping[Resize, Lens], moved: Mapping[Resize, Lens]) -> None:
        self._scenes = scenes
        self._lenses, self._moved = lenses, moved
        self._regions: dict[object, dict[str, list[float]]] = {}
        self._hidden: dict[tuple[Resize, int, bytes], NDArray[np.float64]] = {}

    def scores(self, way: Way, *, behaviour: bool) -> dict[str, list[float]]:
        """Every metric of one way: name -> one value per scene."""
        lens = self._lenses[way.settings.resize]
        parts = self._parts(way, lens)
        readings = lens.read(parts, way.settings)
        columns = _columns(
            [
                scoring.concept_scores(scene, reading, true_parts=way.parts == "true")
                for scene, reading in zip(self._scenes, readings, strict=True)
            ]
        )
        if way.parts == "true":
            return columns
        columns |= self._region_scores(way, lens, parts)
        if behaviour:
            columns |= self._effects(way.settings.resize, readings)
            if way.parts == "found":
                columns |= self._stability(way.settings, readings)
        return columns

    def _parts(self, way: Way, lens: Lens) -> Parts:
        if way.parts == "true":
            return lens.give([scoring.true_masks(scene) for scene in self._scenes])
        return lens.find(way.settings) if way.parts == "found" else lens.feature_maps(way.settings)

    def _region_scores(self, way: Way, lens: Lens, parts: Parts) -> dict[str, list[float]]:
        """Shared by the ways that have their parts in common."""
        if parts.key not in self._regions:
            grid = lens.explainer.backbone.grid
            pixels = lens.pixels(parts)
            columns = _columns(
                [
                    scoring.region_scores(scene, masks, foreground, grid=grid)
                    for scene, (masks, foreground) in zip(self._scenes, pixels, strict=True)
                ]
            )
            if way.parts == "found":
                columns["pixel_iou"] = [
                    scoring.pixel_baseline(scene, foreground, seed=way.settings.seed)
                    for scene, (_, foreground) in zip(self._scenes, pixels, strict=True)
                ]
                columns["part_margin"] = _differences(columns["part_iou"], columns["pixel_iou"])
                columns["outliers"] = self._with_outliers(lens, way.settings)
            self._regions[parts.key] = columns
        return self._regions[parts.key]

    def _with_outliers(self, lens: Lens, settings: Settings) -> list[float]:
        """IoU of the foreground with the object when a few tokens are outliers."""
        singly = lens.singly(settings.features)
        spoilt = [inject_outliers(one, seed=scene.index) for scene, one in zip(self._scenes, singly, strict=True)]
        found = lens.foregrounds(settings, spoilt)
        return [metrics.iou(mask, scene.object_mask) for scene, mask in zip(self._scenes, found, strict=True)]

    def _effects(self, resize: Resize, readings: Sequence[Reading]) -> dict[str, list[float]]:
        """Drop of the class's cosine when regions of mutual concepts are blurred, see `hiding`."""
        lens = self._lenses[resize]
        plans = [hiding(scene, reading) for scene, reading in zip(self._scenes, readings, strict=True)]
        self._hide(resize, plans)
        classes, rows = lens.explainer.vocabulary.classes, lens.explainer.bank.classes
        drops = []
        for index, (reading, plan) in enumerate(zip(readings, plans, strict=True)):
            towards = host64(rows[classes.index(reading.class_name)]).numpy()
            whole = float(host64(lens.embeddings[index]).numpy() @ towards)
            drops.append(
                {
                    name: float("nan")
                    if region is None
                    else whole - float(self._hidden[resize, index, region.tobytes()] @ towards)
                    for name, region in plan.items()
                }
            )
        columns = _columns(drops)
        return {**columns, "effect_margin": _differences(columns["effect"], columns["effect_control"])}

    def _hide(self, resize: Resize, plans: Sequence[Hiding]) -> None:
        """Embed the pictures with each region blurred, in one batch, unless that was done before."""
        lens = self._lenses[resize]
        new = {
            (resize, index, region.tobytes()): lens.explainer.square(
                read_picture(blur_region(self._scenes[index].image, region))
            )
            for index, plan in enumerate(plans)
            for region in plan.values()
            if region is not None and (resize, index, region.tobytes()) not in self._hidden
        }
        if new:
            embedded = host64(lens.embed(np.stack(list(new.values())))).numpy()
            self._hidden.update(zip(new, embedded, strict=True))

    def _stability(self, settings: Settings, readings: Sequence[Reading]) -> dict[str, list[float]]:
        """How much of D_v survives another seed and a small shift of the picture."""
        lens, moved = self._lenses[settings.resize], self._moved[settings.resize]
        other = dataclasses.replace(settings, seed=settings.seed + 1)
        texts = lens.explainer.vocabulary.descriptors
        repeated = {
            "stable_seed": lens.see(lens.find(other), other),
            "stable_shift": moved.see(moved.find(settings), settings),
        }
        return {
            name: [
                metrics.jaccard(reading.concepts, [texts[i] for i in again.concepts])
                for reading, again in zip(readings, every, strict=True)
            ]
            for name, every in repeated.items()
        }


def hiding(scene: Scene, reading: Reading) -> Hiding:
    """Which regions of a scene are blurred, one after the other, to see what they did for the predicted class.

    Returns:
        `effect_top`: the region of the top mutual concept. `effect`: that of the most important mutual concept whose
        region has another place inside the object (the top one's often fills the object), and `effect_control`: its
        shape at that place. None where there is no such region.
    """
    regions = [
        np.asarray(reading.part_pixels[list(carriers)].any(axis=0))
        for mutual, carriers in zip(reading.mutual, reading.carriers, strict=True)
        if mutual
    ]
    found: Hiding = {"effect_top": regions[0] if regions else None, "effect": None, "effect_control": None}
    for region in {one.tobytes(): one for one in regions}.values():
        elsewhere = moved_inside(region, scene.object_mask, seed=scene.index)
        if elsewhere is not None:
            return found | {"effect": region, "effect_control": elsewhere}
    return found


def _columns(rows: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    return {metric: [row[metric] for row in rows] for metric in rows[0]}


def _differences(one: Sequence[float], other: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(one, other, strict=True)]

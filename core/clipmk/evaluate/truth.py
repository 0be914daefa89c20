"""Explanations held against the truth of rendered scenes (world.md, "Truth metrics").

Every way of explaining sees the same scenes; baselines that never look at parts stand beside them. Numbers are means
over scenes with 95 % bootstrap intervals.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from clipmk import world
from clipmk.concepts.prompts import blur_region
from clipmk.evaluate import metrics
from clipmk.evaluate.metrics import Interval
from clipmk.explainer import Explainer
from clipmk.images import read_picture
from clipmk.records import plain
from clipmk.rle import rle_decode
from clipmk.segmentation import segment
from clipmk.settings import Settings, preset
from clipmk.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from clipmk.backbones.base import Backbone, Encoded
    from clipmk.grounding import Progress
    from clipmk.images import Picture
    from clipmk.records import Explanation

BASELINE_CLUSTERS = 12
"""k of the pixel k-means baseline: as many as the `default` preset may find."""
OUTLIERS = 3
"""Tokens made outliers in the robustness row."""
OUTLIER_GAIN = 8.0
"""How much longer an injected outlier is than the median token; real ViTs show five to ten."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way of explaining."""

    name: str
    settings: Settings
    true_masks: bool
    """Given the true part masks instead of finding parts: the ceiling of the grounding."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a way or a baseline on a split."""

    split: str
    name: str
    values: dict[str, Interval]


@dataclass(frozen=True, slots=True)
class TruthReport:
    """What `run` measured."""

    model: str
    scenes: int
    seed: int
    rows: tuple[Row, ...]
    settings: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return dict(plain(self))

    def table(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """(title, columns, rows of text) for each split and group of metrics."""
        groups = (
            ("concepts", ("ap", "r_precision", "hit1", "hit3", "mutual_true", "margin")),
            ("regions", ("foreground", "of_ceiling", "corloc", "outliers", "part_iou", "pixel_iou")),
            ("behaviour", ("top1", "effect", "effect_control", "stable_seed", "stable_shift", "parts")),
        )
        tables = []
        for split in dict.fromkeys(row.split for row in self.rows):
            for title, names in groups:
                body = [
                    [row.name, *(_cell(row.values.get(name)) for name in names)]
                    for row in self.rows
                    if row.split == split and any(name in row.values for name in names)
                ]
                tables.append((f"{split}: {title}", ["", *names], body))
        return tables


Values = dict[str, list[float]]


def ways() -> tuple[Way, ...]:
    """Both presets, both groundings, discovered and true parts."""
    listed = []
    for name in ("default", "paper"):
        for grounding in ("prompts", "attend"):
            settings = preset(name, grounding=grounding)
            listed.append(Way(f"{name}, {grounding}", settings, true_masks=False))
            listed.append(Way(f"{name}, {grounding}, true parts", settings, true_masks=True))
    return tuple(listed)


def run(
    backbone: Backbone,
    *,
    scenes: int = 500,
    seed: int = 0,
    splits: Sequence[str] = ("test", "counterfactual"),
    chosen: Sequence[Way] | None = None,
    behaviour: bool = True,
    progress: Progress | None = None,
) -> TruthReport:
    """Measure every way of explaining on the same scenes.

    Args:
        backbone: the model.
        scenes: how many of each split.
        seed: of the scenes, the bootstrap and what is drawn.
        splits: of `test`, `counterfactual` and `hard`; tune on `val` only.
        chosen: ways to compare; None: `ways()`.
        behaviour: measure effect and stability too (a few more explanations per scene for discovered parts).
        progress: called with ("truth SPLIT", done, total).
    """
    selected = ways() if chosen is None else tuple(chosen)
    vocabulary = load_vocabulary("world")
    explainers = {way.name: Explainer(backbone, vocabulary, way.settings) for way in selected}
    rows: list[Row] = []
    for split in splits:
        tally: dict[str, Values] = defaultdict(lambda: defaultdict(list))
        for index, scene in enumerate(world.scenes(split, count=scenes, seed=seed)):
            if scene.parts:
                _measure_scene(scene, selected, explainers, tally, behaviour=behaviour)
            if progress is not None:
                progress(f"truth {split}", index + 1, scenes)
        rows += [
            Row(
                split,
                name,
                {metric: metrics.interval(each, seed=seed) for metric, each in values.items() if _any(each)},
            )
            for name, values in tally.items()
        ]
    used = {way.name: plain(way.settings) for way in selected}
    return TruthReport(model=backbone.info.id, scenes=scenes, seed=seed, rows=tuple(rows), settings=used)


def _measure_scene(
    scene: world.Scene,
    selected: Sequence[Way],
    explainers: Mapping[str, Explainer],
    tally: dict[str, Values],
    *,
    behaviour: bool,
) -> None:
    picture = read_picture(scene.image)
    masks = np.stack([part.mask_pixels for part in scene.parts])
    lookups: dict[str, float] = {}
    for way in selected:
        explainer = explainers[way.name]
        explanation = explainer.explain([picture], masks=[masks if way.true_masks else None])[0]
        if not lookups:
            lookups = _baselines(scene, explainer, picture, explanation, tally)
        values = tally[way.name]
        _concepts(scene, explanation, values, true_masks=way.true_masks)
        values["margin"].append(values["ap"][-1] - lookups["class lookup, predicted class"])
        if way.true_masks:
            continue
        _regions(scene, explainer, explanation, values)
        if behaviour:
            _behaviour(scene, explainer, picture, explanation, values)


def _baselines(
    scene: world.Scene, explainer: Explainer, picture: Picture, explanation: Explanation, tally: dict[str, Values]
) -> dict[str, float]:
    """Rankings that never look at a part; returns the AP of each."""
    bank, texts = explainer.bank, explainer.vocabulary.descriptors
    size = explainer.settings.vision_limit
    pixels = explainer.square(picture)
    embedding = explainer.look(pixels).embeddings[0]
    nearest = (bank.descriptors @ embedding).argsort(descending=True)[:size].tolist()
    rng = np.random.default_rng([explainer.settings.seed, scene.index])
    ranked = {
        "class lookup, predicted class": world.typical_descriptors(explanation.predictions[0].class_name)[:size],
        "class lookup, true class": world.typical_descriptors(scene.class_name)[:size],
        "nearest to the whole image": [texts[i] for i in nearest],
        "random descriptors": [texts[i] for i in rng.permutation(len(texts))[:size]],
    }
    scores = {}
    for name, order in ranked.items():
        scores[name] = metrics.average_precision(order, scene.descriptors)
        tally[name]["ap"].append(scores[name])
        tally[name]["r_precision"].append(metrics.r_precision(order, scene.descriptors))
    return scores


def _concepts(scene: world.Scene, explanation: Explanation, values: Values, *, true_masks: bool) -> None:
    """AP and R-precision of D_v, hits per true part, and how many mutual concepts are true and typical."""
    ranked = [concept.text for concept in explanation.vision_concepts]
    values["ap"].append(metrics.average_precision(ranked, scene.descriptors))
    values["r_precision"].append(metrics.r_precision(ranked, scene.descriptors))
    masks = np.stack([part.mask_pixels for part in scene.parts])
    if true_masks:
        holders = range(len(scene.parts))
    else:
        holders = metrics.pairwise_iou(part_masks(explanation), masks).argmax(0).tolist()
    for count in (1, 3):
        hits = [
            part.descriptor in [d.text for d in explanation.parts[holder].descriptors[:count]]
            for part, holder in zip(scene.parts, holders, strict=True)
        ]
        values[f"hit{count}"].append(float(np.mean(hits)))
    typical = set(world.typical_descriptors(explanation.class_name)) & set(scene.descriptors)
    mutual = explanation.mutual_concepts
    values["mutual_true"].append(float(np.mean([m in typical for m in mutual])) if mutual else float("nan"))
    values["top1"].append(float(explanation.predictions[0].class_name == scene.class_name))
    values["parts"].append(float(len(explanation.parts)))


def _regions(scene: world.Scene, explainer: Explainer, explanation: Explanation, values: Values) -> None:
    """Foreground and part overlap with the truth, beside the grid's ceiling and k-means on pixels."""
    foreground = rle_decode(explanation.foreground)
    overlap = metrics.iou(foreground, scene.object_mask)
    values["foreground"].append(overlap)
    values["of_ceiling"].append(overlap / metrics.grid_ceiling(scene.object_mask, grid=explainer.backbone.grid))
    values["corloc"].append(float(overlap > 0.5))
    masks = np.stack([part.mask_pixels for part in scene.parts])
    values["part_iou"].append(float(metrics.best_iou(part_masks(explanation), masks).mean()))
    pixels = pixel_clusters(scene.image, foreground, count=BASELINE_CLUSTERS, seed=explainer.settings.seed)
    values["pixel_iou"].append(float(metrics.best_iou(pixels, masks).mean()))
    picture = read_picture(scene.image)
    square = explainer.square(picture)
    encoded = inject_outliers(explainer.look(square), seed=scene.index)
    damaged = segment([square], [encoded], explainer.settings)[0]
    found = explainer.geometry(picture).to_pixels(damaged.foreground)
    values["outliers"].append(metrics.iou(found, scene.object_mask))


def _behaviour(
    scene: world.Scene, explainer: Explainer, picture: Picture, explanation: Explanation, values: Values
) -> None:
    """Effect of blurring the top mutual concept, and how much of D_v survives another seed and a small shift."""
    own, control = _effects(scene, explainer, picture, explanation)
    values["effect"].append(own)
    values["effect_control"].append(control)
    concepts = [concept.text for concept in explanation.vision_concepts]
    other = explainer.with_settings(dataclasses.replace(explainer.settings, seed=explainer.settings.seed + 1))
    for name, again, image in (
        ("stable_seed", other, scene.image),
        ("stable_shift", explainer, shifted(scene.image, pixels=2)),
    ):
        repeated = again.explain([read_picture(image)])[0]
        values[name].append(metrics.jaccard(concepts, [concept.text for concept in repeated.vision_concepts]))


def _effects(
    scene: world.Scene, explainer: Explainer, picture: Picture, explanation: Explanation
) -> tuple[float, float]:
    """Drop of the class's cosine with the top mutual concept's region blurred, and with its shape elsewhere."""
    top = next((concept for concept in explanation.vision_concepts if concept.mutual), None)
    if top is None:
        return float("nan"), float("nan")
    region = np.asarray(part_masks(explanation)[[part - 1 for part in top.parts]].any(axis=0))
    elsewhere = moved_inside(region, scene.object_mask, seed=scene.index)
    if elsewhere is None:
        return float("nan"), float("nan")
    variants = (scene.image, blur_region(scene.image, region), blur_region(scene.image, elsewhere))
    squares = [explainer.square(read_picture(image)) for image in variants]
    scores = explainer.class_cosines(squares, explanation.class_name)
    return scores[0] - scores[1], scores[0] - scores[2]


def part_masks(explanation: Explanation) -> NDArray[np.bool_]:
    """The masks of an explanation's parts, bool (parts, height, width)."""
    return np.stack([rle_decode(part.mask) for part in explanation.parts])


def pixel_clusters(
    image: NDArray[np.uint8], foreground: NDArray[np.bool_], *, count: int, seed: int
) -> NDArray[np.bool_]:
    """Baseline parts: k-means on CIE Lab colour / 50 and position / (S/2) * 0.6 of the foreground's pixels.

    Returns:
        bool (k, S, S), k = min(count, pixels).
    """
    side = image.shape[0]
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) / 50
    place = np.indices((side, side)).transpose(1, 2, 0) * (0.6 * 2 / side)
    points = np.concatenate([lab, place], -1)[foreground]
    labels = KMeans(min(count, len(points)), n_init=1, random_state=seed).fit_predict(points)
    masks = np.zeros((labels.max() + 1, side, side), dtype=bool)
    for cluster, mask in enumerate(masks):
        mask[foreground] = labels == cluster
    return masks


def inject_outliers(encoded: Encoded, *, seed: int) -> Encoded:
    """Replace a few patch tokens by long ones of one common random direction, as large ViTs show them."""
    import torch  # noqa: PLC0415 - the only use

    rng = np.random.default_rng(seed)
    patches = encoded.patches.clone()
    length = patches.norm(dim=-1).median() * OUTLIER_GAIN
    direction = torch.from_numpy(rng.standard_normal(patches.shape[-1])).to(patches)
    chosen = torch.from_numpy(rng.choice(patches.shape[1], size=OUTLIERS, replace=False))
    patches[:, chosen] = direction / direction.norm() * length
    return dataclasses.replace(encoded, patches=patches)


def shifted(image: NDArray[np.uint8], *, pixels: int) -> NDArray[np.uint8]:
    """The image moved right and down by some pixels, its edge repeated."""
    padded = np.pad(image, ((pixels, 0), (pixels, 0), (0, 0)), mode="edge")
    return padded[: image.shape[0], : image.shape[1]]


def moved_inside(
    region: NDArray[np.bool_], inside: NDArray[np.bool_], *, seed: int, tries: int = 60
) -> NDArray[np.bool_] | None:
    """The region's shape moved to where it lies most inside the object and overlaps itself by less than half.

    None where no such place was found within the picture (a region that fills the object).
    """
    rng = np.random.default_rng(seed)
    side, size = region.shape[0], int(region.sum())
    best: tuple[float, NDArray[np.bool_]] | None = None
    for dy, dx in rng.integers(-side // 2, side // 2, size=(tries, 2)).tolist():
        candidate = translated(region, dy, dx)
        if int(candidate.sum()) < size or metrics.iou(candidate, region) >= 0.5:
            continue
        share = float(inside[candidate].mean())
        if share > 0.5 and (best is None or share > best[0]):
            best = (share, candidate)
    return None if best is None else best[1]


def translated(mask: NDArray[np.bool_], dy: int, dx: int) -> NDArray[np.bool_]:
    """A mask (S, S) moved down by dy and right by dx; what leaves the picture is lost."""
    side = mask.shape[0]
    moved = np.zeros_like(mask)
    kept = mask[max(0, -dy) : side - max(0, dy), max(0, -dx) : side - max(0, dx)]
    moved[max(0, dy) : max(0, dy) + kept.shape[0], max(0, dx) : max(0, dx) + kept.shape[1]] = kept
    return moved


def _any(values: Sequence[float]) -> bool:
    return not bool(np.isnan(values).all())


def _cell(value: Interval | None) -> str:
    return "" if value is None else f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"

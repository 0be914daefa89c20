"""What each part of a scene did for the prediction, and which ranking of the parts knows it (docs/evaluation.md).

The scene is drawn again without the part, everything else the same. The drop of cos(image, predicted class), and of its
margin over the runner-up, is the truth about the model. Classes are those of the whole scene. Compared with it are the
status and importance of the part's true descriptor in an explanation, other rankings of the true parts, and the drops
when the part is not removed but hidden, as it would have to be in a photograph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from clipmk.concepts.float64 import host64
from clipmk.concepts.influence import concept_influence, part_margins
from clipmk.concepts.prompts import blur_region
from clipmk.concepts.selection import highest
from clipmk.evaluate import asking, metrics
from clipmk.evaluate.perturbations import OcclusionQueue, inpainted, painted_over
from clipmk.evaluate.report import NEAREST, TRUE_PARTS, Row
from clipmk.evaluate.truth import SceneMeasure
from clipmk.evaluate.variants import Variant, VariantResult, VariantRunner, with_found_parts
from clipmk.images.decoder import read_picture
from clipmk.world.scene import redraw_parts

if TYPE_CHECKING:
    from clipmk.evaluate.samples import Sample
    from clipmk.world.scene import Scene

AREA, SALIENCY, RANDOM_ORDER = "area of the part", "map of the class", "random order"
TIED, NEAREST_TIED = "nearest to the class", f"{NEAREST}, tied"
HIDING: Final = {"part blurred": blur_region, "part inpainted": inpainted, "part in mean colour": painted_over}
"""Row -> how a region of the picture is hidden."""
STATUSES: Final = ("mutual", "vision only", "tied but unseen")
"""Of a part's true descriptor: in D_v and D_y, in D_v only, in D_y only."""
EFFECTS: Final[Mapping[str, tuple[int, ...]]] = {
    "mutual, against neither": (1, 0, 0, 0, 0, 0),
    "vision only, against neither": (0, 1, 0, 0, 0, 0),
    "tied but unseen, against neither": (0, 0, 1, 0, 0, 0),
    "mutual, against vision only": (1, -1, 0, 0, 0, 0),
    "importance": (0, 0, 0, 1, 0, 0),
    "area": (0, 0, 0, 0, 1, 0),
    "distance": (0, 0, 0, 0, 0, 1),
}
"""Contrasts of the columns of `part_features`; what is seen is compared with neither at the mean importance."""
OUTCOMES: Final = ("", "margin_", "recoloured_", "recoloured_margin_")
"""Begin the names of metrics: part removed, drop of the cosine and of the margin; part recoloured, likewise."""

Floats = NDArray[np.float64]


class ReasonTruth(SceneMeasure):
    """Gathers the measure over the scenes of one split; the map of the class needs a `patchwise` runner."""

    fewest_parts = 2  # which can be ranked

    def __init__(self, runner: VariantRunner, variants: Sequence[Variant], *, seed: int) -> None:
        self._found = with_found_parts(variants)
        super().__init__("reasons", self._found, seed=seed)
        given = {one.settings.grounding: replace(one, name=one.name + TRUE_PARTS, parts="true") for one in self._found}
        self._given: dict[str, Variant] = {f"influence, {name}": one for name, one in given.items()}
        self.variants = (*self._found, *self._given.values())
        self._queue = OcclusionQueue(runner)
        self._features: dict[str, list[Floats]] = {one.name: [] for one in self._found}
        self._outcomes: list[Floats] = []

    def add(self, sample: Sample, results: Mapping[Variant, VariantResult]) -> None:
        """Queue every changed picture of one scene; what is compared with their drops is known already."""
        scene, result = sample.rendered, results[self._found[0]]
        ranked = baseline_rankings(scene, result, seed=self.seed)
        classes = result.class_cosines.topk(2).indices.tolist()
        for name, variant in self._given.items():
            margins = np.array(part_margins(results[variant].part_embeddings, *result.explainer.bank.classes[classes]))
            ranked |= {name: margins, f"{name}, times area": margins * ranked[AREA]}
        for variant in self._found:
            features = part_features(scene, results[variant])
            self._features[variant.name].append(features)
            mutual, importance = features[:, 0], places(scene, results[variant], results[variant].vision.concepts)
            ranked[f"{variant.name}: by importance"] = importance
            ranked[f"{variant.name}: by mutual importance"] = mutual * importance
            influence, area = influences(scene, results[variant], classes).T
            ranked |= {
                f"{variant.name}: by influence": influence,
                f"{variant.name}: by influence, times area": influence * area,
            }
            for status, share in zip(STATUSES, features.mean(axis=0).tolist(), strict=False):
                self.tally.add(f"{variant.name}: {status}", {"share": share})
        pictures = [image for changed in redraw_parts(scene) for image in changed]
        pictures += [hide(scene.image, mask) for hide in HIDING.values() for mask in scene.part_masks]
        squares = [result.explainer.square(read_picture(one)) for one in pictures]
        whole = host64(result.class_cosines).numpy()
        self._queue.add(squares, partial(self._count, ranked, whole, classes))

    def _count(self, ranked: dict[str, Floats], whole: Floats, classes: list[int], cosines: Floats) -> None:
        """Compare every ranking of one scene with the drops of its parts."""
        own = (whole - cosines)[:, classes].reshape(2 + len(HIDING), -1, 2)
        drops = np.stack([own[..., 0], own[..., 0] - own[..., 1]], axis=1)  # (way, cosine or margin, part)
        ranked |= dict(zip(HIDING, drops[2:, 0], strict=True))
        outcomes = dict(zip(OUTCOMES, drops[:2].reshape(4, -1), strict=True))
        self._outcomes.append(np.stack(list(outcomes.values()), axis=1))
        area = {name: metrics.rank_correlation(ranked[AREA], drop) for name, drop in outcomes.items()}
        for row, scores in ranked.items():
            for name, drop in outcomes.items():
                rho = metrics.rank_correlation(scores, drop)
                beyond = {} if row == AREA else {f"{name}over_area": rho - area[name]}
                hit = metrics.first_is_highest(scores, drop)
                self.tally.add(row, {f"{name}rho": rho, f"{name}first": hit, **beyond})
        means = {f"{name}drop": float(drop.mean()) for name, drop in outcomes.items()}
        self.tally.add("all parts", {"parts": float(drops.shape[-1]), **means})

    def finish(self, data: str) -> list[Row]:
        """Rows of the split: rankings of the parts, then what status and importance say in each variant."""
        self._queue.flush()
        rows = super().finish(data)
        contrasts, columns = np.array(list(EFFECTS.values()), dtype=np.float64), [f"{name}effect" for name in OUTCOMES]
        for name, features in self._features.items() if self._outcomes else ():
            seen = np.vstack([one[one[:, :2].any(axis=1)] for one in features])
            contrasts[:2, 3] = seen[:, 3].mean() if len(seen) else 0.0
            found = metrics.within_effects(features, self._outcomes, contrasts, seed=self.seed)
            for effect, values in zip(EFFECTS, found, strict=True):
                if values:
                    rows.append(Row(data, f"{name}: {effect}", dict(zip(columns, values, strict=True))))
        return rows


def part_features(scene: Scene, result: VariantResult) -> Floats:
    """`STATUSES` as 0 or 1, then importance, area and distance of each true part, float64 (parts, 6).

    Importance falls from 1/2 to -1/2 along D_v and is 0 outside it; area is the share of the picture, the distance that
    of the part's middle from the picture's, in sides of the picture.
    """
    importance = places(scene, result, result.vision.concepts)
    seen = importance > 0
    tied = places(scene, result, result.explainer.builder.language(result.predicted).indices.tolist()) > 0
    middles = np.array([np.argwhere(mask).mean(axis=0) for mask in scene.part_masks]) / len(scene.image)
    distance = np.linalg.norm(middles - 0.5, axis=1)
    centred = np.where(seen, importance - 0.5, 0.0)
    areas = scene.part_masks.mean(axis=(1, 2))
    return np.stack([seen & tied, seen & ~tied, tied & ~seen, centred, areas, distance], axis=1)


def baseline_rankings(scene: Scene, result: VariantResult, *, seed: int) -> dict[str, Floats]:
    """Scores of the true parts by what knows nothing of D_v: by size, by the map of the class, by single embeddings."""
    explainer = result.explainer
    language = explainer.builder.language(result.predicted).indices.tolist()
    nearest = highest(explainer.bank.descriptors @ result.image.embedding, explainer.settings.vision_limit).tolist()
    tied, near = places(scene, result, language), places(scene, result, nearest)
    rng = np.random.default_rng([seed, scene.index])
    ranked = {AREA: scene.part_masks.mean(axis=(1, 2)), TIED: tied, NEAREST_TIED: near * (tied > 0)}
    relevance = asking.class_map(scene, result)
    if relevance is not None:
        ranked[SALIENCY] = np.array([float(relevance[mask].mean()) for mask in scene.part_masks])
    return {**ranked, RANDOM_ORDER: rng.permutation(len(scene.parts)).astype(np.float64)}


def places(scene: Scene, result: VariantResult, ranked: Sequence[int]) -> Floats:
    """1 for the part whose descriptor comes first in a ranking of the bank, falling to 0 for those outside it."""
    scores = {row: 1 - place / len(ranked) for place, row in enumerate(ranked)}
    return np.array([scores.get(row, 0.0) for row in asking.descriptor_rows(scene, result)])


def influences(scene: Scene, result: VariantResult, classes: Sequence[int]) -> Floats:
    """Influence of each true descriptor, and area of the parts found to carry it; 0 outside D_v, float64 (parts, 2)."""
    margins = part_margins(result.part_embeddings, *result.explainer.bank.classes[list(classes)])
    areas = [float(result.to_pixels(mask).mean()) for mask in result.segmentation.masks]
    known = {}
    for row, parts in zip(result.vision.concepts, result.vision.part_ids, strict=True):
        own = [areas[k] for k in parts]
        known[row] = (concept_influence([margins[k] for k in parts], own), sum(own))
    return np.array([known.get(row, (0.0, 0.0)) for row in asking.descriptor_rows(scene, result)], dtype=np.float64)

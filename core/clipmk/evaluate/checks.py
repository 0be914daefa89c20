"""Two checks of explaining: which setting brings what, and does everything depend on what the model has learnt?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from clipmk.concepts.float64 import host64
from clipmk.concepts.superpixels import superpixel_parts
from clipmk.evaluate import asking, reasons
from clipmk.evaluate.metrics import rank_correlation
from clipmk.evaluate.truth import SceneMeasure, ScenePrediction, concept_scores, region_scores
from clipmk.evaluate.variants import Variant, VariantResult, VariantRunner, with_found_parts
from clipmk.images.decoder import read_picture
from clipmk.settings import PRESETS, preset
from clipmk.world.scene import redraw_parts
from clipmk.world.tables import all_descriptors

if TYPE_CHECKING:
    from clipmk.backbones.base import ImageEncoder
    from clipmk.evaluate.report import Row
    from clipmk.evaluate.samples import Sample
    from clipmk.pipeline.grounding import Progress
    from clipmk.world.scene import Scene

PATH: Final = [
    "assignment",
    "intersect_candidates",
    "descriptors_per_part",
    "foreground",
    "parts",
    "grounding",
    "importance",
]
"""The settings in which `default` differs from `paper`, in the order in which the path changes them."""
CENTRE_RADIUS: Final = 0.4
"""Of the disc that the centre prior takes for the foreground, in sides of the picture."""
CENTRE_PRIOR, TRAINED, PERMUTED = "superpixels with a centre prior", "as trained", "descriptors permuted"


def path(*, seed: int) -> tuple[Variant, ...]:
    """The `paper` preset, then one setting after the other as `default` has it."""
    variants = [Variant("paper", preset("paper", seed=seed))]
    for name in PATH:
        value = getattr(PRESETS["default"], name)
        variants.append(Variant(f"+ {name} {value}", replace(variants[-1].settings, **{name: value})))
    return tuple(variants)


class PathTruth(SceneMeasure):
    """Gathers the truth about the concepts of every variant of the path."""

    def __init__(self, *, seed: int) -> None:
        super().__init__("path", path(seed=seed), seed=seed)

    def add(self, sample: Sample, results: Mapping[Variant, VariantResult]) -> None:
        """Measure one scene; what a step changes is paired by scene."""
        before: Mapping[str, float] = {}
        for variant in self.variants:
            scores = concept_scores(sample.rendered, ScenePrediction.of(results[variant]), true_parts=False)
            self.tally.add(variant.name, scores | {f"{name}_change": scores[name] - before[name] for name in before})
            before = scores


class Sanity(SceneMeasure):
    """Measures a variant with the model as it is, with permuted descriptors, and with ever more weights shuffled.

    What explains a model must get lost with what it has learnt (Adebayo et al., NeurIPS 2018). Measured is the first
    variant that finds its own parts, with the settings of a preset if there is one. `finish` restores the weights.
    """

    fewest_parts = 2

    def __init__(
        self, runner: VariantRunner, variants: Sequence[Variant], *, seed: int, progress: Progress | None = None
    ) -> None:
        found = with_found_parts(variants)
        own = [one for one in found if one.settings == preset(one.settings.preset, seed=one.settings.seed)]
        super().__init__("sanity", (own or found)[:1], seed=seed)
        self._runner, self._progress = runner, progress
        self._kept: list[tuple[Scene, list[int], reasons.Floats]] = []

    def add(self, sample: Sample, results: Mapping[Variant, VariantResult]) -> None:
        """Measure the model as it is, and what needs no model; keep what its parts do for its prediction."""
        scene, result = sample.rendered, results[self.variants[0]]
        classes = result.class_cosines.topk(2).indices.tolist()
        squares = [result.explainer.square(read_picture(one)) for one in redraw_parts(scene)[0]]
        cosines = self._runner.embed(np.stack(squares)) @ result.explainer.bank.classes[classes[0]]
        self._kept.append((scene, classes, host64(result.class_cosines[classes[0]] - cosines).numpy()))
        self.tally.add(CENTRE_PRIOR, centre_prior_scores(scene, result))
        self.tally.add(asking.ANYWHERE, dict.fromkeys(asking.MAP_METRICS[:2], float(scene.part_masks.mean())))
        self.tally.add(TRAINED, sanity_scores(result, *self._kept[-1]))
        self.tally.add(PERMUTED, sanity_scores(result, with_permuted_words(scene, seed=self.seed), *self._kept[-1][1:]))

    def finish(self, data: str) -> list[Row]:
        """Rows of the split: as trained, permuted, and the last block shuffled, the last two, ..., the whole tower."""
        encoder = self._runner.explainer.backbone.images
        trained = {name: values.clone() for name, values in encoder.tower.state_dict().items()}
        try:
            for name in shuffle_from_the_top(encoder, seed=self.seed):
                for done, kept in enumerate(self._kept, 1):
                    result = self._runner.run(read_picture(kept[0].image), self.variants)[self.variants[0]]
                    self.tally.add(name, sanity_scores(result, *kept))
                    if self._progress is not None:
                        self._progress(f"{data}: {name}", done, len(self._kept))
        finally:
            encoder.tower.load_state_dict(trained)
        return super().finish(data)


def sanity_scores(
    result: VariantResult, scene: Scene, classes: Sequence[int], drops: reasons.Floats
) -> dict[str, float]:
    """Concepts, presence, parts, maps, and rankings of the true parts against what they do for the trained model.

    `classes` are its prediction and runner-up, `drops` those of the first one's cosine without each part.
    """
    prediction = ScenePrediction.of(result)
    scores = concept_scores(scene, prediction, true_parts=False) | asking.presence_scores(scene, result)[0]
    scores |= region_scores(scene, prediction.part_pixels, prediction.foreground_pixels)
    scores["importance_rho"] = rank_correlation(reasons.places(scene, result, result.vision.concepts), drops)
    scores["influence_rho"] = rank_correlation(reasons.influences(scene, result, classes)[:, 0], drops)
    maps = asking.variant_maps(scene, result, result.explainer.with_maps(result.image))
    return scores if maps is None else scores | asking.map_scores(maps, scene, threshold=0.5)


def with_permuted_words(scene: Scene, *, seed: int) -> Scene:
    """The scene as it reads if every descriptor's embedding is given to another one: each stands for another word."""
    texts = all_descriptors()
    words = dict(zip(texts, np.random.default_rng(seed).permutation(texts).tolist(), strict=True))
    pairs = [(part, words[part.descriptor]) for part in scene.parts]
    return replace(scene, parts=tuple(replace(part, descriptor=text, part=text.split()[-1]) for part, text in pairs))


def centre_prior_scores(scene: Scene, result: VariantResult) -> dict[str, float]:
    """Parts and foreground of the same superpixels where a disc in the middle says what is foreground."""
    rows, columns = np.indices((16, 16)) / 15 - 0.5
    _, copied = result.explainer.builder.squares(read_picture(scene.image))
    labels, _ = superpixel_parts(copied, CENTRE_RADIUS - np.hypot(rows, columns))
    masks = np.stack([result.to_pixels(labels == number) for number in np.unique(labels[labels > 0])])
    return region_scores(scene, masks, np.asarray(masks.any(axis=0)))


def shuffle_from_the_top(encoder: ImageEncoder, *, seed: int) -> Iterator[str]:
    """Shuffle the numbers of each weight of the last block, of the one before, ..., at last all; name each step."""
    generator, blocks = torch.Generator().manual_seed(seed), encoder.blocks or encoder.stages
    for count, block in enumerate((*reversed(blocks), encoder.tower), 1):
        for weight in block.parameters():
            order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
            weight.data.copy_(weight.data.flatten()[order].view_as(weight))
        yield "all weights shuffled" if count > len(blocks) else f"last {count} of {len(blocks)} blocks shuffled"

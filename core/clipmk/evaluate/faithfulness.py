"""Is what the explanation points at what the model used? Deletion, insertion, entropy and localisation (method.md 6).

For each way of explaining the parts of an image are ordered by cos(image, part) · cos(image, first descriptor of the
part) and blurred (deletion) or revealed (insertion) in that order. Every way is held against baselines:

- `random order`: the same parts in a random order;
- `random descriptors`: the same parts, ordered with a random descriptor of the vocabulary for each part;
- `nearest descriptor`: the same parts, each with the descriptor nearest to the whole image, so that cos(image, part)
  alone orders them;
- `random regions`: regions of the same shapes and areas elsewhere in the object, in the order of the parts whose shapes
  they have. It is the true object where that is known, which the way itself is not told; else the found foreground;
- `feature maps`: the strongest channels as regions, with descriptors by the same grounding.

A sparse decomposition of the image's embedding has no regions and therefore no place here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch.nn import functional

from clipmk.concepts.float64 import host64
from clipmk.concepts.selection import highest
from clipmk.concepts.transport import sinkhorn
from clipmk.evaluate.curves import (
    area_mean,
    area_sum,
    concept_order,
    descriptor_entropy,
    hidden_regions,
    localised,
    mask_box,
)
from clipmk.evaluate.feature_maps import feature_map_parts
from clipmk.evaluate.frames import Frames, embed_pictures
from clipmk.evaluate.measured import MeasuredRow, Table, Values, measured_rows
from clipmk.evaluate.regions_baseline import moved_regions

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from clipmk.evaluate.looking import Look
    from clipmk.evaluate.measured import MeasuredReport
    from clipmk.evaluate.samples import Sample
    from clipmk.pipeline.explainer import Explainer

SCORE_SCALE = 2.5
"""Of the cosine in deletion and insertion, as in the paper."""
FRAMES_HELD = 384
"""Variants that wait for the encoder at most, before the last image's own."""

GROUPS: dict[str, tuple[str, ...]] = {
    "score of the predicted class, mean over the steps": ("deletion", "insertion"),
    "accuracy, mean over the steps": ("acc_drop", "acc_inc"),
    "by how much the way beats its baseline": ("deletion_margin", "insertion_margin"),
    "entropy of the parts' descriptors": ("entropy", "entropy_nearest", "entropy_transport"),
    "size and place": ("parts", "area", "corloc", "top1"),
    "not normalised": ("deletion_sum", "insertion_sum", "acc_drop_sum", "acc_inc_sum"),
}
"""Title of a table -> its metrics."""

NOTES = (
    (
        "deletion, insertion, acc_drop and acc_inc are means over the L + 1 steps from nothing to all L regions "
        "blurred or revealed; *_sum are the same without division by L + 1, comparable only at equal L"
    ),
    (
        "scores are 2.5 cos(image, class predicted on the untouched image); lower is better for deletion and acc_drop, "
        "higher for insertion and acc_inc; regions of a larger area delete and insert more whatever their order, so "
        "read each way against its own random order and random regions (which lie in the true object where it is known)"
    ),
    (
        "accuracy is against the label, or against the prediction on the untouched image where there is none; margins "
        "are differences to the way's own parts and order on the same images, positive where the way is better"
    ),
    (
        "entropies are in nats over all descriptors given to parts; nearest and transport assign the same candidates "
        "to the same parts, without and with optimal transport"
    ),
)


@dataclass(frozen=True, slots=True, eq=False)
class _Sequence:
    """One row's regions of one image, and where its variants stand."""

    row: str
    rival: str
    """Row that this one is a control of; itself for a way."""
    delete: list[int]
    insert: list[int]
    extra: Mapping[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """An image whose variants have not been encoded yet."""

    frames: Frames
    explainer: Explainer
    predicted: int
    target: int
    """Class that accuracy is against: the label, or the prediction where there is none."""
    labelled: bool
    sequences: list[_Sequence]


class Faithfulness:
    """Gathers the measure over the images of one data set; memory holds a few images and one number a metric.

    Args:
        seed: of everything that is drawn.
    """

    def __init__(self, *, seed: int) -> None:
        self._seed = seed
        self._tally: dict[str, Values] = defaultdict(lambda: defaultdict(list))
        self._waiting: list[_Waiting] = []

    def add(self, sample: Sample, looks: Mapping[str, Look]) -> None:
        """Plan the variants of one image; encode what waits when it is enough."""
        by_square: dict[int, tuple[Frames, Look, list[_Sequence]]] = {}
        done: set[object] = set()
        for name, look in looks.items():
            frames, _, sequences = by_square.setdefault(id(look.square), (Frames(look.square), look, []))
            rng = np.random.default_rng([self._seed, sample.index])
            sequences += _of_way(name, look, sample, frames, rng)
            settings = look.explainer.settings
            maps = (settings.features, settings.resize, settings.grounding, settings.part_count)
            if maps not in done:
                done.add(maps)
                sequences.append(_of_feature_maps(look, sample, frames))
        for frames, look, sequences in by_square.values():
            self._waiting.append(_waiting(frames, look, sample, sequences))
        if sum(len(one.frames.hidden) for one in self._waiting) >= FRAMES_HELD:
            self._encode()

    def finish(self, data: str) -> list[MeasuredRow]:
        """Rows of the data set: ways and baselines."""
        self._encode()
        return measured_rows(data, self._tally, seed=self._seed)

    def _encode(self) -> None:
        """Embed all waiting variants as one series and add up what they show."""
        if not self._waiting:
            return
        pictures = np.concatenate([one.frames.pictures() for one in self._waiting])
        explainer = self._waiting[0].explainer
        cosines = host64(embed_pictures(explainer.backbone, pictures) @ explainer.bank.classes.T).numpy()
        start = 0
        for one in self._waiting:
            stop = start + len(one.frames.hidden)
            self._count(one, cosines[start:stop])
            start = stop
        self._waiting.clear()

    def _count(self, one: _Waiting, cosines: NDArray[np.float64]) -> None:
        scores = SCORE_SCALE * cosines[:, one.predicted]
        right = (cosines.argmax(axis=1) == one.target).astype(np.float64)
        areas: dict[str, dict[str, float]] = {}
        for sequence in one.sequences:
            values = areas[sequence.row] = _areas(sequence, scores, right)
            if sequence.rival != sequence.row:
                own = areas[sequence.rival]
                values["deletion_margin"] = values["deletion"] - own["deletion"]
                values["insertion_margin"] = own["insertion"] - values["insertion"]
            values |= sequence.extra
            if one.labelled and sequence.rival == sequence.row:
                values["top1"] = float(one.predicted == one.target)
            for metric, value in values.items():
                self._tally[sequence.row][metric].append(value)


def tables(report: MeasuredReport) -> list[Table]:
    """The report for people."""
    return report.tables(GROUPS)


def _areas(sequence: _Sequence, scores: NDArray[np.float64], right: NDArray[np.float64]) -> dict[str, float]:
    curves = {
        "deletion": scores[sequence.delete],
        "insertion": scores[sequence.insert],
        "acc_drop": right[sequence.delete],
        "acc_inc": right[sequence.insert],
    }
    values = {name: area_mean(curve.tolist()) for name, curve in curves.items()}
    return values | {f"{name}_sum": area_sum(curve.tolist()) for name, curve in curves.items()}


def _waiting(frames: Frames, look: Look, sample: Sample, sequences: list[_Sequence]) -> _Waiting:
    classes = look.explainer.vocabulary.classes
    predicted = int((look.explainer.bank.classes @ look.embedding).argmax())
    target = predicted if sample.label is None else classes.index(sample.label)
    return _Waiting(frames, look.explainer, predicted, target, sample.label is not None, sequences)


def _of_way(name: str, look: Look, sample: Sample, frames: Frames, rng: np.random.Generator) -> list[_Sequence]:
    """The way itself and its controls, on its own regions."""
    masks = look.found.masks
    bank = look.explainer.bank
    own = _order(look, look.parts, [picks[0] for picks in look.seen.top_descriptors])
    nearest = int((bank.raw @ look.embedding).argmax())
    moved = moved_regions(masks, _object(look, sample), rng=rng)
    drawn = rng.integers(len(bank.raw), size=len(masks)).tolist()
    rows: list[tuple[str, NDArray[np.bool_], NDArray[np.intp]]] = [
        (name, masks, own),
        (f"{name}: random order", masks, rng.permutation(len(masks))),
        (f"{name}: random descriptors", masks, _order(look, look.parts, drawn)),
        (f"{name}: nearest descriptor", masks, _order(look, look.parts, [nearest] * len(masks))),
        (f"{name}: random regions", moved, own),
    ]
    extra = {name: entropies(look) | _corloc(look, sample, look.found.foreground)}
    return [_sequence(row, name, frames, regions, order, extra.get(row, {})) for row, regions, order in rows]


def _of_feature_maps(look: Look, sample: Sample, frames: Frames) -> _Sequence:
    """The paper's "Feature Maps" baseline with the grounding of this look."""
    settings = look.explainer.settings
    found = feature_map_parts(
        look.encoded.patches[0], grid=look.encoded.grid, side=look.square.shape[0], count=settings.part_count
    )
    parts = look.embed_regions(found.masks)
    firsts = (parts @ look.explainer.bank.descriptors.T).argmax(dim=1).tolist()
    row = f"feature maps, {settings.grounding}"
    order = _order(look, parts, firsts)
    return _sequence(row, row, frames, found.masks, order, _corloc(look, sample, found.foreground))


def _sequence(
    row: str,
    rival: str,
    frames: Frames,
    masks: NDArray[np.bool_],
    order: NDArray[np.intp],
    extra: Mapping[str, float],
) -> _Sequence:
    size = {"parts": float(len(masks)), "area": float(masks.any(axis=0).mean())}
    return _Sequence(
        row,
        rival,
        frames.add(hidden_regions(masks, order, reveal=False)),
        frames.add(hidden_regions(masks, order, reveal=True)),
        {**size, **extra},
    )


def _order(look: Look, parts: Float[Tensor, "parts embed"], firsts: Sequence[int]) -> NDArray[np.intp]:
    whole = host64(look.embedding)
    part_cosines = (functional.normalize(host64(parts), dim=-1) @ whole).numpy()
    descriptor_cosines = (host64(look.explainer.bank.raw[list(firsts)]) @ whole).numpy()
    return concept_order(part_cosines, descriptor_cosines)


def entropies(look: Look) -> dict[str, float]:
    """Entropy of the parts' descriptors: as the way gives them, by nearness alone, and by optimal transport.

    The last two ablate the transport as the paper's appendix A.2 does: the same parts, the same candidates and the same
    number of descriptors each, taken by the highest cosine or by the largest share of the plan.
    """
    seen, settings = look.seen, look.explainer.settings
    scores = seen.scores
    count = settings.descriptors_per_part
    plan = sinkhorn(scores, scale=settings.score_scale).plan
    return {
        "entropy": descriptor_entropy(seen.top_descriptors),
        "entropy_nearest": descriptor_entropy(highest(scores, count).tolist()),
        "entropy_transport": descriptor_entropy(highest(plan, count).tolist()),
    }


def _object(look: Look, sample: Sample) -> NDArray[np.bool_]:
    """The true object on the square, else the found foreground."""
    if sample.object_mask is not None:
        mask = look.explainer.geometry(sample.picture).to_square(sample.object_mask)
        if mask.any():
            return mask
    return look.found.foreground


def _corloc(look: Look, sample: Sample, foreground: NDArray[np.bool_]) -> dict[str, float]:
    if sample.object_mask is None:
        return {}
    found = look.explainer.geometry(sample.picture).to_pixels(foreground)
    return {"corloc": float(localised(mask_box(found), mask_box(sample.object_mask)))}

"""What parts do for a prediction: the regression against explicit dummies, and drops against a plain loop."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr

import embedded
from clipmk.evaluate import harness, metrics, reasons
from clipmk.evaluate.report import Report
from clipmk.evaluate.samples import rendered_scenes
from clipmk.evaluate.variants import VariantRunner, variants
from clipmk.images.decoder import read_picture
from clipmk.vocabulary.vocabulary import load_vocabulary
from clipmk.world.scene import redraw_parts

COUNT = 3
OWN = "default, attend"
CHOSEN = variants(["default"], ["attend"])

Groups = list[NDArray[np.float64]]


def groups(seed: int, *, count: int = 60, effects: tuple[float, ...] = (0.3, 0.0, -0.2)) -> tuple[Groups, Groups]:
    """Items in groups whose offsets go with the features, so that only effects within groups are the true ones."""
    rng = np.random.default_rng(seed)
    features, outcomes = [], []
    for _ in range(count):
        offset, items = rng.normal(), rng.integers(2, 7)
        x = rng.normal(size=(items, len(effects))) + offset
        features.append(x)
        outcomes.append(x @ np.array(effects) - 5 * offset + 0.1 * rng.normal(size=items))
    return features, outcomes


def with_dummies(features: Groups, outcomes: Groups) -> NDArray[np.float64]:
    """Least squares with one column for each group."""
    owner = np.repeat(np.arange(len(features)), [len(one) for one in features])
    table = np.hstack([np.vstack(features), np.eye(len(features))[owner]])
    solution = np.linalg.lstsq(table, np.concatenate(outcomes), rcond=None)[0]
    return np.asarray(solution[: features[0].shape[1]])


def effects(
    features: Groups, outcomes: Groups, contrasts: NDArray[np.float64], seed: int = 0
) -> list[metrics.Interval | None]:
    """Of one outcome; the second one is twice as large."""
    both = [np.stack([one, 2 * one], axis=1) for one in outcomes]
    found = metrics.within_effects(features, both, contrasts, seed=seed)
    assert all(second.mean == pytest.approx(2 * first.mean) for first, second in filter(None, found))
    return [one[0] if one else None for one in found]


def test_effects_within_groups_are_those_with_a_dummy_for_each_group() -> None:
    features, outcomes = groups(0)
    contrasts = np.vstack([np.eye(3), [1, -1, 0]])
    found = effects(features, outcomes, contrasts)
    expected = contrasts @ with_dummies(features, outcomes)
    assert [one.mean for one in found if one] == pytest.approx(expected, abs=1e-12)
    rng = np.random.default_rng(1)
    drawn = [rng.integers(len(features), size=len(features)) for _ in range(300)]
    again = [contrasts @ with_dummies([features[i] for i in d], [outcomes[i] for i in d]) for d in drawn]
    low, high = np.quantile(again, [0.025, 0.975], axis=0)
    width = high - low
    assert np.abs([one.low for one in found if one] - low).max() < 0.25 * width.max()
    assert np.abs([one.high for one in found if one] - high).max() < 0.25 * width.max()
    assert {one.count for one in found if one} == {60}


@pytest.mark.parametrize("seed", range(3))
def test_a_planted_effect_is_found_and_none_has_an_interval_around_zero(seed: int) -> None:
    first, second, third = effects(*groups(seed + 10, count=200), np.eye(3), seed)
    assert first is not None
    assert second is not None
    assert third is not None
    assert 0.25 < first.low < first.high < 0.35
    assert third.high < -0.15
    assert second.low < 0.02
    assert second.high > -0.02
    assert abs(second.mean) < 0.02


def test_what_the_groups_do_not_determine_has_no_effect() -> None:
    features, outcomes = groups(5)
    for one in features:
        one[:, 1] = one[0, 1]  # constant in each group
    assert effects(features, outcomes, np.eye(3))[1] is None
    opposite = [np.column_stack([one[:, 0], -one[:, 0], one[:, 2]]) for one in features]
    contrasts = np.array([[1.0, 0, 0], [0, 1, 0], [1, -1, 0], [0, 0, 1]])
    first, second, difference, third = effects(opposite, outcomes, contrasts)
    assert (first, second) == (None, None), "only their difference is determined"
    assert difference is not None
    assert third is not None
    few = [one.copy() for one in features]
    for one in few[3:]:
        one[:, 0] = 0.0
    assert effects(few, outcomes, np.eye(3))[0] is None, "three groups do not make an interval"


@pytest.mark.parametrize("seed", range(5))
def test_rank_correlation_is_scipys_and_a_constant_ranks_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.integers(4, size=7).astype(float), rng.normal(size=7)
    assert metrics.rank_correlation(one, other) == pytest.approx(spearmanr(one, other).statistic)
    assert metrics.rank_correlation(np.ones(7), other) == 0.0


def test_a_tie_for_the_first_place_is_drawn_from() -> None:
    values = np.array([0.1, 0.9, 0.3])
    assert metrics.first_is_highest(np.array([0.0, 2.0, 1.0]), values) == 1.0
    assert metrics.first_is_highest(np.array([0.0, 2.0, 2.0]), values) == 0.5
    assert metrics.first_is_highest(np.array([3.0, 2.0, 2.0]), values) == 0.0
    assert metrics.first_is_highest(np.zeros(3), values) == pytest.approx(1 / 3)


@cache
def _measured() -> Report:
    return harness.run(
        embedded.backbone(),
        load_vocabulary("world"),
        [rendered_scenes("counterfactual", count=COUNT)],
        variants=CHOSEN,
        measures=["reasons"],
    )["reasons"]


def test_drops_are_those_of_a_plain_loop_over_redrawn_scenes() -> None:
    explainer = embedded.explainer()
    expected: dict[str, list[float]] = {"drop": [], "margin_drop": [], "recoloured_drop": [], "rho": []}
    for scene in embedded.scenes("counterfactual", count=COUNT):
        whole = explainer.bank.classes @ explainer.encode_picture(read_picture(scene.image)).embedding
        best, other = whole.argsort(descending=True)[:2].tolist()
        drops, margins, recoloured = [], [], []
        for images in zip(*redraw_parts(scene), strict=True):
            changed, painted = (
                whole - explainer.bank.classes @ explainer.encode_picture(read_picture(image)).embedding
                for image in images
            )
            drops.append(float(changed[best]))
            margins.append(float(changed[best] - changed[other]))
            recoloured.append(float(painted[best]))
        for name, values in (("drop", drops), ("margin_drop", margins), ("recoloured_drop", recoloured)):
            expected[name].append(float(np.mean(values)))
        areas = [part.mask_pixels.sum() for part in scene.parts]
        expected["rho"].append(float(spearmanr(areas, drops).statistic))
    rows = {row.name: row.values for row in _measured().rows}
    for name in ("drop", "margin_drop", "recoloured_drop"):
        assert rows["all parts"][name].mean == pytest.approx(np.mean(expected[name]), abs=1e-5)
    assert rows[reasons.AREA]["rho"].mean == pytest.approx(np.mean(expected["rho"]), abs=1e-9)


def test_statuses_and_importance_are_those_of_the_explanation() -> None:
    runner = VariantRunner(embedded.backbone(), load_vocabulary("world"))
    for scene in embedded.scenes("counterfactual", count=COUNT):
        result = runner.run(read_picture(scene.image), CHOSEN[:1])[CHOSEN[0]]
        features = reasons.part_features(scene, result)
        found = embedded.explainer().explain([read_picture(scene.image)])[0]
        seen = [concept.text for concept in found.vision_concepts]
        tied = {concept.text for concept in found.language_concepts}
        for part, (mutual, vision, unseen, importance, area, distance) in zip(scene.parts, features, strict=True):
            text, mask = part.descriptor, part.mask_pixels
            assert (mutual, vision) == (text in seen and text in tied, text in seen and text not in tied)
            assert unseen == (text in tied and text not in seen)
            assert importance == pytest.approx(0.5 - seen.index(text) / len(seen) if text in seen else 0.0)
            assert area == mask.mean()
            rows, columns = np.nonzero(mask)
            assert distance == pytest.approx(np.hypot(rows.mean() / 64 - 0.5, columns.mean() / 64 - 0.5))


def test_influences_are_those_of_the_explanation() -> None:
    runner = VariantRunner(embedded.backbone(), load_vocabulary("world"))
    for scene in embedded.scenes("test", count=COUNT):
        result = runner.run(read_picture(scene.image), CHOSEN[:1])[CHOSEN[0]]
        found = embedded.explainer().explain([read_picture(scene.image)])[0]
        classes = result.class_cosines.topk(2).indices.tolist()
        shown = {concept.text: concept for concept in found.vision_concepts}
        for text, (influence, area) in zip(scene.descriptors, reasons.influences(scene, result, classes), strict=True):
            parts = [part for part in found.parts if text in shown and part.id in shown[text].parts]
            assert influence == pytest.approx(shown[text].influence if text in shown else 0.0, abs=1e-6)
            assert area == pytest.approx(sum(part.area for part in parts))


def test_scenes_with_one_visible_part_are_left_out() -> None:
    measure = reasons.ReasonTruth(VariantRunner(embedded.backbone(), load_vocabulary("world")), CHOSEN, seed=0)
    samples = [one for one in rendered_scenes("train", count=40).samples() if not isinstance(one, Exception)]
    taken = {measure.takes(one): one for one in samples if one.scene is not None}
    assert all(measure.takes(one) == (one.scene is not None and len(one.scene.parts) > 1) for one in samples)
    assert True in taken
    assert measure.finish("train") == []

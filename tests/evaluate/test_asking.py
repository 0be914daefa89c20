"""Maps and presence against the truth: formulas, and the rows that they become."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import embedded
from clipmk.evaluate import asking
from clipmk.evaluate.metrics import average_precision, average_precision_of_pixels
from clipmk.evaluate.variants import Variant, VariantRunner
from clipmk.images.decoder import read_picture
from clipmk.settings import preset
from clipmk.vocabulary.vocabulary import load_vocabulary

OURS = Variant("ours", preset("default"))


def test_auroc_counts_pairs_and_halves_ties() -> None:
    values = np.array([0.1, 0.4, 0.4, 0.9, 0.2])
    positive = np.array([False, True, False, True, False])
    pairs = list(itertools.product(values[positive], values[~positive]))
    expected = sum((one > other) + (one == other) / 2 for one, other in pairs) / len(pairs)
    assert asking.auroc(values, positive, ~positive) == pytest.approx(expected)
    assert np.isnan(asking.auroc(values, positive, np.zeros(5, dtype=bool)))


def test_pixel_average_precision_is_that_of_the_ranked_pixels() -> None:
    rng = np.random.default_rng(0)
    values, mask = rng.uniform(size=(4, 5)), rng.uniform(size=(4, 5)) > 0.6
    ranked = sorted(range(20), key=lambda i: -values.ravel()[i])
    assert average_precision_of_pixels(values, mask) == pytest.approx(
        average_precision(ranked, set(np.flatnonzero(mask).tolist()))
    )
    assert average_precision_of_pixels(values, np.zeros((4, 5), dtype=bool)) == 0


def test_a_perfect_map_scores_one_and_a_constant_one_covers_everything() -> None:
    scene = embedded.scenes()[0]
    perfect = asking.map_scores(scene.part_masks.astype(np.float32), scene, threshold=0.5)
    assert perfect == {"pointing": 1.0, "pixel_ap": 1.0, "map_iou": 1.0}
    flat = asking.map_scores(np.ones(scene.part_masks.shape, dtype=np.float32), scene, threshold=0.5)
    assert flat["map_iou"] == pytest.approx(scene.part_masks.mean())


def test_maps_of_the_evaluation_are_those_of_an_explanation() -> None:
    runner = VariantRunner(embedded.backbone(), load_vocabulary("world"), patchwise=True)
    scene = embedded.scenes()[0]
    maps = asking.scene_maps(scene, runner.run(read_picture(scene.image), [OURS]))
    published = {asking.OCCLUSION, asking.VALUES, asking.LEGRAD, asking.ROLLOUT}
    assert set(maps) == {asking.PATCHES, asking.ATTENTION, asking.CENTRE, "ours", *published}
    explained = embedded.explainer().explain([read_picture(scene.image)], asks=scene.descriptors)[0]
    for text, own in zip(scene.descriptors, maps["ours"], strict=True):
        assert np.abs(explained.relevance(text) - own).max() < 1 / 400


def test_presence_is_perfect_where_the_true_descriptors_are_nearest() -> None:
    runner = VariantRunner(embedded.backbone(), load_vocabulary("world"), patchwise=True)
    scene = embedded.scenes()[0]
    result = runner.run(read_picture(scene.image), [OURS])[OURS]
    by_cosine, by_class = asking.presence_scores(scene, result)
    texts = load_vocabulary("world").descriptors
    cosines = (result.explainer.bank.descriptors @ result.image.embedding).numpy()
    true = np.array([text in scene.descriptors for text in texts])
    wins = [one > other for one in cosines[true] for other in cosines[~true]]
    assert by_cosine["presence"] == pytest.approx(np.mean(wins))
    assert set(by_class) == {"presence", "presence_hard"}

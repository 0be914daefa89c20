"""The path between the presets, and the sanity check: what explains a model gets lost with its weights."""

from __future__ import annotations

import dataclasses
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch

import embedded
from clipmk.evaluate import checks, harness, metrics
from clipmk.evaluate.asking import ANYWHERE
from clipmk.evaluate.report import Report
from clipmk.evaluate.samples import rendered_scenes
from clipmk.evaluate.variants import VariantRunner, variants
from clipmk.images.decoder import read_picture
from clipmk.models.loading import load
from clipmk.pipeline.ranking import rank_vision_concepts
from clipmk.settings import preset
from clipmk.vocabulary.vocabulary import load_vocabulary

COUNT = 8


@cache
def measured(measure: str) -> Report:
    chosen = variants(["default"], ["attend"])
    data = [rendered_scenes("test", count=COUNT)]
    world = load_vocabulary("world")
    return harness.run(embedded.backbone(), world, data, variants=chosen, measures=[measure])[measure]


def means(measure: str) -> dict[str, dict[str, float]]:
    return {row.name: {name: one.mean for name, one in row.values.items()} for row in measured(measure).rows}


def test_the_path_goes_from_paper_to_default_one_setting_at_a_time() -> None:
    steps = [dataclasses.asdict(one.settings) for one in checks.path(seed=3)]
    assert checks.path(seed=3)[0].settings == preset("paper", seed=3)
    assert dataclasses.replace(checks.path(seed=3)[-1].settings, preset="default") == preset("default", seed=3)
    for before, after in pairwise(steps):
        assert sum(before[name] != after[name] for name in before) == 1


def test_the_ends_of_the_path_are_the_presets_and_changes_are_those_between_its_rows() -> None:
    rows = means("path")
    names = [one.name for one in checks.path(seed=0)]
    assert list(rows) == names
    for name, ends in (("paper", names[0]), ("default", names[-1])):
        explainer, expected = embedded.explainer(name), []
        for scene in embedded.scenes("test", count=COUNT):
            found = explainer.explain([read_picture(scene.image)])[0]
            texts = [concept.text for concept in found.vision_concepts]
            expected.append(metrics.average_precision(texts, scene.descriptors))
        assert rows[ends]["ap"] == pytest.approx(np.mean(expected))
    for before, after in pairwise(names):
        assert rows[after]["ap_change"] == pytest.approx(rows[after]["ap"] - rows[before]["ap"])
    assert "ap_change" not in rows["paper"]


def test_everything_falls_to_chance_with_the_weights() -> None:
    rows = means("sanity")
    trained, nothing, words = rows[checks.TRAINED], rows["all weights shuffled"], rows[checks.PERMUTED]
    assert trained["presence"] > 0.95
    assert trained["ap"] > 0.8
    assert trained["pointing"] > 0.6
    for lost in (nothing, words):
        assert lost["presence"] == pytest.approx(0.5, abs=0.2)
        assert lost["ap"] < 0.1
        assert lost["hit1"] < 0.1
        assert lost["pointing"] < rows[ANYWHERE]["pointing"] + 0.2
        assert abs(lost["influence_rho"]) < 0.25
        assert abs(lost["importance_rho"]) < 0.25
    assert [name for name in rows if "shuffled" in name] == [
        *(f"last {count} of 4 blocks shuffled" for count in range(1, 5)),
        "all weights shuffled",
    ]
    assert words["part_iou"] == trained["part_iou"], "words say nothing of where parts are"
    assert trained["part_iou"] > rows[checks.CENTRE_PRIOR]["part_iou"] > 0.3


def test_shuffled_weights_are_the_same_numbers_elsewhere_and_are_restored() -> None:
    backbone = load("embedded/vit-xs8", device="cpu")
    pixels = backbone.normalise(torch.from_numpy(embedded.scenes()[0].image[None]))
    before = {name: one.clone() for name, one in backbone.images.tower.state_dict().items()}
    embedding = backbone.encode_images(pixels)
    steps = checks.shuffle_from_the_top(backbone.images, seed=0)
    assert next(steps).startswith("last 1 of")
    last = {id(weight) for weight in backbone.images.blocks[-1].parameters()}
    for name, weight in backbone.images.tower.named_parameters():
        same = torch.equal(weight, before[name])
        assert same == (id(weight) not in last or weight.unique().numel() == 1), name
        assert torch.equal(weight.detach().flatten().sort().values, before[name].flatten().sort().values)
    assert not torch.allclose(backbone.encode_images(pixels), embedding)
    backbone.images.tower.load_state_dict(before)
    world = load_vocabulary("world")
    harness.run(
        backbone,
        world,
        [rendered_scenes("test", count=1)],
        variants=variants(["default"], ["attend"]),
        measures=["sanity"],
    )
    assert torch.equal(backbone.encode_images(pixels), embedding)


def test_permuted_words_are_a_permuted_bank() -> None:
    variant = variants(["default"], ["attend"])[0]
    scene = embedded.scenes("test", count=1)[0]
    runner = VariantRunner(embedded.backbone(), load_vocabulary("world"))
    result = runner.run(read_picture(scene.image), [variant])[variant]
    texts, bank = result.explainer.vocabulary.descriptors, result.explainer.bank
    order = np.random.default_rng(5).permutation(len(texts))
    permuted = dataclasses.replace(bank, descriptors=bank.descriptors[order], raw=bank.raw[order])
    found = rank_vision_concepts(
        permuted, variant.settings, embedding=result.image.embedding, part_embeddings=result.part_embeddings
    )
    again = metrics.average_precision([texts[i] for i in found.concepts], scene.descriptors)
    words = checks.with_permuted_words(scene, seed=5).descriptors
    assert metrics.average_precision([texts[i] for i in result.vision.concepts], words) == pytest.approx(again)
    places = {texts[i]: place for place, i in enumerate(result.vision.concepts)}
    own = {texts[i]: place for place, i in enumerate(found.concepts)}
    assert [places.get(word) for word in words] == [own.get(text) for text in scene.descriptors]

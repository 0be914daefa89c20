"""Influence and the named share: against plain loops, and by what must hold for any embeddings."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from torch import Tensor
from torch.nn import functional

import embedded
from clipmk.concepts.influence import (
    LEAST_COSINE,
    concept_influence,
    named_part,
    nonnegative_weights,
    part_margins,
    share_explained,
)


def units(*shape: int, seed: int = 0) -> Tensor:
    return functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def cosine(a: list[float], b: list[float]) -> float:
    dot, squares, others = (math.fsum(map(math.prod, zip(x, y, strict=True))) for x, y in ((a, b), (a, a), (b, b)))
    return dot / math.sqrt(squares * others)


def test_a_margin_is_the_difference_of_two_cosines_whatever_the_length_of_the_part() -> None:
    parts, (own, other) = 0.6 * units(4, 24), units(2, 24, seed=1)
    expected = [cosine(part, own.tolist()) - cosine(part, other.tolist()) for part in parts.tolist()]
    assert part_margins(parts, own, other) == pytest.approx(expected, abs=2e-7)
    assert part_margins(7 * parts, own, other) == pytest.approx(expected, abs=2e-7)


def test_margins_over_one_class_give_those_over_every_other_bit_for_bit() -> None:
    parts, classes = units(50, 24), units(5, 24, seed=1)
    for a, b, c in itertools.permutations(classes, 3):
        pairs = zip(part_margins(parts, a, c), part_margins(parts, a, b), strict=True)
        assert part_margins(parts, b, c) == tuple(over - under for over, under in pairs)


def test_influence_weighs_the_margins_by_area() -> None:
    assert concept_influence([0.2, -0.1], [0.1, 0.3]) == pytest.approx((0.2 * 0.1 - 0.1 * 0.3) / 0.4)
    assert concept_influence([0.2], [0.01]) == pytest.approx(0.2)
    assert concept_influence([], []) is None
    assert concept_influence([0.2], [0.0]) is None


def nearest_point(texts: np.ndarray, image: np.ndarray) -> np.ndarray:
    """The nearest point of the cone of the texts: the best of the least-squares fits on every subset that is in it."""
    best, least = np.zeros_like(image), float(image @ image)
    for count in range(1, len(texts) + 1):
        for chosen in itertools.combinations(texts, count):
            weights = np.linalg.lstsq(np.stack(chosen, axis=1), image, rcond=None)[0]
            point = np.stack(chosen, axis=1) @ weights
            if (weights >= 0).all() and (distance := float(((image - point) ** 2).sum())) < least:
                best, least = point, distance
    return best


@pytest.mark.parametrize("kind", ["free", "common", "dependent", "positive", "repeated"])
def test_weights_are_those_of_scipy(kind: str) -> None:
    rng = np.random.default_rng(0)
    for size in range(1, 31):
        columns = rng.normal(size=(int(rng.choice([24, 256])), size))
        columns += {"common": 3 * rng.normal(size=(len(columns), 1))}.get(kind, 0.0)
        columns = np.abs(columns) if kind == "positive" else columns
        columns = columns @ rng.normal(size=(size, size)) if kind == "dependent" else columns
        columns[:, size // 2] = columns[:, 0] if kind == "repeated" else columns[:, size // 2]
        target = columns @ np.maximum(rng.normal(size=size), 0)
        target += rng.choice([1e-3, 1.0]) * rng.normal(size=len(columns))
        target /= np.linalg.norm(target)
        weights, (expected, distance) = nonnegative_weights(columns, target), nnls(columns, target)
        assert (weights >= 0).all()
        assert columns @ weights == pytest.approx(columns @ expected, abs=1e-10)
        assert np.linalg.norm(columns @ weights - target) == pytest.approx(distance, abs=1e-10)
        if kind != "repeated" and size <= len(columns):
            assert weights == pytest.approx(expected, rel=1e-8, abs=1e-10)


def test_no_column_points_towards_the_target() -> None:
    assert nonnegative_weights(-np.eye(4)[:, :2], np.eye(4)[0]).tolist() == [0, 0]


@pytest.mark.parametrize("seed", range(5))
def test_the_named_part_is_the_nearest_point_of_the_cone_of_the_centred_concepts(seed: int) -> None:
    image, texts, centre = units(12, seed=seed), units(5, 12, seed=seed + 10), 0.3 * units(12, seed=seed + 20)
    expected = nearest_point((texts.double() - centre.double()).numpy(), image.double().numpy())
    assert named_part(image, texts, centre).numpy() == pytest.approx(expected, abs=1e-12)


def test_concepts_that_make_up_the_image_explain_all_of_it_and_opposite_ones_nothing() -> None:
    texts, centre, mean = units(3, 24), 0.3 * units(24, seed=1), units(24, seed=2)
    image = torch.tensor([0.2, 0.0, 0.7]) @ (texts - centre)
    named, opposite = named_part(image, texts, centre), named_part(image, 2 * centre - texts[[0, 2]], centre)
    assert share_explained(image, named, mean + image, mean) == pytest.approx(1, abs=1e-6)
    assert share_explained(image, opposite, mean + image, mean) == 0


def test_no_concepts_explain_nothing() -> None:
    image, mean = units(2, 24)
    named = named_part(image, torch.empty(0, 24), units(24, seed=2))
    assert named.shape == (24,)
    assert share_explained(image, named, image, mean) == 0


def test_the_share_is_that_of_the_similarity_beyond_the_mean_class() -> None:
    image, named, own, mean = units(4, 24)
    image = (own - mean + image).float()
    expected = float(named.double() @ (own - mean).double()) / float(image.double() @ (own - mean).double())
    assert share_explained(image, named.double(), own, mean) == pytest.approx(expected, rel=1e-6)


def test_a_class_no_nearer_than_the_mean_one_has_no_share() -> None:
    image, own = units(2, 24)
    assert share_explained(image, image.double(), own, own) is None
    assert share_explained(image, image.double(), -image, image) is None
    across = functional.normalize(own - (image @ own) * image, dim=0)
    for cosine, known in ((LEAST_COSINE - 0.01, False), (LEAST_COSINE + 0.01, True)):  # of the image and the direction
        direction = cosine * image + math.sqrt(1 - cosine**2) * across
        for scale in (0.01, 1.0):
            found = share_explained(image, image.double(), own + scale * direction, own)
            assert found == (pytest.approx(1, abs=1e-5) if known else None)


def test_an_explanation_holds_the_margins_of_its_parts_and_the_influence_of_its_concepts() -> None:
    explainer = embedded.explainer()
    (found,) = explainer.explain([embedded.picture(0)])
    encoded = explainer.encode_picture(embedded.picture(0), maps=False)
    classes, names = explainer.bank.classes.double(), explainer.vocabulary.classes
    parts, own = encoded.part_embeddings[0].double(), classes[names.index(found.class_name)]
    assert found.runner_up is not None
    assert found.runner_up.class_name == found.predictions[1].class_name
    for other in found.alternatives:
        expected = (parts / parts.norm(dim=1, keepdim=True)) @ (own - classes[names.index(other.class_name)])
        assert other.part_margins == pytest.approx(expected.tolist(), abs=2e-7)
    margins = dict(zip((part.id for part in found.parts), found.runner_up.part_margins, strict=True))
    areas = {part.id: part.area for part in found.parts}
    for concept in found.vision_concepts:
        weighted = sum(areas[i] * margins[i] for i in concept.parts) / sum(areas[i] for i in concept.parts)
        assert concept.influence == pytest.approx(weighted)
    assert any(len(concept.parts) > 1 for concept in found.vision_concepts)


def test_concepts_that_are_seen_recover_more_than_as_many_others() -> None:
    explainer = embedded.explainer()
    bank, names = explainer.bank, explainer.vocabulary.classes
    found = explainer.explain(embedded.pictures(4))
    others = bank.descriptors[torch.randperm(len(bank.descriptors), generator=torch.Generator().manual_seed(0))[:15]]
    for picture, one in zip(embedded.pictures(4), found, strict=True):
        image = explainer.encode(explainer.square(picture)).embeddings[0]
        named = named_part(image, others, bank.descriptors.mean(0))
        own = bank.classes[names.index(one.class_name)]
        random = share_explained(image, named, own, bank.classes.mean(0))
        assert one.share_explained is not None
        assert random is not None
        assert one.share_explained > random + 0.2

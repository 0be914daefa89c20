"""The vision side against docs/method.md, 2.5 to 2.7, written a second time in plain numpy."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import embedded
from clipmk.concepts.prompts import draw_prompts
from clipmk.concepts.selection import contrast
from clipmk.pipeline.encoder import fetch
from clipmk.pipeline.explainer import Explainer
from clipmk.pipeline.grounding import embed_parts
from clipmk.pipeline.ranking import VisionConcepts, importance, rank_vision_concepts
from clipmk.pipeline.segmentation import segment
from clipmk.settings import preset

Doubles = NDArray[np.float64]


class Ranked(NamedTuple):
    vision: VisionConcepts
    square: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    image: torch.Tensor
    parts: torch.Tensor


def ranked(explainer: Explainer, index: int) -> Ranked:
    square = explainer.square(embedded.picture(index))
    encoded = explainer.encode(square)
    masks = segment([square], [encoded], explainer.settings)[0].masks
    grounding = explainer.settings.grounding
    (parts,) = fetch(embed_parts(explainer.backbone, grounding, squares=[square], forwards=[encoded], masks=[masks]))
    vision = rank_vision_concepts(
        explainer.bank, explainer.settings, embedding=encoded.embeddings[0], part_embeddings=parts
    )
    return Ranked(vision, square, masks, encoded.embeddings[0], parts)


def embed(images: NDArray[np.uint8]) -> Doubles:
    backbone = embedded.backbone()
    vectors = backbone.encode_images(backbone.normalise(torch.from_numpy(images))).double().numpy()
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def order(values: Doubles, count: int | None = None) -> list[int]:
    return sorted(range(len(values)), key=lambda i: (-values[i], i))[:count]


def paper_by_hand(square: NDArray[np.uint8], masks: NDArray[np.bool_], k: int) -> dict[str, Any]:
    """docs/method.md, 2.5 to 2.7, as the `paper` preset reads them."""
    bank = embedded.explainer().bank
    templated, raw = bank.descriptors.double().numpy(), bank.raw.double().numpy()
    parts = np.stack([embed(draw_prompts(square, mask)).mean(axis=0) for mask in masks])
    scores = parts @ templated.T
    common = sorted(set.intersection(*(set(order(row, k)) for row in scores)))
    to_image = raw @ embed(square[None])[0]
    mean = sum(to_image[i] for i in common) / len(common)
    kept = [i for i in common if to_image[i] > mean - 0.02]
    plan = np.exp(2.5 * scores[:, kept])
    for _ in range(1_000):
        plan = plan / plan.sum(axis=1, keepdims=True)
        plan = plan / plan.sum(axis=0, keepdims=True)
    picks = [[kept[i] for i in order(row, 3)] for row in plan]
    unique = sorted({i for row in picks for i in row})
    concepts = [unique[i] for i in order(to_image[unique])][:15]
    return {
        "candidates": kept,
        "common": common,
        "plan": plan,
        "picks": picks,
        "concepts": concepts,
        "importance": [2.5 * to_image[i] for i in concepts],
        "carriers": [tuple(p for p, row in enumerate(picks) if i in row) for i in concepts],
    }


@pytest.mark.parametrize(("index", "k"), [(0, 500), (1, 500), (2, 200)])
def test_the_paper_preset_sees_what_its_equations_say(index: int, k: int) -> None:
    vision, square, masks, _, _ = ranked(embedded.explainer("paper", candidate_count=k), index)
    expected = paper_by_hand(square, masks, k)
    assert len(masks) > 1
    assert 3 < len(expected["candidates"]) < len(expected["common"]) < 650  # both steps leave something out
    assert vision.candidates.tolist() == expected["candidates"]
    np.testing.assert_allclose(vision.shares.numpy(), expected["plan"], atol=1e-5)
    assert [list(row) for row in vision.top_descriptors] == expected["picks"]
    assert list(vision.concepts) == expected["concepts"]
    np.testing.assert_allclose(vision.importance, expected["importance"], atol=1e-5)
    assert list(vision.part_ids) == expected["carriers"]
    assert vision.warnings == ()


def default_by_hand(explainer: Explainer, scores: Doubles, image: Doubles) -> dict[str, Any]:
    """Union of the candidates, relevance, contrast with w = 0.7, six per part in the order of their names' scores.

    From the scores of the whole bank.
    """
    templated, raw = explainer.bank.descriptors.double().numpy(), explainer.bank.raw.double().numpy()
    union = sorted(set.union(*(set(order(row, 500)) for row in scores)))
    mean = np.mean([raw[i] @ image for i in union])
    kept = [i for i in union if raw[i] @ image > mean - 0.02]
    contrasts = np.array(
        [
            [row[i] + 0.7 * (templated[i] @ image - sum(each[i] for each in scores) / len(scores)) for i in kept]
            for row in scores
        ]
    )
    names = np.array(
        [
            [
                score
                + 0.1 * (templated[i] @ image)
                + 0.01 * math.log(math.exp(50 * row[i]) / sum(math.exp(50 * each[i]) for each in scores))
                for score, i in zip(own, kept, strict=True)
            ]
            for own, row in zip(contrasts, scores, strict=True)
        ]
    )
    few = [order(row, 6) for row in contrasts]
    picks = [[kept[j] for j in sorted(own, key=lambda j: -row[j])] for own, row in zip(few, names, strict=True)]
    worth = {i: 2.5 * (raw[i] @ image + contrasts[:, j].max()) / 2 for j, i in enumerate(kept)}
    concepts = sorted({i for row in picks for i in row}, key=lambda i: (-worth[i], i))[:15]
    carriers = []
    for i in concepts:
        listing = [p for p, row in enumerate(picks) if i in row]
        best = max(math.exp(50 * scores[p, i]) for p in listing)
        carriers.append(tuple(p for p in listing if math.exp(50 * scores[p, i]) >= best / 2))
    return {"picks": picks, "concepts": concepts, "importance": [worth[i] for i in concepts], "carriers": carriers}


@pytest.mark.parametrize("index", [0, 3])
def test_the_default_preset_picks_by_contrast_among_relevant_candidates(index: int) -> None:
    explainer = embedded.explainer()
    vision, _, _, image, parts = ranked(explainer, index)
    scores = (parts @ explainer.bank.descriptors.T).double().numpy()
    np.testing.assert_array_equal(vision.scores, scores[:, vision.candidates.numpy()].astype(np.float32))
    expected = default_by_hand(explainer, scores, image.double().numpy())
    assert [list(row) for row in vision.top_descriptors] == expected["picks"]
    assert list(vision.concepts) == expected["concepts"]
    np.testing.assert_allclose(vision.importance, expected["importance"], atol=1e-5)
    assert list(vision.part_ids) == expected["carriers"]


def test_prompted_parts_publish_cosines_and_the_transport_takes_their_plain_mean() -> None:
    explainer = embedded.explainer("paper")
    vision, square, masks, _, parts = ranked(explainer, 0)
    means = np.stack([embed(draw_prompts(square, mask)).mean(axis=0) for mask in masks])
    templated = explainer.bank.descriptors.double().numpy()[vision.candidates.numpy()]
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    assert lengths.max() < 0.9999
    np.testing.assert_allclose(vision.cosines.numpy(), means / lengths @ templated.T, atol=1e-5)
    np.testing.assert_array_equal(vision.scores, (parts @ explainer.bank.descriptors.T)[:, vision.candidates])
    (found,) = explainer.explain([embedded.picture(0)])
    row = {explainer.vocabulary.descriptors[i]: column for column, i in enumerate(vision.candidates.tolist())}
    for part, cosines in zip(found.parts, vision.cosines.tolist(), strict=True):
        assert [one.cosine for one in part.descriptors] == [cosines[row[one.text]] for one in part.descriptors]


@pytest.mark.parametrize("index", [0, 3])
def test_contrast_and_importance_of_prompted_parts_are_of_cosines(index: int) -> None:
    explainer = embedded.explainer(grounding="prompts")
    vision, _, _, image, parts = ranked(explainer, index)
    unit = torch.nn.functional.normalize(parts.double(), dim=-1)
    cosines = unit.numpy() @ explainer.bank.descriptors.double().numpy().T
    expected = default_by_hand(explainer, cosines, image.double().numpy())
    assert [list(row) for row in vision.top_descriptors] == expected["picks"]
    np.testing.assert_allclose(vision.importance, expected["importance"], atol=1e-5)


def test_pooled_parts_are_unit_vectors_whose_scores_are_cosines_to_the_last_bit() -> None:
    vision = ranked(embedded.explainer(), 0).vision
    assert vision.cosines is vision.scores


def test_shares_under_contrast_are_a_softmax_over_the_parts() -> None:
    vision = ranked(embedded.explainer(), 0).vision
    scores = vision.scores.double().numpy()
    expected = [
        [math.exp(50 * scores[p, c]) / sum(math.exp(50 * s) for s in scores[:, c]) for c in range(scores.shape[1])]
        for p in range(len(scores))
    ]
    np.testing.assert_allclose(vision.shares.numpy(), expected, atol=1e-6)


@settings(max_examples=40)
@given(st.integers(1, 4), st.integers(1, 6), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_contrast_is_its_equation(parts: int, descriptors: int, weight: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    s, g = rng.uniform(-1, 1, (parts, descriptors)), rng.uniform(-1, 1, descriptors)
    found = contrast(torch.tensor(s), torch.tensor(g), weight=weight)
    for p in range(parts):
        for d in range(descriptors):
            mean = sum(s[q, d] for q in range(parts)) / parts
            assert found[p, d].item() == pytest.approx(s[p, d] + weight * (g[d] - mean), abs=1e-12)


def test_contrast_without_weight_is_the_plain_nearest() -> None:
    scores = torch.tensor([[0.1, 0.9], [0.4, 0.2]])
    assert torch.equal(contrast(scores, torch.tensor([5.0, -5.0]), weight=0.0), scores)


def test_importance_is_that_of_the_image_of_the_best_part_or_their_mean() -> None:
    raw, scores = torch.tensor([0.5, -0.2, 0.3]), torch.tensor([[0.1, 0.4, 0.0], [0.3, -0.6, 0.2]])
    expected = {"image": [0.5, -0.2, 0.3], "part": [0.3, 0.4, 0.2], "both": [0.4, 0.1, 0.25]}
    for name, values in expected.items():
        found = importance(raw, scores, preset("default", importance=name))
        np.testing.assert_allclose(found.numpy(), values, atol=1e-7)


def test_the_vision_limit_keeps_the_most_important_concepts() -> None:
    whole = ranked(embedded.explainer("paper"), 0).vision
    cut = ranked(embedded.explainer("paper", vision_limit=4), 0).vision
    assert len(whole.concepts) > 4
    assert cut.concepts == whole.concepts[:4]
    assert cut.top_descriptors == whole.top_descriptors

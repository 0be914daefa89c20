"""Leaving concepts out: the numbers without a model, the classes with one more forward."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch

import embedded
from clipmk.concepts.mutual import measure, mi_paper
from clipmk.concepts.prompts import blur_region
from clipmk.errors import UsageError
from clipmk.explanation import Explanation
from clipmk.images.decoder import read_picture
from clipmk.images.masks import rle_decode
from clipmk.settings import preset


def explained(name: str = "default", index: int = 0) -> Explanation:
    return embedded.explainer(name).explain([embedded.picture(index)])[0]


def names(explanation: Explanation) -> set[str]:
    """The classes that the explanation ranks."""
    return {prediction.class_name for prediction in explanation.predictions}


@pytest.mark.parametrize("name", embedded.PRESETS)
def test_what_remains_is_what_leaving_out_by_position_gives(name: str) -> None:
    explanation = explained(name)
    flags = [concept.mutual for concept in explanation.vision_concepts]
    texts = [concept.text for concept in explanation.vision_concepts]
    assert any(flags)
    for size in (0, 1, 2, len(texts)):
        for positions in itertools.islice(itertools.combinations(range(len(texts)), size), 30):
            found = explanation.without([texts[i] for i in positions])
            assert found == measure(
                flags,
                language_count=len(explanation.language_concepts),
                vocabulary_size=len(embedded.explainer().vocabulary.descriptors),
                removed=set(positions),
                length=16,
                swap=found.class_swap,
                soft=found.soft,
            )
            kept = [flag for i, flag in enumerate(flags) if i not in positions]
            assert found.count == sum(kept)
            assert found.mi_paper == pytest.approx(mi_paper(len(texts), len(explanation.language_concepts), sum(kept)))


def test_nothing_left_out_leaves_the_explanation_as_it_is() -> None:
    explanation = explained()
    found = explanation.without([])
    assert found.curve == explanation.mutual.curve
    assert (found.count, found.auc, found.mi_paper) == (
        explanation.mutual.count,
        explanation.mutual.auc,
        explanation.mutual.mi_paper,
    )


def test_everything_left_out_leaves_nothing() -> None:
    explanation = explained()
    found = explanation.without([concept.text for concept in explanation.vision_concepts])
    assert (found.count, found.mi_paper, found.auc, found.curve) == (0, 0.0, 0.0, (0.0,))


def test_the_curve_is_padded_to_the_vision_limit_of_the_explanation() -> None:
    explanation = embedded.explainer("paper", vision_limit=6).explain([embedded.picture()])[0]
    found = explanation.without([])
    assert explanation.mutual.count > 0
    assert found.auc == pytest.approx(sum(found.curve) / 7) == explanation.mutual.auc


def test_an_unknown_concept_is_refused_and_the_close_one_named() -> None:
    explanation = explained()
    text = explanation.vision_concepts[0].text
    for call in (
        lambda: explanation.without([text + "x"]),
        lambda: embedded.explainer().predict_without(embedded.picture(), explanation, [text + "x"]),
    ):
        with pytest.raises(
            UsageError, match=rf"'{text}x' is not a vision concept of this explanation; close: .*'{text}'"
        ):
            call()


@pytest.mark.parametrize("name", embedded.PRESETS)
def test_classes_are_ranked_again_with_exactly_the_carrying_parts_blurred(name: str) -> None:
    explainer, image = embedded.explainer(name), embedded.scenes()[0].image
    explanation = explained(name)
    for concept in explanation.vision_concepts[:4]:
        region = np.zeros((64, 64), dtype=bool)
        for part in explanation.parts:
            if part.id in concept.parts:
                region |= rle_decode(part.mask)
        assert 0 < region.sum() < region.size
        pixels = explainer.backbone.normalise(torch.from_numpy(blur_region(image, region))[None])
        expected = explainer.builder.predict(explainer.backbone.encode_images(pixels)[0], also=names(explanation))
        found = explainer.predict_without(embedded.picture(), explanation, [concept.text])
        assert [p.class_name for p in found] == [p.class_name for p in expected]
        assert [p.cosine for p in found] == pytest.approx([p.cosine for p in expected], abs=1e-5)
        assert found != explanation.predictions


def test_several_concepts_blur_the_union_of_their_parts() -> None:
    explainer, explanation = embedded.explainer(), explained()
    texts = [concept.text for concept in explanation.vision_concepts]
    found = explainer.predict_without(embedded.picture(), explanation, texts)
    region = np.zeros((64, 64), dtype=bool)
    for part in explanation.parts:
        if any(part.id in concept.parts for concept in explanation.vision_concepts):
            region |= rle_decode(part.mask)
    embedding = explainer.encode(blur_region(embedded.scenes()[0].image, region)).embeddings[0]
    assert found == explainer.builder.predict(embedding, also=names(explanation))


def test_nothing_left_out_ranks_the_classes_as_before() -> None:
    found = embedded.explainer().predict_without(embedded.picture(), explained(), [])
    assert found == explained().predictions


def test_classes_that_fall_below_the_highest_few_follow_with_their_new_ranks() -> None:
    explainer, everything = embedded.explainer(prediction_count=2), embedded.explainer(prediction_count=1000)
    fallen = 0
    for index in range(4):
        explanation = explainer.explain([embedded.picture(index)])[0]
        for concept in explanation.vision_concepts[:6]:
            found = explainer.predict_without(embedded.picture(index), explanation, [concept.text])
            whole = everything.predict_without(embedded.picture(index), explanation, [concept.text])
            assert len(whole) == len(explainer.vocabulary.classes)
            assert found == tuple(p for p in whole if p.rank <= 2 or p.class_name in names(explanation))
            fallen += len(found) - 2
    assert fallen > 0


def test_the_region_is_blurred_on_the_square_whatever_the_pictures_size() -> None:
    image = np.repeat(np.repeat(embedded.scenes()[0].image, 4, 0), 2, 1)
    explainer = embedded.explainer("paper")
    picture = read_picture(image)
    explanation = explainer.explain([picture])[0]
    concept = explanation.vision_concepts[0]
    square = explainer.square(picture)
    region = np.zeros((64, 64), dtype=bool)
    for part in explanation.parts:
        if part.id in concept.parts:
            region |= rle_decode(part.mask)[2::4, 1::2]
    expected = explainer.builder.predict(
        explainer.encode(blur_region(square, region)).embeddings[0], also=names(explanation)
    )
    assert explainer.predict_without(picture, explanation, [concept.text]) == expected


def test_default_settings_pad_to_sixteen_points() -> None:
    assert preset("default").curve_length == preset("paper").curve_length == 16


@pytest.mark.parametrize("name", embedded.PRESETS)
def test_another_class_without_the_model_equals_the_models_explanation(name: str) -> None:
    explainer, picture = embedded.explainer(name), embedded.picture(0)
    first = explained(name)
    assert len(first.classes) >= 4
    for other in first.classes:
        fresh = explainer.explain([picture], targets=[other])[0]
        found = first.for_class(other)
        assert {a.class_name: a for a in found.alternatives} == {a.class_name: a for a in fresh.alternatives}
        assert dataclasses.replace(found, alternatives=(), elapsed_ms=fresh.elapsed_ms) == dataclasses.replace(
            fresh, alternatives=()
        )
        assert found.for_class(first.class_name).mutual == first.mutual


def test_why_not_a_class_that_is_not_held_names_those_that_are() -> None:
    explanation = explained()
    with pytest.raises(UsageError, match=explanation.alternatives[0].class_name):
        explanation.for_class("zeppelin")

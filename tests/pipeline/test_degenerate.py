"""Inputs at the edge of what makes sense: each has a result that the documentation names, never a crash."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

import embedded
from clipmk.concepts import foreground
from clipmk.concepts.mutual import language_count_for
from clipmk.concepts.selection import NO_COMMON_CANDIDATE
from clipmk.explanation import Explanation
from clipmk.images.decoder import read_picture
from clipmk.images.masks import rle_decode
from clipmk.pipeline.explainer import Explainer
from clipmk.pipeline.grounding import prompt_embeddings
from clipmk.settings import preset
from clipmk.vocabulary.vocabulary import load_vocabulary

both_presets = pytest.mark.parametrize("name", embedded.PRESETS)


def is_sound(explanation: Explanation, *, limit: int = 15) -> None:
    """What every record must be, whatever went in."""
    explanation.to_json()  # refuses numbers that are not finite
    assert explanation.parts
    concepts = explanation.vision_concepts
    assert 1 <= len(concepts) <= limit
    assert {part for concept in concepts for part in concept.parts} <= {part.id for part in explanation.parts}
    assert sum(p.probability for p in explanation.predictions) <= 1 + 1e-9
    mutual = explanation.mutual
    assert len(mutual.curve) == len(concepts) + 1
    assert mutual.curve[-1] == 0
    assert mutual.auc == pytest.approx(sum(mutual.curve) / (limit + 1))
    assert 0 <= mutual.p_value <= 1


@both_presets
@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (30, 200, 90)])
def test_a_blank_picture_is_explained_with_warnings_for_every_step(name: str, colour: tuple[int, int, int]) -> None:
    found = embedded.explainer(name).explain([read_picture(embedded.flat(colour))])[0]
    is_sound(found)
    assert found.predictions[0].class_name == found.class_name
    again = embedded.explainer(name).explain([read_picture(embedded.flat(colour))])[0]
    assert embedded.timeless(found) == embedded.timeless(again)


@both_presets
def test_a_picture_without_foreground_is_one_part_with_a_warning(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    explainer = embedded.explainer(name)
    encode = explainer.backbone.encode_with_patches

    def alike(pixels: torch.Tensor, **given: Any) -> Any:
        encoded = encode(pixels, **given)
        return dataclasses.replace(encoded, patches=torch.ones_like(encoded.patches))

    monkeypatch.setitem(vars(explainer.backbone), "encode_with_patches", alike)
    found = explainer.explain([read_picture(embedded.flat((90, 90, 90)))])[0]
    is_sound(found)
    assert len(found.parts) == 1
    assert rle_decode(found.foreground).all()
    assert found.parts[0].bbox_xyxy == (0, 0, 64, 64)
    assert foreground.NO_FOREGROUND in found.warnings


@both_presets
@pytest.mark.parametrize(("width", "height"), [(1, 1), (2000, 10), (3, 500)])
def test_pictures_of_any_shape_are_explained_in_their_own_pixels(name: str, width: int, height: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    for resize in ("squash", "crop"):
        found = embedded.explainer(name, resize=resize).explain([read_picture(pixels)])[0]
        is_sound(found)
        assert (found.image.width, found.image.height) == (width, height)
        for part in found.parts:
            mask = rle_decode(part.mask)
            assert mask.shape == (height, width)
            assert part.area == pytest.approx(mask.mean())
            x0, y0, x1, y1 = part.bbox_xyxy
            assert 0 <= x0 <= x1 <= width
            assert 0 <= y0 <= y1 <= height


@both_presets
def test_a_vocabulary_of_one_class_is_certain_of_it(name: str) -> None:
    explainer = embedded.explainer_of(embedded.words(40, classes=1), preset(name))
    found = explainer.explain([embedded.picture()])[0]
    is_sound(found)
    assert [p.probability for p in found.predictions] == [1.0]
    assert found.alternatives == ()


@both_presets
@pytest.mark.parametrize("count", [1, 3, 40])
def test_small_vocabularies_have_few_concepts(name: str, count: int) -> None:
    explainer = embedded.explainer_of(embedded.words(count), preset(name))
    found = explainer.explain([embedded.picture(1)])[0]
    is_sound(found)
    assert len(found.vision_concepts) <= count
    assert len(found.language_concepts) == min(count, language_count_for(count))
    assert all(1 <= len(part.descriptors) <= count for part in found.parts)
    expected = len(found.vision_concepts) * len(found.language_concepts) / count
    assert found.mutual.chance.count == pytest.approx(expected)


def test_one_descriptor_is_everyones_and_no_surprise() -> None:
    found = embedded.explainer_of(embedded.words(1), preset("paper")).explain([embedded.picture(1)])[0]
    parts = [part.id for part in found.parts]
    assert found.mutual.count == 1
    assert found.mutual.curve == (0.0, 0.0)  # log(1 · 1 · 1)
    assert found.mutual.p_value == 1
    assert found.mutual_concepts == embedded.words(1).descriptors
    assert list(found.vision_concepts[0].parts) == parts
    assert [part.descriptors[0].share for part in found.parts] == pytest.approx([1 / len(parts)] * len(parts))


def test_more_language_concepts_than_descriptors_are_all_descriptors() -> None:
    vocabulary = embedded.words(12)
    for name in embedded.PRESETS:
        found = embedded.explainer_of(vocabulary, preset(name, language_count=10_000)).explain([embedded.picture()])[0]
        is_sound(found)
        assert {c.text for c in found.language_concepts} == set(vocabulary.descriptors)
        assert all(c.mutual for c in found.vision_concepts)
        assert found.mutual.p_value == 1


def test_parts_without_a_common_candidate_use_the_union_with_a_warning() -> None:
    explainer = embedded.explainer("paper", candidate_count=1, relevance_offset=-5.0)
    masks = np.stack([part.mask_pixels for part in embedded.scenes()[2].parts])
    found = explainer.explain([embedded.picture(2)], masks=[masks])[0]
    is_sound(found)
    assert found.warnings == (NO_COMMON_CANDIDATE,)
    square = embedded.scenes()[2].image
    scores = next(prompt_embeddings(explainer.backbone, [square], [masks])) @ explainer.bank.descriptors.T
    nearest = {explainer.vocabulary.descriptors[i] for i in scores.argmax(1).tolist()}
    assert len(nearest) > 1
    assert {c.text for c in found.vision_concepts} == nearest


def test_more_parts_than_patches_make_as_many_parts_as_patches_with_a_warning() -> None:
    found = embedded.explainer("paper", part_count=200).explain([embedded.picture(1)])[0]
    is_sound(found)
    share = rle_decode(found.foreground).mean() * 64
    assert len(found.parts) == round(share)
    assert all(part.area == pytest.approx(1 / 64) for part in found.parts)
    assert f"the foreground divides into {len(found.parts)} of 200 parts" in found.warnings


@both_presets
def test_soft_pairs_match_only_concepts_that_are_not_mutual(name: str) -> None:
    found = embedded.explainer(name, soft_threshold=0.3).explain([embedded.picture()])[0]
    plain = embedded.explainer(name).explain([embedded.picture()])[0]
    pairs = found.mutual.soft
    assert pairs
    assert plain.mutual.soft == ()
    assert found.vision_concepts == plain.vision_concepts
    explainer = embedded.explainer(name)
    row = {text: explainer.bank.raw[i] for i, text in enumerate(explainer.vocabulary.descriptors)}
    alone = {c.text for c in found.vision_concepts if not c.mutual}
    others = {c.text for c in found.language_concepts if not c.mutual}
    assert len({p.vision for p in pairs}) == len({p.language for p in pairs}) == len(pairs)
    for pair in pairs:
        assert pair.vision in alone
        assert pair.language in others
        assert pair.cosine > 0.3
        assert pair.cosine == pytest.approx(float(row[pair.vision] @ row[pair.language]), abs=1e-5)


@both_presets
@pytest.mark.parametrize(
    "changes",
    [
        {"parts": "pca"},
        {"parts": "kmeans"},
        {"parts": "superpixels"},
        {"features": "keys"},
        {"foreground": "centred"},
        {"foreground": "eigenvector"},
        {"grounding": "prompts"},
        {"grounding": "attend"},
        {"resize": "crop"},
        {"relevance": "median", "relevance_offset": 0.02},
        {"assignment": "transport"},
        {"assignment": "contrast"},
        {"importance": "part"},
        {"fit": "batch"},
        {"vision_limit": 2},
        {"soft_threshold": 0.0},
        {"prediction_count": 10_000},
    ],
    ids=lambda changes: "-".join(f"{key}={value}" for key, value in changes.items()),
)
def test_every_choice_gives_a_sound_record(name: str, changes: dict[str, Any]) -> None:
    explainer = embedded.explainer(name, **changes)
    for found in explainer.explain(embedded.pictures(2)):
        is_sound(found, limit=changes.get("vision_limit", 15))
        for key, value in changes.items():
            assert found.provenance.settings[key] == value
        assert len(found.predictions) == (29 if "prediction_count" in changes else 5)


def test_keys_find_another_foreground_than_tokens_but_the_same_class() -> None:
    tokens = embedded.explainer("paper").explain(embedded.pictures(4))
    keys = embedded.explainer("paper", features="keys").explain(embedded.pictures(4))
    assert [one.foreground for one in tokens] != [one.foreground for one in keys]
    assert [one.predictions for one in tokens] == [one.predictions for one in keys]


def test_a_filter_that_nothing_passes_warns_and_keeps_every_candidate() -> None:
    found = embedded.explainer("paper", relevance_offset=5.0).explain([embedded.picture()])[0]
    is_sound(found)
    assert "no candidate passed the relevance filter; all of them were kept" in found.warnings


def test_descriptors_that_are_class_names_or_not_english_are_mere_text() -> None:
    vocabulary = dataclasses.replace(embedded.words(5), descriptors=("cat", "犬", "🦊", "a" * 300))
    found = Explainer(embedded.backbone(), vocabulary, preset("default"), cache=False).explain([embedded.picture()])[0]
    is_sound(found)
    assert {c.text for c in found.vision_concepts} <= set(vocabulary.descriptors)


def test_no_pictures_give_no_explanations() -> None:
    assert (
        Explainer(embedded.backbone(), load_vocabulary("world"), preset("paper", fit="batch"), cache=False).explain([])
        == []
    )


def test_a_blank_picture_and_a_small_vocabulary_give_warnings() -> None:
    blank = read_picture(np.full((64, 64, 3), 90, dtype=np.uint8))
    for name in ("default", "paper"):
        world = load_vocabulary("world")
        small = dataclasses.replace(world, classes=("fox",), descriptors=world.descriptors[:7], by_class={})
        few = Explainer(embedded.backbone(), small, preset(name, grounding="attend"), cache=False)
        warnings = " ".join(few.explain([blank])[0].warnings)
        assert "the image has a single colour" in warnings
        assert "the vocabulary has one class" in warnings
        assert "the vocabulary has 7 descriptors, fewer than 500" in warnings

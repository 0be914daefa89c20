"""One's own words about an image: presence, ties, maps, and how many forwards they take."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import clipmk
import embedded
from backbone_zoo import VISION, model_config, save
from clipmk.concepts.superpixels import picture_regions
from clipmk.errors import ClipmkError, ModelError, UsageError, VocabularyError
from clipmk.images.masks import heat_grid
from clipmk.pipeline.asking import NO_PATCHES, REGIONS, TEXTS, VAGUE_MAPS, hide_regions
from clipmk.pipeline.builder import VAGUE_PARTS
from clipmk.pipeline.explainer import Explainer
from clipmk.settings import preset

WORDS = ("snow", "a wet nose", "<b>markup</b> [red]", "🦊", "cat")


def test_asking_changes_nothing_else_and_answers_in_order() -> None:
    explainer, picture = embedded.explainer(), embedded.picture()
    plain = embedded.timeless(explainer.explain([picture])[0])
    asked = explainer.explain([picture], asks=[*WORDS, " snow "])[0]
    assert embedded.timeless(dataclasses.replace(asked, asked=())) == plain
    assert tuple(one.text for one in asked.asked) == WORDS
    for one in asked.asked:
        assert [tie.class_name for tie in one.ties] == [asked.class_name, *(a.class_name for a in asked.alternatives)]
        assert (one.status in {"mutual", "vision"}) == one.presence.seen == bool(one.parts)
        assert (one.status in {"mutual", "language"}) == one.ties[0].in_d_y


def test_an_answer_does_not_depend_on_what_else_is_asked() -> None:
    explainer, picture = embedded.explainer(), embedded.picture(1)
    alone = explainer.explain([picture], asks=["snow"])[0].asked[0]
    many = explainer.explain([picture], asks=[*(f"thing {i}" for i in range(TEXTS)), "snow"])[0].asked[-1]
    assert many.cosine == pytest.approx(alone.cosine, abs=1e-6)
    assert (many.presence.rank, many.status, many.parts) == (alone.presence.rank, alone.status, alone.parts)
    assert alone.map is not None
    assert many.map is not None
    assert np.abs(heat_grid(alone.map) - heat_grid(many.map)).max() < 0.01


def test_a_descriptor_of_the_vocabulary_stands_where_it_is_and_leaves_the_overlap_alone() -> None:
    explainer, picture = embedded.explainer(), embedded.picture()
    plain = explainer.explain([picture])[0]
    concept = plain.language_concepts[2]
    (found,) = explainer.explain([picture], asks=[concept.text])[0].asked
    assert found.in_vocabulary
    assert found.ties[0].rank == concept.rank
    assert found.ties[0].in_d_y
    assert found.ties[0].overlap == plain.mutual.count
    assert found.ties[0].overlap_p_value == plain.mutual.p_value


def test_most_true_descriptors_are_seen_and_their_maps_point_at_their_part() -> None:
    seen, inside = [], []
    for scene in embedded.scenes(count=4):
        result = clipmk.ask(scene.image, embedded.backbone(), scene.descriptors)
        for part, answer in zip(scene.parts, result.asked, strict=True):
            heat = result.relevance(part.descriptor)
            assert heat.shape == part.mask_pixels.shape
            assert heat.dtype == np.float32
            seen.append(answer.presence.seen)
            inside.append(bool(part.mask_pixels.ravel()[heat.argmax()]))
    assert np.mean(seen) > 0.8
    assert np.mean(inside) > 0.5


def test_one_image_forward_answers_any_number_of_texts_classes_and_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    explainer, picture, forwards = embedded.explainer(), embedded.picture(), []
    backbone = embedded.backbone()
    original = backbone.encode_with_patches
    counted: Callable[..., Any] = lambda *args, **keywords: forwards.append(1) or original(*args, **keywords)  # noqa: E731
    monkeypatch.setitem(vars(backbone), "encode_with_patches", counted)
    encoded = explainer.encode_picture(picture, maps=False)
    assert encoded.regions is None
    encoded = explainer.with_maps(encoded)
    assert explainer.with_maps(encoded) is encoded
    monkeypatch.setitem(vars(backbone), "encode_images", lambda pixels: pytest.fail("another forward"))
    first = explainer.answer(picture, encoded, asks=WORDS)
    more = explainer.with_classes(["wolf", "a pair of scissors"])
    second = more.answer(picture, encoded, asks=["snow"], target="wolf")
    assert len(forwards) == 1
    assert len(first.asked) == len(WORDS)
    assert second.class_name == second.asked[0].ties[0].class_name == "wolf"
    monkeypatch.undo()
    assert embedded.timeless(explainer.explain([picture], asks=WORDS)[0]) == embedded.timeless(first)


def test_each_region_of_the_picture_is_hidden_once_in_its_mean_colour() -> None:
    explainer, seen = embedded.explainer(), list[tuple[str, int, int]]()
    encoded = explainer.encode_picture(embedded.picture(), maps=False)
    hidden = hide_regions(embedded.backbone(), encoded, lambda *step: seen.append(step))
    assert hidden.regions is not None
    assert hidden.hidden_embeddings is not None
    count = len(hidden.hidden_embeddings)
    assert 2 <= count <= REGIONS
    assert sorted(set(hidden.regions.ravel().tolist())) == list(range(count))
    assert seen[-1] == ("regions", count, count)
    painted = encoded.square.copy()
    painted[hidden.regions == 1] = encoded.square.mean(axis=(0, 1)).round()
    assert torch.allclose(hidden.hidden_embeddings[1], explainer.embed(painted[None])[0], atol=1e-5)


def test_a_busy_and_a_blank_picture_are_divided_into_few_regions() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    labels = picture_regions(noise, limit=5)
    assert labels.shape == (192, 192)
    assert 1 <= len(np.unique(labels)) <= 5
    assert labels.max() == len(np.unique(labels)) - 1
    assert not picture_regions(np.full((64, 64, 3), 9, dtype=np.uint8), limit=5).any()


def test_added_classes_are_embedded_as_if_they_had_always_been_there() -> None:
    explainer = embedded.explainer()
    more = explainer.with_classes(["wolf"])
    whole = Explainer(embedded.backbone(), more.vocabulary, preset("default"), cache=False)
    assert torch.allclose(more.bank.classes, whole.bank.classes, atol=1e-6)
    assert explainer.with_classes([]).vocabulary == explainer.vocabulary
    assert explainer.with_classes([explainer.vocabulary.classes[0]]).vocabulary.classes == explainer.vocabulary.classes
    with pytest.raises(VocabularyError, match="classes"):
        explainer.with_classes([" "])


def test_a_stream_answers_as_single_images_do() -> None:
    explainer, pictures = embedded.explainer(), embedded.pictures(3)
    streamed = list(explainer.stream(pictures, read=lambda one: one, batch_size=1, threads=1, asks=WORDS))
    singles = explainer.explain(pictures, asks=WORDS)
    for one, other in zip(streamed, singles, strict=True):
        assert not isinstance(one, ClipmkError)
        assert one.asked == other.asked


def test_another_class_puts_its_tie_first() -> None:
    result = embedded.explainer().explain([embedded.picture()], asks=["snow", "wheels"])[0]
    other = result.for_class(result.alternatives[1].class_name)
    fresh = embedded.explainer().explain([embedded.picture()], targets=[other.class_name], asks=["snow", "wheels"])[0]
    for one, again in zip(other.asked, fresh.asked, strict=True):
        assert one.ties[0] == again.ties[0]
        assert one.status == again.status
    back = other.for_class(result.class_name).asked
    assert [set(one.ties) for one in back] == [set(one.ties) for one in result.asked]
    assert [one.status for one in back] == [one.status for one in result.asked]


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        ([""], VocabularyError, "text 1 is blank"),
        (["snow", " \t "], VocabularyError, "text 2 is blank"),
        (["x" * 10_000], VocabularyError, "text 1 has 10000 characters"),
        (["red\x1b[31m"], VocabularyError, r"text 1 holds the control character \\x1b"),
        ([3], VocabularyError, "text 1 is a number"),
        (7, UsageError, "texts is 7"),
    ],
)
def test_texts_that_cannot_be_asked_are_named(texts: Any, error: type[ClipmkError], message: str) -> None:
    with pytest.raises(error, match=message):
        clipmk.ask(embedded.scenes()[0].image, embedded.backbone(), texts)


def test_no_text_at_all_is_an_explanation_without_answers() -> None:
    assert clipmk.ask(embedded.scenes()[0].image, embedded.backbone(), []).asked == ()


def test_a_text_that_was_not_asked_has_no_map() -> None:
    result = clipmk.ask(embedded.scenes()[0].image, embedded.backbone(), "snow")
    with pytest.raises(UsageError, match=r"'rain' was not asked for; .*snow"):
        result.relevance("rain")
    assert result.overlay(asked="snow").size == (result.image.width, result.image.height)


def test_a_model_whose_patches_cannot_be_pooled_answers_without_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise ModelError("not these")

    monkeypatch.setitem(vars(embedded.backbone()), "pool_patches", refuse)
    result = embedded.explainer().explain([embedded.picture()], asks=["snow"])[0]
    assert NO_PATCHES in result.warnings
    assert result.asked[0].map is None
    assert result.asked[0].ties


@pytest.mark.parametrize("kind", list(VISION))
def test_every_family_answers_and_what_cannot_pool_patches_says_so(kind: str, tmp_path: Path) -> None:
    save(tmp_path / kind, model_config(kind))
    backbone = clipmk.load(f"local-dir:{tmp_path / kind}", device="cpu")
    result = clipmk.ask(
        embedded.scenes()[0].image,
        backbone,
        ["a tail", "snow"],
        vocabulary={"cat": ["round eyes", "a tail"], "dog": ["the ears", "fur"]},
        settings={"grounding": "prompts"},
    )
    assert len(result.asked) == 2
    assert result.asked[0].in_vocabulary
    pooled = NO_PATCHES not in result.warnings
    assert all((one.map is not None) == pooled for one in result.asked)
    assert pooled or kind in {"relative"}
    assert (VAGUE_MAPS in result.warnings) == kind.startswith("convnext")


@pytest.mark.parametrize("grounding", ["attend", "prompts"])
def test_parts_of_a_convnext_are_unsure_unless_prompts_tell_them_apart(grounding: str, tmp_path: Path) -> None:
    save(tmp_path / "convnext", model_config("convnext"))
    backbone = clipmk.load(f"local-dir:{tmp_path / 'convnext'}", device="cpu")
    words = {"cat": ["round eyes", "a tail"], "dog": ["the ears", "fur"]}
    image = embedded.scenes()[0].image
    result = clipmk.explain(image, backbone, vocabulary=words, settings={"grounding": grounding})
    assert (VAGUE_PARTS in result.warnings) == (grounding == "attend")

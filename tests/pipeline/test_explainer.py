"""The record of an explanation: every number in it recomputed, and every way of asking for it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import embedded
from clipmk.concepts.mutual import chance, language_count_for, mi_paper, p_value
from clipmk.concepts.superpixels import WORK_SIDE
from clipmk.errors import ImageError, UsageError
from clipmk.explanation import Explanation
from clipmk.images.decoder import read_picture
from clipmk.images.masks import rle_decode
from clipmk.pipeline.explainer import GROUP_LIMIT, Explainer
from clipmk.records import Mutual
from clipmk.settings import preset
from clipmk.world.scene import render_scenes

CASES = [(name, index) for name in embedded.PRESETS for index in range(4)]


@pytest.fixture(scope="module")
def explained() -> dict[tuple[str, int], Explanation]:
    return {
        (name, index): embedded.explainer(name, prediction_count=4).explain([embedded.picture(index)])[0]
        for name, index in CASES
    }


def cosines_of(index: int) -> np.ndarray:
    explainer = embedded.explainer()
    pixels = explainer.backbone.normalise(torch.from_numpy(embedded.scenes()[index].image)[None])
    vector = explainer.backbone.encode_images(pixels)[0].double().numpy()
    return np.asarray(explainer.bank.classes.double().numpy() @ vector)


@pytest.mark.parametrize(("name", "index"), CASES)
def test_predictions_are_the_softmax_of_the_scaled_cosines(explained: Any, name: str, index: int) -> None:
    cosines = cosines_of(index)
    scale = embedded.backbone().logit_scale
    total = math.fsum(math.exp(scale * (c - cosines.max())) for c in cosines)
    order = sorted(range(len(cosines)), key=lambda i: -cosines[i])[:4]
    found = explained[name, index].predictions
    assert [p.rank for p in found] == [1, 2, 3, 4]
    assert [p.class_name for p in found] == [embedded.explainer().vocabulary.classes[i] for i in order]
    for prediction, i in zip(found, order, strict=True):
        assert prediction.cosine == pytest.approx(cosines[i], abs=1e-5)
        expected = math.exp(scale * (cosines[i] - cosines.max())) / total
        assert prediction.probability == pytest.approx(expected, rel=1e-3, abs=1e-9)
        assert prediction.independent is None
    assert explained[name, index].class_name == found[0].class_name == embedded.scenes()[index].class_name


@pytest.mark.parametrize(("name", "index"), CASES)
def test_language_concepts_are_the_nearest_to_the_class(explained: Any, name: str, index: int) -> None:
    explanation = explained[name, index]
    explainer = embedded.explainer()
    row = explainer.vocabulary.classes.index(explanation.class_name)
    cosines = (explainer.bank.descriptors.double() @ explainer.bank.classes[row].double()).tolist()
    order = sorted(range(len(cosines)), key=lambda i: -cosines[i])[: language_count_for(650)]
    texts = explainer.vocabulary.descriptors
    assert [c.text for c in explanation.language_concepts] == [texts[i] for i in order]
    np.testing.assert_allclose(
        [c.cosine for c in explanation.language_concepts], [cosines[i] for i in order], atol=1e-5
    )


def check_mutual(mutual: Mutual, vision: list[str], language: list[str], *, size: int = 650, length: int = 16) -> None:
    """Every field of the strength from the two lists of texts."""
    shared = [text in language for text in vision]
    count = sum(shared)
    curve = [mi_paper(len(vision), len(language), sum(shared[r:])) for r in range(len(vision) + 1)]
    assert mutual.count == count
    assert mutual.curve == pytest.approx(curve)
    assert mutual.mi_paper == pytest.approx(math.log(len(vision) * len(language) * count) if count else 0)
    assert mutual.mi_textbook == pytest.approx(math.log(count) if count else 0)
    assert mutual.auc == pytest.approx(sum(curve) / length)
    assert mutual.auc_unpadded == pytest.approx(sum(curve) / len(curve))
    assert mutual.chance.count == pytest.approx(len(vision) * len(language) / size)
    assert mutual.p_value == pytest.approx(p_value(len(vision), len(language), size, count))


@pytest.mark.parametrize(("name", "index"), CASES)
def test_flags_and_strength_follow_from_the_two_lists(explained: Any, name: str, index: int) -> None:
    explanation = explained[name, index]
    vision = [c.text for c in explanation.vision_concepts]
    language = [c.text for c in explanation.language_concepts]
    assert [c.mutual for c in explanation.vision_concepts] == [text in language for text in vision]
    assert [c.mutual for c in explanation.language_concepts] == [text in vision for text in language]
    assert explanation.mutual_concepts == tuple(text for text in vision if text in language)
    check_mutual(explanation.mutual, vision, language)
    for other in explanation.alternatives:
        theirs = [c.text for c in other.language_concepts]
        assert [c.mutual for c in other.language_concepts] == [text in vision for text in theirs]
        check_mutual(other.mutual, vision, theirs)


def test_some_of_these_scenes_share_knowledge(explained: Any) -> None:
    for name in embedded.PRESETS:
        assert any(explained[name, index].mutual.count > 0 for index in range(4))


@pytest.mark.parametrize(("name", "index"), CASES)
def test_parts_and_concepts_agree_with_each_other(explained: Any, name: str, index: int) -> None:
    explanation = explained[name, index]
    assert [part.id for part in explanation.parts] == list(range(1, len(explanation.parts) + 1))
    foreground = np.zeros((64, 64), dtype=int)
    for part in explanation.parts:
        mask = rle_decode(part.mask)
        ys, xs = np.nonzero(mask)
        assert part.area == pytest.approx(len(ys) / 64**2)
        assert part.bbox_xyxy == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        foreground += mask
    np.testing.assert_array_equal(foreground, rle_decode(explanation.foreground))  # and no two parts overlap
    concepts = explanation.vision_concepts
    assert [c.rank for c in concepts] == list(range(1, len(concepts) + 1))
    assert len({c.text for c in concepts}) == len(concepts) <= 15
    assert [c.importance for c in concepts] == sorted((c.importance for c in concepts), reverse=True)
    for concept in concepts:
        shares = {p.id: d.share for p in explanation.parts for d in p.descriptors if d.text == concept.text}
        least = max(shares.values()) / 2 if name == "default" else 0
        assert list(concept.parts) == [part for part, share in shares.items() if share >= least] != []


@pytest.mark.parametrize(("name", "index"), CASES)
def test_parts_report_the_cosines_and_shares_of_their_descriptors(explained: Any, name: str, index: int) -> None:
    texts = embedded.explainer().vocabulary.descriptors
    for part in explained[name, index].parts:
        assert len(part.descriptors) == (3 if name == "paper" else 6)
        shares = [d.share for d in part.descriptors]
        if name == "paper":
            assert shares == sorted(shares, reverse=True)
        for descriptor in part.descriptors:
            assert descriptor.text in texts
            assert -1 <= descriptor.cosine <= 1
            assert 0 <= descriptor.share <= 1


@pytest.mark.parametrize("name", embedded.PRESETS)
def test_a_target_is_explained_as_the_alternative_already_said(explained: Any, name: str) -> None:
    first = explained[name, 1]
    for other in first.alternatives:
        asked = embedded.explainer(name, prediction_count=4).explain([embedded.picture(1)], targets=[other.class_name])
        assert asked[0].class_name == other.class_name
        assert asked[0].language_concepts == other.language_concepts
        assert asked[0].mutual == other.mutual
        assert asked[0].predictions == first.predictions
        assert asked[0].parts == first.parts
        assert [c.text for c in asked[0].vision_concepts] == [c.text for c in first.vision_concepts]
        back = next(a for a in asked[0].alternatives if a.class_name == first.class_name)
        assert (back.language_concepts, back.mutual) == (first.language_concepts, first.mutual)
    assert [a.class_name for a in first.alternatives] == [p.class_name for p in first.predictions[1:]]


def test_a_target_outside_the_reported_classes_leaves_all_of_those_as_alternatives() -> None:
    explainer = embedded.explainer("default", prediction_count=2)
    shown = {p.class_name for p in explainer.explain([embedded.picture()])[0].predictions}
    target = next(name for name in explainer.vocabulary.classes if name not in shown)
    found = explainer.explain([embedded.picture()], targets=[target])[0]
    assert found.class_name == target
    assert {a.class_name for a in found.alternatives} == shown


def test_an_unknown_target_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="snowmen"):
        embedded.explainer().explain([embedded.picture()], targets=["snowmen"])


@pytest.mark.parametrize("name", embedded.PRESETS)
def test_the_same_seed_gives_the_same_record(name: str) -> None:
    once, again = (embedded.explainer(name, seed=5).explain([embedded.picture(2)])[0] for _ in range(2))
    assert embedded.timeless(once) == embedded.timeless(again)


@pytest.mark.parametrize("name", embedded.PRESETS)
def test_pictures_explained_together_keep_their_order_and_equal_those_explained_alone(name: str) -> None:
    explainer = embedded.explainer(name)
    together = explainer.explain(embedded.pictures(4), targets=[None, "bird", None, None])
    alone = [
        explainer.explain([picture], targets=[target])[0]
        for picture, target in zip(embedded.pictures(4), [None, "bird", None, None], strict=True)
    ]
    assert [embedded.timeless(one) for one in together] == [embedded.timeless(one) for one in alone]
    assert len({one.image.sha256 for one in together}) == 4


def test_a_joint_fit_treats_identical_pictures_alike_and_differs_from_one_by_one() -> None:
    order = [0, 1, 0, 3]
    pictures = [embedded.picture(i) for i in order]
    joint = embedded.explainer("paper", fit="batch").explain(pictures)
    assert joint[0].parts == joint[2].parts
    assert joint[0].vision_concepts == joint[2].vision_concepts
    alone = embedded.explainer("paper").explain(pictures)
    assert any(one.foreground != other.foreground for one, other in zip(joint, alone, strict=True))
    assert [one.predictions for one in joint] == [one.predictions for one in alone]


def test_a_single_picture_fitted_jointly_is_that_picture_fitted_alone() -> None:
    for name in embedded.PRESETS:
        joint = embedded.explainer(name, fit="batch").explain([embedded.picture(1)])[0]
        alone = embedded.explainer(name).explain([embedded.picture(1)])[0]
        assert joint.parts == alone.parts
        assert joint.mutual == alone.mutual


def test_no_more_than_a_group_is_fitted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    assert GROUP_LIMIT == 50
    monkeypatch.setattr("clipmk.pipeline.explainer.GROUP_LIMIT", 2)
    explainer = embedded.explainer("paper", fit="batch", grounding="attend")
    found = explainer.explain(embedded.pictures(4))
    pairs = explainer.explain(embedded.pictures(4)[:2]) + explainer.explain(embedded.pictures(4)[2:])
    assert [embedded.timeless(one) for one in found] == [embedded.timeless(one) for one in pairs]


@pytest.mark.parametrize("name", embedded.PRESETS)
def test_own_masks_are_the_parts(name: str) -> None:
    scene = embedded.scenes()[0]
    masks = np.stack([part.mask_pixels for part in scene.parts])
    found = embedded.explainer(name).explain([embedded.picture(), embedded.picture()], masks=[masks, None])
    assert len(found[0].parts) == len(masks)
    for part, mask in zip(found[0].parts, masks, strict=True):
        np.testing.assert_array_equal(rle_decode(part.mask), mask)
    np.testing.assert_array_equal(rle_decode(found[0].foreground), masks.any(axis=0))
    assert embedded.timeless(found[1]) == embedded.timeless(embedded.explainer(name).explain([embedded.picture()])[0])


@pytest.mark.parametrize("shape", [(2, 64, 63), (64, 64), (0, 64, 64)])
def test_own_masks_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match=r"\(parts, 64, 64\) with at least one part is needed"):
        embedded.explainer().explain([embedded.picture()], masks=[np.zeros(shape, dtype=bool)])


def test_own_masks_that_mark_nothing_the_model_sees_are_refused() -> None:
    picture = read_picture(np.zeros((64, 200, 3), dtype=np.uint8))
    masks = np.zeros((2, 64, 200), dtype=bool)
    masks[0, 10:20, 90:110] = True
    with pytest.raises(ImageError, match="part mask 2 of 2 is empty"):
        embedded.explainer().explain([picture], masks=[masks])
    masks[1, :, :20] = True
    with pytest.raises(ImageError, match=r"part mask 2 of 2 lies outside .* resize=\"squash\""):
        embedded.explainer(resize="crop").explain([picture], masks=[masks])


def test_an_own_mask_smaller_than_a_pixel_of_the_square_is_a_part() -> None:
    picture = read_picture(np.full((1_500, 1_500, 3), 128, dtype=np.uint8))
    masks = np.zeros((1, 1_500, 1_500), dtype=bool)
    masks[0, 712:716, 300:303] = True
    square = embedded.explainer().builder.geometry(picture.info)
    row, column = (int(where[place]) for where, place in zip(square.shown, (713, 301), strict=True))
    (part,) = embedded.explainer().explain([picture], masks=[masks])[0].parts
    seen = rle_decode(part.mask)
    assert seen[713, 301]
    assert np.array_equal(seen, square.to_pixels(np.arange(64 * 64).reshape(64, 64) == 64 * row + column))


def test_progress_hears_of_every_stage() -> None:
    told: list[tuple[str, int, int]] = []
    vocabulary = embedded.words(20)
    explainer = Explainer(
        embedded.backbone(), vocabulary, preset("paper"), cache=False, progress=lambda *step: told.append(step)
    )
    texts = [step for step in told if step[0] == "texts"]
    assert texts == told
    assert texts[-1][1] == texts[-1][2] > 0
    told.clear()
    found = explainer.explain(embedded.pictures(2))
    assert told[:3] == [("image", 1, 1), ("parts", 1, 1), told[2]]
    assert {stage for stage, _, _ in told} == {"image", "parts", "prompts"}
    assert [step[1:] for step in told if step[0] == "prompts" and step[1] == step[2]] == [
        (3 * len(one.parts), 3 * len(one.parts)) for one in found
    ]


class StopError(Exception):
    pass


@pytest.mark.parametrize("stage", ["texts", "image", "parts", "prompts"])
def test_an_exception_in_progress_cancels_the_work(stage: str) -> None:
    def stop(now: str, done: int, total: int) -> None:
        if now == stage:
            raise StopError

    def work() -> None:
        explainer = Explainer(embedded.backbone(), embedded.words(20), preset("paper"), cache=False, progress=stop)
        explainer.explain([embedded.picture()])

    with pytest.raises(StopError):
        work()


def test_images_embedded_together_have_the_cosines_of_the_predictions() -> None:
    explainer = embedded.explainer()
    found = explainer.embed(np.stack([scene.image for scene in embedded.scenes()])) @ explainer.bank.classes.T
    np.testing.assert_allclose(found, [cosines_of(index) for index in range(4)], atol=1e-5)


@pytest.mark.parametrize("limit", [4, 15, 30])
def test_the_chance_level_follows_the_vision_limit(limit: int) -> None:
    """The number of language concepts gives as much by chance as the paper's setting with as many vision concepts."""
    explainer = embedded.explainer(vision_limit=limit)
    target = chance(limit, 50, 4_229, length=limit + 1).auc
    off = {u: abs(chance(limit, u, 650, length=limit + 1).auc - target) for u in range(1, 51)}
    assert off[explainer.builder.language_count] == min(off.values())
    (found,) = explainer.explain([embedded.picture()])
    seen, tied = len(found.vision_concepts), explainer.builder.language_count
    assert len(found.language_concepts) == tied
    assert found.mutual.chance.auc == chance(seen, tied, 650, length=limit + 1).auc
    assert found.mutual.chance.mi_paper == chance(seen, tied, 650).mi_paper


def test_other_settings_leave_the_explainer_as_it_was() -> None:
    first = embedded.explainer("default")
    other = first.with_settings(preset("paper", language_count=3))
    assert first.settings.preset == "default"
    assert other.bank is first.bank
    assert (first.builder.language_count, other.builder.language_count) == (language_count_for(650), 3)


def test_the_record_names_what_made_it() -> None:
    found = embedded.explainer("paper", seed=4).explain([embedded.picture()])[0].provenance
    vocabulary = embedded.explainer().vocabulary
    assert (found.vocabulary, found.vocabulary_sha256) == ("world", vocabulary.sha256)
    assert found.templates == vocabulary.templates
    assert (found.torch, found.device, found.dtype) == (torch.__version__, "cpu", "float32")
    assert (found.settings["preset"], found.settings["seed"]) == ("paper", 4)
    assert set(found.settings) == set(preset("paper").__slots__)


def test_masks_come_back_in_the_pixels_of_the_original() -> None:
    small = embedded.scenes()[0].image
    large = np.repeat(np.repeat(small, 7, 0), 14, 1)
    found = embedded.explainer().explain([read_picture(large)])[0]
    for part in found.parts:
        assert rle_decode(part.mask).shape == (448, 896)
        blocks = rle_decode(part.mask).reshape(WORK_SIDE, 2, WORK_SIDE, 4)
        assert (blocks == blocks[:, :1, :, :1]).all()
        assert part.area == pytest.approx(blocks.mean())


def test_borders_are_finer_than_the_models_input() -> None:
    large = next(iter(render_scenes("val", count=1, size=2 * WORK_SIDE))).image
    for part in embedded.explainer().explain([read_picture(large)])[0].parts:
        blocks = rle_decode(part.mask).reshape(64, 7, 64, 7)
        assert (blocks != blocks[:, :1, :, :1]).any()


def test_a_cropped_picture_has_no_part_outside_the_crop() -> None:
    small = embedded.scenes()[0].image
    wide = np.pad(small, [(0, 0), (32, 32), (0, 0)], mode="edge")
    found = embedded.explainer("default", resize="crop").explain([read_picture(wide)])[0]
    square = embedded.explainer().explain([embedded.picture()])[0]
    assert [c.text for c in found.vision_concepts] == [c.text for c in square.vision_concepts]
    for part, same in zip(found.parts, square.parts, strict=True):
        mask = rle_decode(part.mask)
        inside = np.s_[:, 2:-2]  # resampling looks a little beyond the crop
        np.testing.assert_array_equal(mask[:, 32:96][inside], rle_decode(same.mask)[inside])
        assert mask.sum() == mask[:, 32:96].sum()

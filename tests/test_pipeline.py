"""The whole way from a picture to an explanation, with the embedded model, against plain re-computations."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import clipmk
from clipmk import world
from clipmk.concepts.mutual import leave_out
from clipmk.concepts.prompts import blur_region, draw_prompts
from clipmk.errors import ImageError, UsageError
from clipmk.explainer import Explainer
from clipmk.grounding import coverage, pooled_embeddings, prompt_embeddings
from clipmk.images import read_picture
from clipmk.rle import rle_decode
from clipmk.segmentation import segment
from clipmk.settings import Settings, preset
from clipmk.vocabulary import Vocabulary, load_vocabulary
from clipmk.whatif import remaining, what_if


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    patch = pytest.MonkeyPatch()
    patch.setenv("CLIPMK_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def base(_own_cache: None) -> Explainer:
    torch.set_num_threads(1)
    return Explainer(clipmk.load("embedded/vit-s8"), load_vocabulary("world"), preset("default"))


def scene(index: int, split: str = "test") -> np.ndarray:
    return world.scene(split, index, seed=31).image


def numbers(explanation: clipmk.Explanation) -> dict[str, Any]:
    return {**explanation.to_dict(), "elapsed_ms": None}


# --- the two presets


def test_paper_preset_is_table_1a() -> None:
    paper = preset("paper")
    expected = {
        "features": "tokens", "fit": "image", "foreground": "eigenvector", "second_component": True, "parts": "kmeans",
        "part_count": 5, "grounding": "prompts", "resize": "squash", "candidate_count": 500,
        "intersect_candidates": True, "relevance": "mean", "relevance_offset": -0.02, "score_scale": 2.5,
        "assignment": "transport", "descriptors_per_part": 3, "vision_limit": 15, "importance": "image",
        "language_count": None, "soft_threshold": None,
    }  # fmt: skip
    assert {name: getattr(paper, name) for name in expected} == expected
    assert paper.curve_length == 16


def test_settings_errors_name_what_exists() -> None:
    with pytest.raises(UsageError, match="preset 'papper' does not exist; close: 'paper'"):
        preset("papper")
    with pytest.raises(UsageError, match="setting 'part_cont' does not exist; close: 'part_count'"):
        preset("default", part_cont=3)
    with pytest.raises(UsageError, match="grounding 'promts' does not exist; choose one of: prompts, attend"):
        preset("default", grounding="promts")
    with pytest.raises(UsageError, match="part_count is 0"):
        preset("default", part_count=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        preset("default").seed = 1  # type: ignore[misc]


def plain_paper(base: Explainer, image: np.ndarray) -> tuple[list[str], list[list[str]]]:
    """Method.md 2.5 to 2.7 as the reference does it, in plain numpy: 1,000 Sinkhorn rounds, loops, no batches."""
    backbone, bank = base.backbone, base.bank
    descriptors, raw = np.array(bank.descriptors.tolist()), np.array(bank.raw.tolist())
    square = base.square(read_picture(image))
    encoded = base.look(square)
    masks = segment([square], [encoded], preset("paper"))[0].masks
    embeddings = []
    for mask in masks:
        three = [backbone.encode_images(backbone.normalise(torch.from_numpy(one)[None]))[0].double().numpy()
                 for one in draw_prompts(square, mask)]  # fmt: skip
        embeddings.append(sum(three) / 3)
    scores = np.array(embeddings) @ descriptors.T
    near = set(range(len(descriptors)))
    for row in scores:
        near &= set(np.argsort(-row, kind="stable")[:500].tolist())
    whole = encoded.embeddings[0].double().numpy()
    kept = sorted(near)
    mean = np.mean([raw[d] @ whole for d in kept])
    kept = [d for d in kept if raw[d] @ whole > mean - 0.02]
    plan = np.exp(2.5 * scores[:, kept])
    for _ in range(1_000):
        plan = plan / plan.sum(1, keepdims=True)
        plan = plan / plan.sum(0, keepdims=True)
    picks = [[kept[i] for i in np.argsort(-row, kind="stable")[:3]] for row in plan]
    unique = sorted({d for row in picks for d in row}, key=lambda d: -(raw[d] @ whole))
    texts = base.vocabulary.descriptors
    return [texts[d] for d in unique[:15]], [[texts[d] for d in row] for row in picks]


@pytest.mark.parametrize("index", [0, 4])
def test_paper_preset_equals_a_plain_implementation(base: Explainer, index: int) -> None:
    explanation = base.with_settings(preset("paper")).explain([read_picture(scene(index))])[0]
    concepts, picks = plain_paper(base, scene(index))
    assert [concept.text for concept in explanation.vision_concepts] == concepts
    assert [[d.text for d in part.descriptors] for part in explanation.parts] == picks


# --- grounding


def test_prompted_embedding_is_the_plain_mean_of_three_unit_embeddings(base: Explainer) -> None:
    square = scene(3)
    masks = np.zeros((5, 64, 64), dtype=bool)
    for k in range(5):
        masks[k, 8 * k : 8 * k + 20, 10:40] = True
    found = prompt_embeddings(base.backbone, square, masks)
    for mask, row in zip(masks, found, strict=True):
        each = [base.backbone.encode_images(base.backbone.normalise(torch.from_numpy(p)[None]))[0] for p in draw_prompts(square, mask)]  # noqa: E501  # fmt: skip
        torch.testing.assert_close(row, (each[0] + each[1] + each[2]) / 3, atol=1e-5, rtol=0)
    assert float(found.norm(dim=1).max()) <= 1 + 1e-5


def test_pooling_everything_is_the_image_embedding(base: Explainer) -> None:
    encoded = base.look(scene(2))
    found = pooled_embeddings(base.backbone, encoded, np.ones((1, 64, 64), dtype=bool))
    torch.testing.assert_close(found[0], encoded.embeddings[0], atol=1e-5, rtol=0)


def test_coverage_is_the_share_of_each_patch() -> None:
    masks = np.random.default_rng(0).random((3, 12, 18)) > 0.5
    found = coverage(masks, grid=(3, 6)).reshape(3, 3, 6)
    for k in range(3):
        for row in range(3):
            for column in range(6):
                cell = masks[k, 4 * row : 4 * row + 4, 3 * column : 3 * column + 3]
                assert found[k, row, column] == pytest.approx(cell.mean())


# --- the record


def test_predictions_are_the_softmax_of_scaled_cosines(base: Explainer) -> None:
    picture = read_picture(scene(5))
    explanation = base.explain([picture])[0]
    embedding = base.look(base.square(picture)).embeddings[0].double()
    cosines = (base.bank.classes.double() @ embedding).tolist()
    exponentials = [math.exp(base.backbone.logit_scale * c) for c in cosines]
    order = sorted(range(len(cosines)), key=lambda i: -cosines[i])[:5]
    assert [p.class_name for p in explanation.predictions] == [base.vocabulary.classes[i] for i in order]
    for prediction, i in zip(explanation.predictions, order, strict=True):
        assert prediction.probability == pytest.approx(exponentials[i] / sum(exponentials), abs=1e-6)
        assert prediction.cosine == pytest.approx(cosines[i], abs=1e-6)


def test_language_concepts_are_the_nearest_to_the_class(base: Explainer) -> None:
    explanation = base.explain([read_picture(scene(1))], targets=["fox"])[0]
    row = base.bank.classes[base.vocabulary.classes.index("fox")]
    order = (base.bank.descriptors @ row).argsort(descending=True)[: base.language_count].tolist()
    assert [c.text for c in explanation.language_concepts] == [base.vocabulary.descriptors[i] for i in order]


@pytest.mark.parametrize(
    ("index", "name"), [(0, "default"), (1, "default"), (7, "default"), (2, "paper"), (8, "paper")]
)
def test_record_is_consistent(base: Explainer, index: int, name: str) -> None:
    settings = preset(name, grounding="attend")
    explanation = base.with_settings(settings).explain([read_picture(scene(index, "counterfactual"))])[0]
    vision = [c.text for c in explanation.vision_concepts]
    language = [c.text for c in explanation.language_concepts]
    assert [c.rank for c in explanation.vision_concepts] == list(range(1, len(vision) + 1))
    assert len(set(vision)) == len(vision) <= 15
    assert [c.importance for c in explanation.vision_concepts] == sorted((c.importance for c in explanation.vision_concepts), reverse=True)  # noqa: E501  # fmt: skip
    assert explanation.mutual_concepts == tuple(text for text in vision if text in set(language))
    mutual = explanation.mutual
    assert mutual.count == len(explanation.mutual_concepts)
    expected = math.log(len(vision) * len(language) * mutual.count) if mutual.count else 0.0
    assert mutual.mi_paper == pytest.approx(expected)
    assert len(mutual.curve) == len(vision) + 1
    assert mutual.auc == pytest.approx(sum(mutual.curve) / 16)
    for part in explanation.parts:
        mask = rle_decode(part.mask)
        ys, xs = np.nonzero(mask)
        assert part.area == pytest.approx(mask.mean())
        assert part.bbox_xyxy == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    for concept in explanation.vision_concepts:
        carrying = tuple(p.id for p in explanation.parts if concept.text in [d.text for d in p.descriptors])
        assert concept.parts == carrying
    assert explanation.to_json()


def test_why_not_another_class_needs_no_model(base: Explainer) -> None:
    picture = read_picture(scene(12, "counterfactual"))
    predicted = base.explain([picture])[0]
    for alternative in predicted.alternatives:
        explained = base.explain([picture], targets=[alternative.class_name])[0]
        assert explained.language_concepts == alternative.language_concepts
        assert explained.mutual == alternative.mutual
    assert {a.class_name for a in predicted.alternatives} == {p.class_name for p in predicted.predictions[1:]}


def test_same_seed_gives_the_same_record_and_a_batch_gives_the_single_ones(base: Explainer) -> None:
    pictures = [read_picture(scene(i)) for i in range(3)]
    together = [numbers(e) for e in base.explain(pictures)]
    assert together == [numbers(base.explain([p])[0]) for p in pictures]


def test_joint_fit_gives_equal_images_equal_parts_and_depends_on_the_company(base: Explainer) -> None:
    joint = base.with_settings(preset("paper", fit="batch", grounding="attend"))
    one, other = read_picture(scene(0)), read_picture(scene(3))
    twins = joint.explain([one, one])
    assert twins[0].parts == twins[1].parts
    alone, company = joint.explain([one])[0], joint.explain([one, other])[0]
    assert alone.parts != company.parts
    assert alone.parts == base.with_settings(preset("paper", grounding="attend")).explain([one])[0].parts


def test_own_masks_are_the_parts(base: Explainer) -> None:
    drawn = world.scene("test", 4, seed=31)
    masks = np.stack([part.mask_pixels for part in drawn.parts])
    explanation = base.explain([read_picture(drawn.image)], masks=[masks])[0]
    assert [rle_decode(p.mask).tolist() for p in explanation.parts] == masks.tolist()
    assert (rle_decode(explanation.foreground) == masks.any(0)).all()
    with pytest.raises(ImageError, match=r"part masks have shape \(2, 8, 8\); \(parts, 64, 64\)"):
        base.explain([read_picture(drawn.image)], masks=[np.ones((2, 8, 8), dtype=bool)])


def test_progress_hears_every_stage_and_can_cancel(base: Explainer) -> None:
    heard: list[tuple[str, int, int]] = []
    listening = Explainer(base.backbone, base.vocabulary, preset("default", grounding="prompts"), progress=lambda *a: heard.append(a))  # noqa: E501  # fmt: skip
    listening.explain([read_picture(scene(0))])
    assert {stage for stage, _, _ in heard} >= {"image", "parts", "prompts"}
    prompts = [(done, total) for stage, done, total in heard if stage == "prompts"]
    assert prompts[-1][0] == prompts[-1][1] == 3 * len(base.explain([read_picture(scene(0))])[0].parts)

    def cancel(stage: str, _done: int, _total: int) -> None:
        if stage == "prompts":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Explainer(base.backbone, base.vocabulary, preset("default", grounding="prompts"), progress=cancel).explain([read_picture(scene(0))])  # noqa: E501  # fmt: skip


# --- what if


def test_leaving_out_recomputes_without_a_model(base: Explainer) -> None:
    explanation = base.explain([read_picture(scene(0))])[0]
    flags = [c.mutual for c in explanation.vision_concepts]
    first = explanation.vision_concepts[0].text
    assert remaining(explanation, [first]) == leave_out(flags, len(explanation.language_concepts), {0}, length=16)
    assert remaining(explanation, [c.text for c in explanation.vision_concepts]).mi_paper == 0
    with pytest.raises(UsageError, match="'a purple idea' is not a vision concept"):
        remaining(explanation, ["a purple idea"])


def test_what_if_blurs_the_parts_that_carry_the_concept(base: Explainer) -> None:
    picture = read_picture(scene(0))
    explanation = base.explain([picture])[0]
    concept = explanation.vision_concepts[-1]
    region = np.any([rle_decode(p.mask) for p in explanation.parts if p.id in concept.parts], axis=0)
    expected = base.predict(base.look(blur_region(scene(0), region)).embeddings[0])
    found = what_if(base, picture, explanation, [concept.text])
    assert found.predictions == expected
    assert found.predictions != explanation.predictions


# --- degenerate cases: a defined result and a warning, never a crash


def words(count: int, classes: tuple[str, ...] = ("fox", "car")) -> Vocabulary:
    known = load_vocabulary("world")
    return Vocabulary(
        name="few",
        classes=classes,
        templates=known.templates,
        descriptors=known.descriptors[:count],
        descriptor_template=known.descriptor_template,
        by_class={},
    )


IMAGES = {
    "white": np.full((64, 64, 3), 255, dtype=np.uint8),
    "black": np.zeros((64, 64, 3), dtype=np.uint8),
    "one pixel": np.full((1, 1, 3), 77, dtype=np.uint8),
    "a strip": np.random.default_rng(0).integers(0, 255, (10, 1500, 3), dtype=np.uint8),
    "noise": np.random.default_rng(1).integers(0, 255, (97, 33, 3), dtype=np.uint8),
}


@pytest.mark.parametrize("name", ["default", "paper"])
@pytest.mark.parametrize("kind", IMAGES)
def test_odd_pictures_are_explained(base: Explainer, kind: str, name: str) -> None:
    explainer = base.with_settings(preset(name))
    explanation = explainer.explain([read_picture(IMAGES[kind])])[0]
    assert explanation.parts
    assert explanation.vision_concepts
    assert explanation.to_json()


@pytest.mark.parametrize("name", ["default", "paper"])
def test_vocabularies_of_one_class_and_few_descriptors_are_enough(base: Explainer, name: str) -> None:
    for count in (1, 3, 40):
        explainer = Explainer(base.backbone, words(count, ("fox",)), preset(name, grounding="attend"))
        explanation = explainer.explain([read_picture(scene(0))])[0]
        assert len(explanation.language_concepts) <= count
        assert len(explanation.vision_concepts) <= count
        assert explanation.predictions[0].probability == pytest.approx(1.0)
        assert explanation.alternatives == ()


def test_empty_intersection_falls_back_to_the_union_with_a_warning(base: Explainer) -> None:
    strict = base.with_settings(preset("paper", grounding="attend", candidate_count=1))
    found = [strict.explain([read_picture(scene(i))])[0] for i in range(4)]
    assert any("the union of the parts' candidates was used" in w for e in found for w in e.warnings)
    assert all(e.vision_concepts for e in found)


def test_more_parts_than_patches_are_fewer_parts_with_a_warning(base: Explainer) -> None:
    many = base.with_settings(preset("paper", grounding="attend", part_count=70))
    explanation = many.explain([read_picture(scene(0))])[0]
    assert 1 <= len(explanation.parts) < 70
    assert any("parts" in w for w in explanation.warnings)


@pytest.mark.parametrize(
    "changes",
    [
        {"parts": "pca"},
        {"features": "keys"},
        {"resize": "crop"},
        {"language_count": 10_000},
        {"soft_threshold": 0.6},
        {"fit": "batch"},
        {"relevance": "median", "relevance_offset": 0.02},
        {"relevance_offset": 9.0},
        {"importance": "part"},
        {"contrast_weight": 0.0},
        {"part_limit": 1},
        {"second_component": False},
    ],
    ids=str,
)
def test_every_choice_works_in_both_presets(base: Explainer, changes: dict[str, Any]) -> None:
    for name in ("default", "paper"):
        settings: Settings = preset(name, **{"grounding": "attend", **changes})
        explanation = base.with_settings(settings).explain([read_picture(scene(2))])[0]
        assert explanation.parts
        assert explanation.vision_concepts


# --- the Python interface


def test_one_call_explains_paths_arrays_tensors_pictures_and_lists(tmp_path: Path, base: Explainer) -> None:
    image = Image.fromarray(scene(0))
    image.save(tmp_path / "scene.png")
    tensor = torch.from_numpy(scene(0)).permute(2, 0, 1).float() / 255
    sources: list[Any] = [tmp_path / "scene.png", str(tmp_path / "scene.png"), image, scene(0), tensor]
    results = clipmk.explain(sources, base.backbone)
    single = clipmk.explain(sources[0], "embedded/vit-s8")
    assert isinstance(single, clipmk.Explanation)
    plain = [{**numbers(r), "image": None} for r in [single, *results]]
    assert all(one == plain[0] for one in plain)
    assert single.image.path == str(tmp_path / "scene.png")
    assert "svg" in single._repr_html_() or "img" in single._repr_html_()


def test_target_and_options_errors_repeat_the_input(base: Explainer) -> None:
    with pytest.raises(UsageError, match="class 'foxx' is not in world; close: 'fox'"):
        clipmk.explain(scene(0), base.backbone, target="foxx")
    with pytest.raises(UsageError, match="part masks are given for 2 images, but there are 1 images"):
        clipmk.explain(scene(0), base.backbone, parts=[None, None])

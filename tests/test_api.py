"""One call from an image to an explanation, for models of every family."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import clipmk
import embedded
from backbone_zoo import model_config, save
from clipmk.api import default_vocabulary
from clipmk.backbones.backbone import Backbone
from clipmk.errors import ClipmkError, ImageError, ModelError, UsageError
from clipmk.images.masks import rle_decode
from clipmk.vocabulary.vocabulary import Vocabulary

PETS = Vocabulary(
    name="pets",
    classes=("cat", "dog", "an ant"),
    templates=("a photo of a {}.", "{}"),
    descriptors=("round eyes", "a tail", "the ears", "whiskers", "four legs", "an antenna", "fur", "a nose"),
)
FAMILIES = {
    "vit": "vit",
    "resnet": "resnet",
    "convnext": "convnext",
    "siglip": "timm",  # named after its trunk, a small stand-in
    "eva": "eva",
    "timm-vit": "timm",
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.getbasetemp() / "api-cache"
    monkeypatch.setenv("CLIPMK_CACHE_DIR", str(folder))


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Backbone]:
    loaded: dict[str, Backbone] = {}

    def get(kind: str) -> Backbone:
        if kind not in loaded:
            folder = tmp_path_factory.mktemp("zoo") / kind
            save(folder, model_config(kind))
            loaded[kind] = clipmk.load(f"local-dir:{folder}", device="cpu")
        return loaded[kind]

    return get


def test_every_kind_of_source_gives_the_same_explanation(tmp_path: Path) -> None:
    pixels = embedded.scenes()[0].image
    path = tmp_path / "scene.png"
    Image.fromarray(pixels).save(path)
    expected = embedded.timeless(embedded.explainer().explain([embedded.picture()])[0])
    tensor = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    for source in (pixels, Image.fromarray(pixels), str(path), path, path.read_bytes(), tensor):
        found = embedded.timeless(clipmk.explain(source, embedded.backbone()))
        for key in ("explanation", "predictions", "model"):
            assert found[key] == expected[key]


def test_preset_seed_and_settings_are_passed_on() -> None:
    found = clipmk.explain(
        embedded.scenes()[1].image,
        embedded.backbone(),
        preset="paper",
        seed=3,
        settings={"part_count": 2, "grounding": "attend"},
    )
    expected = embedded.explainer("paper", seed=3, part_count=2, grounding="attend").explain([embedded.picture(1)])[0]
    assert embedded.timeless(found) == embedded.timeless(expected)
    assert len(found.parts) == 2


def test_a_target_is_explained_instead_of_the_prediction() -> None:
    found = clipmk.explain(embedded.scenes()[0].image, embedded.backbone(), target="bird")
    assert found.class_name == "bird" != found.predictions[0].class_name


def test_a_list_gives_a_list_in_its_order() -> None:
    images: list[Any] = [scene.image for scene in embedded.scenes()[:3]]
    found = clipmk.explain(images, embedded.backbone())
    assert [one.class_name for one in found] == [scene.class_name for scene in embedded.scenes()[:3]]
    assert isinstance(clipmk.explain(images[:1], embedded.backbone()), list)
    assert clipmk.explain([], embedded.backbone()) == []


def test_own_parts_belong_to_their_image() -> None:
    one, other = embedded.scenes()[:2]
    masks = [np.stack([part.mask_pixels for part in scene.parts]) for scene in (one, other)]
    single = clipmk.explain(one.image, embedded.backbone(), parts=masks[0])
    pair = clipmk.explain([one.image, other.image], embedded.backbone(), parts=[None, masks[1]])
    for found, expected in ((single, masks[0]), (pair[1], masks[1])):
        np.testing.assert_array_equal([rle_decode(part.mask) for part in found.parts], expected)
    assert pair[0].parts == clipmk.explain(one.image, embedded.backbone()).parts


def test_a_wrong_number_of_part_masks_is_refused() -> None:
    images: list[Any] = [scene.image for scene in embedded.scenes()[:2]]
    with pytest.raises(UsageError, match="part masks are given for 1 images, but there are 2 images"):
        clipmk.explain(images, embedded.backbone(), parts=np.ones((1, 64, 64), dtype=bool))
    with pytest.raises(ImageError, match=r"\(parts, 64, 64\)"):
        clipmk.explain(images[0], embedded.backbone(), parts=np.ones((1, 64, 32), dtype=bool))


def test_unknown_names_are_refused_with_close_ones() -> None:
    image = embedded.scenes()[0].image
    with pytest.raises(UsageError, match="preset 'papper' does not exist; close: 'paper'"):
        clipmk.explain(image, embedded.backbone(), preset="papper")
    with pytest.raises(UsageError, match="setting 'seeds' does not exist; close: 'seed'"):
        clipmk.explain(image, embedded.backbone(), settings={"seeds": 3})
    with pytest.raises(UsageError, match="brid"):
        clipmk.explain(image, embedded.backbone(), target="brid")


def test_only_embedded_models_bring_a_vocabulary() -> None:
    assert default_vocabulary("embedded/rn-parts") == "world"
    with pytest.raises(UsageError, match=r"model 'ViT-B-32/openai' brings no vocabulary; .*--vocab"):
        default_vocabulary("ViT-B-32/openai")


def test_a_vocabulary_comes_as_an_object_a_name_or_a_file(tmp_path: Path) -> None:
    image = embedded.scenes()[0].image
    path = tmp_path / "pets.json"
    path.write_text(json.dumps({"cat": ["fur", "whiskers"], "dog": ["fur", "a tail"]}), encoding="utf-8")
    named = clipmk.explain(image, embedded.backbone(), vocabulary="world")
    plain = clipmk.explain(image, embedded.backbone())
    assert embedded.timeless(named) == embedded.timeless(plain)
    filed = clipmk.explain(image, embedded.backbone(), vocabulary=str(path))
    assert {p.class_name for p in filed.predictions} == {"cat", "dog"}
    assert {c.text for c in filed.vision_concepts} <= {"fur", "whiskers", "a tail"}
    assert filed.mutual.chance.count == pytest.approx(len(filed.vision_concepts) * len(filed.language_concepts) / 3)
    given = clipmk.explain(image, embedded.backbone(), vocabulary=PETS)
    assert {p.class_name for p in given.predictions} == set(PETS.classes)


@pytest.mark.parametrize("name", embedded.PRESETS)
@pytest.mark.parametrize("kind", FAMILIES)
def test_every_family_is_explained_the_same_way(zoo: Callable[[str], Backbone], kind: str, name: str) -> None:
    backbone = zoo(kind)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    found = clipmk.explain(pixels, backbone, vocabulary=PETS, preset=name, settings={"part_count": 2, "part_limit": 3})
    assert found.model.family == FAMILIES[kind]
    assert embedded.timeless(found)["explanation"]["preset"] == name
    found.to_json()
    assert 1 <= len(found.parts) <= 3
    assert {c.text for c in found.vision_concepts} <= set(PETS.descriptors)
    bias = backbone.logit_bias
    cosines = np.array([p.cosine for p in found.predictions])
    expected = np.exp(backbone.logit_scale * cosines)
    np.testing.assert_allclose([p.probability for p in found.predictions], expected / expected.sum(), rtol=1e-4)
    if bias is None:
        assert [p.independent for p in found.predictions] == [None] * 3
    else:
        sigmoid = 1 / (1 + np.exp(-(backbone.logit_scale * cosines + bias)))
        np.testing.assert_allclose([p.independent for p in found.predictions], sigmoid, rtol=1e-4)
        assert kind == "siglip"


@pytest.mark.parametrize("kind", FAMILIES)
def test_keys_are_for_transformers_only(zoo: Callable[[str], Backbone], kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    ask = {"vocabulary": PETS, "settings": {"features": "keys", "part_limit": 2}}
    if kind in ("resnet", "convnext"):
        with pytest.raises(ModelError, match=r"has no attention keys; use features='tokens'"):
            clipmk.explain(pixels, zoo(kind), **ask)
    else:
        assert clipmk.explain(pixels, zoo(kind), **ask).provenance.settings["features"] == "keys"


def test_texts_are_embedded_once_and_read_from_the_cache_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, image = embedded.backbone(), embedded.scenes()[2].image
    first = clipmk.explain(image, backbone, vocabulary=PETS)
    monkeypatch.setitem(vars(backbone), "encode_texts", lambda *_, **__: pytest.fail("texts were embedded again"))
    assert embedded.timeless(clipmk.explain(image, backbone, vocabulary=PETS)) == embedded.timeless(first)


def test_presets_and_seeds_may_stand_among_the_settings() -> None:
    image = embedded.scenes()[1].image
    found = clipmk.explain(image, embedded.backbone(), settings={"preset": "paper", "seed": 3, "grounding": "attend"})
    expected = clipmk.explain(image, embedded.backbone(), preset="paper", seed=3, settings={"grounding": "attend"})
    assert embedded.timeless(found) == embedded.timeless(expected)
    assert (found.provenance.settings["preset"], found.provenance.settings["parts"]) == ("paper", "kmeans")


def test_paths_name_models_and_vocabularies_and_a_dict_is_a_vocabulary(tmp_path: Path) -> None:
    save(tmp_path / "model", model_config("vit"))
    content = {"cat": ["fur", "whiskers"], "dog": ["fur", "a tail"]}
    path = tmp_path / "pets.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    named = clipmk.explain(pixels, str(tmp_path / "model"), vocabulary=str(path))
    for vocabulary in (path, content, clipmk.load_vocabulary(path)):
        found = clipmk.explain(pixels, tmp_path / "model", vocabulary=vocabulary)
        assert found.predictions == named.predictions
    assert clipmk.load(tmp_path / "model").info == named.model


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": 3}, "model is 3; it must be a name, a path or a CLIP model in memory"),
        ({"model": None}, "model is None; it must be"),
        ({"vocabulary": 3}, "vocabulary is 3; it must be a name or a path"),
        ({"vocabulary": ["cat"]}, r"vocabulary is \['cat'\]; it must be a name or a path"),
        ({"vocabulary": {"cat": 3j}}, "it must map classes to lists of descriptors"),
        ({"vocabulary": {"cat": "fur"}}, "cat"),
        ({"target": 3}, "target is 3; it must be the name of a class"),
        ({"parts": "left"}, r"parts is 'left'; it must be a bool array \(parts, height, width\)"),
        ({"parts": 3}, "parts is 3; it must be a bool array"),
        ({"parts": [[True]]}, r"parts is \[\[True\]\]; it must be"),
        ({"parts": np.array([["a"]])}, "it must be a bool array"),
        ({"preset": 3}, "preset 3 does not exist; known: default, paper"),
        ({"seed": "3"}, "seed is '3'; it must be a whole number"),
        ({"seed": np.zeros(3)}, "seed is array.*; it must be a whole number"),
        ({"preset": np.zeros(3)}, "preset array.* does not exist"),
        ({"settings": np.zeros(3)}, "settings is array.*; it must map"),
        ({"settings": "paper"}, "settings is 'paper'; it must map"),
        ({"settings": {"language_count": "5"}}, "language_count is '5'; it must be a whole number"),
    ],
)
def test_arguments_of_the_wrong_type_are_named(arguments: dict[str, Any], message: str) -> None:
    chosen: dict[str, Any] = {"image": embedded.scenes()[0].image, "model": embedded.backbone()} | arguments
    with pytest.raises(ClipmkError, match=message):
        clipmk.explain(**chosen)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": 3}, "images is 3; it must be a list or another iterable of images"),
        ({"images": "a.png"}, "images is 'a.png'; it must be a list"),
        ({"batch_size": "4"}, "batch_size is '4'; it must be a whole number from 1 to 1,000,000"),
        ({"batch_size": 10**30}, "it must be a whole number from 1 to"),
        ({"settings": []}, r"settings is \[\]; it must map"),
        ({"batch_size": 0}, "batch_size is 0; it must be"),
        ({"target": 3}, "target is 3"),
    ],
)
def test_a_stream_refuses_arguments_of_the_wrong_type_at_once(arguments: dict[str, Any], message: str) -> None:
    chosen: dict[str, Any] = {"images": [], "model": embedded.backbone()} | arguments
    with pytest.raises(UsageError, match=message):
        clipmk.explain_stream(**chosen)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": b"embedded/vit-s8"}, "it must be a name, a path or a CLIP model in memory"),
        ({"device": 3}, "device '3' is not available"),
        ({"precision": torch.float16}, "precision 'torch.float16' does not exist; choose one of: fp32"),
        ({"arch": 3}, "arch is 3; it must be the name of an architecture"),
        ({"tokenizer": 3}, "tokenizer is 3; it must be a function"),
        ({"tokenizer": list}, r"tokenizer gives \['a photo of a probe'\]; it must give an int64 tensor"),
    ],
)
def test_loading_refuses_arguments_of_the_wrong_type(arguments: dict[str, Any], message: str) -> None:
    chosen: dict[str, Any] = {"model": "embedded/vit-s8", "device": "cpu"} | arguments
    with pytest.raises(ClipmkError, match=message):
        clipmk.load(**chosen)
    assert clipmk.load("embedded/vit-s8", device=torch.device("cpu")).device.type == "cpu"  # type: ignore[arg-type]

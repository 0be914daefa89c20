"""Models made for `transformers`, and OpenAI's own: converted by name, they embed as the original does."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from backbone_zoo import NATIVE_TEXT, assert_same, make, model_config, scramble, unit
from clipmk.errors import ModelError, UsageError
from clipmk.models import foreign
from clipmk.models.catalog import list_models
from clipmk.models.loading import describe, load
from clipmk.models.registry import register
from clipmk.models.spec import resolve
from foreign_folders import CONTEXT, SIDE, TEXT, VISION, convertible

torch.set_num_threads(1)
pytestmark = pytest.mark.usefixtures("no_network", "no_config")


def original(kind: str, vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None) -> Any:
    """A model of `transformers` with random weights."""
    transformers = pytest.importorskip("transformers")
    configuration, model = {
        "clip": (transformers.CLIPConfig, transformers.CLIPModel),
        "siglip": (transformers.SiglipConfig, transformers.SiglipModel),
    }[kind]
    projection = {"projection_dim": 20} if kind == "clip" else {}
    config = configuration(vision_config=VISION | (vision or {}), text_config=TEXT | (text or {}), **projection)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return scramble(model(config))


def tokens(texts: list[str]) -> Tensor:
    """Token numbers that end with the highest one, as those of CLIP do."""
    draw = torch.Generator().manual_seed(len(texts))
    numbers = torch.randint(1, 40_000, (len(texts), CONTEXT), generator=draw)
    numbers[:, -1] = 49407
    return numbers


def assert_as_the_original(backbone: Any, plain: Any, numbers: Any = tokens) -> None:
    pixels = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        images, texts = plain.get_image_features(pixels), plain.get_text_features(numbers(["a", "b"]))
    for ours, theirs in ((backbone.encode_images(pixels), images), (backbone.encode_texts(["a", "b"]), texts)):
        expected = getattr(theirs, "pooler_output", theirs)
        torch.testing.assert_close(ours, unit(expected), atol=1e-5, rtol=0)
    assert backbone.logit_scale == pytest.approx(float(plain.logit_scale.detach().exp()))
    encoded = backbone.encode_with_patches(pixels)
    pooled = backbone.pool_regions(encoded, torch.ones(2, 1, encoded.patches.shape[1]))
    torch.testing.assert_close(pooled[:, 0], encoded.embeddings, atol=1e-4, rtol=0)


VARIANTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "clip": ("clip", {}, {}),
    "clip with gelu": ("clip", {"hidden_act": "gelu"}, {"hidden_act": "gelu"}),
    "clip with tanh": ("clip", {"hidden_act": "gelu_pytorch_tanh"}, {"hidden_act": "gelu_pytorch_tanh"}),
    "clip with other norms": ("clip", {"layer_norm_eps": 1e-3}, {"layer_norm_eps": 1e-2}),
    "clip with an odd MLP": ("clip", {"hidden_size": 36, "intermediate_size": 135}, {}),
    "siglip": ("siglip", {}, {}),
    "siglip with gelu": ("siglip", {"hidden_act": "gelu"}, {"hidden_act": "gelu"}),
    "siglip with an odd MLP": ("siglip", {"intermediate_size": 89}, {"intermediate_size": 67}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_folder_of_transformers_embeds_as_the_original(tmp_path: Path, variant: str) -> None:
    plain = original(*VARIANTS[variant])
    plain.save_pretrained(tmp_path)
    assert_as_the_original(load(tmp_path, device="cpu", tokenizer=tokens), plain)


@pytest.mark.parametrize("kind", foreign.KINDS)
def test_a_model_of_transformers_in_memory_embeds_as_the_original_and_stays_as_it_is(kind: str) -> None:
    plain = original(kind)
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    assert_as_the_original(load(plain, device="cpu", tokenizer=tokens), plain)
    assert all(torch.equal(value, before[name]) for name, value in plain.state_dict().items())


def test_shards_load_as_one_file_does(tmp_path: Path) -> None:
    plain = original("clip")
    plain.save_pretrained(tmp_path, max_shard_size="1MB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    backbone = load(tmp_path, device="cpu", tokenizer=tokens)
    assert_as_the_original(backbone, plain)
    entry = resolve(str(tmp_path)).entry
    assert entry.weights == str(tmp_path / "model.safetensors.index.json")
    assert entry.parameters == sum(value.numel() for value in plain.parameters())
    info, size = describe(str(tmp_path))
    assert info.weights_sha256 == backbone.info.weights_sha256
    assert size == sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    sorted(tmp_path.glob("*.safetensors"))[-1].unlink()
    with pytest.raises(ModelError, match=r"model-0000\d-of-0000\d\.safetensors' does not exist"):
        load(tmp_path, device="cpu", tokenizer=tokens)


def test_an_end_of_text_that_is_not_the_last_token_is_found(tmp_path: Path) -> None:
    plain = original("clip", text={"eos_token_id": 7})
    plain.save_pretrained(tmp_path)

    def ends_early(texts: list[str]) -> Tensor:
        numbers = tokens(texts)
        for row in range(len(texts)):
            numbers[row, 3 + 2 * row] = 7
        return numbers

    assert_as_the_original(load(tmp_path, device="cpu", tokenizer=ends_early), plain, ends_early)


def test_a_file_finds_its_configuration_beside_it_or_takes_an_architecture(tmp_path: Path) -> None:
    plain = convertible(tmp_path / "m")
    backbone = load(tmp_path / "m" / "model.safetensors", device="cpu")
    assert_same(backbone, plain)
    assert backbone.info.id == str(tmp_path / "m" / "model.safetensors")
    (tmp_path / "m" / "config.json").write_text('{"architecture": "vit_base"}', encoding="utf-8")  # timm's, for example
    with pytest.raises(UsageError, match="needs its architecture"):
        load(tmp_path / "m" / "model.safetensors", device="cpu")
    with pytest.raises(ModelError, match="do not fit 'ViT-B-32': text pos_embed width changed"):
        load(tmp_path / "m" / "model.safetensors", device="cpu", arch="ViT-B-32")


def test_the_same_weights_are_found_in_every_form_that_transformers_writes(tmp_path: Path) -> None:
    plain = convertible(tmp_path)
    state = load_file(tmp_path / "model.safetensors") | {"text_model.embeddings.position_ids": torch.arange(16)[None]}
    (tmp_path / "model.safetensors").unlink()
    torch.save({name: value.half() for name, value in state.items()}, tmp_path / "pytorch_model.bin")
    torch.save({}, tmp_path / "optimizer.pt")
    assert_same(load(tmp_path, device="cpu"), plain.half().float())


def test_a_registered_folder_is_listed_with_its_file(tmp_path: Path) -> None:
    convertible(tmp_path / "m")
    register("mine", str(tmp_path / "m"))
    register("its-file", str(tmp_path / "m" / "model.safetensors"))
    entries = {entry.id: entry for entry in list_models(("local",))}
    assert {entry.weights for entry in entries.values()} == {str(tmp_path / "m" / "model.safetensors")}
    assert load("its-file", device="cpu").info.id == "its-file"


PROCESSORS: dict[str, tuple[dict[str, Any], tuple[Any, ...]]] = {
    "nothing": ({}, (None, "bicubic")),
    "usual": (
        {"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1], "resample": 2, "size": {"shortest_edge": 32}},
        ((0.1, 0.2, 0.3), "bilinear"),
    ),
    "square": ({"size": {"height": 32, "width": 32}}, (None, "bicubic")),
    "old": ({"size": 32, "do_normalize": False}, ((0, 0, 0), "bicubic")),
    "nested": ({"image_processor": {"image_mean": 0.5, "resample": 3}}, ((0.5, 0.5, 0.5), "bicubic")),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_preprocessing_is_read_from_the_image_processor(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    convertible(tmp_path)
    assert load(tmp_path, device="cpu").preprocessing.mean == pytest.approx((0.481, 0.458, 0.408), abs=1e-3)
    assert "has no preprocessor_config.json; the usual one is used" in caplog.text
    caplog.clear()
    processor, (mean, interpolation) = PROCESSORS[name]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    backbone = load(tmp_path, device="cpu")
    assert backbone.preprocessing.mean == pytest.approx(mean or (0.481, 0.458, 0.408), abs=1e-3)
    assert backbone.preprocessing.interpolation == interpolation
    assert caplog.text == ""


def test_an_unknown_resampling_is_refused(tmp_path: Path) -> None:
    convertible(tmp_path)
    for odd in (0, [], {"a": 1}):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps({"resample": odd or 5}), encoding="utf-8")
        with pytest.raises(ModelError, match=r"has interpolation .*it must be one of: bicubic, bilinear, random"):
            load(tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "chinese_clip"}, "with model_type 'chinese_clip'; .* only clip and siglip can be explained"),
        ({"model_type": None}, "with model_type None"),
        ({"model_type": ["clip"]}, "with model_type"),
        ({"vision_config": VISION | {"hidden_act": "gelu"}}, "'gelu' and 'quick_gelu' do not go together"),
        ({"vision_config": VISION | {"hidden_act": "mish"}}, "is not that of a clip model: 'mish'"),
        ({"vision_config": VISION | {"hidden_size": "24"}}, "is not that of a clip model"),
        ({"vision_config": VISION | {"num_attention_heads": 0}}, "is not that of a clip model"),
        ({"vision_config": [1]}, "is not that of a clip model"),
        ({"text_config": TEXT | {"hidden_size": 0}}, "is not that of a clip model"),
        ({"vision_config": VISION | {"num_hidden_layers": 2**31}}, "has 'layers' 2147483648, which is out of range"),
        (
            {"vision_config": VISION | {"num_hidden_layers": 3}},
            r"do not fit .*missing visual\.transformer\.resblocks\.2",
        ),
        ({"projection_dim": 25}, r"do not fit .*other sizes in text_projection, visual\.proj"),
        ({"model_type": "siglip", "vision_config": VISION | {"layer_norm_eps": 1e-5}}, "is not that of a siglip model"),
        ({"model_type": "siglip", "vision_config": VISION | {"vision_use_head": False}}, "not that of a siglip model"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    convertible(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(config | change), encoding="utf-8")
    with pytest.raises(ModelError, match=message):
        load(tmp_path, device="cpu", tokenizer=tokens)


def openai(kind: str) -> Any:
    """A model like those of OpenAI's `clip.load`: open_clip's tensors, and a `visual` of another class."""
    config = model_config(kind, text=NATIVE_TEXT | {"width": 64, "heads": 1}) | {"quick_gelu": True}
    vision = {"head_width": 64, "width": 64} if kind == "vit" else {"head_width": 64, "width": 16}
    config["vision_cfg"] = config["vision_cfg"] | vision
    plain: Any = make(config)
    copy = nn.Module()
    for name, child in plain.named_children():
        copy.add_module(name, child)
    for name, parameter in plain.named_parameters(recurse=False):
        copy.register_parameter(name, parameter)
    copy.encode_image, copy.encode_text = plain.encode_image, plain.encode_text
    del plain.visual.image_size
    plain.visual.input_resolution = config["vision_cfg"]["image_size"]
    return copy


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_a_model_of_openai_in_memory_embeds_as_the_original(kind: str) -> None:
    plain = openai(kind)
    backbone = load(plain, device="cpu")
    assert_same(backbone, plain)
    words = ["a cat", "a dog with a hat"]
    with torch.no_grad():
        expected = unit(plain.encode_text(backbone._texts._tokenizer(words)))
    torch.testing.assert_close(backbone.encode_texts(words), expected, atol=1e-5, rtol=0)
    assert backbone.info.family == kind


def test_a_model_that_only_looks_like_one_of_transformers_is_refused() -> None:
    other = nn.Module()
    other.config = SimpleNamespace(model_type="blip", to_dict=lambda: {"model_type": "blip"})
    other.vision_model = nn.Module()
    other.vision_model.embeddings = nn.Module()
    other.vision_model.embeddings.patch_embedding = nn.Conv2d(3, 4, 2)
    with pytest.raises(ModelError, match="with model_type 'blip'"):
        load(other, device="cpu")

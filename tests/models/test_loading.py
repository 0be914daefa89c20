"""Loading: folders, repositories and models in memory; what is refused, on which device, and how quietly."""

from __future__ import annotations

import hashlib
import json
import logging
import socket
import warnings
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from backbone_zoo import CONTEXT, NATIVE_TEXT, VOCABULARY, assert_same, make, model_config, pixels_for, save, save_bpe
from clipmk.backbones.devices import choose_device
from clipmk.errors import DeviceError, ModelError
from clipmk.models.loading import build, load
from clipmk.models.spec import pair_spec
from clipmk.system.quiet import quiet

torch.set_num_threads(1)
pytestmark = pytest.mark.usefixtures("no_network", "no_config")


@pytest.fixture
def hub_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_folder_brings_its_preprocessing_weights_and_hash(tmp_path: Path) -> None:
    own = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "interpolation": "bilinear", "resize_mode": "squash"}
    plain = save(tmp_path / "m", model_config("vit"), preprocess=own)
    backbone = load(f"local-dir:{tmp_path / 'm'}", device="cpu")
    assert (backbone.preprocessing.mean, backbone.preprocessing.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert backbone.preprocessing.interpolation == "bilinear"
    content = (tmp_path / "m" / "open_clip_model.safetensors").read_bytes()
    assert backbone.info.weights_sha256 == hashlib.sha256(content).hexdigest()
    assert (backbone.info.family, backbone.info.input_size, backbone.info.architecture) == ("vit", 32, "m")
    assert backbone.logit_scale == pytest.approx(1 / 0.07)
    assert backbone.logit_bias is None
    assert_same(backbone, plain)


def test_folder_without_preprocessing_gets_the_defaults_of_open_clip(tmp_path: Path) -> None:
    save(tmp_path, model_config("vit"))
    backbone = load(str(tmp_path), device="cpu")
    assert backbone.preprocessing.mean == open_clip.OPENAI_DATASET_MEAN
    assert backbone.preprocessing.std == open_clip.OPENAI_DATASET_STD
    assert backbone.preprocessing.interpolation == "bicubic"


def test_weights_saved_in_half_precision_load_in_full(tmp_path: Path) -> None:
    plain = save(tmp_path, model_config("vit"))
    path = tmp_path / "open_clip_model.safetensors"
    save_file({name: value.half() for name, value in load_file(path).items()}, path)
    backbone = load(f"local-dir:{tmp_path}", device="cpu")
    assert backbone.dtype == torch.float32
    plain.load_state_dict({name: value.half().float() for name, value in plain.state_dict().items()})
    assert_same(backbone, plain)


def test_sigmoid_models_keep_their_bias(tmp_path: Path) -> None:
    save(tmp_path, model_config("siglip"))
    assert load(f"local-dir:{tmp_path}", device="cpu").logit_bias == -10.0


def test_own_merges_are_used_and_may_be_named_in_the_configuration(tmp_path: Path) -> None:
    save(tmp_path, model_config("vit"), bpe=False, clipmk={"bpe": "merges.gz"})
    with pytest.raises(ModelError, match=r"merges\.gz', which does not exist"):
        load(f"local-dir:{tmp_path}", device="cpu")
    save_bpe(tmp_path, "merges.gz")
    backbone = load(f"local-dir:{tmp_path}", device="cpu")
    words = open_clip.SimpleTokenizer(bpe_path=str(tmp_path / "merges.gz"), context_length=CONTEXT)
    assert words.vocab_size == VOCABULARY
    assert backbone._texts._tokenizer(["the cat"]).tolist() == words(["the cat"]).tolist()


def test_a_tokenizer_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    save(tmp_path, model_config("vit"), bpe=False)
    with pytest.raises(ModelError, match=f"has {VOCABULARY} text tokens but its tokenizer makes 49408"):
        load(f"local-dir:{tmp_path}", device="cpu")


def test_malformed_folders_are_reported(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        load(f"local-dir:{tmp_path / 'none'}", device="cpu")
    with pytest.raises(ModelError, match=r"needs the file .*open_clip_config\.json"):
        load(f"local-dir:{tmp_path}", device="cpu")
    (tmp_path / "open_clip_config.json").write_text("{")
    with pytest.raises(ModelError, match="is not JSON"):
        load(f"local-dir:{tmp_path}", device="cpu")
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(ModelError, match="has no 'model_cfg'"):
        load(f"local-dir:{tmp_path}", device="cpu")
    save(tmp_path, model_config("vit"))
    (tmp_path / "open_clip_model.safetensors").unlink()
    with pytest.raises(ModelError, match="has no weights"):
        load(f"local-dir:{tmp_path}", device="cpu")
    config = model_config("vit")
    config["vision_cfg"]["wings"] = 2
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    save_file({"x": torch.zeros(1)}, tmp_path / "open_clip_model.safetensors")
    with pytest.raises(ModelError, match=r"cannot be built: .*wings"):
        load(f"local-dir:{tmp_path}", device="cpu")


def test_images_that_are_not_square_are_refused(tmp_path: Path) -> None:
    config = model_config("vit")
    config["vision_cfg"]["image_size"] = [32, 64]
    save(tmp_path, config)
    with pytest.raises(ModelError, match="32x64 px; only square"):
        load(f"local-dir:{tmp_path}", device="cpu")


def test_registered_names_load_under_their_own_name(tmp_path: Path, no_config: Path) -> None:
    plain = save(tmp_path / "m", model_config("vit"))
    no_config.write_text(f'[models]\nmine = "local-dir:{tmp_path / "m"}"\n')
    backbone = load("mine", device="cpu")
    assert backbone.info.id == "mine"
    assert_same(backbone, plain)


def cache(folder: Path, repository: str, files: Path) -> None:
    """Put files into a hub cache as the hub's client would."""
    home = folder / f"models--{repository.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("c0ffee")
    (home / "snapshots").mkdir()
    files.rename(home / "snapshots" / "c0ffee")


def test_a_cached_repository_loads_without_a_request(tmp_path: Path, hub_cache: Path) -> None:
    plain = save(tmp_path / "m", model_config("vit"))
    cache(hub_cache, "org/tiny", tmp_path / "m")
    backbone = load("hf-hub:org/tiny", device="cpu")
    assert (backbone.info.id, backbone.info.architecture) == ("hf-hub:org/tiny", "tiny")
    assert_same(backbone, plain)


def test_missing_models_say_how_to_get_them_without_a_request(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **_: asked.append(arguments))
    for model_id in ("ViT-B-32-quickgelu:openai", "hf-hub:org/none"):
        with pytest.raises(ModelError, match=f"{model_id}' is not on this machine; `clipmk models pull {model_id}`"):
            load(model_id, device="cpu")
    assert asked == []


@pytest.mark.parametrize(
    "several",
    [
        "embedded/vit-s8,embedded/rn-s",
        "ViT-B/32:openai, RN50:openai",
        "ViT-B-32:random,hf-hub:org/name,mine",
        "RN50:openai,weights.pt",
        "embedded/vit-s8,embedded/no",
    ],
)
def test_several_models_in_one_name_must_be_named_one_by_one(
    several: str, tmp_path: Path, no_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_config.write_text('[models]\nmine = "embedded/vit-s8"\n', encoding="utf-8")
    (tmp_path / "weights.pt").touch()
    monkeypatch.chdir(tmp_path)
    each = " ".join(f"-m {name.strip()}" for name in several.split(","))
    with pytest.raises(ModelError, match=f"^model '{several}' does not exist; name each with -m: {each}$"):
        load(several, device="cpu")


def test_a_single_name_or_a_file_with_a_comma_is_reported_as_usual(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^model 'embedded/vit-s8,' does not exist; close: "):
        load("embedded/vit-s8,", device="cpu")
    (tmp_path / "a,b").mkdir()
    with pytest.raises(ModelError, match=r"needs the file '.*a,b/open_clip_config.json', which does not exist"):
        load(tmp_path / "a,b", device="cpu")


def test_what_looks_like_a_repository_is_answered_with_how_to_write_one() -> None:
    with pytest.raises(ModelError, match=r"^model 'nosuch/x' does not exist; .*write hf-hub:nosuch/x$"):
        load("nosuch/x", device="cpu")
    with pytest.raises(ModelError, match=r"close: 'ViT-B-32'.*; for a repository on the hub write hf-hub:ViT-B/33$"):
        load("ViT-B/33", device="cpu")
    for no_repository in ("embedded/vit-s9", "nosuch", "a/b/c", "nosuch/x:openai"):
        with pytest.raises(ModelError, match=r"^(?!.*repository)"):
            load(no_repository, device="cpu")


def test_downloading_without_a_network_says_so(hub_cache: Path) -> None:
    for model_id in ("ViT-B-32:openai", "hf-hub:org/none"):
        with pytest.raises(ModelError, match=r"cannot reach huggingface\.co; is it offline"):
            load(model_id, device="cpu", download=True)


def test_malformed_hub_names_are_refused() -> None:
    for name in ("hf-hub:", "hf-hub:x", "hf-hub:../../etc", "hf-hub:a/b/c"):
        with pytest.raises(ModelError, match="is not a repository on the hub; write hf-hub:ORGANISATION/NAME"):
            load(name, device="cpu")


def test_architectures_that_need_transformers_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipmk.backbones.library.has_transformers", lambda: False)
    with pytest.raises(ModelError, match="needs the package 'transformers'"):
        load("roberta-ViT-B-32:random", device="cpu")


@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-B-16", "ViT-L-14", "RN50"])
def test_openai_weights_get_the_activation_they_were_trained_with(name: str) -> None:
    spec = pair_spec(name, "openai")
    model = build(spec, device="meta")
    activations = {type(module).__name__ for module in model.modules() if "GELU" in type(module).__name__}
    assert activations == {"QuickGELU"}
    assert not model.training


def test_weights_of_later_pairs_keep_the_ordinary_activation() -> None:
    model = build(pair_spec("ViT-B-32", "laion2b_s34b_b79k"), device="meta")
    assert not any(type(module).__name__ == "QuickGELU" for module in model.modules())


def test_activation_follows_the_catalogue_for_every_pair() -> None:
    pairs = open_clip.list_pretrained()
    quick = [pair for pair in pairs if open_clip.get_pretrained_cfg(*pair).get("quick_gelu")]
    for name, tag in quick:
        config = open_clip.get_model_config(name)
        assert config is not None
        assert pair_spec(name, tag).quick_gelu or config.get("quick_gelu")
    assert {(name, "openai") for name in ("ViT-B-32", "ViT-L-14", "RN50x64")} <= set(quick)


def test_a_model_in_memory_is_used_as_it_is() -> None:
    plain: Any = make(model_config("vit", text=NATIVE_TEXT), seed=3)
    plain.train()
    backbone = load(plain, device="cpu")
    assert_same(backbone, plain)
    assert not plain.training
    assert (backbone.info.id, backbone.info.family, backbone.embed_dim) == ("custom", "vit", 24)
    assert backbone.encode_texts(["a cat"]).shape == (1, 24)
    assert load(make(model_config("resnet", text=NATIVE_TEXT)), device="cpu").info.family == "resnet"
    assert load(make(model_config("convnext", text=NATIVE_TEXT)), device="cpu").info.family == "convnext"


@pytest.mark.parametrize("custom", [False, True])
def test_a_model_that_also_returns_its_tokens_is_explained_by_its_embeddings(tmp_path: Path, custom: bool) -> None:
    config = model_config("vit", text=NATIVE_TEXT | {"output_tokens": custom}) | {"custom_text": custom}
    config["vision_cfg"]["output_tokens"] = True
    talkative: Any = make(config, seed=3)
    plain: Any = make(model_config("vit", text=NATIVE_TEXT) | {"custom_text": custom}, seed=3)
    backbone = load(talkative, device="cpu")
    assert isinstance(talkative.encode_image(pixels_for(backbone)), tuple)
    assert_same(backbone, plain)
    expected = load(plain, device="cpu").encode_texts(["a cat"])
    torch.testing.assert_close(backbone.encode_texts(["a cat"]), expected, atol=1e-6, rtol=0)
    backbone.pool_regions(backbone.encode_with_patches(pixels_for(backbone)), torch.ones(2, 1, 16))


def test_a_model_in_memory_is_copied_before_it_is_cast() -> None:
    plain: Any = make(model_config("vit", text=NATIVE_TEXT))
    backbone = load(plain, device="cpu", precision="bf16")
    assert plain.visual.conv1.weight.dtype == torch.float32
    assert backbone.encode_images(pixels_for(backbone)).dtype == torch.float32
    assert backbone.dtype == torch.bfloat16


def test_a_model_in_mixed_precision_of_open_clip_works(tmp_path: Path) -> None:
    save(tmp_path, model_config("vit", text=NATIVE_TEXT), bpe=False)
    with quiet():
        mixed = open_clip.create_model(f"local-dir:{tmp_path}", precision="bf16")
    backbone = load(mixed, device="cpu", precision="bf16")
    full = load(f"local-dir:{tmp_path}", device="cpu")
    encoded = backbone.encode_with_patches(pixels_for(backbone))
    pooled = backbone.pool_regions(encoded, torch.ones(2, 1, 16))
    assert ((pooled[:, 0] * full.encode_images(pixels_for(full))).sum(-1) > 0.99).all()
    assert (backbone.encode_texts(["a"]) @ full.encode_texts(["a"]).T).item() > 0.99


def test_a_model_in_mixed_precision_keeps_its_float32_norms_when_it_is_cast(tmp_path: Path) -> None:
    save(tmp_path, model_config("vit", text=NATIVE_TEXT), bpe=False)
    with quiet():
        mixed = open_clip.create_model(f"local-dir:{tmp_path}", precision="bf16")
    backbone = load(mixed, device="cpu", precision="fp16")
    full = load(f"local-dir:{tmp_path}", device="cpu")
    assert ((backbone.encode_images(pixels_for(backbone)) * full.encode_images(pixels_for(full))).sum(-1) > 0.99).all()


def test_the_hash_of_a_model_in_memory_follows_its_weights() -> None:
    text = dict(NATIVE_TEXT)
    first = load(make(model_config("resnet", text=text), seed=1), device="cpu").info.weights_sha256
    again = load(make(model_config("resnet", text=text), seed=1), device="cpu").info.weights_sha256
    changed = make(model_config("resnet", text=text), seed=1)
    changed.visual.bn1.running_mean[0] += 1
    assert first == again
    assert load(changed, device="cpu").info.weights_sha256 != first
    assert len(first) == 64


def test_a_model_in_memory_with_another_vocabulary_needs_its_tokenizer(tmp_path: Path) -> None:
    plain = make(model_config("vit"))
    with pytest.raises(ModelError, match=f"has {VOCABULARY} text tokens.*pass tokenizer="):
        load(plain, device="cpu")
    save_bpe(tmp_path)
    words = open_clip.SimpleTokenizer(bpe_path=str(tmp_path / "bpe.txt.gz"), context_length=CONTEXT)
    assert load(plain, device="cpu", tokenizer=words).encode_texts(["the cat"]).shape == (1, 24)


def test_modules_that_are_not_a_clip_are_refused() -> None:
    with pytest.raises(ModelError, match="a Linear is not an open_clip model: it has no visual"):
        load(nn.Linear(2, 2), device="cpu")


def test_devices_and_precisions_that_are_missing_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for device in ("cuda", "cuda:1", "mps", "cpu:7", "tpu"):
        with pytest.raises(DeviceError, match=f"'{device}' is not available; this machine has: cpu"):
            load("ViT-B-32:random", device=device)
    with pytest.raises(DeviceError, match="precision 'int8' does not exist; choose one of: fp32, bf16, fp16"):
        load("ViT-B-32:random", precision="int8")


def test_the_best_device_is_chosen_and_gpus_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(choose_device(name)) for name in ("auto", "cuda:1", "cuda:0", "cpu")] == [
        "cuda",
        "cuda:1",
        "cuda:0",
        "cpu",
    ]
    with pytest.raises(DeviceError, match="this machine has: cuda, cuda:1, cpu"):
        choose_device("cuda:2")


def test_half_precision_on_a_cpu_without_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> None:
        raise RuntimeError("\"slow_conv2d_cpu\" not implemented for 'Half'")

    monkeypatch.setattr("clipmk.backbones.devices.conv2d", missing)
    with pytest.raises(DeviceError, match="'fp16' does not work on this CPU; choose 'fp32' or 'bf16'"):
        load("ViT-B-32:random", device="cpu", precision="fp16")


def test_loading_prints_nothing_and_leaves_logging_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, model_config("vit"))
    root = logging.getLogger()
    before = list(root.handlers), list(root.filters)
    with caplog.at_level(logging.WARNING):
        load(f"local-dir:{tmp_path}", device="cpu")
    assert capfd.readouterr() == ("", "")
    assert caplog.records == [], "open_clip's 'initialized randomly' would be false"
    assert (list(root.handlers), list(root.filters)) == before


def test_what_libraries_print_or_warn_while_loading_goes_elsewhere(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="clipmk"), quiet():
        print("downloading vocabulary")  # noqa: T201
        warnings.warn("weights look odd", UserWarning, stacklevel=1)
        warnings.warn("old name", FutureWarning, stacklevel=1)
        logging.warning("initialized randomly")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "downloading vocabulary" in captured.err
    levels = {record.getMessage(): record.levelno for record in caplog.records}
    assert levels == {
        "initialized randomly": logging.DEBUG,
        "weights look odd": logging.WARNING,
        "old name": logging.DEBUG,
    }

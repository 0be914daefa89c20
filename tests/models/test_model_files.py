"""Which file of a folder or a repository holds the weights, and what a stranger's folder cannot do."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import save_file

from backbone_zoo import NATIVE_TEXT, assert_same, model_config, save
from clipmk.errors import ClipmkError, ModelError, UsageError
from clipmk.models.catalog import list_models
from clipmk.models.loading import load
from clipmk.models.local import HUB_WEIGHTS, WEIGHT_NAMES, candidates, weights_in
from clipmk.models.spec import resolve
from foreign_folders import convertible

torch.set_num_threads(1)
pytestmark = pytest.mark.usefixtures("no_network", "no_config")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder of open_clip."""
    save(tmp_path / "m", model_config("vit", text=NATIVE_TEXT), bpe=False)
    return tmp_path / "m"


def test_the_order_of_preference_in_a_folder_is_that_of_open_clip(tmp_path: Path) -> None:
    from open_clip.factory import _find_checkpoint_in_dir  # noqa: PLC0415

    (tmp_path / "open_clip_config.json").touch()
    names = [name for name in WEIGHT_NAMES if not name.endswith(".index.json")]
    for name in reversed(names):
        (tmp_path / name).touch()
        assert weights_in(tmp_path).name == Path(str(_find_checkpoint_in_dir(tmp_path))).name == name


@pytest.mark.parametrize(
    ("address", "names"),
    [
        ("org/repo/", HUB_WEIGHTS),
        ("org/repo/open_clip_pytorch_model.bin", HUB_WEIGHTS),
        ("org/repo/pytorch_model.bin", ("pytorch_model.safetensors", "pytorch_model.bin")),
        ("org/repo/a.b.pth", ("a.b.safetensors", "a.b.pth")),
        ("org/repo/PE-Core-B16-224.pt", ("PE-Core-B16-224.pt",)),
        ("org/repo/model.safetensors", ("model.safetensors",)),
    ],
)
def test_the_files_of_a_repository_are_those_that_open_clip_looks_for(address: str, names: tuple[str, ...]) -> None:
    from open_clip.constants import HF_WEIGHTS_NAME  # noqa: PLC0415
    from open_clip.pretrained import _get_safe_alternatives  # noqa: PLC0415

    name = address.rpartition("/")[2] or HF_WEIGHTS_NAME
    assert candidates(address) == ("org/repo", names)
    assert names == (*_get_safe_alternatives(name), name)


def test_of_several_checkpoints_one_must_be_named_and_then_loads(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = load(folder, device="cpu")
    state = {f"module.{name}": value for name, value in plain.images._model.state_dict().items()}
    (folder / "open_clip_model.safetensors").unlink()
    for epoch in (1, 2, 10):
        torch.save({"state_dict": state}, folder / f"epoch_{epoch}.pt")
    for other in ("optimizer.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        (folder / other).write_bytes(b"")
    several = r"several weight files \(epoch_1.pt, epoch_2.pt, epoch_10.pt\); name one, such as '.*epoch_10\.pt'$"
    with pytest.raises(ModelError, match=several):
        load(folder, device="cpu")
    backbone = load(folder / "epoch_2.pt", device="cpu")
    assert_same(backbone, plain.images._model)
    assert resolve(str(folder / "epoch_2.pt")).entry.weights == str(folder / "epoch_2.pt")
    for epoch in (1, 2):
        (folder / f"epoch_{epoch}.pt").unlink()
    assert (
        load(folder, device="cpu").info.weights_sha256 == load(folder / "epoch_10.pt", device="cpu").info.weights_sha256
    )
    (folder / "epoch_10.pt").unlink()
    with pytest.raises(ModelError, match="has no weights"):
        load(folder, device="cpu")
    assert caplog.text == ""


def test_a_folder_with_checkpoints_and_no_configuration_says_what_to_write(folder: Path) -> None:
    (folder / "open_clip_config.json").unlink()
    with pytest.raises(ModelError, match=r"-m .*open_clip_model\.safetensors --arch NAME$"):
        load(folder, device="cpu")


def test_the_folder_of_a_training_run_says_what_to_write(folder: Path, tmp_path: Path) -> None:
    checkpoints = tmp_path / "run" / "checkpoints"
    checkpoints.mkdir(parents=True)
    for epoch in (9, 10):
        (checkpoints / f"epoch_{epoch}.pt").touch()
    (tmp_path / "run" / "params.txt").write_text("lr: 0.001\nmodel: ViT-S-32\nname: x\n")
    for name in ("run", "run/checkpoints"):
        with pytest.raises(ModelError, match=r"-m .*run/checkpoints/epoch_10\.pt --arch ViT-S-32$"):
            load(tmp_path / name, device="cpu")
    with pytest.raises(UsageError, match=r"needs its architecture \(--arch ViT-S-32\)"):
        load(checkpoints / "epoch_9.pt", device="cpu")
    for step in (500, 1000):
        shutil.copytree(folder, tmp_path / "run" / f"checkpoint-{step}")
    with pytest.raises(ModelError, match=r"name a folder in it, such as '.*/checkpoint-1000'$"):
        load(tmp_path / "run", device="cpu")


def test_a_file_with_an_unknown_ending_is_told_from_a_name(folder: Path) -> None:
    (folder / "epoch_3.tar").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"epoch_3\.tar' has an unknown ending; known: \.safetensors, \.pt"):
        load(folder / "epoch_3.tar", device="cpu")


def test_files_of_another_library_in_a_repository_of_open_clip_are_not_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for repository in ("timm/vit_base_patch32_clip_224.openai", "org/other"):
        snapshot = tmp_path / "hub" / f"models--{repository.replace('/', '--')}" / "snapshots" / "c0ffee"
        snapshot.mkdir(parents=True)
        (snapshot.parents[1] / "refs").mkdir()
        (snapshot.parents[1] / "refs" / "main").write_text("c0ffee")
        save_file({"cls_token": torch.zeros(1)}, snapshot / "model.safetensors")
        (snapshot / "config.json").write_text('{"architecture": "vit_base_patch32_clip_224"}')
        (snapshot / "open_clip_config.json").write_text(json.dumps({"model_cfg": model_config("vit")}))
    assert list_models(("cached",)) == []
    for model in ("ViT-B-32:openai", "hf-hub:org/other"):
        with pytest.raises(ModelError, match=r"is not on this machine; .*pull .* from the repository [a-z]+/[a-z]"):
            load(model, device="cpu")


def test_a_repository_made_for_transformers_is_used_from_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for repository in ("org/tuned", "openai/clip-vit-base-patch32"):
        snapshot = tmp_path / "hub" / f"models--{repository.replace('/', '--')}" / "snapshots" / "c0ffee"
        plain = convertible(snapshot)
        (snapshot.parents[1] / "refs").mkdir()
        (snapshot.parents[1] / "refs" / "main").write_text("c0ffee")
    bert = tmp_path / "hub" / "models--org--bert" / "snapshots" / "c0ffee"
    shutil.copytree(snapshot.parents[1], bert.parents[1])
    (bert / "config.json").write_text('{"model_type": "bert"}')
    ids = [entry.id for entry in list_models(("cached",))]
    assert ids == ["hf-hub:openai/clip-vit-base-patch32", "hf-hub:org/tuned"]
    for model in ids:
        assert_same(load(model, device="cpu"), plain)


def change_config(folder: Path, **parts: Any) -> None:
    path = folder / "open_clip_config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for name, value in parts.items():
        part = content if name in {"preprocess_cfg", "clipmk"} else content["model_cfg"]
        part[name] = part[name] | value if isinstance(value, dict) and name in part else value
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"vision_cfg": {"layers": 2147483648}}, "has 'layers' 2147483648, which is out of range"),
        ({"vision_cfg": {"layers": 1000}}, "do not fit .*missing .* more"),
        ({"vision_cfg": {"layers": [3, 2**40]}}, "has 'layers' .*out of range"),
        ({"vision_cfg": {"image_size": 2147483648}}, "has 'image_size' .*out of range"),
        ({"vision_cfg": {"width": 2_000_000}}, "do not fit .*other sizes in"),
        ({"vision_cfg": {"mlp_ratio": 1e6}}, "do not fit .*other sizes in"),
        ({"text_cfg": {"vocab_size": 1_000_000}}, r"do not fit .*other sizes in token_embedding\.weight"),
        ({"text_cfg": {"context_length": 2**20}}, "has 'context_length' .*out of range"),
        ({"embed_dim": float("nan")}, "has 'embed_dim' nan, which is out of range"),
        ({"vision_cfg": {"layers": "3"}}, "cannot be built"),
        ({"vision_cfg": {"patch_size": 0}}, "cannot be built"),
        ({"vision_cfg": {"width": None}}, "cannot be built"),
        ({"text_cfg": {"heads": -1}}, "cannot be built|do not fit"),
        ({"text_cfg": [1]}, "has a 'text_cfg' that is not an object"),
        ({"vision_cfg": "x"}, "has a 'vision_cfg' that is not an object"),
        ({"preprocess_cfg": [1]}, "has a 'preprocess_cfg' that is not an object"),
        ({"clipmk": [1]}, "has a 'clipmk' that is not an object"),
        ({"clipmk": {"bpe": 5}}, "needs the file"),
        ({"text_cfg": {"tokenizer_kwargs": 5}}, "cannot be"),
        ({"vision_cfg": {"timm_model_name": "hf-hub:a/b"}}, "timm_model_name that is not one of timm's"),
        ({"vision_cfg": {"timm_model_name": 5}}, "cannot be built"),
    ],
)
def test_odd_configurations_are_refused_before_a_model_is_built(
    folder: Path, parts: dict[str, Any], message: str
) -> None:
    change_config(folder, **parts)
    with pytest.raises(ModelError, match=message):
        load(folder, device="cpu")


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 100_000, "5", '"x"', "\x00", "{", "\ufeff{}"])
def test_a_configuration_that_is_not_one_is_refused(folder: Path, content: str) -> None:
    (folder / "open_clip_config.json").write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=r"is not JSON|is not a JSON object|has no 'model_cfg'"):
        load(folder, device="cpu")


def test_special_files_are_refused_at_once(folder: Path) -> None:
    config = folder / "open_clip_config.json"
    config.unlink()
    os.mkfifo(config)
    with pytest.raises(ModelError, match="is a pipe, not a regular file"):
        load(folder, device="cpu")
    config.unlink()
    for target, message in (("/dev/zero", "is a device"), ("/nowhere", "does not exist"), (str(config), "cannot be")):
        config.symlink_to(target)
        with pytest.raises(ModelError, match=message):
            load(folder, device="cpu")
        config.unlink()
    config.write_bytes(b" " * 5_000_000)
    with pytest.raises(ModelError, match=r"is larger than 4 MiB"):
        load(folder, device="cpu")


def test_one_bad_registered_folder_does_not_hide_the_others(
    folder: Path, no_config: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = {}
    for name in ("fifo", "deep", "nan", "several", "gone", "pointer"):
        bad[name] = folder.with_name(name)
        shutil.copytree(folder, bad[name])
    (bad["fifo"] / "open_clip_config.json").unlink()
    os.mkfifo(bad["fifo"] / "open_clip_config.json")
    (bad["deep"] / "open_clip_config.json").write_text("[" * 100_000)
    change_config(bad["nan"], embed_dim=float("inf"))
    (bad["several"] / "open_clip_model.safetensors").rename(bad["several"] / "a.pt")
    (bad["several"] / "b.pt").touch()
    shutil.rmtree(bad["gone"])
    (bad["pointer"] / "open_clip_config.json").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\n")
    names = "".join(f'{name} = "{path}"\n' for name, path in bad.items())
    odd = f'long = "{"x" * 5000}"\nnull = "local-dir:a\\u0000b"\nuser = "~nobody-here/x.pt"\ncp = "checkpoint:x"\n'
    no_config.write_text(f'[models]\n{names}{odd}mine = "{folder}"\n', encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        assert [entry.id for entry in list_models(("local",))] == ["mine"]
    for name in ("fifo", "deep", "nan", "several", "pointer", "null", "cp"):
        assert f"registered model '{name}': " in caplog.text


@pytest.mark.parametrize(
    "name",
    ["x" * 5000, "a\0b", "~nobody-here/m", "hf-hub:" + "a/" + "b" * 5000, "local-dir:", "a.pt/" * 2000, "\ud800"],
)
def test_names_that_cannot_be_paths_are_errors_of_ours(name: str) -> None:
    with pytest.raises(ClipmkError):
        load(name, device="cpu")


def test_a_pointer_of_git_lfs_is_named(folder: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 1\n"
    (folder / "open_clip_model.safetensors").write_text(pointer)
    with pytest.raises(ModelError, match=r"safetensors' is a pointer of Git LFS, .* run `git lfs pull` in its folder"):
        load(folder, device="cpu")
    (folder / "open_clip_config.json").write_text(pointer)
    with pytest.raises(ModelError, match=r"config\.json' is a pointer of Git LFS"):
        load(folder, device="cpu")


def test_a_single_shard_is_named(folder: Path) -> None:
    shard = folder / "model-00001-of-00002.safetensors"
    (folder / "open_clip_model.safetensors").rename(shard)
    with pytest.raises(ModelError, match=r"is shard 1 of 2; name the folder, which must have all shards"):
        load(folder, device="cpu")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../x.pt"}}))
    with pytest.raises(ModelError, match="has no 'weight_map' that names files beside it"):
        load(folder, device="cpu")
    shard.rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").unlink()
    assert load(folder, device="cpu").info.family == "vit"


def test_positions_that_are_stretched_are_named(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    change_config(folder, vision_cfg={"image_size": 64}, text_cfg={"context_length": 20})
    assert load(folder, device="cpu").info.input_size == 64
    assert "visual.positional_embedding is stretched from 17 to 65 positions" in caplog.text
    assert "positional_embedding is stretched from 16 to 20 positions" in caplog.text

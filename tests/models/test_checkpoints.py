"""Checkpoint files: what they need to load, and which programs, damage and misfits are refused."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip import factory
from safetensors.torch import load_file, save_file
from torch import nn

from backbone_zoo import NATIVE_TEXT, assert_same, make, model_config, save
from clipmk.backbones.backbone import read_preprocessing
from clipmk.errors import ModelError, UsageError
from clipmk.models.loading import load
from clipmk.models.spec import resolve

torch.set_num_threads(1)
pytestmark = pytest.mark.usefixtures("no_network", "no_config")


@pytest.fixture
def tiny_architecture(tmp_path: Path) -> Iterator[str]:
    """A small architecture that open_clip knows by name."""
    config = model_config("vit", text=NATIVE_TEXT)
    (tmp_path / "clipmk-tiny.json").write_text(json.dumps(config), encoding="utf-8")
    open_clip.add_model_config(tmp_path / "clipmk-tiny.json")
    yield "clipmk-tiny"
    factory._MODEL_CONFIG_PATHS.pop()
    factory._MODEL_CONFIGS.pop("clipmk-tiny", None)


@pytest.mark.parametrize("wrapped", [False, True])
def test_checkpoint_with_its_architecture_loads(tmp_path: Path, tiny_architecture: str, wrapped: bool) -> None:
    plain = make(model_config("vit", text=NATIVE_TEXT), seed=5)
    state = plain.state_dict()
    training = {"state_dict": {f"module.{name}": value for name, value in state.items()}, "epoch": 3}
    torch.save(training if wrapped else state, tmp_path / "mine.pt")
    backbone = load(str(tmp_path / "mine.pt"), arch=tiny_architecture, device="cpu")
    assert_same(backbone, plain)
    assert backbone.preprocessing.mean == open_clip.OPENAI_DATASET_MEAN
    assert (backbone.info.id, backbone.info.architecture) == (str(tmp_path / "mine.pt"), tiny_architecture)
    assert_same(load(f"checkpoint:{tiny_architecture}:{tmp_path / 'mine.pt'}", device="cpu"), plain)


WRAPPED: dict[str, Callable[[str], str]] = {
    "compiled": lambda name: f"_orig_mod.{name}",
    "parallel": lambda name: f"module.{name}",
    "Lightning": lambda name: f"model.{name}",
    "all": lambda name: f"model.module._orig_mod.{name}",
    "compiled in parts": lambda name: name.replace("visual.", "visual._orig_mod."),
    "sharded": lambda name: f"_fsdp_wrapped_module.{name}".replace("attn.", "_checkpoint_wrapped_module.attn."),
}


@pytest.mark.parametrize("kind", WRAPPED)
@pytest.mark.parametrize("place", ["state_dict", "model", "model_state_dict", None])
def test_prefixes_of_wrappers_are_removed(
    tmp_path: Path, tiny_architecture: str, kind: str, place: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    plain = make(model_config("vit", text=NATIVE_TEXT), seed=5)
    state = {WRAPPED[kind](name): value for name, value in plain.state_dict().items()}
    content = state if place is None else {place: state, "optimizer": {"state": {}}, "step": torch.zeros(())}
    torch.save(content, tmp_path / "last.ckpt")
    assert_same(load(tmp_path / "last.ckpt", arch=tiny_architecture, device="cpu"), plain)
    save_file({name: value.clone() for name, value in state.items()}, tmp_path / "m.safetensors")
    assert_same(load(tmp_path / "m.safetensors", arch=tiny_architecture, device="cpu"), plain)
    assert caplog.text == ""


def test_tensors_beside_the_model_are_counted(
    tmp_path: Path, tiny_architecture: str, caplog: pytest.LogCaptureFixture
) -> None:
    plain = make(model_config("vit", text=NATIVE_TEXT), seed=5)
    state = {f"model.{name}": value for name, value in plain.state_dict().items()}
    torch.save({"state_dict": state | {"loss.weight": torch.zeros(2), "x": torch.zeros(1)}}, tmp_path / "a.ckpt")
    assert_same(load(tmp_path / "a.ckpt", arch=tiny_architecture, device="cpu"), plain)
    assert caplog.messages == ["a.ckpt: 2 tensors outside 'model.' left out"]


def test_of_two_models_in_a_file_none_is_guessed(tmp_path: Path, tiny_architecture: str) -> None:
    state = make(model_config("vit", text=NATIVE_TEXT)).state_dict()
    torch.save(
        {f"{owner}.{name}": state[name] for owner in ("student", "teacher") for name in state}, tmp_path / "a.pt"
    )
    with pytest.raises(ModelError, match=r"holds several models \(student\., teacher\.\)"):
        load(tmp_path / "a.pt", arch=tiny_architecture, device="cpu")


INERT: dict[str, Any] = {
    "numbers of NumPy": [np.float64(0.1), np.float32(1), np.int64(3), np.bool_(True), np.str_("x")],
    "arrays of NumPy": [np.zeros(3), np.arange(2), np.array(["a"]), np.zeros((2, 2), dtype=np.float16)],
    "arguments": argparse.Namespace(lr=0.1, out=Path("runs"), layers=[1, 2], rate=np.float64(3)),
    "a path": Path("runs/1"),
    "containers": {"a": (1, {2}), "b": OrderedDict(c=None), "d": torch.float16, "e": torch.Size([1])},
}


@pytest.mark.parametrize("extra", INERT)
def test_what_training_code_stores_beside_the_weights_is_read_past(
    tmp_path: Path, tiny_architecture: str, extra: str
) -> None:
    plain = make(model_config("vit", text=NATIVE_TEXT), seed=5)
    torch.save({"state_dict": plain.state_dict(), "extra": INERT[extra]}, tmp_path / "a.pt")
    assert_same(load(tmp_path / "a.pt", arch=tiny_architecture, device="cpu"), plain)


def test_numbers_in_files_of_older_numpy_are_read(tmp_path: Path, tiny_architecture: str) -> None:
    plain = make(model_config("vit", text=NATIVE_TEXT), seed=5)
    path = tmp_path / "a.pt"
    torch.save({"state_dict": plain.state_dict(), "best": np.float64(0.5)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert_same(load(path, arch=tiny_architecture, device="cpu"), plain)


def test_a_file_with_an_object_of_a_library_is_refused_by_the_name_of_its_class(
    tmp_path: Path, tiny_architecture: str
) -> None:
    state = make(model_config("vit", text=NATIVE_TEXT)).state_dict()
    torch.save({"state_dict": state, "hyper_parameters": SimpleNamespace(lr=1)}, tmp_path / "a.pt")
    with pytest.raises(ModelError, match=r"is refused: .* more than tensors \(types\.SimpleNamespace\)"):
        load(tmp_path / "a.pt", arch=tiny_architecture, device="cpu")


def test_a_missing_bias_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path, model_config("siglip"))
    path = tmp_path / "open_clip_model.safetensors"
    save_file({name: value for name, value in load_file(path).items() if name != "logit_bias"}, path)
    assert load(tmp_path, device="cpu").logit_bias == 0
    assert caplog.messages == ["open_clip_model.safetensors: there is no logit_bias, so it is 0"]


@pytest.mark.parametrize(
    ("arch", "expected"),
    [
        ("MobileCLIP2-S0", ((0, 0, 0), (1, 1, 1), "bilinear")),
        ("ViT-B-16-SigLIP", ((0.5,) * 3, (0.5,) * 3, "bicubic")),
        ("ViT-H-14-CLIPA", ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bilinear")),
        ("ViT-B-32", (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD, "bicubic")),
        ("ViT-M-32", (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD, "bicubic")),
    ],
)
def test_a_checkpoint_has_the_preprocessing_that_the_tags_of_its_architecture_agree_on(
    tmp_path: Path, arch: str, expected: tuple[Any, ...], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.pt").touch()
    found = read_preprocessing(resolve(str(tmp_path / "a.pt"), arch=arch).preprocess, "a")
    assert (found.mean, found.std, found.interpolation) == expected
    assert caplog.text == ""


def test_tags_that_differ_give_a_warning_and_the_default(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.pt").touch()
    found = read_preprocessing(resolve(str(tmp_path / "a.pt"), arch="ViT-L-14").preprocess, "a")
    assert found.mean == open_clip.OPENAI_DATASET_MEAN
    assert [message.partition(";")[0] for message in caplog.messages] == [
        "pretrained tags of ViT-L-14 differ in 'mean'",
        "pretrained tags of ViT-L-14 differ in 'std'",
    ]


def test_checkpoint_that_does_not_fit_names_a_few_tensors(tmp_path: Path, tiny_architecture: str) -> None:
    state = make(model_config("vit", text=NATIVE_TEXT)).state_dict()
    renamed = {name.replace("ln_final", "ln_last"): value for name, value in state.items()}
    torch.save(renamed, tmp_path / "renamed.pt")
    with pytest.raises(ModelError, match=r"missing ln_final\.weight, ln_final\.bias; unexpected ln_last"):
        load(str(tmp_path / "renamed.pt"), arch=tiny_architecture, device="cpu")
    torch.save({**state, "visual.proj": torch.zeros(3, 3)}, tmp_path / "small.pt")
    with pytest.raises(ModelError, match=r"do not fit 'clipmk-tiny': other sizes in visual\.proj"):
        load(str(tmp_path / "small.pt"), arch=tiny_architecture, device="cpu")


def test_checkpoint_needs_an_architecture_and_only_a_checkpoint_takes_one(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "x.pt")
    with pytest.raises(UsageError, match="needs its architecture"):
        load(str(tmp_path / "x.pt"), device="cpu")
    with pytest.raises(ModelError, match=r"architecture 'ViT-B/23' does not exist; close: 'ViT-B-32'"):
        load(str(tmp_path / "x.pt"), arch="ViT-B/23", device="cpu")
    with pytest.raises(UsageError, match="is for checkpoint files only"):
        load("ViT-B-32:openai", arch="ViT-B-32", device="cpu")
    with pytest.raises(ModelError, match="does not exist"):
        load(str(tmp_path / "none.pt"), arch="ViT-B-32", device="cpu")


class Attack:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_is_refused_unread(tmp_path: Path, tiny_architecture: str, zipped: bool) -> None:
    proof, path = tmp_path / "proof", tmp_path / "evil.pt"
    state = make(model_config("vit", text=NATIVE_TEXT)).state_dict()
    torch.save({"state_dict": state, "extra": Attack(proof)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match="refused: reading it would run code"):
        load(str(path), arch=tiny_architecture, device="cpu")
    assert not proof.exists()
    torch.load(path, weights_only=False)
    assert proof.exists(), "the attack is a real one"


def test_a_bare_pickle_is_refused_and_does_not_run(tmp_path: Path, tiny_architecture: str) -> None:
    proof, path = tmp_path / "proof", tmp_path / "evil.bin"
    path.write_bytes(pickle.dumps(Attack(proof)))
    with pytest.raises(ModelError, match=r"evil\.bin"):
        load(str(path), arch=tiny_architecture, device="cpu")
    assert not proof.exists()


def test_a_folder_with_a_malicious_pickle_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "m", model_config("vit"))
    (tmp_path / "m" / "open_clip_model.safetensors").unlink()
    torch.save({"x": torch.zeros(1), "y": Attack(tmp_path / "proof")}, tmp_path / "m" / "pytorch_model.bin")
    with pytest.raises(ModelError, match="refused"):
        load(f"local-dir:{tmp_path / 'm'}", device="cpu")
    assert not (tmp_path / "proof").exists()


def test_a_torchscript_archive_is_refused(tmp_path: Path, tiny_architecture: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), str(tmp_path / "script.pt"))
    with pytest.raises(ModelError, match="is refused: it is a TorchScript archive, which holds a program"):
        load(str(tmp_path / "script.pt"), arch=tiny_architecture, device="cpu")


@pytest.mark.parametrize(
    ("name", "content"), [("cut.safetensors", b"\x10\0\0\0"), ("text.pt", b"not a checkpoint"), ("empty.pth", b"")]
)
def test_damaged_weights_are_reported(tmp_path: Path, tiny_architecture: str, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=name):
        load(str(tmp_path / name), arch=tiny_architecture, device="cpu")


def test_a_file_without_tensors_is_not_a_checkpoint(tmp_path: Path, tiny_architecture: str) -> None:
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ModelError, match="does not hold a state_dict"):
        load(str(tmp_path / "list.pt"), arch=tiny_architecture, device="cpu")

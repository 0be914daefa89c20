"""Checkpoint files: what they need to load, and which programs, damage and misfits are refused."""

from __future__ import annotations

import json
import os
import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip import factory
from torch import nn

from backbone_zoo import NATIVE_TEXT, assert_same, make, model_config, save
from clipmk.errors import ModelError, UsageError
from clipmk.models.loading import load

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
    assert backbone.mean == open_clip.OPENAI_DATASET_MEAN
    assert (backbone.info.id, backbone.info.architecture) == (str(tmp_path / "mine.pt"), tiny_architecture)
    assert_same(load(f"checkpoint:{tiny_architecture}:{tmp_path / 'mine.pt'}", device="cpu"), plain)


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

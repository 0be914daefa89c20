"""Registered names: what they may stand for, how they are stored, and that they load."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch

from backbone_zoo import model_config, save
from clipmk.errors import ModelError, UsageError
from clipmk.models import loading as loading_module
from clipmk.models.catalog import list_models, pair_entry
from clipmk.models.loading import build, load
from clipmk.models.registry import register, unregister
from clipmk.models.spec import resolve
from clipmk.system.config import read_config
from clipmk.system.memory import machine_memory

CONFIG = '# mine\ntheme = "a"  # looks\n\n[models]\n# at work\nold = "embedded/vit-s8"\n'


@pytest.fixture(autouse=True)
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG, encoding="utf-8")
    monkeypatch.setenv("CLIPMK_CONFIG", str(path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    return path


def test_a_folder_is_registered_and_unregistered_and_comments_stay(tmp_path: Path, config: Path) -> None:
    save(tmp_path / "m", model_config("resnet"))
    assert register("mine", "m") == f"local-dir:{tmp_path / 'm'}"
    assert config.read_text(encoding="utf-8") == f'{CONFIG}mine = "local-dir:{tmp_path / "m"}"\n'
    (entry,) = list_models(("local",))
    assert (entry.id, entry.source, entry.family, entry.path) == ("mine", "local", "resnet", str(tmp_path / "m"))
    assert load("mine", device="cpu").info.id == "mine"
    assert unregister("mine") == f"local-dir:{tmp_path / 'm'}"
    assert config.read_text(encoding="utf-8") == CONFIG
    assert (tmp_path / "m" / "open_clip_config.json").exists()


@pytest.fixture(scope="module")
def b32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of ViT-B-32 whose tensors take no room: every number is the same one."""
    skeleton = build(resolve("ViT-B-32:random"), device="meta").state_dict()
    path = tmp_path_factory.mktemp("b32") / "weights.pt"
    torch.save({f"module.{name}": torch.zeros(()).expand(tensor.shape) for name, tensor in skeleton.items()}, path)
    return path


def test_a_checkpoint_is_registered_with_its_architecture(tmp_path: Path, b32: Path) -> None:
    (tmp_path / "weights.pt").symlink_to(b32)
    path = tmp_path / "weights.pt"
    assert register("tuned", "weights.pt", arch="vit-b/32") == f"checkpoint:ViT-B-32:{path}"
    (entry,) = list_models(("local",))
    assert (entry.id, entry.architecture, entry.family) == ("tuned", "ViT-B-32", "vit")
    assert (entry.parameters, entry.path) == (151_277_313, str(path))


@pytest.mark.parametrize(
    ("arch", "message"), [("RN50", "missing .*; unexpected "), ("ViT-B-16", r"other sizes in visual\.conv1\.weight$")]
)
def test_a_checkpoint_of_another_architecture_is_refused(b32: Path, config: Path, arch: str, message: str) -> None:
    with pytest.raises(ModelError, match=f"^the weights in '{b32}' do not fit '{arch}': .*{message}"):
        register("tuned", str(b32), arch=arch)
    assert register("larger", str(b32), arch="ViT-B-32-256"), "the loader adapts the table of positions"
    unregister("larger")
    assert config.read_text(encoding="utf-8") == CONFIG


def test_a_folder_whose_weights_do_not_fit_is_refused(
    tmp_path: Path, config: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path / "m", model_config("vit"))
    register("fitting", "m")
    assert caplog.text == "", "a skeleton that stays empty is no reason to warn"
    before = config.read_text(encoding="utf-8")
    settings = tmp_path / "m" / "open_clip_config.json"
    settings.write_text(settings.read_text(encoding="utf-8").replace('"layers": 3', '"layers": 4'), encoding="utf-8")
    with pytest.raises(ModelError, match=r"do not fit 'm': missing visual\.transformer\.resblocks\.3\."):
        register("mine", "m")
    assert config.read_text(encoding="utf-8") == before


def test_ids_of_checkpoints_that_are_incomplete_or_gone_say_so() -> None:
    with pytest.raises(
        ModelError, match=r"'checkpoint:ViT-B-32' does not name a checkpoint; write checkpoint:ARCHITECTURE:FILE"
    ):
        load("checkpoint:ViT-B-32", device="cpu")
    with pytest.raises(ModelError, match=r"checkpoint 'gone\.pt' does not exist"):
        load("checkpoint:ViT-B-32:gone.pt", device="cpu")


def test_a_name_for_another_model_is_stored_in_its_canonical_spelling(config: Path) -> None:
    assert register("b32", "ViT-B/32:openai") == "ViT-B-32-quickgelu:openai"
    assert register("zoo.best", "embedded/vit-s8") == "embedded/vit-s8"
    assert dict(read_config().models) == {
        "old": "embedded/vit-s8",
        "b32": "ViT-B-32-quickgelu:openai",
        "zoo.best": "embedded/vit-s8",
    }
    with pytest.raises(ModelError, match="'ViT-B-32-quickgelu:openai' is not on this machine"):
        load("b32", device="cpu")


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a:b", "-a", "a.", "ä", "x\x1b", "rn50", "clip-rn50", "a.pt"])
def test_invalid_names_and_names_that_mean_something_else_are_refused(name: str, config: Path) -> None:
    with pytest.raises(UsageError, match=r"is not a valid name|already means another model or a file"):
        register(name, "embedded/vit-s8")
    assert config.read_text(encoding="utf-8") == CONFIG


def test_a_taken_name_is_refused(config: Path) -> None:
    with pytest.raises(UsageError, match=r"'old' already stands for 'embedded/vit-s8'; `.* remove old` frees it"):
        register("old", "embedded/rn-s")
    assert register("old", "embedded/vit-s8") == "embedded/vit-s8"
    assert config.read_text(encoding="utf-8") == CONFIG


def test_targets_that_are_not_models_are_refused(tmp_path: Path, config: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.safetensors").write_bytes(b"\x00" * 100)
    for target, arch, message in (
        ("empty", None, "needs the file"),
        ("local-dir:absent", None, "does not exist"),
        ("absent.pt", "ViT-B-32", "does not exist"),
        ("absent.pt", None, "checkpoint 'absent.pt' does not exist"),
        ("checkpoint:ViT-B-32:absent.pt", None, "checkpoint '.*absent.pt' does not exist"),
        ("bad.safetensors", "ViT-B-32", "cannot be read"),
        ("bad.safetensors", "ViT-B-23", "architecture 'ViT-B-23' does not exist"),
        ("embedded/vit-s9", None, "is not a folder, a checkpoint file or a known model"),
        ("ViT-B-32:none", None, "is not a folder, a checkpoint file or"),
    ):
        with pytest.raises(ModelError, match=message):
            register("mine", target, arch=arch)
    with pytest.raises(UsageError, match="needs its architecture"):
        register("mine", "bad.safetensors")
    with pytest.raises(UsageError, match="is for checkpoint files only"):
        register("mine", "embedded/vit-s8", arch="ViT-B-32")
    assert config.read_text(encoding="utf-8") == CONFIG


def test_an_unknown_name_cannot_be_removed(config: Path) -> None:
    with pytest.raises(UsageError, match="no model is registered as 'odl'; close: 'old'"):
        unregister("odl")
    unregister("old")
    with pytest.raises(UsageError, match="no model is registered as 'old'; there are none"):
        unregister("old")


def test_a_name_whose_files_are_gone_does_not_hide_others(tmp_path: Path, config: Path) -> None:
    save(tmp_path / "m", model_config("vit"))
    config.write_text(
        '[models]\na = "checkpoint:ViT-B-32:gone.pt"\nb = "checkpoint:x"\n'
        f'c = "local-dir:gone"\nd = "{tmp_path / "m"}"\n'
    )
    assert [entry.id for entry in list_models(("local",))] == ["d"]


def test_a_model_that_cannot_fit_is_refused_before_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading_module, "machine_memory", lambda: 500_000_000)
    with pytest.raises(
        ModelError, match=r"has 0\.2 billion parameters: its weights take 0\.6 GB and this machine has 0\.5 GB; choose"
    ):
        load("ViT-B-32:random", device="cpu")
    assert load("embedded/vit-xs8-48", device="cpu").info.family == "vit"


def test_a_model_that_a_gpu_cannot_hold_is_refused_in_its_own_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading_module, "device_memory", lambda _: 400_000_000)
    entry = pair_entry("ViT-B-32", "openai")
    check = loading_module._check_memory
    check(entry, torch.device("cuda"), torch.float16)
    with pytest.raises(ModelError, match=r"its weights take 0\.6 GB and 'cuda' has 0\.4 GB"):
        check(entry, torch.device("cuda"), torch.float32)
    check(replace(entry, parameters=None), torch.device("cuda"), torch.float32)


def test_the_limit_of_a_container_counts_as_the_machine_s_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, known in (("1000000\n", True), ("max\n", False)):
        monkeypatch.setattr("clipmk.system.memory.Path.read_text", lambda *_, text=text, **__: text)
        assert (machine_memory() == 1_000_000) == known

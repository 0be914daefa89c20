"""The catalogue: what exists, of which family, on this machine or not, and what names mean."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants
import open_clip
import pytest

from backbone_zoo import model_config, save
from clipmk.backbones import list_models, load
from clipmk.backbones.catalog import architecture_config, family_of
from clipmk.errors import ModelError, UsageError


@pytest.fixture(autouse=True)
def own_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No config, an empty hub cache; returns the cache."""
    monkeypatch.setenv("CLIPMK_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def cache(folder: Path, repository: str, *names: str) -> Path:
    snapshot = folder / f"models--{repository.replace('/', '--')}" / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("c0ffee")
    for name in names:
        (snapshot / name).write_text("weights")
    return snapshot


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("ViT-B-32", "vit"),
        ("ViT-H-14-CLIPA", "vit"),
        ("RN50x4", "resnet"),
        ("convnext_base_w_320", "convnext"),
        ("ViT-B-16-SigLIP", "siglip"),
        ("ViT-SO400M-14-SigLIP2", "siglip"),
        ("EVA02-B-16", "eva"),
        ("MobileCLIP-S1", "timm"),
        ("PE-Core-B-16", "timm"),
    ],
)
def test_families_are_read_from_the_configuration(name: str, family: str) -> None:
    config = architecture_config(name)
    assert config is not None
    assert family_of(config) == family


def test_every_pair_of_open_clip_is_listed_once_with_its_size() -> None:
    entries = {entry.id: entry for entry in list_models(("cached", "remote"))}
    assert set(entries) == {f"{name}:{tag}" for name, tag in open_clip.list_pretrained()}
    large = entries["ViT-L-14-336-quickgelu:openai"]
    assert (large.input_size, large.embed_dim, large.source, large.path) == (336, 768, "remote", None)
    assert (large.architecture, large.pretrained) == ("ViT-L-14-336-quickgelu", "openai")
    assert entries["ViT-B-16-SigLIP:webli"].needs_transformers
    assert not large.needs_transformers


def test_weights_in_the_hub_cache_make_a_model_cached(own_places: Path) -> None:
    snapshot = cache(own_places, "timm/vit_base_patch32_clip_224.openai", "open_clip_model.safetensors")
    entries = {entry.id: entry for entry in list_models(("cached",))}
    assert set(entries) == {"ViT-B-32:openai", "ViT-B-32-quickgelu:openai"}
    assert entries["ViT-B-32:openai"].path == str(snapshot / "open_clip_model.safetensors")
    assert "ViT-B-32:openai" not in {entry.id for entry in list_models(("remote",))}


def test_safetensors_are_taken_where_the_catalogue_names_a_pickle(own_places: Path) -> None:
    repository, name = open_clip.get_pretrained_cfg("ViTamin-S", "datacomp1b")["hf_hub"].rsplit("/", 1)
    assert name == "pytorch_model.bin"
    snapshot = cache(own_places, repository, "pytorch_model.bin", "pytorch_model.safetensors")
    (entry,) = list_models(("cached",))
    assert (entry.id, entry.path) == ("ViTamin-S:datacomp1b", str(snapshot / "pytorch_model.safetensors"))


def test_a_repository_with_only_a_configuration_is_not_cached(own_places: Path) -> None:
    cache(own_places, "timm/vit_base_patch32_clip_224.openai", "open_clip_config.json")
    assert list_models(("cached",)) == []


def test_other_cached_repositories_are_listed_by_their_hub_name(own_places: Path) -> None:
    snapshot = cache(own_places, "org/tiny", "open_clip_model.safetensors")
    (snapshot / "open_clip_config.json").write_text(json.dumps({"model_cfg": model_config("resnet")}))
    (entry,) = list_models(("cached",))
    assert (entry.id, entry.family, entry.input_size) == ("hf-hub:org/tiny", "resnet", 96)


def test_embedded_models_are_the_folders_of_the_assets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    save(tmp_path / "models" / "vit-test", model_config("vit"))
    monkeypatch.setattr("clipmk.locations.assets_dir", lambda: tmp_path)
    (entry,) = list_models(("embedded",))
    assert (entry.id, entry.source, entry.family, entry.input_size) == ("embedded/vit-test", "embedded", "vit", 32)
    backbone = load("embedded/vit-test", device="cpu")
    assert (backbone.info.id, backbone.info.architecture) == ("embedded/vit-test", "vit-test")
    with pytest.raises(ModelError, match=r"'embedded/vit-tset' does not exist; close: 'embedded/vit-test'"):
        load("embedded/vit-tset", device="cpu")


def test_registered_folders_are_local_models_and_broken_ones_hide_nothing(tmp_path: Path) -> None:
    save(tmp_path / "m", model_config("siglip"))
    (tmp_path / "broken").mkdir()
    (tmp_path / "config.toml").write_text(
        f'[models]\nmine = "local-dir:{tmp_path / "m"}"\nbroken = "{tmp_path / "broken"}"\nb32 = "ViT-B-32:openai"\n'
    )
    (entry,) = list_models(("local",))
    assert (entry.id, entry.source, entry.path) == ("mine", "local", str(tmp_path / "m"))


def test_listing_embedded_and_local_models_imports_no_torch() -> None:
    code = (
        "import sys; from clipmk.backbones import list_models; list_models(('embedded', 'local'));"
        "print([name for name in ('torch', 'open_clip', 'timm', 'huggingface_hub') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_bare_name_lists_its_tags() -> None:
    with pytest.raises(ModelError) as caught:
        load("RN50", device="cpu")
    assert all(f"RN50:{tag}" in str(caught.value) for tag in open_clip.list_pretrained_tags_by_model("RN50"))
    with pytest.raises(ModelError, match="'ViT-S-16' has no pretrained weights"):
        load("ViT-S-16", device="cpu")


def test_slashes_and_dashes_in_names_are_normalised() -> None:
    with pytest.raises(ModelError, match="'ViT-B-32:openai' is not on this machine"):
        load("ViT-B/32:openai", device="cpu")
    with pytest.raises(ModelError, match="'ViT-B-32:laion2b_s34b_b79k' is not on this machine"):
        load("ViT-B/32:laion2b-s34b-b79k", device="cpu")


def test_unknown_names_and_tags_are_answered_with_close_ones() -> None:
    with pytest.raises(ModelError, match="'ViT-B-23:openai' does not exist; close: 'ViT-B-32'"):
        load("ViT-B-23:openai", device="cpu")
    with pytest.raises(ModelError, match="'ViT-B-32' has no pretrained tag 'opnai'; close: 'openai'"):
        load("ViT-B-32:opnai", device="cpu")


def test_a_malformed_config_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[models\n")
    with pytest.raises(UsageError):
        list_models(("local",))

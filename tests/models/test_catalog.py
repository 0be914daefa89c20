"""The catalogue: what exists, of which family, on this machine or not, and what names mean."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants
import open_clip
import pytest

from backbone_zoo import model_config, save
from clipmk.errors import ModelError, UsageError
from clipmk.models.catalog import list_models, pair_entry, training_of
from clipmk.models.foreign import tables
from clipmk.models.inventory import canonical, family_of, inventory, live, shipped, squashed
from clipmk.models.loading import build, load
from clipmk.models.spec import ModelSpec, pair_spec
from clipmk.system.locations import assets_dir


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
    config = open_clip.get_model_config(name)
    assert family_of(config) == family


def test_every_pair_of_open_clip_is_listed_once_with_its_size() -> None:
    entries = {entry.id: entry for entry in list_models(("cached", "remote"))}
    assert set(entries) == {f"{name}:{tag}" for name, tag in open_clip.list_pretrained()}
    large = entries["ViT-L-14-336-quickgelu:openai"]
    assert (large.input_size, large.embed_dim, large.source, large.path) == (336, 768, "remote", None)
    assert (large.architecture, large.pretrained) == ("ViT-L-14-336-quickgelu", "openai")
    assert entries["ViT-B-16-SigLIP:webli"].needs_transformers
    assert not large.needs_transformers


def test_the_shipped_list_is_what_the_installed_open_clip_says() -> None:
    """After another open_clip: python tools/make_catalog.py > core/clipmk/assets/open_clip.json."""
    content = json.loads((assets_dir() / "open_clip.json").read_text(encoding="utf-8"))
    assert content["open_clip"] == open_clip.__version__, "the shipped list is for another open_clip"
    assert shipped(content) == live(content)
    assert list(content["architectures"]) == open_clip.list_models()


@pytest.mark.parametrize("name", ["RN50", "ViT-B-32", "coca_ViT-B-32", "convnext_tiny", "MobileCLIP2-S0"])
def test_parameters_are_those_of_the_model(name: str) -> None:
    entry = replace(pair_entry("RN50", "openai"), architecture=name, needs_transformers=False)
    model = build(ModelSpec(entry=entry, config=open_clip.get_model_config(name), preprocess={}), device="meta")
    assert inventory().architectures[name].parameters == sum(value.numel() for value in model.parameters())


def test_parameters_of_a_text_tower_on_the_hub_are_not_guessed() -> None:
    unknown = {name for name, facts in inventory().architectures.items() if facts.parameters is None}
    configs = {name: open_clip.get_model_config(name) for name in open_clip.list_models()}
    assert unknown == {name for name, config in configs.items() if config["text_cfg"].get("hf_model_name")}


def test_another_version_of_open_clip_is_read_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipmk.models.inventory._installed", lambda: "99.0")
    pairs = [("ViT-B-32", "openai"), ("RN50", "cc12m")]
    monkeypatch.setattr(open_clip, "list_pretrained", lambda: pairs)
    inventory.cache_clear()
    try:
        assert list(inventory().pairs) == pairs
        assert [entry.id for entry in list_models(("remote",))] == ["ViT-B-32:openai", "RN50:cc12m"]
    finally:
        inventory.cache_clear()


@pytest.mark.parametrize(
    ("tag", "data", "pairs", "seen"),
    [
        ("openai", "WIT (OpenAI)", 400e6, None),
        ("laion2b_s34b_b79k", "LAION-2B", 2.32e9, 34e9),
        ("mscoco_finetuned_laion2b_s13b_b90k", "LAION-2B, then MS COCO", None, 13e9),
        ("laion400m_e32", "LAION-400M", 400e6, None),
        ("laion_aesthetic_s13b_b82k", "LAION-Aesthetic", 900e6, 13e9),
        ("frozen_laion5b_s13b_b90k", "LAION-5B", 5.85e9, 13e9),
        ("datacomp_xl_s13b_b90k", "DataComp-1B", 1.4e9, 13e9),
        ("datacomp_s34b_b86k", "DataComp-1B", 1.4e9, 34e9),
        ("datacomp_s_s13m_b4k", "DataComp small", 1.4e6, 13e6),
        ("datacomp1b", "DataComp-1B", 1.4e9, None),
        ("datacompdr_lt", "DataCompDR-1B", 1.28e9, None),
        ("commonpool_m_s128m_b4k", "CommonPool medium", 128e6, 128e6),
        ("commonpool_m_clip_s128m_b4k", "CommonPool medium, filtered", None, 128e6),
        ("commonpool_s_s13m_b4k", "CommonPool small", 12.8e6, 13e6),
        ("dfn2b_s39b", "DFN-2B", 2e9, 39e9),
        ("dfndr2b", "DFNDR-2B", 2e9, None),
        ("metaclip_fullcc", "MetaCLIP-2.5B", 2.5e9, None),
        ("meta", "Perception Encoder data (Meta)", 5.4e9, None),
        ("webli", "WebLI", 10e9, None),
        ("v1", None, None, None),
    ],
)
def test_tags_name_the_training_data(tag: str, data: str | None, pairs: float | None, seen: float | None) -> None:
    assert training_of(tag) == (data, pairs, seen)


def test_only_the_tags_of_one_author_do_not_name_their_data() -> None:
    assert {pair.tag for pair in inventory().pairs.values() if training_of(pair.tag)[0] is None} == {"v1", "mrl"}


def test_licences_are_listed_with_their_source_or_not_at_all() -> None:
    entries = {entry.id: entry for entry in list_models()}
    assert entries["ViT-B-32:laion2b_s34b_b79k"].licence == "MIT"
    assert entries["ViT-B-16-SigLIP:webli"].licence == "Apache-2.0"
    assert entries["ViT-B-16-quickgelu:metaclip_400m"].licence == "CC-BY-NC-4.0"
    assert entries["ViT-B-16-quickgelu:dfn2b"].licence == "apple-amlr (research only)"
    assert entries["RN50-quickgelu:cc12m"].licence is None
    assert all((entry.licence is None) == (entry.licence_source is None) for entry in entries.values())


def test_every_pair_loads_under_the_activation_of_its_weights() -> None:
    known = inventory()
    wrong = {pair.id for pair in known.pairs.values() if pair.quick_gelu and pair.name not in known.quick_gelu}
    assert len(wrong) == 27
    assert {f"{name}:openai" for name in ("RN50", "RN50x64", "ViT-B-32", "ViT-L-14-336")} <= wrong
    aliases = {entry.id: entry.alias_of for entry in list_models(("remote",)) if entry.alias_of is not None}
    assert set(aliases) == wrong
    for name, tag in open_clip.list_pretrained():
        spec = pair_spec(*canonical(f"{name}:{tag}").split(":"))
        config = open_clip.get_model_config(spec.entry.architecture)
        trained = bool(open_clip.get_pretrained_cfg(name, tag).get("quick_gelu"))
        own = bool(open_clip.get_model_config(name).get("quick_gelu"))
        assert (bool(config.get("quick_gelu")) or spec.quick_gelu) == (trained or own), (name, tag)
        plain = {"vision_cfg": config["vision_cfg"], "text_cfg": config["text_cfg"], "embed_dim": config["embed_dim"]}
        given = open_clip.get_model_config(name)
        assert plain == {key: given[key] for key in plain}, "the same towers otherwise"
        assert spec.entry.repository == pair_entry(name, tag).repository


@pytest.mark.parametrize(
    ("spelling", "meant"),
    [
        ("ViT-B-32:laion2b_s34b_b79k", "ViT-B-32:laion2b_s34b_b79k"),
        ("ViT-B/32:openai", "ViT-B-32-quickgelu:openai"),
        ("vit-b-32-quickgelu:OpenAI", "ViT-B-32-quickgelu:openai"),
        ("ViT-L/14@336px:openai", "ViT-L-14-336-quickgelu:openai"),
        ("clip-vit-b32", "ViT-B-32-quickgelu:openai"),
        ("clip-RN50x4", "RN50x4-quickgelu:openai"),
        ("openai/clip-vit-large-patch14-336", "ViT-L-14-336-quickgelu:openai"),
        ("hf-hub:openai/clip-vit-base-patch32", "ViT-B-32-quickgelu:openai"),
        ("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "ViT-B-32:laion2b_s34b_b79k"),
        ("apple/DFN2B-CLIP-ViT-B-16", "ViT-B-16-quickgelu:dfn2b"),
        ("convnext_base:LAION400M-s13b-b51k", "convnext_base:laion400m_s13b_b51k"),
        ("ViT-B-32", "ViT-B-32"),
        ("ViT-B-32:random", "ViT-B-32:random"),
        ("hf-hub:org/tiny", "hf-hub:org/tiny"),
        ("clip", "clip"),
        ("", ""),
    ],
)
def test_spellings_mean_one_pair(spelling: str, meant: str) -> None:
    assert canonical(spelling) == meant


def test_no_two_architectures_are_spelt_alike_and_every_repository_for_transformers_has_its_pair() -> None:
    names = [squashed(name) for name in inventory().architectures]
    assert len(set(names)) == len(names)
    assert all(tuple(pair.split(":")) in inventory().pairs for pair in tables()["twins"].values())


def test_weights_in_the_hub_cache_make_a_model_cached(own_places: Path) -> None:
    snapshot = cache(own_places, "timm/vit_base_patch32_clip_224.openai", "open_clip_model.safetensors")
    entries = {entry.id: entry for entry in list_models(("cached",))}
    assert set(entries) == {"ViT-B-32:openai", "ViT-B-32-quickgelu:openai"}
    assert entries["ViT-B-32:openai"].path == str(snapshot / "open_clip_model.safetensors")
    assert "ViT-B-32:openai" not in {entry.id for entry in list_models(("remote",))}


def test_safetensors_are_preferred_where_the_catalogue_names_a_pickle(own_places: Path) -> None:
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


@pytest.mark.parametrize(
    "content", ['{"model_cfg": {"embed_dim": 8, "vision_cfg": {"image_size": [128, 256]}, "text_cfg": {}}}', "{", "[]"]
)
def test_an_odd_cached_repository_does_not_hide_other_models(own_places: Path, content: str) -> None:
    for repository, config in (("org/odd", content), ("org/tiny", json.dumps({"model_cfg": model_config("resnet")}))):
        snapshot = cache(own_places, repository, "open_clip_model.safetensors")
        (snapshot / "open_clip_config.json").write_text(config)
    assert [entry.id for entry in list_models(("cached",))] == ["hf-hub:org/tiny"]


def test_embedded_models_are_the_folders_of_the_assets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    save(tmp_path / "models" / "vit-test", model_config("vit"))
    monkeypatch.setattr("clipmk.system.locations.assets_dir", lambda: tmp_path)
    (entry,) = list_models(("embedded",))
    assert (entry.id, entry.source, entry.family, entry.input_size) == ("embedded/vit-test", "embedded", "vit", 32)
    backbone = load("embedded/vit-test", device="cpu")
    assert (backbone.info.id, backbone.info.architecture) == ("embedded/vit-test", "vit-test")
    with pytest.raises(ModelError, match=r"'embedded/vit-tset' does not exist; close: 'embedded/vit-test'"):
        load("embedded/vit-tset", device="cpu")
    with pytest.raises(ModelError, match=r"'embedded/rn-l' does not exist; 'embedded/rn-parts' replaced it"):
        load("embedded/rn-l", device="cpu")


def test_registered_folders_are_local_models_and_broken_ones_do_not_hide_others(tmp_path: Path) -> None:
    save(tmp_path / "m", model_config("siglip"))
    (tmp_path / "broken").mkdir()
    (tmp_path / "config.toml").write_text(
        f'[models]\nmine = "local-dir:{tmp_path / "m"}"\nbroken = "{tmp_path / "broken"}"\nb32 = "ViT-B-32:openai"\n'
    )
    (entry,) = list_models(("local",))
    assert (entry.id, entry.source, entry.path) == ("mine", "local", str(tmp_path / "m"))


def test_sizes_of_embedded_and_registered_models_are_read_from_their_headers(tmp_path: Path) -> None:
    plain = save(tmp_path / "m", model_config("resnet"))
    (tmp_path / "config.toml").write_text(f'[models]\nmine = "local-dir:{tmp_path / "m"}"\n')
    (entry,) = list_models(("local",))
    assert entry.parameters == sum(value.numel() for value in plain.parameters())
    assert {entry.id: entry for entry in list_models(("embedded",))}["embedded/vit-s8"].parameters == pytest.approx(
        2.39e6, rel=2e-3
    )
    (tmp_path / "m" / "open_clip_model.safetensors").write_bytes(b"\xff" * 40)
    assert list_models(("local",))[0].parameters is None


def test_a_bare_name_lists_its_tags() -> None:
    with pytest.raises(ModelError) as caught:
        load("RN50", device="cpu")
    assert all(f"RN50:{tag}" in str(caught.value) for tag in open_clip.list_pretrained_tags_by_model("RN50"))
    with pytest.raises(ModelError, match="'ViT-S-16' has no pretrained weights"):
        load("ViT-S-16", device="cpu")


def test_slashes_and_dashes_in_names_are_normalised() -> None:
    with pytest.raises(ModelError, match="'ViT-B-32-quickgelu:openai' is not on this machine"):
        load("ViT-B/32:openai", device="cpu")
    with pytest.raises(ModelError, match="'ViT-B-32:laion2b_s34b_b79k' is not on this machine"):
        load("ViT-B/32:laion2b-s34b-b79k", device="cpu")


def test_unknown_names_and_tags_are_refused_with_close_ones() -> None:
    with pytest.raises(ModelError, match="'ViT-B-23:openai' does not exist; close: 'ViT-B-32'"):
        load("ViT-B-23:openai", device="cpu")
    with pytest.raises(ModelError, match="'ViT-B-32' has no pretrained tag 'opnai'; close: 'openai'"):
        load("ViT-B-32:opnai", device="cpu")


def test_a_malformed_config_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[models\n")
    with pytest.raises(UsageError):
        list_models(("local",))

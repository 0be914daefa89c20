"""A study compared with the paper's table."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from clipmk.settings import preset
from clipmk.study.paper import against_paper, departures, published_models
from study_shards import make_manifest


def row(architecture: str, pretrained: str | None, parts: str, **values: float | None) -> dict[str, Any]:
    known = {"model": f"{architecture}/{pretrained}", "top1": 0.6, "mi_paper": 7.0, "auc": 3.5}
    return {"architecture": architecture, "pretrained": pretrained, "parts": parts, **known, **values}


def test_differences_are_ours_minus_the_papers_by_part_method() -> None:
    methods = ("kmeans", "pca", "mean")
    [found] = against_paper([row("ViT-B-32-quickgelu", "openai", one, auc=i + 1.0) for i, one in enumerate(methods)])
    assert found.numbers["top1_percent"].difference == pytest.approx(60 - 61.66)
    assert (found.numbers["auc_pca"].paper, found.numbers["auc_pca"].ours) == (3.61, 2.0)
    assert found.numbers["auc_kmeans"].difference == pytest.approx(1.0 - 3.39)
    assert [found.numbers[name].difference for name in ("mi_pca", "mi_kmeans")] == pytest.approx([7 - 7.40, 7 - 7.26])


def test_models_match_by_architecture_and_pretrained_tag() -> None:
    rows = [
        row("RN50", "openai", "kmeans"),
        row("ViT-B-16", "openai", "kmeans"),
        row("ViT-B-16", "dfn2b", "kmeans"),  # not the activation of the published model
        row("ViT-B-32", "laion2b_s34b_b79k", "kmeans"),
        row("vit-s8", None, "kmeans"),
    ]
    assert [one.model for one in against_paper(rows)] == ["ViT-B-16/openai", "RN50/openai"]


def test_a_part_method_that_was_not_studied_has_no_difference() -> None:
    [found] = against_paper([row("RN50-quickgelu", "openai", "superpixels", top1=None)])
    assert found.numbers["auc_pca"].ours is found.numbers["auc_pca"].difference is None
    assert found.numbers["top1_percent"].difference is None


def test_departures_name_data_vocabulary_and_settings() -> None:
    settings = asdict(preset("default", seed=7))
    lines = departures(replace(make_manifest(), parts=("superpixels",), settings=settings))
    text = "\n".join(lines)
    assert "60 images of 6 classes (scenes)" in text
    assert "500 descriptors (world); the paper has 4,229" in text
    assert "1 prompt template;" in text
    assert "grounding is 'attend'" in text
    assert "fit is 'image'" in text
    assert "found by superpixels" in text
    assert "seed" not in text


def test_the_papers_own_study_has_no_known_departures() -> None:
    manifest = make_manifest()
    same = replace(
        manifest,
        dataset=replace(manifest.dataset, images=50_000, classes=1_000),
        vocabulary=replace(manifest.vocabulary, classes=1_000, descriptors=4_229, templates=("{}",) * 8),
    )
    [line] = departures(same)
    assert "whether they are the same words" in line


def test_the_table_names_every_model_once() -> None:
    assert len({(one.architecture, one.pretrained) for one in published_models()}) == 13

"""Presets and what is refused."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import pytest

from clipmk.errors import UsageError
from clipmk.settings import PRESETS, Settings, preset, settings_of_call

TABLE_1A = {
    "preset": "paper",
    "features": "tokens",
    "foreground": "eigenvector",
    "fit": "image",
    "second_component": True,
    "parts": "kmeans",
    "part_count": 5,
    "part_limit": 12,
    "grounding": "prompts",
    "resize": "squash",
    "candidate_count": 500,
    "intersect_candidates": True,
    "relevance": "mean",
    "relevance_offset": -0.02,
    "score_scale": 2.5,
    "assignment": "transport",
    "contrast_weight": 0.7,
    "descriptors_per_part": 3,
    "vision_limit": 15,
    "importance": "image",
    "language_count": None,
    "soft_threshold": None,
    "prediction_count": 5,
    "seed": 0,
}
"""method.md 1a and 2.2 to 2.7; `part_limit` and `contrast_weight` are not read under these choices."""


def test_the_paper_preset_is_table_1a() -> None:
    assert dataclasses.asdict(preset("paper")) == TABLE_1A


def test_the_default_preset_is_what_settings_default_to() -> None:
    assert preset("default") == Settings() == PRESETS["default"]
    assert preset("default").preset == "default"


def test_changes_are_applied_to_a_copy() -> None:
    changed = preset("paper", part_count=7, parts="pca")
    assert (changed.part_count, changed.parts, changed.preset) == (7, "pca", "paper")
    assert dataclasses.asdict(preset("paper")) == TABLE_1A


@pytest.mark.parametrize("limit", [1, 15, 30])
def test_curves_have_one_point_more_than_the_most_vision_concepts(limit: int) -> None:
    assert preset("default", vision_limit=limit).curve_length == limit + 1


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        preset("default").seed = 1  # type: ignore[misc]


def test_an_unknown_preset_names_the_close_one() -> None:
    with pytest.raises(UsageError, match=r"preset 'papr' does not exist; close: 'paper'"):
        preset("papr")
    with pytest.raises(UsageError, match=r"preset 'xyz' does not exist; known: default, paper"):
        preset("xyz")


def test_an_unknown_setting_names_the_close_one() -> None:
    with pytest.raises(UsageError, match=r"setting 'part_cont' does not exist; close: 'part_count'"):
        preset("default", part_cont=3)


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("features", "tokens, keys"),
        ("foreground", "eigenvector, centred"),
        ("parts", "kmeans, pca, superpixels"),
        ("grounding", "prompts, attend"),
        ("resize", "squash, crop"),
        ("relevance", "mean, median"),
        ("fit", "image, batch"),
        ("importance", "image, part, both"),
        ("assignment", "transport, contrast"),
    ],
)
def test_an_unknown_value_names_the_choices(name: str, choices: str) -> None:
    with pytest.raises(UsageError, match=rf"{name} is 'fancy'; it must be one of: {choices}$"):
        preset("paper", **{name: "fancy"})
    for choice in choices.split(", "):
        assert getattr(preset("paper", **{name: choice}), name) == choice


@pytest.mark.parametrize(
    "name",
    [
        "part_count",
        "part_limit",
        "candidate_count",
        "descriptors_per_part",
        "vision_limit",
        "prediction_count",
        "language_count",
    ],
)
def test_counts_start_at_one(name: str) -> None:
    with pytest.raises(UsageError, match=rf"{name} is 0; it must be at least 1"):
        preset("default", **{name: 0})
    assert getattr(preset("default", **{name: 1}), name) == 1


@pytest.mark.parametrize("threshold", [-0.1, 1.0, math.nan])
def test_a_soft_threshold_is_a_cosine_from_0_to_below_1(threshold: float) -> None:
    with pytest.raises(UsageError, match=rf"soft_threshold is {threshold}; it must be at least 0 and below 1"):
        preset("default", soft_threshold=threshold)
    assert preset("default", soft_threshold=0.0).soft_threshold == 0.0


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("part_count", "3", "a whole number"),
        ("seed", 1.5, "a whole number"),
        ("seed", True, "a whole number"),
        ("contrast_weight", "high", "a number"),
    ],
)
def test_a_number_of_another_type_is_refused(name: str, value: object, words: str) -> None:
    with pytest.raises(UsageError, match=rf"{name} is {value!r}; it must be {words}"):
        preset("default", **{name: value})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("language_count", "5", "a whole number"),
        ("language_count", True, "a whole number"),
        ("part_count", None, "a whole number"),
        ("part_count", 10**400, "at most 1000000"),
        ("seed", -1, "at least 0"),
        ("seed", 2**32, "at most 4294967294"),
        ("relevance_offset", math.nan, "a finite number"),
        ("score_scale", math.inf, "a finite number"),
        ("contrast_weight", True, "a number"),
        ("soft_threshold", "0.5", "a number"),
        ("second_component", 1, "true or false"),
        ("intersect_candidates", "yes", "true or false"),
        ("parts", 3, "one of: kmeans, pca, superpixels"),
        ("features", ["tokens"], "one of: tokens, keys"),
    ],
)
def test_every_setting_is_checked_however_it_is_made(name: str, value: Any, words: str) -> None:
    makers: tuple[Callable[..., Settings], ...] = (
        Settings,
        functools.partial(preset, "paper"),
        functools.partial(dataclasses.replace, PRESETS["paper"]),
        lambda **changes: settings_of_call(None, seed=None, settings=changes),
    )
    for make in makers:
        with pytest.raises(UsageError, match=rf"^{name} is .*; it must be {words}$"):
            make(**{name: value})


def test_the_preset_of_settings_exists() -> None:
    with pytest.raises(UsageError, match="preset is 'papr'; it must be one of: default, paper"):
        Settings(preset="papr")
    with pytest.raises(UsageError, match="setting 'preset' does not exist"):
        preset("default", preset="paper")
    for wrong in (3, ["paper"], None):
        with pytest.raises(UsageError, match=r"^preset .* does not exist"):
            preset(wrong)  # type: ignore[arg-type]


def test_a_call_may_name_preset_and_seed_among_its_settings() -> None:
    chosen = settings_of_call(None, seed=None, settings={"preset": "paper", "seed": 3, "part_count": 2})
    assert chosen == preset("paper", seed=3, part_count=2)
    assert settings_of_call("paper", seed=3, settings={"preset": "paper", "seed": 3}) == preset("paper", seed=3)
    assert settings_of_call(None, seed=4, settings=preset("paper", parts="pca")) == preset("paper", parts="pca", seed=4)
    assert settings_of_call(None, seed=None, settings=None) == Settings()


def test_a_call_that_contradicts_its_settings_is_refused() -> None:
    with pytest.raises(UsageError, match="preset is given twice: 'default', and 'paper' in settings"):
        settings_of_call("default", seed=None, settings={"preset": "paper"})
    with pytest.raises(UsageError, match="seed is given twice: 0, and 3 in settings"):
        settings_of_call(None, seed=0, settings={"seed": 3})
    with pytest.raises(UsageError, match=r"seed is given twice: 3, and \[3\] in settings"):
        settings_of_call(None, seed=3, settings={"seed": [3]})
    for wrong in ("paper", ["part_count"], {3: 4}):
        with pytest.raises(UsageError, match="it must map names of settings to values"):
            settings_of_call(None, seed=None, settings=wrong)  # type: ignore[arg-type]

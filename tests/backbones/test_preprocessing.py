"""Preprocessing settings, against open_clip's own transform."""

from __future__ import annotations

from typing import Any

import open_clip
import pytest
from torchvision.transforms import InterpolationMode, Normalize, Resize

from clipmk.backbones.backbone import read_preprocessing
from clipmk.errors import ModelError

SETTINGS: list[dict[str, Any]] = [
    {},
    {"mean": None, "std": None, "interpolation": None, "mode": None},
    {"mean": [0.1, 0.2, 0.3], "std": (0.4, 0.5, 0.6)},
    {"mean": 0.5, "std": 0.5},
    {"mean": 0, "std": 1},
    {"mean": [0, 0, 0], "std": [1, 1, 1]},
    {"mean": [], "std": []},
    {"interpolation": "bilinear"},
    {"interpolation": "random"},
    {"interpolation": ""},
    {"fill_color": 3, "size": 99, "unknown": 1},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_settings_mean_what_open_clip_makes_of_them(settings: dict[str, Any]) -> None:
    known = {name: settings.get(name) for name in ("mean", "std", "interpolation")}
    steps = open_clip.image_transform(32, is_train=False, **known).transforms
    found = read_preprocessing(settings, "x")
    (normalise,) = [step for step in steps if isinstance(step, Normalize)]
    assert (found.mean, found.std) == (tuple(normalise.mean), tuple(normalise.std))
    assert isinstance(steps[0], Resize)
    assert steps[0].interpolation == InterpolationMode(found.interpolation)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"interpolation": "nearest"}, "interpolation 'nearest'; it must be one of: bicubic, bilinear, random"),
        ({"interpolation": ["bicubic"]}, "interpolation"),
        ({"mode": "L"}, "mode 'L'; it must be one of: RGB"),
        ({"mean": [0.5, 0.5]}, "mean .*one or three numbers"),
        ({"mean": [0.5] * 4}, "mean .*one or three numbers"),
        ({"mean": "0.5"}, "mean .*one or three numbers"),
        ({"std": [1, None, 1]}, "std .*one or three numbers"),
        ({"std": float("nan")}, "std .*one or three numbers"),
        ({"std": [1, 0, 1]}, "std .*it must be other than 0"),
    ],
)
def test_what_open_clip_refuses_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=f"the preprocessing of model 'x' has {message}"):
        read_preprocessing(settings, "x")

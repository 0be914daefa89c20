"""The rule by which an embedded model knows that it cannot know what it sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import embedded
from clipmk.explanation import Explanation
from clipmk.images.decoder import read_picture
from clipmk.world.likeness import UNFAMILIAR, looks_rendered
from clipmk.world.scene import render_scene

PHOTOGRAPHS = Path(__file__).parents[2] / "sample_images" / "photographs"
COUNT = 200


@pytest.mark.parametrize("split", ["train", "test", "counterfactual", "hard"])
def test_scenes_of_every_kind_look_rendered(split: str) -> None:
    scenes = [render_scene(split, index, seed=7) for index in range(COUNT)]
    assert [scene.index for scene in scenes if not looks_rendered(scene.image)] == []
    if split == "counterfactual":
        assert {scene.kind for scene in scenes} == {"swapped", "recoloured", "missing", "chimera"}


@pytest.mark.parametrize("size", [128, 512])
def test_large_scenes_look_rendered(size: int) -> None:
    scenes = [render_scene("counterfactual", index, seed=7, size=size) for index in range(COUNT // 10)]
    assert [scene.index for scene in scenes if not looks_rendered(scene.image)] == []


@pytest.mark.parametrize("name", ["camera.png", "chelsea.png", "coffee.png", "rocket.jpg"])
def test_photographs_do_not_look_rendered_nor_do_their_parts(name: str) -> None:
    pixels = read_picture(PHOTOGRAPHS / name).pixels
    height, width = (side // 2 for side in pixels.shape[:2])
    parts = [pixels[y : y + height, x : x + width] for y in (0, height) for x in (0, width)]
    assert not any(looks_rendered(part) for part in (pixels, np.repeat(np.repeat(pixels, 3, 0), 3, 1), *parts))


def test_plain_paint_without_grain_does_not_look_rendered() -> None:
    assert not looks_rendered(np.full((64, 64, 3), 128, np.uint8))
    assert not looks_rendered(np.full((1, 3, 3), 128, np.uint8))


@pytest.mark.parametrize(("image", "familiar"), [("photographs/chelsea.png", False), ("fox-typical-09.png", True)])
def test_an_embedded_model_warns_of_what_it_cannot_know(image: str, familiar: bool) -> None:
    path = PHOTOGRAPHS.parent / image
    explainer = embedded.explainer()
    for result in (explainer.explain([read_picture(path)])[0], *explainer.stream([path])):
        assert isinstance(result, Explanation)
        assert (UNFAMILIAR not in result.warnings) == familiar

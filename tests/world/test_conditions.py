"""The conditions under which splits are seen: what they promise, and that old splits keep their pixels."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from random import Random

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmk.system.locations import json_asset
from clipmk.world import render
from clipmk.world.background import Mark
from clipmk.world.combinations import typical_descriptors
from clipmk.world.conditions import ALL_SPLITS, SPLITS, Bernoulli, Conditions, Uniform, conditions_of
from clipmk.world.sampling import plan_scene
from clipmk.world.scene import render_scenes

COUNT = 60
PIXELS = {
    "train": "b8ec2ac97fb50923",
    "test": "2f159219184d7ebd",
    "counterfactual": "488ac5213351db2d",
    "val": "dbaa3720890f5f68",
    "hard": "dfbf309a9c6047d8",
    "varied": "a76a8442a641c250",
    "cue": "2f55feaef1d3fce7",
}
"""Digests of pictures and truth of the first scenes. A change here makes every published number one of the past."""


def drawings(split: str, count: int = COUNT, seed: int = 11) -> list[render.Drawing]:
    """What `render_scene` renders."""
    made = []
    for index in range(count):
        planned, rng = plan_scene(split, index, seed=seed)
        grain = np.random.default_rng([seed, ALL_SPLITS.index(split), index])
        made.append(render.draw(planned, rng, grain, conditions_of(split)))
    return made


@pytest.fixture(scope="module")
def hard() -> list[render.Drawing]:
    return drawings("hard")


def silhouette(occluders: tuple[Mark, ...], side: int = 256) -> np.ndarray:
    """Pixels that a patch covers, bool (side, side)."""
    covered = np.zeros((side, side), np.uint8)
    for one in occluders:
        cv2.fillPoly(covered, [np.rint(one.points * side).astype(np.int32)], 1)
    return covered > 0


@pytest.mark.parametrize(("split", "digest"), PIXELS.items())
def test_pixels_and_truth_of_every_split_are_what_they_have_always_been(split: str, digest: str) -> None:
    found = hashlib.sha256()
    for scene in (*render_scenes(split, count=30), *render_scenes(split, count=3, size=200, seed=7)):
        found.update(scene.image.tobytes() + scene.object_mask.tobytes())
        found.update(f"{scene.class_name}|{scene.kind}|{scene.framing}|{scene.missing}".encode())
        for part in scene.parts:
            found.update(part.descriptor.encode() + part.mask_pixels.tobytes())
    assert found.hexdigest()[:16] == digest


def test_every_split_has_conditions_and_those_of_a_study_are_never_trained_on() -> None:
    assert set(PIXELS) == set(json_asset("world/conditions.json")) == set(ALL_SPLITS)
    assert ALL_SPLITS[:4] == ("train", "test", "counterfactual", "val")  # the places are part of the seeds
    assert set(ALL_SPLITS) - set(SPLITS) == {"val", "varied"}


def test_hard_scenes_are_ordinary_ones_of_their_own() -> None:
    plans = [plan_scene("hard", index, seed=0)[0] for index in range(300)]
    assert {(one.kind, one.missing, one.camera.target) for one in plans} == {("typical", (), None)}
    for one in plans:
        assert {part.descriptor for part in one.placed} <= set(typical_descriptors(one.class_name))
    assert {split for split in ALL_SPLITS if plan_scene(split, 0, seed=0)[0] == plans[0]} == {"hard"}


@pytest.mark.parametrize("split", ALL_SPLITS)
def test_cameras_keep_to_the_conditions_of_their_split_and_use_them(split: str) -> None:
    seen = conditions_of(split)
    cameras = [plan_scene(split, index, seed=0)[0].camera for index in range(400)]
    whole = [camera for camera in cameras if camera.target is None]
    for spread, values in (
        (seen.scale, [camera.scale for camera in whole]),
        (seen.stretch, [camera.stretch for camera in cameras]),
        (seen.degrees, [camera.degrees for camera in cameras]),
    ):
        assert spread.low <= min(values) < spread.low + 0.05 * spread.span
        assert spread.low + 0.95 * spread.span < max(values) <= spread.low + spread.span


@given(st.floats(-100, 100), st.floats(0, 100), st.integers(0, 2**32))
def test_uniform_is_its_equation_and_bernoulli_draws_only_where_chance_decides(
    low: float, span: float, seed: int
) -> None:
    rng, again = (Random(seed) for _ in range(2))  # noqa: S311 -- pictures, not secrets
    assert Uniform(low, span).draw(rng) == low + span * again.random()
    assert Bernoulli(0.4).draw(rng) == (again.random() < 0.4)
    assert (Bernoulli(0.0).draw(rng), Bernoulli(1.0).draw(rng)) == (False, True)
    assert rng.random() == again.random()


def test_patches_take_from_masks_exactly_what_they_cover(hard: list[render.Drawing]) -> None:
    hidden = 0
    for drawing in hard:
        seen, bare = (render.part_labels(one, 256) for one in (drawing, replace(drawing, occluders=())))
        covered = silhouette(drawing.occluders)
        rim = cv2.dilate(covered.astype(np.uint8), np.ones((5, 5))) > 0
        core = cv2.erode(covered.astype(np.uint8), np.ones((5, 5))) > 0
        assert (seen[~rim] == bare[~rim]).all()
        assert not seen[core].any()
        hidden += int((bare[core] > 0).any())
        for patch in drawing.occluders:
            assert np.abs(patch.points.mean(axis=0) - 0.5 - drawing.plan.camera.shift).max() < 0.28
    assert hidden > 0.5 * len(hard)


def test_the_camera_changes_no_mask(hard: list[render.Drawing]) -> None:
    for drawing in hard[:20]:
        assert (render.render(drawing, 64)[1] == render.render(replace(drawing, exposure=None), 64)[1]).all()


@pytest.mark.parametrize("size", [64, 200])
def test_exposure_is_its_equation_on_flat_pictures(size: int) -> None:
    exposure = render.Exposure(blur=0.7, contrast=0.6, light=(0.1, -0.2, 0.8))
    for value in (0, 90, 128, 255):
        exposed = render._expose(np.full((size, size, 3), value, np.uint8), exposure)
        for row, column in ((0, 0), (0, size - 1), (size - 1, 3), (size // 2, size // 3)):
            x, y = 2 * column / (size - 1) - 1, 2 * row / (size - 1) - 1
            expected = (0.1 * x - 0.2 * y + 0.8) * (128 + 0.6 * (value - 128))
            assert np.abs(exposed[row, column] - np.clip(expected, 0, 255)).max() <= 0.501


def test_blur_is_a_gaussian_of_the_same_width_at_every_size() -> None:
    exposure = render.Exposure(blur=1.5, contrast=1.0, light=(0.0, 0.0, 1.0))
    for size in (64, 256):
        edge = np.zeros((size, size, 3), np.uint8)
        edge[:, size // 2 :] = 200
        slope = np.diff(render._expose(edge, exposure)[size // 2, :, 0].astype(float)).clip(0)
        places = np.arange(size - 1)
        middle = np.average(places, weights=slope)
        sigma = np.sqrt(np.average((places - middle) ** 2, weights=slope)) * 64 / size
        assert sigma == pytest.approx(1.5, rel=0.03)


def test_hard_pictures_are_darker_flatter_and_more_hidden_than_those_of_test(hard: list[render.Drawing]) -> None:
    def facts(made: list[render.Drawing]) -> np.ndarray:
        rows = []
        for drawing in made:
            image, labels = render.render(drawing, 64)
            gray = image.mean(axis=2)
            smooth = cv2.GaussianBlur(gray, (0, 0), 1.5)
            shown, bare = (labels > 0).sum(), (render.part_labels(replace(drawing, occluders=()), 64) > 0).sum()
            rows.append((gray.mean(), smooth.std(), shown / bare, bare, -len(drawing.background.marks)))
        return np.mean(rows, axis=0)

    assert (facts(hard) < facts(drawings("test"))).all()


def test_default_conditions_are_those_of_ordinary_scenes() -> None:
    assert conditions_of("test") == Conditions()
    assert Conditions().exposure is None

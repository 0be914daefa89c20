"""Visual prompts: the ellipse's geometry, and each prompt against PIL and scipy."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy import ndimage

from clipmk.concepts.prompts import RED, Ellipse, blur_region, compose_prompts, draw_prompts, fit_ellipse, grey, mark

SIDE = 96


def picture(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return ndimage.zoom(rng.integers(0, 256, (12, 12, 3)), (8, 8, 1), order=1).clip(0, 255).astype(np.uint8)


def filled(centre: tuple[float, float], axes: tuple[float, float], angle: float, side: int = SIDE) -> np.ndarray:
    """The ellipse by its equation, axes as whole lengths, angle clockwise from x in degrees."""
    y, x = np.mgrid[0:side, 0:side]
    dx, dy, turn = x - centre[0], y - centre[1], math.radians(angle)
    along, across = dx * math.cos(turn) + dy * math.sin(turn), -dx * math.sin(turn) + dy * math.cos(turn)
    return (2 * along / axes[0]) ** 2 + (2 * across / axes[1]) ** 2 <= 1


def gaussian(image: np.ndarray) -> np.ndarray:
    taps = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 2.0**2))
    taps /= taps.sum()
    rows = ndimage.correlate1d(image.astype(np.float64), taps, axis=0, mode="mirror")
    return ndimage.correlate1d(rows, taps, axis=1, mode="mirror")


def ellipse_region(ellipse: Ellipse, *, side: int) -> np.ndarray:
    """OpenCV's filled ellipse."""
    canvas = np.zeros((side, side), dtype=np.uint8)
    cv2.ellipse(canvas, ellipse, 1, -1)
    return canvas.astype(bool)


@pytest.mark.parametrize("angle", [0, 30, 75, 120])
def test_the_fit_recovers_an_ellipse(angle: float) -> None:
    centre, axes = (50.0, 44.0), (30.0, 60.0)
    found_centre, found_axes, found_angle = fit_ellipse(filled(centre, axes, angle))
    assert found_centre == pytest.approx(centre, abs=0.5)
    assert found_axes == pytest.approx(axes, abs=2)
    assert abs((found_angle - angle + 90) % 180 - 90) < 2


@pytest.mark.parametrize("angle", [0, 30, 120])
def test_the_filled_region_follows_the_equation(angle: float) -> None:
    expected = filled((50, 44), (30, 60), angle)
    region = ellipse_region(((50, 44), (30, 60), angle), side=SIDE)
    assert (expected & region).sum() / (expected | region).sum() > 0.93


def test_the_fit_uses_all_points_of_the_largest_contour_as_opencv_does() -> None:
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[5:12, 5:9] = True
    mask[40:70, 30:50] = True
    mask[50:60, 50:90] = True
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    assert len(contours) == 2
    centre, axes, angle = cv2.fitEllipse(max(contours, key=len))
    assert fit_ellipse(mask) == (pytest.approx(centre), pytest.approx(axes), pytest.approx(angle))
    corners, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    assert fit_ellipse(mask)[1] != pytest.approx(cv2.fitEllipse(max(corners, key=cv2.contourArea))[1], rel=1e-2)


@pytest.mark.parametrize(
    ("box", "centre", "axes"),
    [
        ((7, 8, 5, 6), (5.0, 7.0), (1.0, 1.0)),
        ((7, 8, 5, 8), (6.0, 7.0), (3.0, 1.0)),
        ((6, 8, 5, 7), (5.5, 6.5), (2.0, 2.0)),
        ((7, 8, 5, 25), (14.5, 7.0), (20.0, 1.0)),
        ((3, 43, 5, 6), (5.0, 22.5), (1.0, 40.0)),
    ],
    ids=["one pixel", "three pixels", "four contour points", "a row", "a column"],
)
def test_too_few_points_or_points_on_a_line_give_the_bounding_ellipse(
    box: tuple[int, int, int, int], centre: tuple[float, float], axes: tuple[float, float]
) -> None:
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[box[0] : box[1], box[2] : box[3]] = True
    assert fit_ellipse(mask) == (centre, axes, 0.0)


def test_an_empty_mask_gives_the_ellipse_of_the_whole_square() -> None:
    assert fit_ellipse(np.zeros((10, 10), dtype=bool)) == ((4.5, 4.5), (10.0, 10.0), 0.0)


@given(hnp.arrays(np.bool_, (12, 12), elements=st.booleans()))
def test_any_mask_has_a_finite_ellipse_and_always_the_same(mask: np.ndarray) -> None:
    found = fit_ellipse(mask)
    assert found == fit_ellipse(mask)
    centre, axes, angle = found
    assert np.isfinite([*centre, *axes, angle]).all()
    assert min(axes) >= 1


@pytest.fixture(name="drawn")
def fixture_drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Picture, prompts, the ellipse's inside, and everything the line may cover."""
    image = picture()
    mask = filled((50, 44), (30, 60), 30)
    prompts = draw_prompts(image, mask)
    ellipse = fit_ellipse(mask)
    inside = ellipse_region(ellipse, side=SIDE)
    line = (prompts == RED).all(axis=-1)[0]
    return image, prompts, inside, line


def test_the_line_is_one_red_pixel_wide_around_the_ellipse(drawn: tuple[np.ndarray, ...]) -> None:
    _, prompts, inside, line = drawn
    edge = inside & ~ndimage.binary_erosion(inside)
    near_edge = ndimage.binary_dilation(edge, iterations=2)
    assert not (line & ~near_edge).any()
    around = math.pi * (3 * (15 + 30) - math.sqrt((3 * 15 + 30) * (15 + 3 * 30)))
    assert 0.75 * around < line.sum() < 1.2 * around
    _, holes = ndimage.label(~line)
    assert holes == 2
    assert all(((prompt == RED).all(axis=-1) == line).all() for prompt in prompts)


def test_prompt_a_leaves_everything_but_the_line_alone(drawn: tuple[np.ndarray, ...]) -> None:
    image, prompts, _, line = drawn
    assert prompts.shape == (3, SIDE, SIDE, 3)
    assert prompts.dtype == np.uint8
    assert np.array_equal(prompts[0][~line], image[~line])


def test_prompt_b_is_grey_outside_and_untouched_inside(drawn: tuple[np.ndarray, ...]) -> None:
    image, prompts, inside, line = drawn
    grey = np.asarray(Image.fromarray(image).convert("L"), dtype=int)[..., None]
    outside = ~inside & ~line
    assert np.abs(prompts[1][outside].astype(int) - grey[outside]).max() <= 1
    assert np.ptp(prompts[1][outside], axis=-1).max() == 0
    assert np.array_equal(prompts[1][inside & ~line], image[inside & ~line])
    assert np.ptp(image[outside], axis=-1).max() > 50


def test_prompt_c_is_blurred_outside_and_untouched_inside(drawn: tuple[np.ndarray, ...]) -> None:
    image, prompts, inside, line = drawn
    outside = ~inside & ~line
    assert np.abs(prompts[2][outside] - gaussian(image)[outside]).max() <= 1
    assert np.abs(image[outside] - gaussian(image)[outside]).max() > 10
    assert np.array_equal(prompts[2][inside & ~line], image[inside & ~line])


def test_blurring_a_region_changes_only_the_region() -> None:
    image = picture(1)
    before = image.copy()
    mask = filled((30, 60), (20, 30), 0)
    hidden = blur_region(image, mask)
    assert np.array_equal(hidden[~mask], image[~mask])
    assert np.abs(hidden[mask] - gaussian(image)[mask]).max() <= 1
    assert np.array_equal(image, before)


def test_drawing_leaves_its_inputs_alone() -> None:
    image, mask = picture(2), filled((30, 60), (20, 30), 0)
    copies = image.copy(), mask.copy()
    draw_prompts(image, mask)
    assert np.array_equal(image, copies[0])
    assert np.array_equal(mask, copies[1])


def test_parts_drawn_together_are_those_drawn_alone() -> None:
    image, masks = picture(), np.stack([filled((50, 44), (30, 60), 30), filled((30, 60), (20, 30), 0)])
    together = draw_prompts(image, masks)
    assert np.array_equal(together, np.concatenate([draw_prompts(image, mask) for mask in masks]))


@settings(max_examples=60)
@given(st.integers(2, 70), st.integers(0, 2**32 - 1))
def test_prompts_composed_as_tensors_are_those_that_opencv_draws(side: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 256, (side, side, 3), dtype=np.uint8)
    coarse = generator.random((3, 4, 4)).astype(np.float32)
    masks = np.stack([cv2.resize(one, (side, side)) > 0.6 for one in coarse])
    composed = compose_prompts(torch.from_numpy(image), torch.from_numpy(np.stack([mark(one) for one in masks])))
    assert np.array_equal(composed.numpy(), draw_prompts(image, masks))


def test_every_colour_has_the_grey_of_opencv() -> None:
    steps = np.arange(0, 256, 5, dtype=np.uint8)
    image = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, len(steps), 3)
    expected = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    assert np.array_equal(grey(torch.from_numpy(image)).numpy(), np.repeat(expected[..., None], 3, axis=2))

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

import samples
from clipmk.errors import ImageError
from clipmk.images.decoder import read_picture
from clipmk.images.masks import rle_encode
from clipmk.output.overlay import anchor, overlay, readable_scale
from clipmk.output.palette import colour_of

CONES = {
    "none": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
"""Machado, Oliveira and Fernandes (2009), severity 1."""


def _lab(rgb: tuple[int, int, int], cones: np.ndarray) -> np.ndarray:
    values = np.array(rgb) / 255
    linear = cones @ np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ linear.clip(0, 1) / np.array([0.9505, 1, 1.089])
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("sight", CONES)
def test_any_two_of_twelve_colours_differ_for_every_kind_of_colour_vision(sight: str) -> None:
    palette = {colour_of(part) for part in range(1, 30)}
    assert len(palette) == 12
    labs = [_lab(colour, CONES[sight]) for colour in palette]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(labs, 2)) > 15


def test_parts_that_are_left_out_are_blurred_and_not_tinted() -> None:
    explanation, shape = samples.explanation(), (samples.HEIGHT, samples.WIDTH, 3)
    noise = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    drawn = np.asarray(overlay(explanation.with_what_if(["pointed ears"], None), Image.fromarray(noise), marks=False))
    assert explanation.parts_of(["pointed ears"]) == {1}
    assert drawn[samples.EARS].std() < 0.6 * noise[samples.EARS].std()
    assert np.ptp(drawn[samples.EARS].mean(axis=0)) < 30
    whole = np.asarray(overlay(explanation, Image.fromarray(noise), marks=False))
    assert np.array_equal(drawn[samples.TAIL & ~samples.EARS], whole[samples.TAIL & ~samples.EARS])


def test_parts_cover_the_picture_in_their_colours() -> None:
    explanation, plain = samples.explanation(with_picture=True), np.asarray(samples.picture()).astype(float)
    drawn = np.asarray(overlay(explanation, alpha=0.25, marks=False)).astype(float)
    outside = ~(samples.EARS | samples.TAIL)
    assert np.array_equal(drawn[outside], plain[outside])
    for number, mask in enumerate(samples.MASKS, 1):
        expected = 0.75 * plain[mask] + 0.25 * np.array(colour_of(number))
        assert np.abs(drawn[mask] - expected).max() <= 1.5


def test_marks_add_a_full_contour_and_a_number_and_nothing_outside() -> None:
    explanation = samples.explanation(with_picture=True)
    tinted = np.asarray(overlay(explanation, marks=False))
    marked = np.asarray(overlay(explanation))
    rim = samples.EARS.copy()
    rim[5:13, 11:29] = False
    assert (marked[rim] == colour_of(1)).all()
    outside = ~(samples.EARS | samples.TAIL)
    assert np.array_equal(marked[outside], tinted[outside])
    inside = samples.EARS & ~rim
    assert (marked[inside] != tinted[inside]).any()


def test_part_numbers_distinguish_parts_without_colour() -> None:
    explanation = samples.explanation(with_picture=True)
    grey = np.asarray(overlay(explanation, scale=8).convert("L"))
    ears, tail = anchor(samples.EARS), anchor(samples.TAIL)
    digits = [grey[8 * y - 20 : 8 * y + 20, 8 * x - 20 : 8 * x + 20] > 250 for x, y in (ears, tail)]
    assert all(20 < digit.sum() < 800 for digit in digits)
    assert (digits[0] != digits[1]).any()


def test_magnified_overlay_keeps_the_parts_in_place() -> None:
    explanation = samples.explanation(with_picture=True)
    small, large = (overlay(explanation, marks=False, scale=scale) for scale in (1, 3))
    assert large.size == (180, 120)
    assert np.array_equal(np.asarray(large)[1::3, 1::3], np.asarray(small))


def test_scale_makes_small_pictures_readable_and_leaves_large_ones() -> None:
    assert readable_scale(samples.explanation()) == 7  # 40 px -> 280 px


def test_picture_itself_is_not_drawn_on() -> None:
    explanation = samples.explanation(with_picture=True)
    overlay(explanation)
    assert np.array_equal(np.asarray(explanation.picture), np.asarray(samples.picture()))


def test_given_picture_is_used_and_its_size_is_checked() -> None:
    explanation = samples.explanation()
    white = Image.new("L", (60, 40), 255)
    assert overlay(explanation, white).getpixel((0, 0)) == (255, 255, 255)
    with pytest.raises(ImageError, match="41x40 px; the explanation is about 60x40 px"):
        overlay(explanation, Image.new("RGB", (41, 40)))


@pytest.mark.parametrize("path", [None, "-"])
def test_overlay_without_any_picture_says_so(path: str | None) -> None:
    with pytest.raises(ImageError, match="pass the image"):
        samples.explanation(path=path).overlay()


def test_overlay_reads_the_file_again_unless_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "fox.png"
    samples.picture().save(path)
    explanation = dataclasses.replace(samples.explanation(), image=read_picture(path).info)
    assert np.array_equal(
        np.asarray(explanation.overlay()), np.asarray(samples.explanation(with_picture=True).overlay())
    )
    Image.new("RGB", (60, 40)).save(path)
    with pytest.raises(ImageError, match=r"fox\.png' has changed"):
        explanation.overlay()


def test_empty_part_outside_a_crop_is_skipped() -> None:
    explanation = samples.explanation(with_picture=True)
    nothing = dataclasses.replace(explanation.parts[0], mask=rle_encode(np.zeros((40, 60), dtype=bool)))
    drawn = np.asarray(overlay(dataclasses.replace(explanation, parts=(nothing,))))
    assert np.array_equal(drawn, np.asarray(samples.picture()))


@settings(max_examples=60)
@given(hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))).filter(np.any))
def test_anchor_is_as_far_inside_as_any_pixel(mask: np.ndarray) -> None:
    padded = np.pad(mask, 1)
    border = np.argwhere(~padded) - 1
    depth = {tuple(p): np.hypot(*(border - p).T).min() for p in np.argwhere(mask)}
    x, y = anchor(mask)
    assert depth[y, x] == pytest.approx(max(depth.values()), abs=1e-3)


def test_anchor_of_a_rectangle_is_its_middle() -> None:
    mask = np.zeros((30, 50), dtype=bool)
    mask[5:16, 10:41] = True
    assert anchor(mask) == (25, 10)

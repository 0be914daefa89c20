"""Relevance maps on their way into the record and back."""

from __future__ import annotations

import numpy as np
import pytest

from clipmk.images.masks import heat_encode, heat_grid, heat_pixels
from clipmk.images.square import Square


@pytest.mark.parametrize("scale", [1.0, 1e-4])
def test_a_map_comes_back_as_exactly_as_a_byte_holds_it(scale: float) -> None:
    values = scale * np.random.default_rng(0).uniform(0, 1, (7, 5)).astype(np.float32)
    heat = heat_encode(values, Square(40, 30, 8, "squash"))
    assert heat.size == (7, 5)
    assert heat.bbox_xyxy == (0, 0, 40, 30)
    assert np.abs(heat_grid(heat) - values).max() <= heat.scale / 510 * 1.001
    assert heat_pixels(heat, width=40, height=30).shape == (30, 40)


def test_a_map_of_zeros_stays_zeros() -> None:
    heat = heat_encode(np.zeros((4, 4), dtype=np.float32), Square(8, 8, 8, "squash"))
    assert heat.scale == 0
    assert not heat_pixels(heat, width=8, height=8).any()


def test_nothing_is_relevant_outside_a_crop() -> None:
    heat = heat_encode(np.ones((4, 4), dtype=np.float32), Square(30, 10, 8, "crop"))
    pixels = heat_pixels(heat, width=30, height=10)
    left, _, right, _ = heat.bbox_xyxy
    assert (left, right) == (10, 20)
    assert pixels[:, left:right].all()
    assert not pixels[:, :left].any()
    assert not pixels[:, right:].any()

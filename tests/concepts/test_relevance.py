"""Standing, shares, maps and the overlap with one more text, against loops in plain Python, in float64."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipmk.concepts.relevance import bank_shares, hidden_losses, overlap_with, relevance_map, standing


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).uniform(-1, 1, shape))


def test_a_text_stands_where_counting_puts_it_and_not_against_itself() -> None:
    bank = torch.tensor([0.1, 0.4, 0.4, -0.2])
    found = standing(torch.tensor([0.4, 0.4, 0.05]), bank, [None, 1, None])
    values = [float(value) for value in bank.double()]
    assert found.rank.tolist() == [1, 1, 4]
    assert found.percentile.tolist() == [2 / 4, 2 / 3, 1 / 4]
    assert found.p_value.tolist() == [3 / 5, 2 / 4, 4 / 5]
    mean, deviation = statistics.mean(values), statistics.pstdev(values)
    expected = [(value - mean) / deviation for value in (values[1], values[1], float(torch.tensor(0.05)))]
    assert found.score.tolist() == pytest.approx(expected, rel=1e-12)


def test_equal_descriptors_have_no_deviation_and_every_number_is_finite() -> None:
    found = standing(torch.tensor([0.5]), torch.tensor([0.5, 0.5]), [0])
    assert found.score.tolist() == [0.0]
    assert found.p_value.tolist() == [1.0]
    assert standing(torch.tensor([0.5]), torch.tensor([0.5]), [0]).percentile.tolist() == [0.0]


def test_shares_are_those_of_a_softmax_that_holds_the_text_once() -> None:
    bank, texts = drawn(3, 5, seed=1), drawn(3, 2, seed=2)
    cosines = torch.cat([texts, bank[:, 2:3]], dim=1)
    found = bank_shares(cosines, bank, torch.tensor([False, False, True]), sharpness=7.0)
    for region in range(3):
        terms = [math.exp(7.0 * float(value)) for value in bank[region]]
        for column in range(3):
            own = math.exp(7.0 * float(cosines[region, column]))
            others = sum(terms) - (own if column == 2 else 0.0)
            assert float(found[region, column]) == pytest.approx(own / (own + others), rel=1e-12)


def test_what_is_lost_with_a_region_is_a_share_of_the_share_and_never_negative() -> None:
    whole, hidden = torch.tensor([0.5, 0.2, 0.0]), torch.tensor([[0.1, 0.3, 0.0], [0.5, 0.0, 0.0]])
    assert hidden_losses(whole.double(), hidden.double())[:, :2].tolist() == [
        [pytest.approx(0.8), 0.0],
        [pytest.approx(0.0), 1.0],
    ]
    assert bool(hidden_losses(whole, hidden).isfinite().all())


def test_a_map_is_the_mean_of_what_is_lost_with_its_region_and_of_its_patch_and_part_half_smoothed() -> None:
    patches, parts, losses = drawn(6, 2, seed=3).abs(), drawn(2, 2, seed=4).abs(), drawn(3, 2, seed=6).abs()
    masks, regions = drawn(2, 36, seed=5).abs(), drawn(3, 36, seed=7).softmax(dim=0)
    found = relevance_map(patches, parts, masks, losses=losses, regions=regions, grid=(2, 3), side=6)
    for text in range(2):
        grid = [[float(patches[3 * i + j, text]) for j in range(3)] for i in range(2)]
        pooled = [
            (bilinear(grid, x // 6, x % 6) + sum(float(parts[k, text] * masks[k, x]) for k in range(2))) / 2
            for x in range(36)
        ]
        means = [
            sum(float(v) * m for v, m in zip(region, pooled, strict=True)) / float(region.sum()) for region in regions
        ]
        for x in range(36):
            smoothed = sum(float(regions[r, x]) * means[r] for r in range(3))
            lost = sum(float(regions[r, x] * losses[r, text]) for r in range(3))
            expected = (lost + (pooled[x] + smoothed) / 2) / 2
            assert float(found[text, x // 6, x % 6]) == pytest.approx(expected, rel=1e-12)


def bilinear(grid: list[list[float]], row: int, column: int, side: int = 6) -> float:
    """The value at the centre of a pixel, between the centres of the four nearest cells, edges repeated."""

    def around(place: int, cells: int) -> tuple[int, int, float]:
        at = max((place + 0.5) * cells / side - 0.5, 0.0)
        first = min(int(at), cells - 1)
        return first, min(first + 1, cells - 1), at - first

    top, bottom, down = around(row, len(grid))
    left, right, along = around(column, len(grid[0]))
    upper = grid[top][left] * (1 - along) + grid[top][right] * along
    lower = grid[bottom][left] * (1 - along) + grid[bottom][right] * along
    return upper * (1 - down) + lower * down


@given(st.booleans(), st.booleans(), st.lists(st.integers(0, 9), unique=True), st.lists(st.integers(0, 9), unique=True))
def test_one_more_text_takes_the_last_place_of_a_full_list(
    seen: bool, tied: bool, vision: list[int], language: list[int]
) -> None:
    count, size = overlap_with(seen=seen, tied=tied, vision=vision, language=language, vision_limit=5)
    if not seen and not tied:
        assert (count, size) == (len(set(vision) & set(language)), len(vision))
    shown = (vision[:4] if seen else vision) + ["new"] * seen
    named = (language[:-1] if tied else language) + ["new"] * tied
    assert (count, size) == (sum(1 for one in shown if one in named), len(shown))

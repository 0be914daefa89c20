"""Baselines of the evaluation against plain references."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmk.evaluate import baselines
from clipmk.evaluate.metrics import average_precision


def unit_rows(rng: np.random.Generator, count: int, dim: int) -> np.ndarray:
    rows = rng.standard_normal((count, dim))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def projected_gradient(target: np.ndarray, atoms: np.ndarray, penalty: float) -> np.ndarray:
    """w <- max(0, w - step · (A (A^T w - z) + lambda)): slow and plain."""
    weights = np.zeros(len(atoms))
    step = 1 / np.linalg.norm(atoms @ atoms.T, 2)
    for _ in range(2_000):
        weights = np.maximum(0, weights - step * (atoms @ (atoms.T @ weights - target) + penalty))
    return weights


@settings(max_examples=4)
@given(st.integers(0, 2**32 - 1))
def test_the_decomposition_is_that_of_plain_projected_gradient(seed: int) -> None:
    rng = np.random.default_rng(seed)
    atoms, targets = unit_rows(rng, 12, 16), unit_rows(rng, 2, 16)
    penalties = (0.3, 0.05)
    found = baselines.decompose(targets, atoms, penalties=penalties)
    assert found.shape == (2, 2, 12)
    for column, penalty in enumerate(penalties):
        for weights, target in zip(found[column], targets, strict=True):
            np.testing.assert_allclose(weights, projected_gradient(target, atoms, penalty), atol=2e-3)


def test_no_weight_of_the_decomposition_of_a_large_dictionary_can_be_improved() -> None:
    rng = np.random.default_rng(1)
    atoms, targets = unit_rows(rng, 300, 32), unit_rows(rng, 3, 32)
    for weights, target in zip(baselines.decompose(targets, atoms, penalties=[0.1])[0], targets, strict=True):
        slope = atoms @ (atoms.T @ weights - target) + 0.1
        assert (weights >= 0).all()
        assert slope.min() > -2e-3  # no absent atom would help
        assert np.abs(slope[weights > 0]).max() < 2e-3  # no present one would be better with another weight


def test_penalties_are_in_units_of_cosine() -> None:
    atoms = np.eye(4)
    target = np.array([[0.8, 0.6, 0.0, 0.0]])
    found = baselines.decompose(target, atoms, penalties=[0.9, 0.7, 0.5])
    np.testing.assert_allclose(found[:, 0], [[0, 0, 0, 0], [0.1, 0, 0, 0], [0.3, 0.1, 0, 0]], atol=1e-6)


def test_centring_subtracts_the_mean_and_restores_the_length() -> None:
    rows = unit_rows(np.random.default_rng(2), 6, 5)
    mean = rows.mean(0)
    expected = [(row - mean) / np.sqrt(((row - mean) ** 2).sum()) for row in rows]
    np.testing.assert_allclose(baselines.centred(rows, mean), expected)
    np.testing.assert_array_equal(baselines.centred(mean[None], mean), np.zeros((1, 5)))


def test_only_descriptors_with_a_weight_are_ranked() -> None:
    weights = np.array([0.0, 0.5, 0.1, 0.5, 0.0])
    assert baselines.ranked(weights, most=15) == (1, 3, 2)
    assert baselines.ranked(weights, most=2) == (1, 3)
    assert baselines.ranked(np.zeros(3), most=2) == ()


def test_sums_of_descriptors_are_decomposed_into_them_with_the_penalty_that_does_it_best() -> None:
    rng = np.random.default_rng(3)
    words = unit_rows(rng, 60, 48)
    true = [set(rng.permutation(60)[:3].tolist()) for _ in range(12)]
    images = np.stack([words[sorted(rows)].sum(0) for rows in true]) + 4 * unit_rows(rng, 1, 48)  # a common offset
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    fitted = baselines.fit_splice(images, words, true, most=5)
    assert fitted.penalty in baselines.PENALTIES
    weights = fitted.weights(images)
    found = [set(baselines.ranked(row, most=3)) for row in weights]
    assert np.mean([len(a & b) / 3 for a, b in zip(found, true, strict=True)]) > 0.9
    assert fitted.score > 0.9
    for penalty in baselines.PENALTIES:
        other = baselines.decompose(baselines.centred(images, fitted.image_mean), fitted.atoms, penalties=[penalty])[0]
        scores = [average_precision(baselines.ranked(row, most=5), rows) for row, rows in zip(other, true, strict=True)]
        assert np.mean(scores) <= fitted.score + 0.02


def test_channel_regions_are_the_highest_cells_of_the_channels_of_highest_norm() -> None:
    rng = np.random.default_rng(4)
    patches = rng.standard_normal((12, 7)) * [1, 5, 2, 0, 3, 1, 4]
    patches[:, 5] = 9.0  # the highest norm of all, but the same everywhere
    found = baselines.channel_regions(torch.tensor(patches), grid=(3, 4), count=3)
    order = sorted((0, 1, 2, 4, 6), key=lambda c: -sum(value**2 for value in patches[:, c]))
    assert found.shape == (3, 3, 4)
    for region, channel in zip(found, order, strict=False):
        low, high = min(patches[:, channel]), max(patches[:, channel])
        for n in range(12):
            assert region[n // 4, n % 4] == ((patches[n, channel] - low) / (high - low) >= 0.9)


def test_the_highest_channel_is_the_foreground_and_the_next_ones_the_parts() -> None:
    patches = torch.zeros(4, 3)
    patches[0, 0], patches[1, 1], patches[2, 2] = 5.0, 3.0, -2.0
    made = baselines.feature_map_parts(patches, grid=(2, 2), side=4, count=5)
    quarters = [np.kron(cells, np.ones((2, 2))) for cells in np.eye(4).reshape(4, 2, 2)]
    np.testing.assert_array_equal(made.foreground, quarters[0] > 0)
    np.testing.assert_array_equal(made.masks, np.stack([quarters[1], quarters[0] + quarters[1] + quarters[3]]) > 0)
    assert made.warnings == ()


def test_features_without_any_variation_give_the_whole_picture() -> None:
    made = baselines.feature_map_parts(torch.ones(4, 3), grid=(2, 2), side=4, count=5)
    assert made.masks.shape == (1, 4, 4)
    assert made.masks.all()
    assert made.warnings == (baselines.NO_CHANNEL,)
    single = baselines.feature_map_parts(torch.tensor([[1.0], [0.0]]), grid=(1, 2), side=2, count=5)
    np.testing.assert_array_equal(single.masks[0], single.foreground)


def test_pixel_clusters_of_a_tiny_foreground_are_its_pixels() -> None:
    foreground = np.zeros((16, 16), dtype=bool)
    foreground[3, 4] = foreground[8, 9] = foreground[12, 2] = True
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    masks = baselines.pixel_clusters(image, foreground, count=12, seed=0)
    assert len(masks) == 3
    np.testing.assert_array_equal(masks.sum(0), foreground)

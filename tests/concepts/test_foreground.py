"""Where the thing is: both saliencies against plain linear algebra, their signs, outliers, thresholds, components."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from clipmk.concepts import foreground as fg

GRID = (8, 8)


def scene(seed: int, *, images: int = 1, dim: int = 24, noise: float = 0.15) -> tuple[torch.Tensor, np.ndarray]:
    """Tokens of images with a disc of one kind on a ground of another, and the true masks."""
    rng = np.random.default_rng(seed)
    common, thing, ground = rng.standard_normal((3, dim))
    rows, columns = np.mgrid[0:8, 0:8]
    tokens, masks = [], []
    for _ in range(images):
        centre = 3.5 + rng.uniform(-0.7, 0.7, 2)
        mask = np.hypot(rows - centre[0], columns - centre[1]) < 2.4
        kinds = np.where(mask.reshape(-1, 1), thing, ground)
        tokens.append(common + kinds + noise * rng.standard_normal((64, dim)))
        masks.append(mask)
    return torch.tensor(np.stack(tokens)), np.stack(masks)


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def grid_mask(saliency: torch.Tensor) -> np.ndarray:
    return (saliency.numpy() > 0).reshape(-1, *GRID)


@pytest.mark.parametrize(("count", "dim", "images"), [(64, 24, 1), (16, 40, 1), (64, 24, 3), (9, 200, 4)])
def test_second_eigenvector_is_the_second_left_singular_vector(count: int, dim: int, images: int) -> None:
    patches = torch.tensor(np.random.default_rng(count).standard_normal((images, count, dim)) + 0.5)
    rows = patches.reshape(-1, dim).numpy()
    rows = rows / np.sqrt((rows**2).sum(axis=1, keepdims=True))
    left, _, _ = np.linalg.svd(rows, full_matrices=False)
    values, vectors = np.linalg.eigh(rows @ rows.T)
    found = fg.second_eigenvector(patches).numpy().ravel()
    assert found.shape == (images * count,)
    assert abs(found @ left[:, 1]) == pytest.approx(1, abs=1e-9)
    assert abs(found @ vectors[:, -2]) == pytest.approx(1, abs=1e-9)
    assert values[-1] > values[-2]


@given(st.integers(0, 10_000))
def test_second_eigenvector_is_positive_on_the_smaller_side(seed: int) -> None:
    patches = torch.tensor(np.random.default_rng(seed).standard_normal((2, 9, 5)) + 1)
    share = float((fg.second_eigenvector(patches) > 0).double().mean())
    assert share <= 0.5 or share == 1.0


def test_sign_rule_leaves_half_and_all_positive_alone() -> None:
    flip = fg._flip_if_mostly_positive
    assert torch.equal(flip(torch.tensor([1.0, -1.0])), torch.tensor([1.0, -1.0]))
    assert torch.equal(flip(torch.tensor([1.0, 2.0])), torch.tensor([1.0, 2.0]))
    assert torch.equal(flip(torch.tensor([1.0, 2.0, -3.0])), torch.tensor([-1.0, -2.0, 3.0]))


def test_the_sign_of_the_features_and_the_row_lengths_do_not_matter_to_the_eigenvector() -> None:
    patches, _ = scene(0)
    lengths = torch.rand(1, 64, 1, dtype=torch.float64) + 0.5
    one, other = fg.second_eigenvector(patches), fg.second_eigenvector(-patches * lengths)
    assert torch.allclose(one, other, atol=1e-9)


def test_a_joint_fit_is_not_the_fits_of_its_images() -> None:
    patches, masks = scene(3, images=4)
    joint = fg.second_eigenvector(patches)
    alone = torch.cat([fg.second_eigenvector(patches[i : i + 1]) for i in range(4)])
    assert float(joint.norm()) == pytest.approx(1)
    assert float(alone.norm()) == pytest.approx(2)
    assert iou((joint.numpy() > 0).reshape(masks.shape), masks) > 0.9


def test_float32_finds_what_float64_finds() -> None:
    patches, _ = scene(5)
    for find in (fg.second_eigenvector, lambda x: fg.centred_direction(fg.CentredTokens(x, GRID))):
        assert torch.allclose(find(patches), find(patches.float()), atol=1e-5)


def test_centred_direction_is_the_first_singular_vector_of_the_centred_directions() -> None:
    patches, _ = scene(1)
    rows = patches[0].numpy()
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows - rows.mean(axis=0)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    left, _, _ = np.linalg.svd(rows, full_matrices=False)
    found = fg.centred_direction(fg.CentredTokens(patches, GRID))
    assert abs(found.numpy().ravel() @ left[:, 0]) == pytest.approx(1, abs=1e-9)
    assert not fg.norm_outliers(patches.double()).any()


@pytest.mark.parametrize("seed", range(5))
def test_centred_direction_finds_the_disc(seed: int) -> None:
    patches, masks = scene(seed, noise=0.5)
    assert iou(grid_mask(fg.centred_direction(fg.CentredTokens(patches, GRID))), masks) > 0.85


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("factor", [3.0, 20.0])
def test_centred_direction_survives_injected_outlier_tokens(seed: int, factor: float) -> None:
    patches, masks = scene(seed, noise=0.3)
    rng = np.random.default_rng(seed + 100)
    chosen = rng.choice(64, 5, replace=False)
    direction = torch.tensor(rng.standard_normal(24))
    spoiled = patches.clone()
    spoiled[0, chosen] = factor * patches.norm(dim=-1).mean() * direction / direction.norm()
    found = fg.centred_direction(fg.CentredTokens(spoiled, GRID))
    assert set(fg.norm_outliers(spoiled.double())[0].nonzero().flatten().tolist()) == set(chosen.tolist())
    assert iou(grid_mask(found), masks) > 0.75


def test_outliers_in_one_corner_block_are_replaced_by_ordinary_neighbours() -> None:
    tokens, _ = scene(2, noise=0.0)
    outliers = torch.zeros(1, 64, dtype=torch.bool)
    outliers[0, [0, 1, 2, 8, 9, 10, 16, 17, 18]] = True
    spoiled = tokens.clone()
    spoiled[outliers] = 1e6
    cleaned, found = fg.clean_tokens(spoiled, grid=GRID)
    assert torch.equal(found, outliers)
    assert torch.allclose(cleaned[0, 1], tokens[~outliers].mean(0))
    near = [3, 11, 19, 24, 25, 26, 27]
    assert torch.allclose(cleaned[0, 9], tokens[~outliers].mean(0))
    assert torch.allclose(cleaned[0, 18], tokens[0, [n for n in near if n in {11, 19, 25, 26, 27}]].mean(0))
    assert torch.equal(cleaned[~outliers], tokens[~outliers])


def test_narrow_norms_make_no_outliers() -> None:
    norms = torch.ones(1, 64, 1)
    norms[0, 3] = 1.2
    assert not fg.norm_outliers(norms).any()
    norms[0, 3] = 1.6
    assert fg.norm_outliers(norms).nonzero().tolist() == [[0, 3]]


def test_the_border_decides_the_sign_without_attention() -> None:
    patches, masks = scene(4)
    assert iou(grid_mask(fg.centred_direction(fg.CentredTokens(patches, GRID))), masks) > 0.9
    inverted = torch.where(torch.tensor(~masks).reshape(1, 64, 1), patches[0, 27], patches[0, 0])
    noisy = inverted + 0.01 * torch.tensor(np.random.default_rng(0).standard_normal((1, 64, 24)))
    assert iou(grid_mask(fg.centred_direction(fg.CentredTokens(noisy, GRID))), masks) > 0.9


def test_clear_attention_overrules_a_thing_that_touches_the_border() -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros(GRID, dtype=bool)
    mask[:, :3] = True
    mask[0] = mask[-1] = True
    one, other = rng.standard_normal((2, 24))
    tokens = np.where(mask.reshape(64, 1), one, other) + 0.1 * rng.standard_normal((64, 24))
    patches = torch.tensor(tokens)[None]
    attention = torch.tensor(mask.reshape(1, 64) / mask.sum())
    assert iou(grid_mask(fg.centred_direction(fg.CentredTokens(patches, GRID))), mask[None]) < 0.2
    assert iou(grid_mask(fg.centred_direction(fg.CentredTokens(patches, GRID), attention=attention)), mask[None]) > 0.9


def test_attention_on_outlier_tokens_does_not_vote() -> None:
    patches, masks = scene(6)
    corners = [0, 7, 56, 63]
    spoiled = patches.clone()
    spoiled[0, corners] = 50 * torch.tensor(np.random.default_rng(1).standard_normal(24))
    attention = torch.full((1, 64), 0.01, dtype=torch.float64)
    attention[0, corners] = 0.1
    found = fg.centred_direction(fg.CentredTokens(spoiled, GRID), attention=attention)
    assert iou(grid_mask(found), masks) > 0.8


def test_a_grid_that_does_not_hold_the_patches_is_refused() -> None:
    with pytest.raises(ValueError, match="7 x 8 does not hold 64"):
        fg.centred_direction(fg.CentredTokens(torch.ones(1, 64, 3), (7, 8)))


@pytest.mark.parametrize("shape", [(1, 1, 6), (1, 4, 6), (2, 9, 1), (3, 4, 2)])
@pytest.mark.parametrize("level", [0.0, 0.3])
def test_identical_tokens_have_no_direction(shape: tuple[int, int, int], level: float) -> None:
    patches = torch.full(shape, level)
    side = int(shape[1] ** 0.5)
    for found in (fg.second_eigenvector(patches), fg.centred_direction(fg.CentredTokens(patches, (side, side)))):
        assert torch.equal(found, torch.zeros(shape[:2], dtype=torch.float64))


@given(hnp.arrays(np.float32, (2, 4, 3), elements=st.floats(-10, 10, width=32)))
def test_no_saliency_is_ever_nan(values: np.ndarray) -> None:
    for found in (
        fg.second_eigenvector(torch.tensor(values)),
        fg.centred_direction(fg.CentredTokens(torch.tensor(values), (2, 2)), attention=torch.rand(2, 4)),
    ):
        assert found.isfinite().all()
        size = float(found.norm())
        assert size == pytest.approx(1, abs=1e-6) or size == 0


def components_by_flooding(mask: np.ndarray) -> list[np.ndarray]:
    """8-connected components by breadth-first search, largest first, then by first patch."""
    left, found = mask.copy(), []
    for start in zip(*np.nonzero(mask), strict=True):
        if not left[start]:
            continue
        queue, component = deque([start]), np.zeros_like(mask)
        left[start] = False
        while queue:
            row, column = queue.popleft()
            component[row, column] = True
            for r in range(max(row - 1, 0), min(row + 2, mask.shape[0])):
                for c in range(max(column - 1, 0), min(column + 2, mask.shape[1])):
                    if left[r, c]:
                        left[r, c] = False
                        queue.append((r, c))
        found.append(component)
    return sorted(found, key=lambda component: -component.sum())


@given(hnp.arrays(np.bool_, (7, 9)), st.booleans())
def test_largest_components_agree_with_flooding(mask: np.ndarray, keep_second: bool) -> None:
    kept, warnings = fg.largest_components(mask, keep_second=keep_second)
    found = components_by_flooding(mask)
    if not found:
        assert kept.all()
        assert warnings == (fg.NO_FOREGROUND,)
        return
    expected = found[0]
    if keep_second and len(found) > 1 and found[1].sum() >= 5:
        expected = expected | found[1]
    assert np.array_equal(kept, expected)
    assert warnings == ()


@pytest.mark.parametrize(("size", "kept"), [(4, 6), (5, 11)])
def test_the_second_component_needs_five_patches(size: int, kept: int) -> None:
    mask = np.zeros((8, 8), dtype=bool)
    mask[0, :6] = True
    mask[4, :size] = True
    assert fg.largest_components(mask, keep_second=True)[0].sum() == kept
    assert fg.largest_components(mask, keep_second=False)[0].sum() == 6


def test_restricting_takes_the_sign_from_the_mask_and_the_size_from_the_saliency() -> None:
    found = fg.restrict(np.array([[0.5, -0.25], [2.0, 0.0]]), np.array([[True, True], [False, True]]))
    assert found.tolist() == [[0.5, 0.25], [-2.0, fg.FLAT]]

"""The paper's parts: k-means and PCA against scikit-learn on its own, joint fits, and everything too small or flat."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from clipmk.concepts.paper_parts import Parts, kmeans_parts, part_masks, pca_parts


def blobs(seed: int, *, images: int = 1, kinds: int = 5) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Patches of clearly different kinds on a 6 x 6 grid with a background ring, and which kind each is."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((kinds, 20))
    kind = rng.integers(0, kinds, (images, 6, 6))
    kind[:, 1, 1:5] = kind[:, 2, 1] = 0
    kind.reshape(images, 36)[:, 14 : 14 + kinds - 1] = np.arange(1, kinds)
    lengths = rng.uniform(0.5, 2, (images, 6, 6, 1))
    tokens = lengths * (centres[kind] + 0.02 * rng.standard_normal((images, 6, 6, 20)))
    masks = np.zeros((images, 6, 6), dtype=bool)
    masks[:, 1:5, 1:5] = True
    return torch.tensor(tokens.reshape(images, 36, 20)), masks, kind


def same_division(one: np.ndarray, other: np.ndarray) -> bool:
    pairs = set(zip(one.ravel().tolist(), other.ravel().tolist(), strict=True))
    return len(pairs) == len(np.unique(one)) == len(np.unique(other))


@pytest.mark.parametrize("images", [1, 3])
def test_kmeans_divides_as_scikit_learn_on_unit_rows(images: int) -> None:
    patches, masks, _ = blobs(0, images=images)
    found = kmeans_parts(patches, masks, count=5, seed=3)
    rows = patches.numpy()[masks.reshape(images, 36)]
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    expected = KMeans(5, n_init=4, random_state=3).fit_predict(rows)
    assert same_division(found.labels[masks], expected)
    assert not found.labels[~masks].any()
    assert found.warnings == ()


def test_kmeans_finds_kinds_whatever_their_lengths() -> None:
    patches, masks, kind = blobs(1)
    assert same_division(kmeans_parts(patches, masks, count=5, seed=0).labels[masks], kind[masks])


def test_kmeans_repeats_itself_and_numbers_parts_by_appearance() -> None:
    patches = torch.tensor(np.random.default_rng(2).standard_normal((1, 36, 8)))
    masks = np.ones((1, 6, 6), dtype=bool)
    one, other = (kmeans_parts(patches, masks, count=5, seed=9) for _ in range(2))
    assert np.array_equal(one.labels, other.labels)
    _, first = np.unique(one.labels, return_index=True)
    assert list(first) == sorted(first)
    assert one.labels[0, 0, 0] == 1


def test_a_joint_kmeans_gives_a_kind_one_label_in_every_image() -> None:
    patches, masks, kind = blobs(4, images=3)
    labels = kmeans_parts(patches, masks, count=5, seed=0).labels
    assert same_division(labels[masks], kind[masks])


@pytest.mark.parametrize("images", [1, 3])
def test_pca_takes_the_largest_min_max_scaled_component(images: int) -> None:
    patches = torch.tensor(np.random.default_rng(5).standard_normal((images, 36, 12)) * np.arange(1, 13))
    masks = np.random.default_rng(6).random((images, 6, 6)) < 0.7
    rows = patches.numpy()[masks.reshape(images, 36)]
    scores = PCA(5, svd_solver="full").fit_transform(rows)
    expected = []
    for row in scores:
        scaled = [(row[k] - scores[:, k].min()) / (scores[:, k].max() - scores[:, k].min()) for k in range(5)]
        expected.append(scaled.index(max(scaled)))
    assert same_division(pca_parts(patches, masks, count=5).labels[masks], np.array(expected))


def test_pca_does_not_normalise_the_features() -> None:
    patches, masks, _ = blobs(7)
    unit = torch.nn.functional.normalize(patches, dim=-1)
    assert not same_division(
        pca_parts(patches, masks, count=5).labels[masks], pca_parts(unit, masks, count=5).labels[masks]
    )


def divide(method: str, patches: torch.Tensor, masks: np.ndarray, count: int) -> Parts:
    return (
        kmeans_parts(patches, masks, count=count, seed=0)
        if method == "kmeans"
        else pca_parts(patches, masks, count=count)
    )


def test_kmeans_with_fewer_patches_than_parts_makes_each_a_part_and_says_so() -> None:
    masks = np.zeros((1, 6, 6), dtype=bool)
    masks[0, 2, 1:4] = True
    found = divide("kmeans", torch.tensor(np.random.default_rng(0).standard_normal((1, 36, 4))), masks, 5)
    assert found.labels[masks].tolist() == [1, 2, 3]
    assert found.warnings == ("the foreground divides into 3 of 5 parts",)


@pytest.mark.parametrize("method", ["kmeans", "pca"])
def test_one_patch_is_one_part(method: str) -> None:
    masks = np.zeros((1, 6, 6), dtype=bool)
    masks[0, 3, 3] = True
    found = divide(method, torch.rand(1, 36, 4), masks, 5)
    assert found.labels[masks].tolist() == [1]
    assert len(found.warnings) == 1


@pytest.mark.parametrize("method", ["kmeans", "pca"])
@pytest.mark.parametrize("level", [0.0, 0.3, 100.0])
def test_identical_patches_are_one_part(method: str, level: float) -> None:
    masks = np.ones((1, 6, 6), dtype=bool)
    found = divide(method, torch.full((1, 36, 4), level), masks, 5)
    assert (found.labels == 1).all()
    assert found.warnings == ("the foreground divides into 1 of 5 parts",)


def test_two_kinds_of_patches_are_two_parts_by_kmeans_and_one_by_their_single_component() -> None:
    patches = torch.eye(4).repeat(9, 1)[None].clone()
    patches[..., 2:] = 0
    patches[..., 0] += patches.sum(-1) == 0
    masks = np.ones((1, 6, 6), dtype=bool)
    assert same_division(divide("kmeans", patches, masks, 5).labels.ravel(), patches[0, :, 1].numpy())
    assert (divide("pca", patches, masks, 5).labels == 1).all()


@pytest.mark.parametrize("method", ["kmeans", "pca"])
def test_no_parts_and_no_foreground_are_refused(method: str) -> None:
    patches, masks, _ = blobs(0)
    with pytest.raises(ValueError, match="count is 0; it must be at least 1"):
        divide(method, patches, masks, 0)
    with pytest.raises(ValueError, match="the foreground has no patch"):
        divide(method, patches, np.zeros_like(masks), 5)


@given(
    hnp.arrays(np.float32, (2, 6, 3), elements=st.sampled_from([0.0, 1.0, -2.0, 1e-9, 0.5])),
    hnp.arrays(np.bool_, (2, 2, 3)).filter(np.any),
    st.integers(1, 6),
    st.sampled_from(["kmeans", "pca"]),
)
def test_every_foreground_patch_has_a_part_and_no_other(
    values: np.ndarray, masks: np.ndarray, count: int, method: str
) -> None:
    found = divide(method, torch.tensor(values), masks, count)
    assert np.array_equal(found.labels > 0, masks)
    used = np.unique(found.labels[masks])
    assert used.tolist() == list(range(1, len(used) + 1))
    assert len(used) <= count
    assert bool(found.warnings) == (len(used) < count)


def test_part_masks_skip_labels_that_do_not_occur() -> None:
    labels = np.array([[0, 3, 3], [1, 0, 1]])
    found = part_masks(labels)
    assert found.tolist() == [[[False] * 3, [True, False, True]], [[False, True, True], [False] * 3]]
    assert part_masks(np.zeros((2, 2), dtype=int)).shape == (0, 2, 2)

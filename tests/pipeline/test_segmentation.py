"""From patch features to part masks: which way is taken, and how the grid becomes the square."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import embedded
from clipmk.backbones.base import Encoded
from clipmk.concepts import foreground
from clipmk.concepts.paper_parts import kmeans_parts, pca_parts
from clipmk.concepts.part_methods import PART_METHODS, GridForeground, Labels
from clipmk.concepts.superpixels import WorkingCopy, superpixel_parts
from clipmk.errors import UsageError
from clipmk.pipeline.segmentation import PartVariant, enlarge, find_saliency, given_parts, masks_at, segment
from clipmk.settings import Settings, preset
from clipmk.system.serialization import from_plain, plain

GRID = (4, 6)
SIDE = 24
CENTRES = np.array([[1.0, 0.3, 0.0, 0.0], [0.3, 1.0, 0.0, 0.0]])
"""Features of the ground and of the thing: the second eigenvector has another sign on each."""


def encoded_of(patches: NDArray[np.floating], attention: NDArray[np.floating] | None = None) -> Encoded:
    return Encoded(
        embeddings=torch.ones(1, 1),
        patches=torch.tensor(patches, dtype=torch.float32)[None],
        grid=GRID,
        attention=None if attention is None else torch.tensor(attention, dtype=torch.float32)[None],
        state=None,
    )


def blob(seed: int = 0) -> Encoded:
    """Eight patches in the middle that point elsewhere than the sixteen around them."""
    rng = np.random.default_rng(seed)
    kinds = np.zeros(GRID, dtype=int)
    kinds[1:3, 1:5] = 1
    return encoded_of(CENTRES[kinds.ravel()] + 0.15 * rng.standard_normal((24, 4)))


def noise(seed: int = 0, side: int = SIDE) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def square_of(mask_grid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.repeat(np.repeat(mask_grid, SIDE // GRID[0], 0), SIDE // GRID[1], 1)


@settings(max_examples=50)
@given(st.integers(1, 7), st.integers(1, 7), st.integers(7, 40), st.integers(0, 2**32 - 1))
def test_each_pixel_of_an_enlarged_mask_is_that_of_the_cell_under_its_centre(
    rows: int, columns: int, side: int, seed: int
) -> None:
    mask = np.random.default_rng(seed).random((rows, columns)) < 0.5
    found = enlarge(mask, side=side)
    assert found.dtype == np.bool_
    assert found.shape == (side, side)
    for y in range(side):
        for x in range(side):
            row, column = (2 * y + 1) * rows, (2 * x + 1) * columns
            if row % (2 * side) and column % (2 * side):  # a centre on a border belongs to either cell
                assert found[y, x] == mask[row // (2 * side), column // (2 * side)]


def test_the_paper_preset_divides_the_eigenvectors_foreground_by_kmeans() -> None:
    encoded = blob()
    chosen = preset("paper", seed=3)
    values = foreground.second_eigenvector(encoded.patches).numpy().reshape(GRID)
    kept, _ = foreground.largest_components(values > 0, keep_second=True)
    labels = kmeans_parts(encoded.patches, kept[None], count=5, seed=3).labels[0]
    found = segment([noise()], [encoded], chosen)[0]
    assert len(found.masks) == 5
    np.testing.assert_array_equal(found.masks, [square_of(labels == k) for k in range(1, 6)])
    np.testing.assert_array_equal(found.foreground, square_of(kept))
    np.testing.assert_array_equal(found.masks.sum(0), found.foreground)


def test_the_pca_variant_divides_by_principal_components() -> None:
    encoded = blob()
    found = segment([noise()], [encoded], preset("paper", parts="pca", part_count=3))[0]
    values = foreground.second_eigenvector(encoded.patches).numpy().reshape(GRID)
    kept, _ = foreground.largest_components(values > 0, keep_second=True)
    labels = pca_parts(encoded.patches, kept[None], count=3).labels[0]
    np.testing.assert_array_equal(found.masks, [square_of(labels == k) for k in np.unique(labels) if k])


def test_masks_at_another_side_are_nearest_and_none_of_them_is_lost() -> None:
    masks = np.zeros((2, 12, 12), dtype=bool)
    masks[0, 3:6, :8] = True
    masks[1, 0, 0] = True  # between the pixels of the smaller square
    assert masks_at(masks, 12) is masks
    small = masks_at(masks, 4)
    expected = np.zeros((2, 4, 4), dtype=bool)
    expected[0, 1, :3] = expected[1, 0, 0] = True
    np.testing.assert_array_equal(small, expected)


def test_the_default_preset_divides_the_centred_foreground_by_superpixels_of_colour_and_features() -> None:
    explainer, features_matter = embedded.explainer(), False
    for scene in embedded.scenes(count=8):
        encoded = explainer.encode(scene.image)
        tokens = foreground.CentredTokens(encoded.patches, (8, 8))
        saliency = foreground.centred_direction(tokens, attention=encoded.attention)
        values = saliency.numpy().reshape(8, 8)
        kept, _ = foreground.largest_components(values > 0, keep_second=True)
        restricted = foreground.restrict(values, kept)
        labels = superpixel_parts(WorkingCopy(scene.image), restricted, tokens=tokens, limit=12).labels
        found = segment([scene.image], [encoded], explainer.settings)[0]
        assert len(found.masks) == labels.max()
        for part, mask in enumerate(found.masks, 1):
            np.testing.assert_array_equal(mask, labels == part)
        np.testing.assert_array_equal(found.foreground, labels > 0)
        by_colour = superpixel_parts(WorkingCopy(scene.image), restricted, limit=12).labels
        features_matter |= not np.array_equal(labels, by_colour)
    assert features_matter


@pytest.mark.parametrize("limit", [1, 3])
def test_the_part_limit_bounds_the_superpixels(limit: int) -> None:
    scene = embedded.scenes()[1]
    explainer = embedded.explainer("default", part_limit=limit)
    assert len(segment([scene.image], [explainer.encode(scene.image)], explainer.settings)[0].masks) == limit


def test_attention_is_used_only_if_every_image_has_it() -> None:
    rng = np.random.default_rng(5)
    chosen = preset("default")
    votes = np.zeros(24)
    votes[[0, 5, 18, 23]] = 0.25
    ring = encoded_of(blob().patches[0].numpy(), votes)
    without = dataclasses.replace(ring, attention=None)
    alone = find_saliency([ring], chosen)[1]
    expected = foreground.centred_direction(foreground.CentredTokens(ring.patches, GRID), attention=ring.attention)
    torch.testing.assert_close(alone, expected)
    other = encoded_of(rng.standard_normal((24, 4)), votes)
    both = torch.cat([ring.patches, other.patches])
    mixed = find_saliency([without, other], chosen)[1]
    torch.testing.assert_close(mixed, foreground.centred_direction(foreground.CentredTokens(both, GRID)))


def test_only_the_second_component_setting_keeps_the_second_component() -> None:
    mask = np.zeros(GRID, dtype=int)
    mask[:3, :2] = 1
    mask[:, 4:] = 1
    mask[3, 4:] = 0
    mask[0, 5] = 0
    encoded = encoded_of(CENTRES[mask.ravel()] + 0.02 * np.random.default_rng(0).standard_normal((24, 4)))
    both = segment([noise()], [encoded], preset("paper"))[0].foreground
    largest = segment([noise()], [encoded], preset("paper", second_component=False))[0].foreground
    np.testing.assert_array_equal(both, square_of(mask > 0))
    mask[:, 4:] = 0
    np.testing.assert_array_equal(largest, square_of(mask > 0))


@pytest.mark.parametrize("parts", ["kmeans", "pca"])
def test_a_joint_fit_gives_one_image_what_it_gives_its_twin(parts: str) -> None:
    one, other = blob(), blob(seed=9)
    first, between, twin = segment([noise()] * 3, [one, other, one], preset("paper", parts=parts, fit="batch"))
    np.testing.assert_array_equal(first.masks, twin.masks)
    assert len(between.masks) >= 1


def test_a_joint_fit_divides_all_images_by_one_clustering() -> None:
    encoded = [blob(), blob(seed=9)]
    patches = torch.cat([one.patches for one in encoded])
    values = foreground.second_eigenvector(patches).numpy().reshape(2, *GRID)
    kept = np.stack([foreground.largest_components(each > 0, keep_second=True)[0] for each in values])
    labels = kmeans_parts(patches, kept, count=5, seed=0).labels
    found = segment([noise()] * 2, encoded, preset("paper", fit="batch"))
    for one, theirs in zip(found, labels, strict=True):
        np.testing.assert_array_equal(one.masks, [square_of(theirs == k) for k in np.unique(theirs) if k])
    alone = segment([noise()], encoded[:1], preset("paper"))[0]
    assert not np.array_equal(alone.masks, found[0].masks)


@pytest.mark.parametrize("name", embedded.PRESETS)
def test_features_that_are_all_alike_give_the_whole_picture_with_a_warning(name: str) -> None:
    encoded = encoded_of(np.ones((24, 4)))
    found = segment([np.full((SIDE, SIDE, 3), 90, dtype=np.uint8)], [encoded], preset(name))[0]
    assert found.masks.shape == (1, SIDE, SIDE)
    assert found.masks.all()
    assert found.foreground.all()
    assert foreground.NO_CONTRAST in found.warnings
    assert foreground.NO_FOREGROUND in found.warnings


def test_fewer_patches_than_parts_make_fewer_parts_with_a_warning() -> None:
    mask = np.zeros(24, dtype=int)
    mask[[7, 8, 13]] = 1
    features = CENTRES[mask] + 0.02 * np.random.default_rng(0).standard_normal((24, 4))
    found = segment([noise()], [encoded_of(features)], preset("paper"))[0]
    assert len(found.masks) == 3
    assert found.warnings == ("the foreground divides into 3 of 5 parts",)


def test_given_parts_are_kept_and_their_union_is_the_foreground() -> None:
    masks = np.random.default_rng(0).random((3, SIDE, SIDE)) < 0.2
    found = given_parts(masks)
    np.testing.assert_array_equal(found.masks, masks)
    np.testing.assert_array_equal(found.foreground, masks[0] | masks[1] | masks[2])
    assert found.warnings == ()


@pytest.mark.parametrize("method", PART_METHODS)
def test_equal_choices_mean_equal_parts(method: str) -> None:
    one = preset("paper", parts=method)
    for change in ({"grounding": "attend"}, {"importance": "part"}, {"descriptors_per_part": 1}):
        assert PartVariant(one).parts_key == PartVariant(dataclasses.replace(one, **change)).parts_key
    read = {"kmeans": {"seed", "part_count"}, "pca": {"part_count"}, "superpixels": {"part_limit"}}[method]
    for name in ("seed", "part_count", "part_limit"):
        changed = dataclasses.replace(one, **{name: 3})
        assert (PartVariant(one).parts_key != PartVariant(changed).parts_key) == (name in read)
    for change in ({"resize": "crop"}, {"features": "keys"}, {"foreground": "centred"}, {"second_component": False}):
        assert PartVariant(one).parts_key != PartVariant(dataclasses.replace(one, **change)).parts_key


def test_a_row_of_the_table_is_all_that_a_part_method_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    def columns(images: GridForeground, *, part_count: int) -> Iterable[Labels]:
        labels = np.arange(GRID[1]) % part_count + 1
        return ((mask * labels, ("columns",)) for mask in images.masks)

    with pytest.raises(UsageError, match=r"parts is 'columns'; it must be one of: kmeans, pca, superpixels$"):
        preset("default", parts="columns")
    monkeypatch.setitem(PART_METHODS, "columns", columns)
    chosen = preset("paper", parts="columns", part_count=2)
    (found,) = segment([noise()], [blob()], chosen)
    expected = square_of(np.indices(GRID)[1] % 2 == 0) & found.foreground
    np.testing.assert_array_equal(found.masks, [expected, found.foreground & ~expected])
    assert found.warnings == ("columns",)
    assert from_plain(Settings, plain(chosen)) == chosen
    assert PartVariant(chosen).parts_key == PartVariant(dataclasses.replace(chosen, seed=1)).parts_key
    assert PartVariant(chosen).parts_key != PartVariant(dataclasses.replace(chosen, part_count=3)).parts_key

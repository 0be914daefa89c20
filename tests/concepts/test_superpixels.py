"""Our parts: the joining rules on drawn label maps, the whole on the rendered world, and pictures without anything."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from clipmk.concepts import superpixels as sp
from clipmk.concepts.foreground import CentredTokens
from clipmk.concepts.regions import Regions, join_alike, join_patterns, merge_closest
from clipmk.world.scene import Scene, render_scenes

RED, WHITE, BLUE, GREEN = (220, 40, 40), (240, 240, 240), (40, 60, 210), (60, 160, 60)


def canvas(colour: tuple[int, int, int] = GREEN, side: int = 64) -> np.ndarray:
    return np.full((side, side, 3), colour, dtype=np.uint8)


def lab(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)


def regions_of(image: np.ndarray, *, background: tuple[int, int, int] = GREEN) -> Regions:
    """Connected regions of exactly one colour."""
    labels = np.zeros(image.shape[:2], dtype=np.int64)
    for colour in np.unique(image.reshape(-1, 3), axis=0):
        if tuple(colour.tolist()) != background:
            found, _ = ndimage.label((image == colour).all(axis=-1))
            labels[found > 0] = found[found > 0] + labels.max()
    return Regions.of(labels, lab(image))


def saliency_of(mask: np.ndarray, *, grid: int = 8) -> np.ndarray:
    covered = cv2.resize(mask.astype(np.float32), (grid, grid), interpolation=cv2.INTER_AREA)
    return np.asarray(covered - 0.5)


def best_ious(labels: np.ndarray, scene: Scene) -> list[float]:
    areas = np.bincount(labels.ravel())
    found = []
    for part in scene.parts:
        shared = np.bincount(labels[part.mask_pixels], minlength=len(areas))
        overlap = shared / (areas + part.mask_pixels.sum() - shared)
        found.append(float(overlap[1:].max()))
    return found


def colour_kmeans(scene: Scene, saliency: np.ndarray, count: int) -> np.ndarray:
    """The simple baseline: k-means on pixel colour and position inside the upsampled foreground."""
    side = len(scene.image)
    mask = cv2.resize(saliency.astype(np.float32), (side, side)) > 0
    place = np.stack(np.mgrid[0:side, 0:side], axis=-1) / (side / 2)
    points = np.concatenate([lab(scene.image) / 50, 0.6 * place], axis=-1)[mask]
    labels = np.zeros((side, side), dtype=int)
    with threadpool_limits(1):
        labels[mask] = 1 + KMeans(min(count, len(points)), n_init=1, max_iter=20, random_state=0).fit_predict(points)
    return labels


def test_parts_follow_true_parts_better_than_colour_kmeans_with_no_more_of_them() -> None:
    ours, simple, counts = [], [], []
    for scene in render_scenes("val", count=32, size=sp.WORK_SIDE, start=900):
        if not scene.parts:
            continue
        saliency = saliency_of(scene.object_mask)
        labels = sp.superpixel_parts(sp.WorkingCopy(scene.image), saliency).labels
        ours += best_ious(labels, scene)
        simple += best_ious(colour_kmeans(scene, saliency, 8), scene)
        counts.append(labels.max())
    assert np.mean(ours) > np.mean(simple) + 0.06
    assert np.mean(ours) > 0.6
    assert np.mean(counts) < 8


def test_borders_follow_the_picture_and_not_the_patch_grid() -> None:
    image = canvas()
    image[13:51, 11:30] = RED
    image[13:51, 30:53] = WHITE
    mask = (image != GREEN).any(axis=-1)
    labels = sp.superpixel_parts(sp.WorkingCopy(image), saliency_of(mask)).labels
    assert labels.max() == 2
    for colour in (RED, WHITE):
        truth = (image == colour).all(axis=-1)
        assert max((truth & (labels == k)).sum() / (truth | (labels == k)).sum() for k in (1, 2)) > 0.95


@pytest.mark.parametrize("side", [32, 63, 64, 200, 224, 336])
def test_every_size_of_square_works_and_keeps_its_size(side: int) -> None:
    image = canvas(side=side)
    image[side // 4 : -side // 4, side // 4 : side // 2] = RED
    image[side // 4 : -side // 4, side // 2 : -side // 4] = BLUE
    mask = (image != GREEN).any(axis=-1)
    found = sp.superpixel_parts(sp.WorkingCopy(image), saliency_of(mask))
    assert found.labels.shape == (side, side)
    assert found.labels.max() == 2
    assert ((found.labels > 0) & mask).sum() / ((found.labels > 0) | mask).sum() > 0.8


def test_the_same_picture_gives_the_same_parts() -> None:
    scene = next(iter(render_scenes("val", count=1, size=64, start=3)))
    saliency = saliency_of(scene.object_mask)
    one, other = (sp.superpixel_parts(sp.WorkingCopy(scene.image), saliency).labels for _ in range(2))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("limit", [1, 2, 4])
def test_there_are_never_more_parts_than_the_limit(limit: int) -> None:
    for scene in render_scenes("val", count=4, size=64, start=20):
        labels = sp.superpixel_parts(sp.WorkingCopy(scene.image), saliency_of(scene.object_mask), limit=limit).labels
        assert 1 <= labels.max() <= limit
    with pytest.raises(ValueError, match="limit is 0; it must be at least 1"):
        sp.superpixel_parts(sp.WorkingCopy(canvas()), np.ones((8, 8)), limit=0)


def test_similar_pieces_that_are_apart_are_one_part() -> None:
    image = canvas()
    image[20:44, 8:20] = RED
    image[20:44, 44:56] = RED
    image[26:38, 20:44] = WHITE
    saliency = saliency_of((image != GREEN).any(axis=-1))
    assert sp.superpixel_parts(sp.WorkingCopy(image), saliency).labels.max() == 2


def test_patch_features_keep_apart_what_is_alike_in_colour_only() -> None:
    image = canvas()
    image[24:40, 0:16], image[24:40, 48:64] = RED, RED
    copy, saliency = sp.WorkingCopy(image), saliency_of((image != GREEN).any(axis=-1))
    kinds = torch.tensor(np.random.default_rng(0).standard_normal((3, 12)))
    kind = torch.zeros(8, 8, dtype=torch.int64)
    kind[3:5, :2], kind[3:5, 6:] = 1, 2
    assert sp.superpixel_parts(copy, saliency).labels.max() == 1
    assert sp.superpixel_parts(copy, saliency, tokens=tokens_of(kinds, kind)).labels.max() == 2
    kind[3:5, 6:] = 1
    assert sp.superpixel_parts(copy, saliency, tokens=tokens_of(kinds, kind)).labels.max() == 1


def tokens_of(kinds: torch.Tensor, kind: torch.Tensor) -> CentredTokens:
    """Patches of some kinds, (kinds, dim), on a grid of their numbers."""
    return CentredTokens(kinds[kind.ravel()][None], (kind.shape[0], kind.shape[1]))


def test_the_feature_map_keeps_the_distances_of_low_rank_tokens_up_to_scale() -> None:
    rng = np.random.default_rng(1)
    tokens = rng.standard_normal((36, 3)) @ rng.standard_normal((3, 20))
    found = sp.feature_map(CentredTokens(torch.tensor(tokens)[None], (6, 6)), side=6).reshape(36, -1)
    unit = tokens / np.linalg.norm(tokens, axis=1, keepdims=True)
    expected = np.linalg.norm(unit[:, None] - unit[None], axis=-1)
    distances = np.linalg.norm(found[:, None] - found[None], axis=-1)
    scale = sp.FEATURE_WEIGHT / np.sqrt(((unit - unit.mean(axis=0)) ** 2).sum(axis=1).mean())
    assert np.allclose(distances, scale * expected, atol=1e-3)
    spoiled = tokens.copy()
    spoiled[14] *= 100
    cleaned = sp.feature_map(CentredTokens(torch.tensor(spoiled)[None], (6, 6)), side=6)
    near = [7, 8, 9, 13, 15, 19, 20, 21]
    spoiled[14] = tokens[near].mean(axis=0)
    assert np.allclose(
        np.abs(cleaned), np.abs(sp.feature_map(CentredTokens(torch.tensor(spoiled)[None], (6, 6)), side=6)), atol=1e-3
    )


@pytest.mark.parametrize("count", [1, 4])
def test_tokens_that_are_all_alike_have_an_empty_feature_map(count: int) -> None:
    side = int(count**0.5)
    assert not sp.feature_map(CentredTokens(torch.full((count, 5), 0.3)[None], (side, side)), side=64).any()


def test_parts_are_numbered_by_falling_area() -> None:
    image = canvas()
    image[8:56, 8:24], image[8:56, 24:48], image[8:56, 48:56] = RED, BLUE, WHITE
    labels = sp.superpixel_parts(sp.WorkingCopy(image), saliency_of((image != GREEN).any(axis=-1))).labels
    assert [labels[32, 36], labels[32, 16], labels[32, 52]] == [1, 2, 3]


@pytest.mark.parametrize("level", [-1.0, 0.0])
def test_nothing_salient_makes_the_whole_picture_one_part_with_a_warning(level: float) -> None:
    found = sp.superpixel_parts(sp.WorkingCopy(canvas()), np.full((8, 8), level))
    assert (found.labels == 1).all()
    assert found.warnings == (sp.NOTHING_SALIENT,)


def test_a_blank_picture_is_one_part_where_it_is_salient() -> None:
    saliency = np.full((8, 8), -1.0)
    saliency[2:4, 2:4] = 1.0
    found = sp.superpixel_parts(sp.WorkingCopy(canvas()), saliency)
    assert found.labels.max() == 1
    assert (found.labels > 0)[16:32, 16:32].mean() > 0.8
    assert (found.labels > 0).mean() < 0.15
    assert found.warnings == ()


@settings(max_examples=12)
@given(
    hnp.arrays(np.uint8, (20, 20, 3), elements=st.sampled_from([0, 9, 128, 255])),
    hnp.arrays(np.float32, (5, 5), elements=st.sampled_from([-1.0, 0.0, 0.5, 1.0])),
    st.integers(1, 14),
)
def test_any_picture_has_parts_numbered_without_a_gap(image: np.ndarray, saliency: np.ndarray, limit: int) -> None:
    found = sp.superpixel_parts(sp.WorkingCopy(image), saliency, limit=limit)
    used = np.unique(found.labels)
    used = used[used > 0]
    assert used.tolist() == list(range(1, len(used) + 1))
    assert 1 <= len(used) <= limit
    assert np.all(np.diff([(found.labels == k).sum() for k in used]) <= 40)


def test_stripes_are_one_region_and_two_bars_beside_each_other_are_not() -> None:
    striped = canvas()
    for k in range(6):
        striped[16:48, 8 + 8 * k : 16 + 8 * k] = (RED, WHITE)[k % 2]
    assert len(join_patterns(regions_of(striped)).areas) == 1
    bars = canvas()
    for k, colour in enumerate((RED, WHITE, BLUE)):
        bars[16:48, 8 + 8 * k : 16 + 8 * k] = colour
    assert len(join_patterns(regions_of(bars)).areas) == 3


def test_a_stripe_pattern_does_not_swallow_a_large_neighbour_of_its_colour() -> None:
    image = canvas()
    for k in range(6):
        image[4:20, 8 + 6 * k : 14 + 6 * k] = (RED, WHITE)[k % 2]
    image[20:60, 8:50] = RED
    image[20:22, 8:50] = BLUE
    assert len(join_patterns(regions_of(image)).areas) == 3


def test_four_spots_belong_to_their_ground_and_two_eyes_do_not() -> None:
    def spotted(count: int) -> Regions:
        image = canvas()
        image[8:56, 8:56] = RED
        for row, column in list(itertools.product((16, 40), (16, 28, 40)))[:count]:
            image[row : row + 8, column : column + 8] = WHITE
        return join_patterns(regions_of(image))

    assert len(spotted(2).areas) == 3
    assert len(spotted(3).areas) == 4
    assert len(spotted(4).areas) == 1


def test_alike_pieces_join_only_if_apart_and_of_similar_size() -> None:
    image = canvas()
    image[4:14, 4:14] = image[4:14, 30:40] = RED
    image[30:60, 4:34] = RED
    image[4:14, 45:55] = BLUE
    joined = join_alike(regions_of(image))
    assert sorted(joined.areas.tolist()) == [100, 200, 900]


def test_regions_are_measured_as_plain_loops_measure_them() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (9, 9)) * 7
    image = rng.integers(0, 256, (9, 9, 3)).astype(np.uint8)
    found = Regions.of(labels, lab(image))
    order = sorted((7, 14, 21), key=lambda k: (-(labels == k).sum(), k))
    for row, old in enumerate(order):
        mask = labels == old
        assert np.array_equal(found.labels == row + 1, mask)
        assert found.areas[row] == mask.sum()
        assert found.looks[row] == pytest.approx(lab(image)[mask].mean(axis=0), rel=1e-5)
        for other_row, other in enumerate(order):
            pairs = 0
            for (y, x), (dy, dx) in itertools.product(np.argwhere(mask), ((0, 1), (1, 0), (0, -1), (-1, 0))):
                inside = 0 <= y + dy < 9 and 0 <= x + dx < 9
                pairs += int(inside and other != old and labels[y + dy, x + dx] == other)
            assert found.borders[row, other_row] == pairs


def test_merging_to_a_limit_takes_the_cheapest_neighbours_first() -> None:
    image = canvas()
    image[10:50, 10:20], image[10:50, 20:30], image[10:50, 30:40] = RED, (200, 60, 60), BLUE
    merged = regions_of(image).at_most(2)
    assert merged.labels[30, 12] == merged.labels[30, 25] != merged.labels[30, 35]
    apart = canvas()
    apart[5:15, 5:15], apart[30:40, 30:40] = RED, BLUE
    assert len(regions_of(apart).at_most(1).areas) == 1


@given(
    hnp.arrays(np.float64, (6, 2), elements=st.integers(0, 20)), hnp.arrays(np.float64, 6, elements=st.integers(1, 9))
)
def test_closest_centres_of_mass_merge_until_far_apart(points: np.ndarray, mass: np.ndarray) -> None:
    family = merge_closest(points, mass, distance=5.0)
    groups = np.unique(family)
    centres = np.stack([np.average(points[family == g], axis=0, weights=mass[family == g]) for g in groups])
    gaps = np.linalg.norm(centres[:, None] - centres[None], axis=-1)[np.triu_indices(len(groups), k=1)]
    assert (gaps >= 5 - 1e-9).all()
    assert all(family[g] == g == np.flatnonzero(family == g)[0] for g in groups)
    lonely = [i for i in range(6) if np.delete(np.linalg.norm(points - points[i], axis=1), i).min() > 40]
    assert all((family == family[i]).sum() == 1 for i in lonely)


def test_small_regions_go_to_the_nearest_large_one_and_specks_vanish() -> None:
    labels = np.zeros((12, 12), dtype=np.int64)
    labels[1:6, 1:6] = 4
    labels[1:3, 6:7] = 2
    labels[10, 10] = 3
    found = sp.absorb_small(labels, smallest=4.0)
    assert (found[1:3, 6] == 4).all()
    assert found[10, 10] == 0
    assert (found == 4).sum() == 27


def test_where_no_region_is_large_enough_the_largest_is_kept() -> None:
    labels = np.zeros((12, 12), dtype=np.int64)
    labels[1:3, 1:3], labels[8, 8] = 1, 2
    found = sp.absorb_small(labels, smallest=100.0)
    assert (found[1:3, 1:3] == 1).all()
    assert (found > 0).sum() == 4
    assert not sp.absorb_small(np.zeros((3, 3), dtype=np.int64), smallest=4.0).any()


def board(squares: int, size: int) -> np.ndarray:
    """A draughts board of squares with `size` pixels a side."""
    dark = np.indices((squares, squares)).sum(axis=0) % 2
    return np.kron(dark, np.ones((size, size), dtype=int)).astype(np.uint8)[..., None] * np.uint8([180, 120, 90])


def test_more_equal_regions_than_there_may_be_leave_as_many_as_there_may_be() -> None:
    labels = np.kron(1 + np.arange(100).reshape(10, 10), np.ones((4, 4), dtype=int))
    found = sp._foreground_regions(labels, np.ones((5, 5)))
    assert set(np.unique(found)) == set(range(1, sp.MOST_REGIONS + 1))


@pytest.mark.parametrize(("squares", "grid"), [(14, 14), (14, 7), (28, 14)])
def test_a_board_of_equal_squares_has_parts(squares: int, grid: int) -> None:
    picture = board(squares, 224 // squares)
    for saliency in (np.ones((grid, grid)), 1 - np.hypot(*(np.indices((grid, grid)) / grid - 0.5)) * 3):
        found = sp.superpixel_parts(sp.WorkingCopy(picture), saliency)
        assert set(np.unique(found.labels)) - {0} == set(range(1, found.labels.max() + 1))
        assert 1 <= found.labels.max() <= 12


def test_regions_vote_as_a_whole_and_undecided_ones_are_cut() -> None:
    labels = np.repeat(np.array([[1], [2], [3]]), 10, axis=1)
    saliency = np.array([[1.0] * 7 + [-1.0] * 3, [-1.0] * 8 + [1.0] * 2, [1.0] * 5 + [-1.0] * 5])
    assert sp.vote(labels, saliency).tolist() == [[True] * 10, [False] * 10, [True] * 5 + [False] * 5]
    assert not sp.vote(labels, np.zeros((3, 10))).any()
    assert sp.vote(labels, np.ones((3, 10))).all()


def test_a_region_away_from_the_border_is_background_only_if_nearly_all_of_it_votes_so() -> None:
    labels = np.ones((12, 24), dtype=np.int64)
    labels[3:9, 3:9], labels[3:9, 13:19], labels[3:9, 22:] = 2, 3, 4
    saliency = np.where(labels > 1, -1.0, -2.0)  # all are background
    saliency[3:5, 3:5] = 2.0
    saliency[3:5, 22:] = 2.0
    found = sp.vote(labels, saliency)
    assert found[labels == 2].all()  # four of its 36 pixels are salient
    assert not found[labels != 2].any()  # none is salient, or it reaches the border


def test_the_palette_has_one_colour_for_each_clearly_different_colour() -> None:
    image = lab(np.concatenate([canvas(RED), canvas(WHITE), canvas(BLUE)]))
    found = sp.palette(image.reshape(-1, 3), np.ones(3 * 64 * 64))
    expected = [image[0, 0], image[100, 0], image[180, 0]]
    assert len(found) == 3
    weights = np.repeat([3.0, 2.0, 1.0], 64 * 64)
    assert np.abs(sp.palette(image.reshape(-1, 3), weights) - expected).max() < 0.1
    assert all(np.abs(found - colour).max(axis=1).min() < 0.1 for colour in expected)
    assert len(sp.palette(lab(canvas()).reshape(-1, 3), np.ones(64 * 64))) == 1

"""Truth metrics against brute force, and a small run of the whole table."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import clipmk
from clipmk import world
from clipmk.evaluate import metrics, truth
from clipmk.settings import preset

ITEMS = st.lists(st.sampled_from("abcdefgh"), unique=True)


@given(ITEMS, st.sets(st.sampled_from("abcdefgh"), min_size=1))
def test_average_precision_and_r_precision_are_what_they_say(ranked: list[str], true: set[str]) -> None:
    precisions = [sum(x in true for x in ranked[:k]) / k for k in range(1, len(ranked) + 1) if ranked[k - 1] in true]
    assert metrics.average_precision(ranked, true) == pytest.approx(sum(precisions) / len(true))
    hits = sum(x in true for x in ranked[: len(true)])
    assert metrics.r_precision(ranked, true) == pytest.approx(hits / len(true))


def test_nothing_true_is_refused() -> None:
    for metric in (metrics.average_precision, metrics.r_precision):
        with pytest.raises(ValueError, match="at least one true item"):
            metric(["a"], [])


@given(arrays(bool, (6, 9)))
def test_grid_ceiling_is_the_best_union_of_cells(mask: np.ndarray) -> None:
    best = 0.0 if mask.any() else 1.0
    for chosen in itertools.product([False, True], repeat=9):
        cells = np.kron(np.array(chosen).reshape(3, 3), np.ones((2, 3), dtype=bool)).astype(bool)
        if cells.any():
            best = max(best, metrics.iou(cells, mask)) if mask.any() else best
    assert metrics.grid_ceiling(mask, grid=(3, 3)) == pytest.approx(best)


@given(arrays(bool, (3, 5, 5)), arrays(bool, (2, 5, 5)))
def test_pairwise_iou_is_the_iou_of_each_pair(found: np.ndarray, true: np.ndarray) -> None:
    table = metrics.pairwise_iou(found, true)
    for k, t in itertools.product(range(3), range(2)):
        assert table[k, t] == pytest.approx(metrics.iou(found[k], true[t]))
    assert metrics.best_iou(found, true).tolist() == table.max(0).tolist()


def test_interval_covers_the_mean_of_a_known_sample_and_skips_undefined_scenes() -> None:
    values = np.random.default_rng(0).normal(3, 1, 400).tolist()
    found = metrics.interval([*values, float("nan")])
    assert found.count == 400
    assert found.mean == pytest.approx(np.mean(values))
    assert found.high - found.low == pytest.approx(2 * 1.96 / 20, rel=0.15)
    assert metrics.interval(values) == metrics.interval(values)
    with pytest.raises(ValueError, match="at least one defined value"):
        metrics.interval([float("nan")])


def test_outliers_replace_three_tokens_and_nothing_else() -> None:
    torch.set_num_threads(1)
    model = clipmk.load("embedded/vit-s8")
    image = torch.from_numpy(world.scene("val", 0).image)[None]
    encoded = model.encode_with_patches(model.normalise(image))
    damaged = truth.inject_outliers(encoded, seed=1)
    changed = (damaged.patches != encoded.patches).any(-1)[0]
    assert int(changed.sum()) == truth.OUTLIERS
    lengths = damaged.patches.norm(dim=-1)[0]
    assert lengths[changed].min() > 5 * lengths[~changed].median()


def test_moved_region_keeps_its_shape_and_lies_inside_the_object() -> None:
    inside = np.zeros((32, 32), dtype=bool)
    inside[4:28, 4:28] = True
    region = np.zeros((32, 32), dtype=bool)
    region[5:11, 5:12] = True
    moved = truth.moved_inside(region, inside, seed=0)
    assert moved is not None
    assert moved.sum() == region.sum()
    assert metrics.iou(moved, region) < 0.5
    assert inside[moved].mean() > 0.9
    everywhere = np.ones((32, 32), dtype=bool)
    assert truth.moved_inside(everywhere, everywhere, seed=0) is None


def test_pixel_clusters_divide_the_foreground() -> None:
    scene = world.scene("val", 1)
    masks = truth.pixel_clusters(scene.image, scene.object_mask, count=6, seed=0)
    assert len(masks) == 6
    assert (masks.sum(0) == scene.object_mask).all()


def test_table_holds_every_way_and_baseline_and_repeats(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("CLIPMK_CACHE_DIR", str(tmp_path))
    model = clipmk.load("embedded/vit-s8")
    chosen = [
        truth.Way("ours", preset("default"), true_masks=False),
        truth.Way("ours, true parts", preset("default"), true_masks=True),
    ]
    heard: list[tuple[str, int, int]] = []
    reports = [
        truth.run(model, scenes=2, splits=("val",), chosen=chosen, progress=lambda *a: heard.append(a))
        for _ in range(2)
    ]
    assert reports[0] == reports[1]
    assert heard[:2] == [("truth val", 1, 2), ("truth val", 2, 2)]
    names = [row.name for row in reports[0].rows]
    lookups = ["class lookup, predicted class", "class lookup, true class"]
    assert set(names) == {*lookups, "nearest to the whole image", "random descriptors", "ours", "ours, true parts"}
    rows = {row.name: row.values for row in reports[0].rows}
    margin = rows["ours"]["ap"].mean - rows["class lookup, predicted class"]["ap"].mean
    assert rows["ours"]["margin"].mean == pytest.approx(margin)
    assert rows["ours"]["stable_seed"].mean == 1
    assert 0.3 < rows["ours"]["foreground"].mean <= 1
    lookup = [
        metrics.average_precision(world.typical_descriptors(s.class_name)[:15], s.descriptors)
        for s in world.scenes("val", count=2)
    ]
    assert rows["class lookup, true class"]["ap"].mean == pytest.approx(np.mean(lookup))
    assert len(reports[0].table()) == 3

"""The truth benchmark on a few scenes: what is compared is comparable, and controls change only what they say."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import embedded
from clipmk import world
from clipmk.evaluate import metrics, truth
from clipmk.evaluate.truth import TruthReport, Way
from clipmk.settings import preset

OURS = Way("ours", preset("default"), true_masks=False)
PAPER = Way("paper", preset("paper", grounding="attend"), true_masks=False)
CEILING = Way("ceiling", preset("default"), true_masks=True)
CONCEPTS = {"ap", "r_precision", "hit1", "hit3", "mutual_true", "top1", "parts", "margin"}
REGIONS = {"foreground", "of_ceiling", "corloc", "part_iou", "pixel_iou", "outliers"}
BASELINES = {
    "class lookup, predicted class",
    "class lookup, true class",
    "nearest to the whole image",
    "random descriptors",
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPMK_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "truth-cache"))


def measured(*ways: Way, behaviour: bool = False) -> TruthReport:
    return truth.run(embedded.backbone(), scenes=2, splits=("test", "counterfactual"), chosen=ways, behaviour=behaviour)


def test_rows_are_complete_for_every_split() -> None:
    report = measured(OURS, CEILING)
    rows = {(row.split, row.name): set(row.values) for row in report.rows}
    assert set(rows) == {
        (split, name) for split in ("test", "counterfactual") for name in BASELINES | {"ours", "ceiling"}
    }
    for split in ("test", "counterfactual"):
        assert all(rows[split, name] == {"ap", "r_precision"} for name in BASELINES)
        assert rows[split, "ours"] - {"mutual_true"} == CONCEPTS - {"mutual_true"} | REGIONS
        assert rows[split, "ceiling"] - {"mutual_true"} == CONCEPTS - {"mutual_true"}
    assert report.settings["ours"]["preset"] == "default"


def test_baselines_do_not_depend_on_the_ways_beside_them() -> None:
    ours, paper, both = measured(OURS), measured(PAPER), measured(PAPER, OURS)
    for report in (paper, both):
        for name in BASELINES:
            assert [r for r in report.rows if r.name == name] == [r for r in ours.rows if r.name == name]
    assert [r for r in both.rows if r.name == "ours"] == [r for r in ours.rows if r.name == "ours"]


def test_numbers_of_a_way_are_means_of_its_explanations() -> None:
    report = truth.run(embedded.backbone(), scenes=2, splits=("test",), chosen=[OURS, CEILING], behaviour=False)
    rows = {row.name: row.values for row in report.rows}
    scenes = embedded.scenes("test", count=2)
    expected: dict[str, list[float]] = {"ap": [], "foreground": [], "part_iou": [], "hit3": [], "ceiling hit1": []}
    for scene in scenes:
        found = embedded.explainer().explain([truth.read_picture(scene.image)])[0]
        expected["ap"].append(
            metrics.average_precision([c.text for c in found.vision_concepts], [p.descriptor for p in scene.parts])
        )
        masks = truth.part_masks(found)
        expected["foreground"].append(metrics.iou(masks.any(0), scene.object_mask))
        table = [[metrics.iou(mask, part.mask_pixels) for mask in masks] for part in scene.parts]
        expected["part_iou"].append(float(np.mean([max(row) for row in table])))
        best = [found.parts[int(np.argmax(row))].descriptors[:3] for row in table]
        hits = [part.descriptor in [d.text for d in top] for part, top in zip(scene.parts, best, strict=True)]
        expected["hit3"].append(float(np.mean(hits)))
        own = embedded.explainer().explain(
            [truth.read_picture(scene.image)], masks=[np.stack([p.mask_pixels for p in scene.parts])]
        )[0]
        firsts = [part.descriptors[0].text for part in own.parts]
        named = [part.descriptor == first for part, first in zip(scene.parts, firsts, strict=True)]
        expected["ceiling hit1"].append(float(np.mean(named)))
    for name in ("ap", "foreground", "part_iou", "hit3"):
        assert rows["ours"][name].mean == pytest.approx(np.mean(expected[name])), name
    assert rows["ceiling"]["hit1"].mean == pytest.approx(np.mean(expected["ceiling hit1"]))


def test_the_same_seed_gives_the_same_report_and_another_one_other_scenes() -> None:
    assert measured(OURS, behaviour=True) == measured(OURS, behaviour=True)
    other = truth.run(embedded.backbone(), scenes=2, seed=1, chosen=[OURS], behaviour=False)
    assert [r.values for r in other.rows] != [r.values for r in measured(OURS).rows]


def test_behaviour_is_measured_on_discovered_parts_only() -> None:
    rows = {(r.split, r.name): r.values for r in measured(OURS, CEILING, behaviour=True).rows}
    for split in ("test", "counterfactual"):
        assert {"stable_seed", "stable_shift"} <= set(rows[split, "ours"])
        assert not {"effect", "effect_control", "stable_seed", "stable_shift"} & set(rows[split, "ceiling"])
        assert rows[split, "ours"]["stable_seed"].mean == 1  # nothing in the default preset is drawn


def test_the_ways_compare_presets_groundings_and_parts() -> None:
    listed = truth.ways()
    assert len({way.name for way in listed}) == len(listed) == 8
    assert {(w.settings.preset, w.settings.grounding, w.true_masks) for w in listed} == {
        (p, g, t) for p in ("default", "paper") for g in ("prompts", "attend") for t in (False, True)
    }


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 1000))
def test_outliers_leave_everything_else_as_it_was(seed: int) -> None:
    encoded = embedded.explainer().look(embedded.scenes()[0].image)
    before = encoded.patches.clone()
    damaged = truth.inject_outliers(encoded, seed=seed)
    changed = (damaged.patches != encoded.patches).any(-1)[0]
    assert int(changed.sum()) == truth.OUTLIERS
    assert torch.equal(encoded.patches, before)  # the input is not written to
    for name in ("embeddings", "grid", "attention", "state"):
        assert getattr(damaged, name) is getattr(encoded, name)
    long = damaged.patches[0, changed]
    median = encoded.patches.norm(dim=-1).median()
    torch.testing.assert_close(long.norm(dim=-1), (truth.OUTLIER_GAIN * median).expand(3))
    assert torch.equal(long[0], long[1])


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.integers(2, 9), st.integers(2, 9))
def test_a_moved_region_is_the_same_shape_mostly_inside_the_object(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    inside = np.zeros((32, 32), dtype=bool)
    inside[3:27, 5:30] = True
    region = np.zeros((32, 32), dtype=bool)
    y, x = rng.integers(3, 27 - height), rng.integers(5, 30 - width)
    region[y : y + height, x : x + width] = rng.random((height, width)) < 0.8
    region[y, x] = True
    moved = truth.moved_inside(region, inside, seed=seed)
    assert moved is not None
    ys, xs = np.nonzero(region)
    new_ys, new_xs = np.nonzero(moved)
    np.testing.assert_array_equal(ys - ys.min(), new_ys - new_ys.min())
    np.testing.assert_array_equal(xs - xs.min(), new_xs - new_xs.min())
    assert metrics.iou(moved, region) < 0.5
    assert inside[moved].mean() > 0.5
    assert truth.moved_inside(region, ~np.ones_like(inside), seed=seed) is None


def test_a_shifted_picture_moves_right_and_down_and_repeats_its_edge() -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    found = truth.shifted(image, pixels=2)
    for y in range(9):
        for x in range(9):
            np.testing.assert_array_equal(found[y, x], image[max(y - 2, 0), max(x - 2, 0)])


def test_pixel_clusters_of_a_tiny_foreground_are_its_pixels() -> None:
    foreground = np.zeros((16, 16), dtype=bool)
    foreground[3, 4] = foreground[8, 9] = foreground[12, 2] = True
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    masks = truth.pixel_clusters(image, foreground, count=12, seed=0)
    assert len(masks) == 3
    np.testing.assert_array_equal(masks.sum(0), foreground)


def test_a_report_tells_its_numbers_as_tables_and_as_plain_data() -> None:
    report = measured(OURS)
    data = report.to_dict()
    assert (data["model"], data["scenes"], data["seed"]) == ("embedded/vit-s8", 2, 0)
    ours = next(row for row in report.rows if (row.split, row.name) == ("test", "ours"))
    title, columns, body = report.table()[0]
    assert title == "test: concepts"
    line = next(line for line in body if line[0] == "ours")
    ap = ours.values["ap"]
    assert line[columns.index("ap")] == f"{ap.mean:.3f} [{ap.low:.3f}, {ap.high:.3f}]"
    assert dataclasses.asdict(ap) == next(r for r in data["rows"] if r["name"] == "ours")["values"]["ap"]


def test_lookup_of_the_true_class_never_looks_at_the_picture() -> None:
    row = next(r for r in measured(PAPER).rows if (r.split, r.name) == ("counterfactual", "class lookup, true class"))
    expected = [
        metrics.average_precision(world.typical_descriptors(scene.class_name)[:15], scene.descriptors)
        for scene in world.scenes("counterfactual", count=2, seed=0)
    ]
    assert row.values["ap"].mean == pytest.approx(np.mean(expected))

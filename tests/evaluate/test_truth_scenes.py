"""The truth benchmark on a few scenes: its numbers are those of explanations, and what is compared is comparable."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import pytest

import embedded
from clipmk.backbones.base import Backbone
from clipmk.evaluate import bench, metrics, scoring, truth
from clipmk.evaluate.lens import Reading
from clipmk.evaluate.report import TruthReport
from clipmk.evaluate.ways import BASELINES, FEATURE_MAPS, LOOKUP, NEAREST, SPARSE, TRUE_LOOKUP, TRUE_PARTS, Way, ways
from clipmk.images.decoder import read_picture
from clipmk.models.loading import load
from clipmk.settings import preset
from clipmk.world.combinations import typical_descriptors
from clipmk.world.scene import render_scenes

OURS = Way("ours", preset("default"))
PAPER = Way("paper", preset("paper", grounding="attend"))
CEILING = Way("ceiling", preset("default"), parts="true")
MAPS = Way("maps", preset("default"), parts="feature maps")
CONCEPTS = {"ap", "r_precision", "hit1", "hit3", "mutual_true", "top1", "parts", "margin"}
REGIONS = {"foreground", "of_ceiling", "corloc", "part_iou"}
BESIDE = {"pixel_iou", "part_margin", "outliers"}
EFFECTS = {"effect_top", "effect", "effect_control", "effect_margin"}
SPLITS = ("test", "counterfactual")


@pytest.fixture(autouse=True, scope="module")
def _small(tmp_path_factory: pytest.TempPathFactory) -> object:
    """A cache of our own, and few scenes to fit the sparse decomposition on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIPMK_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "truth-cache"))
        patch.setattr(bench, "CALIBRATION_SCENES", 6)
        yield


@cache
def cnn() -> Backbone:
    return load("embedded/rn-xs", device="cpu")


@cache
def measured(*ways: Way, behaviour: bool = False) -> TruthReport:
    return truth.run(embedded.backbone(), scenes=2, splits=SPLITS, chosen=ways, behaviour=behaviour)


def test_rows_are_complete_for_every_split() -> None:
    report = measured(OURS, CEILING, MAPS)
    rows = {(row.split, row.name): row for row in report.rows}
    assert set(rows) == {(split, name) for split in SPLITS for name in (*BASELINES, "ours", "ceiling", "maps")}
    for split in SPLITS:
        assert all(set(rows[split, name].values) == {"ap", "r_precision"} for name in BASELINES)
        got = {name: set(rows[split, name].values) | {"mutual_true"} for name in ("ours", "ceiling", "maps")}
        assert got == {"ours": CONCEPTS | REGIONS | BESIDE, "ceiling": CONCEPTS, "maps": CONCEPTS | REGIONS}
        for name in ("ours", "ceiling", LOOKUP):
            assert set(rows[split, name].margins) == {*BASELINES, "maps"} - {name}
        assert "maps" not in rows[split, "maps"].margins
    assert report.settings["ours"]["preset"] == "default"
    assert report.settings["ceiling"]["part_source"] == "true"
    assert report.settings[SPARSE]["penalty"] > 0


def test_what_is_measured_does_not_depend_on_what_stands_beside_it() -> None:
    alone, beside = measured(OURS), measured(PAPER, OURS)
    for name in (*BASELINES, "ours"):
        values = [[r.values for r in report.rows if r.name == name] for report in (alone, beside)]
        for one, other in zip(*values, strict=True):
            assert set(one) == set(other)
            for metric, interval in one.items():
                assert dataclasses.astuple(interval) == pytest.approx(dataclasses.astuple(other[metric])), metric


def test_models_measured_together_get_the_numbers_they_get_alone() -> None:
    models = [cnn(), embedded.backbone()]
    together = truth.run_all(models, scenes=2, splits=("val",), chosen=[OURS, PAPER], behaviour=False)
    assert [report.model for report in together] == ["embedded/rn-xs", "embedded/vit-s8"]
    for backbone, report in zip(models, together, strict=True):
        alone = truth.run(backbone, scenes=2, splits=("val",), chosen=[OURS, PAPER], behaviour=False)
        assert alone == report


def test_batches_of_another_size_give_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(truth, "BATCH", 1)
    told: list[tuple[str, int, int]] = []
    again = truth.run(
        embedded.backbone(), scenes=2, splits=SPLITS, chosen=[OURS], behaviour=False, progress=lambda *p: told.append(p)
    )
    assert told == [(f"truth {split}", done, 2) for split in SPLITS for done in (1, 2)]
    for one, other in zip(again.rows, measured(OURS).rows, strict=True):
        assert (one.split, one.name) == (other.split, other.name)
        assert {m: i.mean for m, i in one.values.items()} == pytest.approx({m: i.mean for m, i in other.values.items()})


def test_numbers_of_a_way_are_means_over_its_explanations() -> None:
    rows = {row.name: row.values for row in measured(OURS, CEILING).rows if row.split == "test"}
    expected: dict[str, list[float]] = {name: [] for name in ("ap", "foreground", "part_iou", "hit3", "ceiling hit1")}
    for scene in embedded.scenes("test", count=2):
        picture, masks = read_picture(scene.image), scoring.true_masks(scene)
        found = embedded.explainer().explain([picture])[0]
        ranked = [concept.text for concept in found.vision_concepts]
        expected["ap"].append(metrics.average_precision(ranked, scene.descriptors))
        own = embedded.pixels_of(found)
        expected["foreground"].append(metrics.iou(own.any(0), scene.object_mask))
        table = [[metrics.iou(mask, true) for mask in own] for true in masks]
        expected["part_iou"].append(float(np.mean([max(row) for row in table])))
        best = [found.parts[int(np.argmax(row))].descriptors[:3] for row in table]
        hits = [part.descriptor in [d.text for d in top] for part, top in zip(scene.parts, best, strict=True)]
        expected["hit3"].append(float(np.mean(hits)))
        given = embedded.explainer().explain([picture], masks=[masks])[0]
        named = [
            part.descriptors[0].text == true.descriptor for part, true in zip(given.parts, scene.parts, strict=True)
        ]
        expected["ceiling hit1"].append(float(np.mean(named)))
    for name in ("ap", "foreground", "part_iou", "hit3"):
        assert rows["ours"][name].mean == pytest.approx(np.mean(expected[name])), name
    assert rows["ceiling"]["hit1"].mean == pytest.approx(np.mean(expected["ceiling hit1"]))


def test_corloc_is_of_boxes_and_the_foreground_of_pixels() -> None:
    scene = next(iter(embedded.scenes("test", count=1)))
    rows, columns = np.nonzero(scene.object_mask)
    outline = np.zeros_like(scene.object_mask)
    outline[rows.min() : rows.max() + 1, columns.min()] = outline[rows.min(), columns.min() : columns.max() + 1] = True
    outline[rows.max(), columns.max()] = True
    scores = scoring.region_scores(scene, outline[None], outline, grid=(8, 8))
    assert scores["corloc"] == 1
    assert scores["foreground"] == metrics.iou(outline, scene.object_mask) < 0.2


def test_what_no_part_overlaps_is_missed_whatever_that_part_is_called() -> None:
    scene = next(iter(embedded.scenes("test", count=1)))
    masks = np.stack([~scene.object_mask, scene.parts[0].mask_pixels])
    everything = [part.descriptor for part in scene.parts]
    assert len(set(everything)) > 1
    reading = Reading(
        class_name=scene.class_name,
        concepts=tuple(everything),
        mutual=(False,) * len(everything),
        picks=(tuple(everything), tuple(everything)),
        part_pixels=masks,
        foreground_pixels=masks.any(0),
        carriers=((0, 1),) * len(everything),
    )
    shared = [bool((part.mask_pixels & (masks[0] | masks[1])).any()) for part in scene.parts]
    expected = [part.descriptor in everything[:3] and met for part, met in zip(scene.parts, shared, strict=True)]
    assert not all(shared)
    assert scoring.concept_scores(scene, reading, true_parts=False)["hit3"] == np.mean(expected)


def test_margins_are_differences_of_the_same_scenes() -> None:
    for row in measured(OURS, CEILING, MAPS).rows:
        others = {other.name: other for other in measured(OURS, CEILING, MAPS).rows if other.split == row.split}
        for name, margin in row.margins.items():
            assert margin.mean == pytest.approx(row.values["ap"].mean - others[name].values["ap"].mean)
        if "margin" in row.values:
            assert row.values["margin"] == row.margins[LOOKUP]
        if "part_margin" in row.values:
            difference = row.values["part_iou"].mean - row.values["pixel_iou"].mean
            assert row.values["part_margin"].mean == pytest.approx(difference)


def test_other_seeds_draw_other_scenes() -> None:
    other = truth.run(embedded.backbone(), scenes=2, seed=1, chosen=[OURS], behaviour=False)
    assert [row.values for row in other.rows] != [row.values for row in measured(OURS).rows]


def test_behaviour_is_not_measured_with_true_parts() -> None:
    rows = {(row.split, row.name): set(row.values) for row in measured(OURS, CEILING, MAPS, behaviour=True).rows}
    for split in SPLITS:
        assert {"stable_seed", "stable_shift", "effect_top"} <= rows[split, "ours"]
        assert not {*EFFECTS, "stable_seed", "stable_shift"} & rows[split, "ceiling"]
        assert not {"stable_seed", "stable_shift"} & rows[split, "maps"]


def test_the_ways_compare_presets_groundings_and_parts() -> None:
    *listed, maps = ways()
    assert len({way.name for way in listed}) == len(listed) == 8
    assert {(w.settings.preset, w.settings.grounding, w.parts) for w in listed} == {
        (p, g, parts) for p in ("default", "paper") for g in ("prompts", "attend") for parts in ("found", "true")
    }
    assert (maps.name, maps.parts) == (FEATURE_MAPS, "feature maps")
    assert {way.settings.seed for way in ways(seed=7)} == {7}


def test_a_report_tells_its_numbers_as_tables_and_as_plain_data() -> None:
    report = measured(OURS)
    data = report.to_dict()
    assert (data["model"], data["scenes"], data["seed"]) == ("embedded/vit-s8", 2, 0)
    ours = next(row for row in report.rows if (row.split, row.name) == ("test", "ours"))
    tables = {title: (columns, body) for title, columns, body in report.table()}
    for title, metric, values in (
        ("test: concepts", "ap", ours.values),
        ("test: average precision above each baseline (paired)", NEAREST, ours.margins),
    ):
        columns, body = tables[title]
        line = next(line for line in body if line[0] == "ours")
        told = values[metric]
        assert line[columns.index(metric)] == f"{told.mean:.3f} [{told.low:.3f}, {told.high:.3f}]"
    plain = next(row for row in data["rows"] if row["name"] == "ours")
    assert plain["values"]["ap"] == dataclasses.asdict(ours.values["ap"])
    assert plain["margins"][NEAREST] == dataclasses.asdict(ours.margins[NEAREST])


def test_a_summary_tells_first_what_the_tables_tell_too() -> None:
    ceiling = dataclasses.replace(CEILING, name=f"ours{TRUE_PARTS}")
    report = measured(OURS, ceiling, MAPS)
    ours = next(row for row in report.rows if (row.split, row.name) == ("counterfactual", "ours"))
    titles = ("summary, ± half the 95 % interval", "average precision above two baselines (paired)")
    assert [one[0] for one in report.summary()] == [f"{split}: {title}" for split in SPLITS for title in titles]
    (_, columns, body), (_, over, margins) = report.summary()[2:]
    assert columns == ["", "ap", "hit1", "hit3", "foreground", "part_iou", "top1"]
    rows = {line[0]: line[1:] for line in body}
    assert list(rows) == [*(name for name in BASELINES if name != TRUE_LOOKUP), "ours", "maps"]
    assert rows["ours"] == [
        f"{told.mean:.3f} ±{(told.high - told.low) / 2:.3f}" for told in (ours.values[name] for name in columns[1:])
    ]
    assert rows[NEAREST][1:] == [""] * 5
    assert over == ["", LOOKUP, NEAREST]
    assert [line[0] for line in margins] == ["ours", "maps"]
    told = ours.margins[NEAREST]
    assert margins[0][2] == f"{told.mean:.3f} [{told.low:.3f}, {told.high:.3f}]"


def test_lookup_of_the_true_class_never_looks_at_the_picture() -> None:
    row = next(r for r in measured(OURS).rows if (r.split, r.name) == ("counterfactual", TRUE_LOOKUP))
    expected = [
        metrics.average_precision(typical_descriptors(scene.class_name)[:15], scene.descriptors)
        for scene in render_scenes("counterfactual", count=2, seed=0)
    ]
    assert row.values["ap"].mean == pytest.approx(np.mean(expected))


def test_the_sparse_decomposition_is_fitted_on_scenes_that_nothing_is_reported_on() -> None:
    held_out = bench.calibration_scenes(0).scenes
    assert {scene.split for scene in held_out} == {"val"}
    assert min(scene.index for scene in held_out) >= 1_000_000

"""The truth on a few scenes: its numbers are those of explanations, and what is compared is comparable."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import numpy as np
import pytest

import embedded
from clipmk.evaluate import asking, harness, metrics, perturbations, truth
from clipmk.evaluate.report import BASELINES, LOOKUP, NEAREST, RANDOM, SPARSE, TRUE_LOOKUP, TRUE_PARTS, Report
from clipmk.evaluate.samples import Sample, rendered_scenes
from clipmk.evaluate.truth import ScenePrediction, TruthEvaluator
from clipmk.evaluate.variants import Variant, VariantRunner, variants
from clipmk.images.decoder import read_picture
from clipmk.settings import preset
from clipmk.vocabulary.vocabulary import load_vocabulary
from clipmk.world.combinations import typical_descriptors
from clipmk.world.scene import render_scenes

OURS = Variant("ours", preset("default"))
PAPER = Variant("paper", preset("paper", grounding="attend"))
CEILING = Variant("ceiling", preset("default"), parts="true")
MAPS = Variant("maps", preset("default"), parts="feature maps")
CONCEPTS = {"ap", "r_precision", "hit1", "hit3", "noun", "colour", "texture", "mutual_true", "top1", "parts", "margin"}
REGIONS = {"foreground", "of_ceiling", "corloc", "part_iou"}
BESIDE = {"pixel_iou", "part_margin", "outliers", "stable_seed", "stable_shift"}
EFFECTS = {"effect_top", "effect", "effect_control", "effect_margin"}
SPLITS = ("test", "counterfactual")
EPS = float(np.finfo(np.float32).eps)


@pytest.fixture(autouse=True, scope="module")
def _small(tmp_path_factory: pytest.TempPathFactory) -> object:
    """A cache of our own, and few scenes to fit the sparse decomposition on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIPMK_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "truth-cache"))
        patch.setattr(truth, "CALIBRATION_SCENES", 6)
        yield


PUBLISHED = (asking.OCCLUSION, asking.VALUES, asking.LEGRAD, asking.ROLLOUT)
MAP_ROWS = (asking.PATCHES, asking.ATTENTION, asking.CENTRE, asking.ANYWHERE, *PUBLISHED)
MAP_SCORES = {"pointing", "pixel_ap", "map_iou"}
PRESENCE = {"presence", "presence_hard"}


def run(*chosen: Variant, splits: tuple[str, ...] = SPLITS, seed: int = 0, progress: Any = None) -> Report:
    return harness.run(
        embedded.backbone(),
        load_vocabulary("world"),
        [rendered_scenes(split, count=2, seed=seed) for split in splits],
        variants=chosen,
        measures=["truth"],
        seed=seed,
        progress=progress,
    )["truth"]


measured = cache(run)


def test_rows_are_complete_for_every_split() -> None:
    report = measured(OURS, CEILING, MAPS)
    rows = {(row.data, row.name): row for row in report.rows}
    assert set(rows) == {
        (split, name) for split in SPLITS for name in (*BASELINES, "ours", "ceiling", "maps", *MAP_ROWS)
    }
    for split in SPLITS:
        seen = {LOOKUP: PRESENCE, NEAREST: PRESENCE | {"missed", "false_hard", "false_alarm"}}
        for name in BASELINES:
            assert set(rows[split, name].values) == {"ap", "r_precision"} | seen.get(name, set())
        assert all(set(rows[split, name].values) == MAP_SCORES for name in MAP_ROWS)
        optional = {"mutual_true", *EFFECTS}  # where there is no mutual concept, or no other place for its region
        got = {name: set(rows[split, name].values) - optional for name in ("ours", "ceiling", "maps")}
        expected = {"ours": CONCEPTS | REGIONS | BESIDE | MAP_SCORES, "ceiling": CONCEPTS, "maps": CONCEPTS | REGIONS}
        assert got == {name: metrics - optional for name, metrics in expected.items()}
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
                expected = dataclasses.astuple(other[metric])
                # the last bits of a cosine in float32 follow the size of its batch; effects are differences of two
                assert dataclasses.astuple(interval) == pytest.approx(expected, abs=2 * EPS), metric


def test_batches_that_cross_scenes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perturbations, "IMAGES_HELD", 1)
    calls: list[tuple[str, int, int]] = []
    again = run(OURS, progress=lambda *p: calls.append(p))
    assert calls == [(f"{split}: images", done, 2) for split in SPLITS for done in (1, 2)]
    for one, other in zip(again.rows, measured(OURS).rows, strict=True):
        assert (one.data, one.name) == (other.data, other.name)
        for metric, value in one.values.items():
            assert dataclasses.astuple(value) == pytest.approx(dataclasses.astuple(other.values[metric]), abs=1e-6)


def test_numbers_of_a_variant_are_means_over_its_explanations() -> None:
    rows = {row.name: row.values for row in measured(OURS, CEILING).rows if row.data == "test"}
    expected: dict[str, list[float]] = {name: [] for name in ("ap", "foreground", "part_iou", "hit3", "ceiling hit1")}
    for scene in embedded.scenes("test", count=2):
        picture, masks = read_picture(scene.image), scene.part_masks
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
        for place, word in enumerate(("texture", "colour", "noun"), start=-3):
            right = [
                t.descriptor.split()[place] == top[0].text.split()[place]
                for t, top in zip(scene.parts, best, strict=True)
            ]
            expected.setdefault(word, []).append(float(np.mean(right)))
    for name in ("ap", "foreground", "part_iou", "hit3", "texture", "colour", "noun"):
        assert rows["ours"][name].mean == pytest.approx(np.mean(expected[name])), name
    assert rows["ceiling"]["hit1"].mean == pytest.approx(np.mean(expected["ceiling hit1"]))


def test_corloc_is_of_boxes_and_the_foreground_of_pixels() -> None:
    scene = next(iter(embedded.scenes("test", count=1)))
    rows, columns = np.nonzero(scene.object_mask)
    outline = np.zeros_like(scene.object_mask)
    outline[rows.min() : rows.max() + 1, columns.min()] = outline[rows.min(), columns.min() : columns.max() + 1] = True
    outline[rows.max(), columns.max()] = True
    scores = truth.region_scores(scene, outline[None], outline, grid=(8, 8))
    assert scores["corloc"] == 1
    assert scores["foreground"] == metrics.iou(outline, scene.object_mask) < 0.2


def test_a_true_part_that_no_part_overlaps_is_missed_whatever_the_descriptors() -> None:
    scene = next(iter(embedded.scenes("test", count=1)))
    masks = np.stack([~scene.object_mask, scene.parts[0].mask_pixels])
    everything = [part.descriptor for part in scene.parts]
    assert len(set(everything)) > 1
    prediction = ScenePrediction(
        class_name=scene.class_name,
        concepts=tuple(everything),
        mutual=(False,) * len(everything),
        top_descriptors=(tuple(everything), tuple(everything)),
        part_pixels=masks,
        foreground_pixels=masks.any(0),
        part_ids=((0, 1),) * len(everything),
    )
    shared = [bool((part.mask_pixels & (masks[0] | masks[1])).any()) for part in scene.parts]
    expected = [part.descriptor in everything[:3] and met for part, met in zip(scene.parts, shared, strict=True)]
    assert not all(shared)
    assert truth.concept_scores(scene, prediction, true_parts=False)["hit3"] == np.mean(expected)


def test_margins_are_differences_of_the_same_scenes() -> None:
    for row in measured(OURS, CEILING, MAPS).rows:
        others = {other.name: other for other in measured(OURS, CEILING, MAPS).rows if other.data == row.data}
        for name, margin in row.margins.items():
            assert margin.mean == pytest.approx(row.values["ap"].mean - others[name].values["ap"].mean)
        if "margin" in row.values:
            assert row.values["margin"] == row.margins[LOOKUP]
        if "part_margin" in row.values:
            difference = row.values["part_iou"].mean - row.values["pixel_iou"].mean
            assert row.values["part_margin"].mean == pytest.approx(difference)


def test_other_seeds_draw_other_scenes() -> None:
    other = measured(OURS, seed=1)
    assert [row.values for row in other.rows] != [row.values for row in measured(OURS).rows]


def test_behaviour_is_not_measured_with_true_parts() -> None:
    rows = {(row.data, row.name): set(row.values) for row in measured(OURS, CEILING, MAPS).rows}
    for split in SPLITS:
        assert {"stable_seed", "stable_shift", "effect_top"} <= rows[split, "ours"]
        assert not {*EFFECTS, "stable_seed", "stable_shift"} & rows[split, "ceiling"]
        assert not {"stable_seed", "stable_shift"} & rows[split, "maps"]


def test_the_variants_compare_presets_groundings_and_parts() -> None:
    *listed, maps = variants()
    assert len({one.name for one in listed}) == len(listed) == 8
    assert {(one.settings.preset, one.settings.grounding, one.parts) for one in listed} == {
        (p, g, parts) for p in ("default", "paper") for g in ("prompts", "attend") for parts in ("found", "true")
    }
    assert (maps.name, maps.parts) == ("feature maps, attend", "feature maps")
    assert {one.settings.seed for one in variants(seed=7)} == {7}
    some = [one.name for one in variants(["paper"], ["attend"])]
    assert some == ["paper, attend", f"paper, attend{TRUE_PARTS}"]


def test_a_report_has_the_same_numbers_in_tables_and_plain_data() -> None:
    report = measured(OURS)
    data = report.to_dict()
    assert (data["model"], data["scenes"], data["seed"]) == ("embedded/vit-s8", 2, 0)
    ours = next(row for row in report.rows if (row.data, row.name) == ("test", "ours"))
    tables = {title: (columns, body) for title, columns, body in report.tables()}
    for title, metric, values in (
        ("test: concepts", "ap", ours.values),
        ("test: average precision above each baseline (paired)", NEAREST, ours.margins),
    ):
        columns, body = tables[title]
        line = next(line for line in body if line[0] == "ours")
        value = values[metric]
        assert line[columns.index(metric)] == f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"
    plain = next(row for row in data["rows"] if row["name"] == "ours")
    assert plain["values"]["ap"] == dataclasses.asdict(ours.values["ap"])
    assert plain["margins"][NEAREST] == dataclasses.asdict(ours.margins[NEAREST])


def test_a_summary_repeats_the_main_columns_of_the_tables() -> None:
    ceiling = dataclasses.replace(CEILING, name=f"ours{TRUE_PARTS}")
    report = measured(OURS, ceiling, MAPS)
    ours = next(row for row in report.rows if (row.data, row.name) == ("counterfactual", "ours"))
    titles = ("summary, ± half the 95 % interval", "average precision above two baselines (paired)")
    assert [one[0] for one in report.summary()] == [f"{split}: {title}" for split in SPLITS for title in titles]
    (_, columns, body), (_, over, margins) = report.summary()[2:]
    assert columns == ["", "ap", "hit1", "hit3", "foreground", "part_iou", "top1"]
    rows = {line[0]: line[1:] for line in body}
    assert list(rows) == [*(name for name in BASELINES if name != TRUE_LOOKUP), "ours", "maps"]
    assert rows["ours"] == [
        f"{value.mean:.3f} ±{(value.high - value.low) / 2:.3f}" for value in (ours.values[name] for name in columns[1:])
    ]
    assert rows[NEAREST][1:] == [""] * 5
    assert over == ["", LOOKUP, NEAREST]
    assert [line[0] for line in margins] == ["ours", "maps"]
    value = ours.margins[NEAREST]
    assert margins[0][2] == f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"


def test_baselines_rank_by_class_by_cosine_and_at_random() -> None:
    asked = embedded.explainer()
    texts, bank = asked.vocabulary.descriptors, asked.bank.descriptors
    expected: dict[str, list[float]] = {name: [] for name in (LOOKUP, TRUE_LOOKUP, NEAREST, RANDOM)}
    for scene in render_scenes("counterfactual", count=2, seed=0):
        embedding = asked.encode(asked.square(read_picture(scene.image))).embeddings[0]
        cosines = (bank @ embedding).tolist()
        predicted = asked.builder.predict(embedding)[0].class_name
        drawn = np.random.default_rng([0, scene.index]).permutation(len(texts))
        for name, ranked in (
            (LOOKUP, typical_descriptors(predicted)),
            (TRUE_LOOKUP, typical_descriptors(scene.class_name)),
            (NEAREST, [texts[i] for i in sorted(range(len(texts)), key=lambda i: -cosines[i])]),
            (RANDOM, [texts[i] for i in drawn]),
        ):
            expected[name].append(metrics.average_precision(ranked[:15], scene.descriptors))
    rows = {row.name: row.values for row in measured(OURS).rows if row.data == "counterfactual"}
    assert {name: rows[name]["ap"].mean for name in expected} == pytest.approx(
        {name: np.mean(values) for name, values in expected.items()}
    )


def test_the_sparse_decomposition_is_fitted_on_scenes_that_nothing_is_reported_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, int, int]] = []

    def rendered(split: str, *, count: int, seed: int, start: int) -> Any:
        asked.append((split, seed, start))
        return render_scenes(split, count=count, seed=seed, start=start)

    monkeypatch.setattr(truth, "render_scenes", rendered)
    runner = VariantRunner(embedded.backbone(), load_vocabulary("world"))
    assert truth.calibrate(runner, (), seed=3)[0].penalty > 0
    ((split, seed, start),) = asked
    assert (split, seed) == ("val", 3)
    assert start >= 1_000_000


def test_scenes_without_visible_parts_are_left_out() -> None:
    runner = VariantRunner(embedded.backbone(), load_vocabulary("world"))
    evaluator = TruthEvaluator(runner, (OURS,), truth.calibrate(runner, (), seed=0)[0], {}, seed=0)
    scene = embedded.scenes()[0]
    picture = read_picture(scene.image)
    assert evaluator.takes(Sample(0, picture, scene.class_name, None, scene))
    assert not evaluator.takes(Sample(0, picture, scene.class_name, None, dataclasses.replace(scene, parts=())))
    assert not evaluator.takes(Sample(0, picture, scene.class_name, None))


def test_all_measures_of_one_pass_give_the_numbers_that_they_give_alone() -> None:
    chosen = variants(["paper"], ["attend"])
    given = (embedded.backbone(), load_vocabulary("world"), [rendered_scenes("val", count=2, seed=0)])
    names = ["truth", "faithfulness", "zero_shot"]
    together = harness.run(*given, variants=chosen, measures=names)
    assert list(together) == names
    for name in names:
        assert harness.run(*given, variants=chosen, measures=[name]) == {name: together[name]}

"""Class swap, image swap and other sizes of D_y in a study's tables, against plain loops and against explanations."""

from __future__ import annotations

import csv
import dataclasses
import math
import statistics
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import study_runs
from clipmk.concepts.mutual import class_swap, measure
from clipmk.concepts.statistics import Estimate, mean_interval, wilson
from clipmk.datasets.opening import open_dataset
from clipmk.models.loading import load
from clipmk.pipeline.explainer import Explainer
from clipmk.settings import preset
from clipmk.study import swaps
from clipmk.study.document import results_document
from clipmk.study.image_columns import _share, below
from clipmk.study.manifest import Manifest, StudyFolder, read_manifest
from clipmk.study.report import write_report
from clipmk.study.results import read_results
from clipmk.study.run import run_study
from clipmk.study.tables import write_tables
from clipmk.study.text_tables import class_table, family_tables, model_table, size_table
from clipmk.system.locations import assets_dir
from study_runs import MODELS, fingerprints, images, request
from study_shards import DESCRIPTORS, LANGUAGE_COUNT, POOL, TOGETHER, VISION_LIMIT, WAYS, make_manifest, write_study

__all__ = ["images"]  # a fixture

TWO = (POOL[1], POOL[8])
COUNTS = (2, 5, LANGUAGE_COUNT)


def table(folder: StudyFolder, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(folder.table(name)).to_pylist()
    return found


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyFolder, Manifest]:
    manifest = dataclasses.replace(make_manifest(pool=TWO, classes=30, images=90), language_counts=COUNTS)
    folder = write_study(tmp_path_factory.mktemp("study"), manifest, pool=TWO, seed=3)
    write_tables(folder, manifest)
    return folder, manifest


def language_of(folder: StudyFolder, model: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in pq.read_table(folder.language(model)).to_pylist():
        found.setdefault(row["class"], []).append(row["descriptor"])
    return found


def swap_of(row: dict[str, Any], language: dict[str, list[str]], count: int) -> Any:
    shared = set(row["vision_concepts"]) & set(language[row["predicted"]][:count])
    tied_to = [[name for name, tied in language.items() if text in tied[:count]] for text in row["vision_concepts"]]
    return class_swap(
        tied_to, len(shared), explained=row["predicted"], classes=len(language), of=len(language)
    )  # fmt: skip


def rows_of(folder: StudyFolder, model: str, parts: str) -> list[dict[str, Any]]:
    every = table(folder, "images")
    return [row for row in every if (row["model"], row["parts"]) == (model, parts) and row["error"] is None]


def model_row(folder: StudyFolder, model: str, parts: str) -> dict[str, Any]:
    return next(row for row in table(folder, "models") if (row["model"], row["parts"]) == (model, parts))


@pytest.mark.parametrize("parts", WAYS)
def test_the_class_swap_of_every_image_is_that_of_an_explanation(
    study: tuple[StudyFolder, Manifest], parts: str
) -> None:
    folder, manifest = study
    for model in manifest.models:
        language, rows = language_of(folder, model.id), rows_of(folder, model.id, parts)
        for row in rows:
            swap = swap_of(row, language, LANGUAGE_COUNT)
            assert row["class_swap_p"] == swap.p_value
            assert (row["class_swap_at_least"], row["next_class"]) == (swap.at_least, swap.next_class)
            assert row["next_count"] == swap.next_count
        means, beats = model_row(folder, model.id, parts), [float(row["class_swap_at_least"] == 0) for row in rows]
        share = mean_interval(np.array(beats), np.array([row["image"] // TOGETHER for row in rows]))  # fitted together
        assert 0 < sum(beats) < len(rows)
        assert (means["beats_all"], means["beats_all_low"], means["beats_all_high"]) == (
            share.value,
            share.low,
            share.high,
        )
        assert means["class_swap_below"] == sum(row["class_swap_p"] < 0.05 for row in rows) / len(rows)
    failed = [row for row in table(folder, "images") if row["error"] is not None]
    assert failed
    assert all(row["class_swap_p"] is row["next_class"] is None for row in failed)


@pytest.mark.parametrize("at_once", [1, 7, 500])
def test_the_image_swap_is_a_plain_count_over_images_predicted_otherwise(
    study: tuple[StudyFolder, Manifest], at_once: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(swaps, "_AT_ONCE", at_once)
    folder, manifest = study
    model, parts = manifest.models[0].id, "pca"
    (tmp_path / "tables").mkdir()
    monkeypatch.setattr(
        StudyFolder, "table", lambda _, name, suffix=".parquet": tmp_path / "tables" / f"{name}{suffix}"
    )
    write_tables(folder, manifest)
    rows, language = rows_of(folder, model, parts), language_of(folder, model)
    below = 0
    for row in rows:
        tied = set(language[row["predicted"]])
        others = [set(one["vision_concepts"]) for one in rows if one["predicted"] != row["predicted"]]
        p = (1 + sum(len(seen & tied) >= row["mutual_count"] for seen in others)) / (1 + len(others))
        below += p < 0.05
    assert model_row(folder, model, parts)["image_swap_below"] == below / len(rows)
    assert below > 0


def test_a_sample_of_the_images_is_swapped_in_where_they_are_many(
    study: tuple[StudyFolder, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, manifest = study
    language = swaps.ClassConcepts(
        pq.read_table(folder.language(manifest.models[0].id)), count=LANGUAGE_COUNT, vocabulary_size=DESCRIPTORS
    )
    whole = swaps.Overlaps(language, (), VISION_LIMIT)
    for number in range(manifest.shards):
        rows = pq.read_table(folder.shard(manifest.models[0].id, number))
        whole.add(rows.filter(pc.equal(rows["parts"], "pca")))
    _, every, compared = whole.image_swap()
    assert compared.max() <= len(every)
    monkeypatch.setattr(swaps, "REFERENCES", 40)
    images, some, compared = whole.image_swap()
    assert (compared <= 41).all()
    assert (some >= 1 / compared).all()
    assert len(images) == len(every) == len(some)
    assert abs(every - some).max() < 0.3
    assert (every != some).any()


def test_other_sizes_of_d_y_give_what_measuring_with_them_gives(study: tuple[StudyFolder, Manifest]) -> None:
    folder, manifest = study
    found = table(folder, "language_counts")
    assert len(found) == len(manifest.models) * len(WAYS) * len(COUNTS)
    for one in found:
        language, count = language_of(folder, one["model"]), one["language_count"]
        rows = rows_of(folder, one["model"], one["parts"])
        made = [
            measure(
                [text in language[row["predicted"]][:count] for text in row["vision_concepts"]],
                language_count=count,
                vocabulary_size=DESCRIPTORS,
                length=VISION_LIMIT + 1,
            )
            for row in rows
        ]
        assert one["images"] == len(rows)
        assert one["mutual_count"] == statistics.fmean(mutual.count for mutual in made)
        for name in ("mi_paper", "auc", "auc_unpadded"):
            assert one[name] == pytest.approx(statistics.fmean(getattr(mutual, name) for mutual in made), rel=1e-12)
        assert one["chance_auc"] == pytest.approx(statistics.fmean(mutual.chance.auc for mutual in made))
        swapped = [swap_of(row, language, count) for row in rows]
        assert one["beats_all"] == statistics.fmean(swap.at_least == 0 for swap in swapped)
        if count == LANGUAGE_COUNT:
            means = model_row(folder, one["model"], one["parts"])
            assert one["auc"] == pytest.approx(means["auc"], rel=1e-12)
            assert one["beats_all"] == means["beats_all"]


def test_a_single_class_has_no_swap(tmp_path: Path) -> None:
    manifest = dataclasses.replace(make_manifest(pool=TWO[:1], classes=1), language_counts=(3,))
    folder = write_study(tmp_path, manifest, pool=TWO[:1])
    write_tables(folder, manifest)
    assert {row["class_swap_p"] for row in table(folder, "images")} == {None}
    assert {row["beats_all"] for row in table(folder, "models")} == {None}
    assert {row["beats_all"] for row in table(folder, "language_counts")} == {None}
    assert {row["class_swap_below"] for row in table(folder, "models")} == {None}


@pytest.mark.parametrize(("classes", "known"), [(20, False), (21, True)])
def test_a_share_of_p_below_005_is_null_where_p_cannot_be_below(tmp_path: Path, classes: int, known: bool) -> None:
    manifest = make_manifest(pool=TWO[:1], classes=classes)
    folder = write_study(tmp_path, manifest, pool=TWO[:1])
    write_tables(folder, manifest)
    assert [row["class_swap_below"] is not None for row in table(folder, "models")] == [known] * (len(WAYS) + 1)
    results = read_results(folder)
    headings, cells = (family_tables(results, wide=True)[0].columns, family_tables(results, wide=True)[0].rows[0])
    assert (dict(zip(headings, cells, strict=True))["class swap p < .05, %"] == "cannot be") is not known


def test_a_p_cannot_be_below_005_among_19_others() -> None:
    p = np.array([0.05, 0.05, 1 / 21, 0.9])
    assert below(p, np.array([20, 19, 21, 21])).tolist() == pytest.approx([np.nan, np.nan, 1, 0], nan_ok=True)


def test_a_share_has_the_interval_that_suits_what_it_is_of() -> None:
    alone, together = np.arange(6), np.array([0, 0, 1, 1, 2, 2])
    hits = np.array([1.0, 0, 1, 1, 0, 1])
    assert _share(hits, alone) == wilson(4, 6)
    assert _share(hits, together) == mean_interval(hits, together)
    methods = np.array([1.0, 0.5, 0, 1, 1, 0.5])
    assert _share(methods, alone) == mean_interval(methods)
    assert _share(np.ones(6), alone) == wilson(6, 6)
    assert _share(np.ones(6), together) == Estimate(1.0)
    assert _share(np.full(6, 0.5), alone) == Estimate(0.5)


def test_the_interval_of_a_mean_of_two_methods_covers_it_in_about_95_of_100_studies() -> None:
    rng = np.random.default_rng(0)
    found = [_share((rng.random((2, 80)) < [[0.7], [0.5]]).mean(axis=0), np.arange(80)) for _ in range(1_000)]
    assert 930 <= sum(one.low <= 0.6 <= one.high for one in found) <= 970


def test_every_table_of_m_strength_or_auc_has_u(study: tuple[StudyFolder, Manifest]) -> None:
    with (assets_dir() / "study_tables.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    of = {row["table"]: [one for one in rows if one["table"] == row["table"]] for row in rows}
    for name, own in of.items():
        if any(one["column"].startswith(("mutual_count", "mi_paper", "auc")) for one in own):
            assert [one["heading"] for one in own if one["form"] == "tied"] == ["u"], name
    results = read_results(study[0])
    classes = class_table(row for row in results.classes() if row["model"] == results.models[0]["model"])
    assert {row[classes.columns.index("u")] for row in classes.rows} == {"8 (1.6 %)"}
    assert classes.text_columns == (0, classes.columns.index("most often predicted instead"))
    split = model_table("", results, results.models, "right and wrong")
    assert {row[split.columns.index("u")] for row in split.rows} == {"8 (1.6 %)"}
    csv_rows = list(csv.DictReader(study[0].table("classes", ".csv").read_text(encoding="utf-8").splitlines()))
    assert {(float(row["language_count"]), row["vocabulary_size"]) for row in csv_rows} == {(8.0, str(DESCRIPTORS))}


def test_other_sizes_need_no_second_look_at_the_images(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole"
    run_study(request(whole, images, language_counts=(5, 30)))
    before = fingerprints(whole)
    results = read_results(StudyFolder(whole))
    swept = results_document(results)["language_counts"]
    assert {(row["model"], row["language_count"]) for row in swept} == {(m, u) for m in MODELS for u in (5, 30)}
    folder = tmp_path / "later"
    run_study(request(folder, images))
    shards = {name: digest for name, digest in fingerprints(folder).items() if name.startswith("shards")}
    with monkeypatch.context() as patch:
        patch.setattr("clipmk.study.shard_worker.ShardWorker.prepare", None)
        run_study(request(folder, images, language_counts=(5, 30)))
    assert {name: digest for name, digest in fingerprints(folder).items() if name.startswith("shards")} == shards
    assert {name: digest for name, digest in fingerprints(folder).items() if name != "study.json"} == {
        name: digest for name, digest in before.items() if name != "study.json"
    }
    run_study(request(folder, images))
    assert read_manifest(StudyFolder(folder).manifest).language_counts == (5, 30)
    run_study(request(folder, images, language_counts=(5, 700, 651)))
    assert {row["language_count"] for row in table(StudyFolder(folder), "language_counts")} == {5, 650}


def test_a_study_says_what_explaining_its_images_says(tmp_path: Path, images: Path) -> None:
    run_study(request(tmp_path, images, models=MODELS[:1]))
    explainer = Explainer(load(MODELS[0], device="cpu"), study_runs.load_vocabulary("world"), preset("default"))
    dataset = open_dataset(str(images))
    rows = [row for row in table(StudyFolder(tmp_path), "images") if row["error"] is None]
    for row in rows:
        found = explainer.explain([dataset.reader.read(dataset.entries[row["image"]])])[0].mutual
        swap = found.class_swap
        assert swap is not None
        assert (row["class_swap_p"], row["class_swap_at_least"]) == (swap.p_value, swap.at_least)
        assert (row["next_class"], row["next_count"]) == (swap.next_class, swap.next_count)
    row = model_row(StudyFolder(tmp_path), MODELS[0], "superpixels")
    assert math.isclose(row["mutual_count"], statistics.fmean(one["mutual_count"] for one in rows))
    assert row["mutual_count_low"] < row["mutual_count"] < row["mutual_count_high"]


def test_the_report_shows_every_size_with_its_share_of_the_descriptors(
    study: tuple[StudyFolder, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipmk.study.charts._chart", lambda name, *_: SimpleNamespace(name=name, svg="", inline=""))
    results = read_results(study[0])
    shown, rows = size_table(results), results.rows("language_counts")
    assert [cells[2] for cells in shown.rows] == ["2 (0.4 %)", "5 (1 %)", "8 (1.6 %)"] * len(TWO) * len(WAYS)
    for cells, row in zip(shown.rows, rows, strict=True):
        expected = (f"{row['mutual_count']:.1f}", f"{100 * row['beats_all']:.0f}", f"{row['mi_paper']:.2f}")
        assert cells[3:6] == expected
        assert cells[6:8] == (f"{row['auc']:.2f}", f"{row['auc'] / row['chance_auc']:.1f}")
    page = write_report(results).read_text(encoding="utf-8")
    assert "Other sizes of D_y" in page
    assert "image swap p &lt; .05" in page

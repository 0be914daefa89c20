"""The tables `wrong` and `cues` of a study of random numbers, against plain loops over its images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import false_discovery_control, fisher_exact

from clipmk.study.cues import FEWEST, SIGNIFICANT
from clipmk.study.manifest import Manifest, StudyFolder, write_manifest
from clipmk.study.schema import IMAGE, MEAN
from clipmk.study.tables import write_tables
from clipmk.study.wrong import MEASURES
from clipmk.system.parquet import write_rows
from study_shards import POOL, image_row, make_manifest, models, write_language, write_plan, write_shard, write_study

TWO = (POOL[0], POOL[7])
COLUMNS = dict(zip(MEASURES, ("probability", "margin", "mutual_count", "class_swap_p", "mi_paper", "auc"), strict=True))


def read(folder: StudyFolder, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(folder.table(name)).to_pylist()
    return found


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyFolder, Manifest]:
    manifest = make_manifest(pool=TWO, images=240, classes=4, shard_size=60)
    folder = write_study(tmp_path_factory.mktemp("study"), manifest, pool=TWO, seed=2)
    write_tables(folder, manifest)
    return folder, manifest


def labelled(folder: StudyFolder, model: str, parts: str) -> list[dict[str, Any]]:
    every = read(folder, "images")
    return [row for row in every if (row["model"], row["parts"]) == (model, parts) and row["correct"] is not None]


def single(tmp_path: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The table `wrong` of one model and part method with these images."""
    folder = study_of(tmp_path, rows)
    assert read(folder, "cues") == []
    return read(folder, "wrong")


def study_of(tmp_path: Path, rows: list[dict[str, Any]]) -> StudyFolder:
    info = replace(models(TWO)[0], id="m")
    manifest = replace(make_manifest(pool=TWO), models=(info,), parts=("kmeans",), shards=1)
    folder = StudyFolder(tmp_path)
    tmp_path.mkdir(exist_ok=True)
    write_manifest(manifest, folder.manifest)
    write_plan(folder, manifest)
    write_language(folder, manifest, info, ["a", "b", "c"])
    write_shard(folder, manifest, info, 0, rows)
    write_tables(folder, manifest)
    return folder


def test_every_measure_is_compared_with_counting_pairs(study: tuple[StudyFolder, Manifest]) -> None:
    folder, manifest = study
    rows = read(folder, "wrong")
    parts = (*manifest.parts, MEAN)
    assert [(row["model"], row["parts"], row["measure"]) for row in rows] == [
        (model.id, method, measure) for model in manifest.models for method in parts for measure in MEASURES
    ]
    for row in (row for row in rows if row["parts"] != MEAN):
        images = labelled(folder, row["model"], row["parts"])
        column, sign = COLUMNS[row["measure"]], -1 if row["measure"] != "class swap p" else 1
        if row["measure"] == "margin":  # these shards have none
            assert (row["images"], row["auroc"]) == (0, None)
            continue
        wrong, right = ([sign * one[column] for one in images if one["correct"] is kind] for kind in (False, True))
        pairs = [(high > low) + (high == low) / 2 for high in wrong for low in right]
        assert (row["images"], row["wrong"]) == (len(images), len(wrong))
        assert row["auroc"] == pytest.approx(np.mean(pairs))
        assert row["auroc_low"] < row["auroc"] < row["auroc_high"]
        base = next(one for one in rows if one["measure"] == "probability" and one["parts"] == row["parts"]
                    and one["model"] == row["model"])  # fmt: skip
        expected = None if row is base else pytest.approx(row["auroc"] - base["auroc"], abs=1e-12)
        assert row["less_probability"] == expected


def test_predictions_of_low_probability_are_compared_with_the_others(study: tuple[StudyFolder, Manifest]) -> None:
    folder, _ = study
    for row in read(folder, "wrong"):
        if row["measure"] != "probability":
            assert row["threshold"] is row["wrong_below"] is row["wrong_above"] is None
        elif row["parts"] != MEAN:
            images = labelled(folder, row["model"], row["parts"])
            values = sorted(one["probability"] for one in images)
            assert values[-(-len(values) // 5) - 1] <= row["threshold"]
            below = [not one["correct"] for one in images if one["probability"] < row["threshold"]]
            assert row["wrong_below"] == pytest.approx(np.mean(below))
            assert row["wrong_below_low"] < row["wrong_below"] < row["wrong_below_high"]


def test_the_threshold_of_a_confident_model_has_more_digits(tmp_path: Path) -> None:
    rows = [image_row(k, "kmeans", ["x"], ["x"], predicted="a" if k % 3 else "b") for k in range(30)]
    for k, row in enumerate(rows):
        row["probability"] = 1 - 1e-5 * (30 - k)
    first, *_ = single(tmp_path, rows)
    assert first["threshold"] == 0.99975
    assert first["wrong_above"] is not None


@pytest.mark.parametrize("case", ["no labels", "all right", "all wrong", "one image", "two images"])
def test_where_nothing_can_be_told_apart_numbers_are_null(tmp_path: Path, case: str) -> None:
    count = {"one image": 1, "two images": 2}.get(case, 20)
    label = {"no labels": None, "all wrong": "b"}.get(case, "a")
    rows = [image_row(k, "kmeans", ["x"], ["x"], label=label) for k in range(count)]
    for row in single(tmp_path, rows):
        assert row["auroc"] is row["less_probability"] is None
        assert (row["threshold"] is None) == (case == "no labels" or row["measure"] != "probability")


def test_two_images_of_which_one_is_wrong_have_no_interval(tmp_path: Path) -> None:
    rows = [image_row(k, "kmeans", ["x"], ["x"], predicted="ab"[k]) for k in range(2)]
    first, *_ = single(tmp_path, rows)
    assert (first["auroc"], first["auroc_low"]) == (0.5, None)


def test_cues_are_the_tables_of_every_text_and_predicted_class(study: tuple[StudyFolder, Manifest]) -> None:
    folder, manifest = study
    rows = read(folder, "cues")
    assert rows
    for model in manifest.models:
        language = pq.read_table(folder.language(model.id)).to_pylist()
        for parts in manifest.parts:
            found = [row for row in rows if (row["model"], row["parts"]) == (model.id, parts)]
            expected = {}
            for tie in language:
                images = [one for one in labelled(folder, model.id, parts) if one["predicted"] == tie["class"]]
                cells = np.zeros((2, 2), dtype=int)
                for one in images:
                    has = tie["descriptor"] in one["vision_concepts"]
                    cells[int(not has), int(one["correct"])] += 1
                if len(images) >= FEWEST and cells.sum(axis=0).all() and cells.sum(axis=1).all():
                    expected[tie["class"], tie["descriptor"]] = cells
            assert expected.keys() == {(row["class"], row["text"]) for row in found}
            p = [fisher_exact(expected[row["class"], row["text"]]).pvalue for row in found]
            assert [row["p"] for row in found] == pytest.approx(p)
            assert [row["q"] for row in found] == pytest.approx(false_discovery_control(p))
            for row in found:
                (wrong, right), (other_wrong, other_right) = expected[row["class"], row["text"]].tolist()
                assert (row["mutual_wrong"], row["mutual_right"]) == (wrong, right)
                assert (row["other_wrong"], row["other_right"]) == (other_wrong, other_right)
                assert row["images"] == wrong + right + other_wrong + other_right
                difference = wrong / (wrong + right) - other_wrong / (other_wrong + other_right)
                assert row["error_difference"] == pytest.approx(difference)
                assert row["error_difference_low"] <= difference <= row["error_difference_high"]
                assert row["odds_ratio_low"] < row["odds_ratio"] < row["odds_ratio_high"]
                assert row["asked"] is False


def test_shards_of_a_version_without_margins_are_read(study: tuple[StudyFolder, Manifest], tmp_path: Path) -> None:
    folder, manifest = study
    older = pa.schema([column for column in IMAGE if column.name != "margin"])
    copy = write_study(tmp_path, manifest, pool=TWO, seed=2)
    for model in manifest.models:
        for number in range(manifest.shards):
            rows = pq.read_table(copy.shard(model.id, number)).to_pylist()
            write_rows(rows, copy.shard(model.id, number), older, manifest.made_of(model))
    write_tables(copy, manifest)
    assert read(copy, "images") == read(folder, "images")
    assert read(copy, "cues") == read(folder, "cues")


def test_concepts_that_are_seen_at_random_are_seldom_cues(tmp_path: Path) -> None:
    """Of 40 studies in which nothing misleads, Benjamini and Hochberg let at most 5 % in the mean find something."""
    manifest = make_manifest(pool=TWO)
    tied = write_language(StudyFolder(tmp_path), manifest, replace(models(TWO)[0], id="m"), ["a", "b", "c"])
    found = 0
    for seed in range(40):
        rng, rows = np.random.default_rng(seed), []
        for image in range(60):
            predicted = "abc"[image % 3]
            seen = [str(one) for one in rng.choice(tied[predicted], 4, replace=False)]
            label = predicted if rng.random() < 0.7 else "other"
            rows.append(image_row(image, "kmeans", seen, tied[predicted], label=label, predicted=predicted))
        cues = read(study_of(tmp_path / str(seed), rows), "cues")
        assert len(cues) > 15
        found += any(row["q"] < SIGNIFICANT for row in cues)
    assert found <= 4

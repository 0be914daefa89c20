"""The final tables of a study: means against plain loops, vectors of docs/method.md, same bytes after any history."""

from __future__ import annotations

import csv
import itertools
import math
import shutil
import statistics
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipmk.concepts.mutual import chance_curve
from clipmk.concepts.statistics import mean_interval
from clipmk.errors import InputError
from clipmk.study import tables as tables_module
from clipmk.study.manifest import Manifest, StudyFolder, write_manifest
from clipmk.study.schema import IMAGE, MEAN, TABLES, images_schema
from clipmk.study.tables import Completeness, write_tables
from study_shards import (
    DESCRIPTORS,
    POOL,
    TOGETHER,
    VISION_LIMIT,
    WAYS,
    failed_row,
    image_row,
    make_manifest,
    models,
    write_language,
    write_plan,
    write_shard,
    write_study,
)

TWO = (POOL[0], POOL[7])
NAMES = ("models", "classes", "concepts", "images")


def read(folder: StudyFolder, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(folder.table(name)).to_pylist()
    return found


def row_of(folder: StudyFolder, parts: str, model: str | None = None) -> dict[str, Any]:
    [row] = [row for row in read(folder, "models") if row["parts"] == parts and model in {None, row["model"]}]
    return row


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyFolder, Manifest]:
    manifest = make_manifest(pool=TWO)
    folder = write_study(tmp_path_factory.mktemp("study"), manifest, pool=TWO)
    assert write_tables(folder, manifest) == Completeness(6, 6)
    return folder, manifest


def copied(study: tuple[StudyFolder, Manifest], target: Path) -> tuple[StudyFolder, Manifest]:
    """A copy that may be damaged, without tables."""
    shutil.copytree(study[0].root, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("tables"))
    return StudyFolder(target), study[1]


def single(tmp_path: Path, rows: list[dict[str, Any]], parts: tuple[str, ...] = ("kmeans",)) -> StudyFolder:
    """A study of one model with one shard of these rows."""
    info = replace(models(TWO)[0], id="m")
    manifest = replace(make_manifest(pool=TWO), models=(info,), parts=parts, shards=1)
    folder = StudyFolder(tmp_path)
    write_manifest(manifest, folder.manifest)
    write_plan(folder, manifest)
    write_language(folder, manifest, info, ["a", "b", "c"])
    write_shard(folder, manifest, info, 0, [dict.fromkeys(IMAGE.names) | row for row in rows])
    write_tables(folder, manifest)
    return folder


def test_tables_have_the_columns_of_the_schemas(study: tuple[StudyFolder, Manifest]) -> None:
    for name, schema in zip(NAMES, (*(TABLES[one] for one in NAMES[:3]), images_schema(())), strict=True):
        assert pq.read_schema(study[0].table(name)).equals(schema)


def test_model_means_are_those_of_a_plain_loop(study: tuple[StudyFolder, Manifest]) -> None:
    folder, manifest = study
    images = read(folder, "images")
    for model, way in itertools.product(manifest.models, WAYS):
        rows = [row for row in images if (row["model"], row["parts"]) == (model.id, way) and row["error"] is None]
        row = row_of(folder, way, model.id)
        assert row["images"] == len(rows)
        assert row["failed"] == 60 - len(rows)
        known = [one for one in rows if one["label"] is not None]
        assert 0 < row["labelled"] == len(known) < len(rows)
        assert row["top1"] == sum(one["correct"] for one in known) / len(known)
        assert row["top5"] == sum(one["label_rank"] <= 5 for one in known) / len(known)
        for name in ("probability", "mi_paper", "mi_textbook", "auc", "auc_unpadded"):
            values = [one[name] for one in rows]
            together: Counter[int] = Counter()
            for one in rows:
                together[one["image"] // TOGETHER] += one[name] - statistics.fmean(values)
            squares = sum(total**2 for total in together.values())
            half = 1.959964 * math.sqrt(len(together) / (len(together) - 1) * squares) / len(values)
            assert row[name] == pytest.approx(statistics.fmean(values), rel=1e-14)
            assert (row[f"{name}_low"], row[f"{name}_high"]) == pytest.approx((row[name] - half, row[name] + half))
        assert row["above_chance"] == sum(one["p_value"] < 0.05 for one in rows) / len(rows)
        for kind, right in (("right", True), ("wrong", False)):
            values = [one["auc"] for one in rows if one["correct"] is right]
            assert row[f"auc_{kind}"] == pytest.approx(statistics.fmean(values), rel=1e-14)
        chance = [chance_curve(one["vision_count"], one["language_count"], DESCRIPTORS) for one in rows]
        padded = [[*curve, *[0.0] * (VISION_LIMIT + 1 - len(curve))] for curve in chance]
        assert row["chance_curve"] == pytest.approx([statistics.fmean(point) for point in zip(*padded, strict=True)])
        assert statistics.fmean(row["chance_curve"]) == pytest.approx(row["chance_auc"])
        assert len(row["curve"]) == VISION_LIMIT + 1
        assert statistics.fmean(row["curve"]) == pytest.approx(row["auc"], rel=1e-12)


def test_a_model_is_behind_the_most_accurate_of_its_family_on_the_images_that_both_explained(tmp_path: Path) -> None:
    manifest = make_manifest(pool=POOL[:8])
    folder = write_study(tmp_path, manifest, pool=POOL[:8])
    write_tables(folder, manifest)
    images = {
        (one["model"], one["image"]): one
        for one in read(folder, "images")
        if one["parts"] == "pca" and one["error"] is None and one["label"] is not None
    }
    rows = [row for row in read(folder, "models") if row["parts"] == "pca"]
    best = {
        family: max((r for r in rows if r["family"] == family), key=lambda r: r["top1"]) for family in ("vit", "resnet")
    }
    for row in rows:
        reference = best[row["family"]]["model"]
        assert row["reference"] == (None if row["model"] == reference else reference)
        pairs = [(one, images[reference, image]) for (model, image), one in images.items() if model == row["model"]]
        differences = [own["correct"] - other["correct"] for own, other in pairs]
        assert row["top1_behind"] == pytest.approx(statistics.fmean(differences))
        assert row["top1_behind"] == pytest.approx(row["top1"] - best[row["family"]]["top1"])
        groups = np.array([own["image"] // TOGETHER for own, _ in pairs])
        low, high = (getattr(mean_interval(np.array(differences, dtype=float), groups), end) for end in ("low", "high"))
        assert (row["top1_behind_low"], row["top1_behind_high"]) == pytest.approx((low, high))


def test_curves_are_padded_to_the_setting_and_averaged_point_by_point(tmp_path: Path) -> None:
    tied = [f"t{i}" for i in range(50)]
    long = ["t0", "x1", "t1", "x2", "x3", "t2", *(f"x{i}" for i in range(4, 13))]
    short = ["x0", "t0", "x1", "t1"]
    folder = single(tmp_path, [image_row(0, "kmeans", long, tied), image_row(1, "kmeans", short, tied[:6])])
    row = row_of(folder, "kmeans")
    first = [7.7187, 7.3132, 7.3132, 6.6201, 6.6201, 6.6201, *[0.0] * 10]  # docs/method.md, section 4
    second = [3.8712, 3.8712, 3.1781, 3.1781, *[0.0] * 12]
    assert row["curve"] == pytest.approx([(a + b) / 2 for a, b in zip(first, second, strict=True)], abs=5e-5)
    assert row["auc"] == pytest.approx((2.6378 + 2.8197 * 5 / 16) / 2, abs=5e-5)
    assert row["auc_unpadded"] == pytest.approx((2.6378 + 2.8197) / 2, abs=5e-5)


def test_the_mean_has_images_that_every_part_method_explained(tmp_path: Path) -> None:
    tied = [f"t{i}" for i in range(8)]
    rows = [
        image_row(0, "pca", ["t0", "x"], tied),
        image_row(0, "kmeans", ["x", "y", "t0"], tied),
        image_row(1, "kmeans", ["t0", "t1"], tied),
        failed_row(1, "pca"),
        image_row(2, "kmeans", ["x"], tied, label="b"),
        image_row(2, "pca", ["t1"], tied, label="b"),
    ]
    folder = single(tmp_path, rows, ("kmeans", "pca"))
    row = row_of(folder, MEAN)
    assert (row["images"], row["failed"], row["top1"]) == (2, 1, 0.5)
    assert row_of(folder, "kmeans")["failed"] == 0
    assert row["mi_paper_right"] == pytest.approx((math.log(16) + math.log(24)) / 2)
    assert row["mi_paper_wrong"] == pytest.approx((math.log(8) + 0) / 2)
    assert row["mutual_count"] == pytest.approx(0.75)
    assert row["vision_count"] == pytest.approx((2.5 + 1) / 2)
    chance = [chance_curve(size, 8, DESCRIPTORS)[0] for size in (2, 3, 1, 1)]
    assert row["chance_curve"][0] == pytest.approx(statistics.fmean(chance))
    assert statistics.fmean(row["chance_curve"]) == pytest.approx(row["chance_auc"])


def test_class_rows_name_the_most_frequent_confusion(tmp_path: Path) -> None:
    tied = [f"t{i}" for i in range(8)]
    predicted = ["a", "c", "b", "c", "a"]
    rows = [image_row(i, "kmeans", ["t0"], tied, predicted=one) for i, one in enumerate(predicted)]
    rows += [image_row(5, "kmeans", ["t0"], tied, label="b", predicted="b"), failed_row(6, "kmeans", label="c")]
    rows += [image_row(7, "kmeans", ["t0"], tied, label=None)]
    found = read(single(tmp_path, rows), "classes")
    assert [(row["class"], row["images"], row["top1"], row["confused_with"]) for row in found] == [
        ("a", 5, 0.4, "c"),
        ("b", 1, 1.0, None),
        ("c", 0, None, None),
    ]
    assert found[2]["auc"] is None


def test_concepts_are_counted_as_a_plain_loop_counts_them(study: tuple[StudyFolder, Manifest]) -> None:
    folder, manifest = study
    model, way = manifest.models[1].id, "pca"
    language: dict[str, set[str]] = {}
    for one in pq.read_table(folder.language(model)).to_pylist():
        language.setdefault(one["class"], set()).add(one["descriptor"])
    counts: dict[str, Counter[str]] = {name: Counter() for name in TABLES["concepts"].names[3:]}
    for image in read(folder, "images"):
        if (image["model"], image["parts"]) == (model, way) and image["error"] is None:
            seen, tied = set(image["vision_concepts"]), language[image["predicted"]]
            counts["seen"].update(seen)
            counts["tied"].update(tied)
            counts["mutual"].update(seen & tied)
            counts["missed"].update(tied - seen)
            if image["correct"] is not None:
                counts["mutual_right" if image["correct"] else "mutual_wrong"].update(seen & tied)
    rows = [row for row in read(folder, "concepts") if (row["model"], row["parts"]) == (model, way)]
    assert [row["descriptor"] for row in rows] == sorted(counts["seen"].keys() | counts["tied"].keys())
    assert all(row[name] == counts[name][row["descriptor"]] for row in rows for name in counts)
    assert sum(row["mutual"] for row in rows) > sum(row["mutual_right"] + row["mutual_wrong"] for row in rows) > 0


def test_images_are_the_shards_in_order_and_a_row_group_holds_one_model(study: tuple[StudyFolder, Manifest]) -> None:
    folder, manifest = study
    with pq.ParquetFile(folder.table("images")) as file:
        assert file.num_row_groups == len(manifest.models)
        for group, model in enumerate(manifest.models):
            shards = pa.concat_tables(
                [pq.read_table(folder.shard(model.id, number)) for number in range(manifest.shards)]
            )
            assert file.read_row_group(group).select(IMAGE.names).equals(shards)


def test_a_row_group_of_images_ends_with_the_shard_that_fills_it(
    study: tuple[StudyFolder, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables_module, "_ROWS", 41)  # a shard has 40 rows
    folder, manifest = copied(study, tmp_path)
    write_tables(folder, manifest)
    with pq.ParquetFile(folder.table("images")) as file:
        assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [80, 40, 80, 40]
    assert pq.read_table(folder.table("images")).equals(pq.read_table(study[0].table("images")))


def test_csv_files_hold_the_numbers_to_the_last_bit(study: tuple[StudyFolder, Manifest]) -> None:
    folder, _ = study
    for name in ("models", "classes"):
        with folder.table(name, ".csv").open(encoding="utf-8", newline="") as handle:
            found = list(csv.DictReader(handle))
        rows = read(folder, name)
        assert [row["model"] for row in found] == [row["model"] for row in rows]
        assert [float(row["auc"]) for row in found] == [row["auc"] for row in rows]
    assert found[0]["class"] == "<b>cat & dog</b>"


def test_tables_are_the_same_bytes_whatever_order_the_shards_were_made_in(
    study: tuple[StudyFolder, Manifest], tmp_path: Path
) -> None:
    folder, manifest = study
    other = StudyFolder(tmp_path)
    write_plan(other, manifest)
    shards = [(model.id, number) for model in manifest.models for number in range(manifest.shards)]
    for model in manifest.models:
        write_language(other, manifest, model, [])
        other.language(model.id).write_bytes(folder.language(model.id).read_bytes())
    for count, (model_id, number) in enumerate(reversed(shards)):
        if count == 4:
            assert write_tables(other, manifest) == Completeness(4, 6)  # a report on an interrupted run
        other.shard(model_id, number).parent.mkdir(parents=True, exist_ok=True)
        other.shard(model_id, number).write_bytes(folder.shard(model_id, number).read_bytes())
    assert write_tables(other, manifest, unless_current=True).complete
    for path in sorted((folder.root / "tables").iterdir()):
        assert path.read_bytes() == (other.root / "tables" / path.name).read_bytes(), path.name


def test_tables_made_of_the_same_shards_are_not_rewritten(
    study: tuple[StudyFolder, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipmk.study.tables.table_writer", lambda *_: pytest.fail("written again"))
    assert write_tables(*study, unless_current=True) == Completeness(6, 6)


def test_an_unfinished_study_has_no_rows_of_models_that_did_not_begin(
    study: tuple[StudyFolder, Manifest], tmp_path: Path
) -> None:
    folder, manifest = copied(study, tmp_path)
    for number in range(3):
        folder.shard(manifest.models[1].id, number).unlink()
    folder.shard(manifest.models[0].id, 1).unlink()
    found = write_tables(folder, manifest)
    assert found == Completeness(2, 6)
    assert not found.complete
    assert {row["model"] for row in read(folder, "models")} == {manifest.models[0].id}
    assert row_of(folder, "pca")["images"] + row_of(folder, "pca")["failed"] == 40


def test_a_study_without_any_shard_has_empty_tables(tmp_path: Path) -> None:
    manifest = make_manifest(pool=TWO)
    write_plan(StudyFolder(tmp_path), manifest)
    assert write_tables(StudyFolder(tmp_path), manifest) == Completeness(0, 6)
    assert read(StudyFolder(tmp_path), "models") == []


def test_images_that_all_failed_give_a_row_without_numbers(tmp_path: Path) -> None:
    row = row_of(single(tmp_path, [failed_row(0, "kmeans"), failed_row(1, "kmeans")]), "kmeans")
    assert (row["images"], row["failed"], row["labelled"]) == (0, 2, 0)
    assert all(row[name] is None for name in TABLES["models"].names[TABLES["models"].names.index("top1") :])


def test_one_image_has_means_without_intervals(tmp_path: Path) -> None:
    row = row_of(single(tmp_path, [image_row(0, "kmeans", ["t0"], ["t0"], label=None)]), "kmeans")
    assert row["mi_paper"] == 0.0  # log(1 · 1 · 1)
    assert row["mi_paper_low"] is row["top1"] is row["auc_right"] is None


@pytest.mark.parametrize("damage", ["cut", "text", "columns"])
def test_a_damaged_shard_is_named(study: tuple[StudyFolder, Manifest], tmp_path: Path, damage: str) -> None:
    folder, manifest = copied(study, tmp_path)
    path = folder.shard(manifest.models[1].id, 2)
    if damage == "columns":
        pq.write_table(pa.table({"image": [1]}), path)
    else:
        path.write_bytes(path.read_bytes()[:-100] if damage == "cut" else b"no parquet")
    with pytest.raises(InputError, match=rf"{path.parent.name}.{path.name}' (is damaged|has other columns)"):
        write_tables(folder, manifest)
    assert not folder.table("images").exists()


def test_a_missing_language_side_is_named(study: tuple[StudyFolder, Manifest], tmp_path: Path) -> None:
    folder, manifest = copied(study, tmp_path)
    folder.language(manifest.models[0].id).unlink()
    with pytest.raises(InputError, match=r"language.*does not exist"):
        write_tables(folder, manifest)

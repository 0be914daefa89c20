"""The table of images of a study: whole, half-finished, older than its shards, damaged, being written."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from PIL import Image

from browse_tables import write_named_plan
from clipmk.browse.study_table import StudyTable
from clipmk.datasets.opening import open_dataset
from clipmk.errors import ClipmkError, ImageError, InputError, UsageError
from clipmk.images.decoder import read_picture
from clipmk.settings import preset
from clipmk.study import tables as tables_module
from clipmk.study.manifest import Manifest, StudyFolder, StudyRequest
from clipmk.study.resolve import resolve_manifest
from clipmk.study.tables import write_tables
from clipmk.vocabulary.vocabulary import load_vocabulary
from study_shards import POOL, make_manifest, models, shorten, write_study

THREE = (POOL[0], POOL[7], POOL[4])


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyFolder, Manifest]:
    manifest = make_manifest(pool=THREE)
    folder = write_study(tmp_path_factory.mktemp("study"), manifest, pool=THREE)
    write_named_plan(folder, manifest)
    write_tables(folder, manifest)
    return folder, manifest


@pytest.fixture
def copy(study: tuple[StudyFolder, Manifest], tmp_path: Path) -> StudyFolder:
    """A copy that may be damaged."""
    shutil.copytree(study[0].root, tmp_path / "copy")
    return StudyFolder(tmp_path / "copy")


def rows_of(folder: StudyFolder, model: str, parts: str) -> dict[int, dict[str, Any]]:
    rows = pq.read_table(folder.table("images")).to_pylist()
    return {row["image"]: row for row in rows if (row["model"], row["parts"]) == (model, parts)}


def content(table: StudyTable) -> list[Any]:
    return [table.row(place) for place in range(len(table))]


@pytest.mark.parametrize("parts", ["kmeans", "pca"])
def test_rows_are_those_of_the_tables(study: tuple[StudyFolder, Manifest], parts: str) -> None:
    folder, manifest = study
    table = StudyTable(folder.root, parts)
    assert (table.warnings, len(table), table.models) == ([], 60, tuple(one.id for one in manifest.models))
    expected = {model: rows_of(folder, model, parts) for model in table.models}
    for a, b in itertools.permutations(table.models, 2):
        table.use(a, b)
        for place, shown in enumerate(content(table)):
            assert (shown.key, shown.place) == (f"{place:05d}.jpg", place)
            for model, result in zip((a, b), shown.results, strict=True):
                row = expected[model][place]
                names = (
                    "correct",
                    "predicted",
                    "error",
                    "class_swap_p",
                    "probability",
                    "mutual_count",
                    "mi_paper",
                    "auc",
                )
                assert result == tuple(row[name] for name in names)
                assert shown.label == row["label"]
            found = [expected[model][place] for model in (a, b)]
            mutual = [
                {t for t, m in zip(one["vision_concepts"] or (), one["mutual"] or (), strict=True) if m}
                for one in found
            ]
            assert set(shown.differs_in) == mutual[0] ^ mutual[1]


def test_the_two_most_accurate_models_are_shown_first(study: tuple[StudyFolder, Manifest]) -> None:
    folder, _ = study
    table, top1 = StudyTable(folder.root), {}
    for model in table.models:
        top1[model] = sum(bool(row["correct"]) for row in rows_of(folder, model, "kmeans").values())
    assert [table.a, table.b] == sorted(top1, key=lambda model: -top1[model])[:2]


def test_a_part_method_or_model_that_the_study_lacks_is_an_error(study: tuple[StudyFolder, Manifest]) -> None:
    table = StudyTable(study[0].root)
    with pytest.raises(UsageError, match="no part method 'kmean'; close: 'kmeans'"):
        StudyTable(study[0].root, "kmean")
    with pytest.raises(UsageError, match="model 'x' is not in the table"):
        table.use("x")


def test_small_row_groups_are_read_too(
    study: tuple[StudyFolder, Manifest], copy: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(StudyTable(study[0].root))
    assert pq.ParquetFile(copy.table("images")).num_row_groups == 3
    shutil.rmtree(copy.root / "tables")
    monkeypatch.setattr(tables_module, "_ROWS", 1)
    write_tables(copy, study[1])
    assert pq.ParquetFile(copy.table("images")).num_row_groups == 9
    assert content(StudyTable(copy.root)) == before


def test_shards_are_read_where_there_are_no_tables(study: tuple[StudyFolder, Manifest], copy: StudyFolder) -> None:
    shutil.rmtree(copy.root / "tables")
    table = StudyTable(copy.root)
    assert table.warnings == ["the tables are not written yet; p follows with them"]
    whole = [
        row._replace(results=tuple(one._replace(p=None) for one in row.results))
        for row in content(StudyTable(study[0].root))
    ]
    assert content(table) == whole
    assert not (copy.root / "tables").exists()


def test_a_half_finished_study_shows_what_is_done(copy: StudyFolder) -> None:
    shutil.rmtree(copy.root / "tables")
    first = models(THREE)[0].id
    copy.shard(first, 1).unlink()
    shutil.rmtree(copy.shard(models(THREE)[1].id, 0).parent)
    for stray in (copy.shard(first, 99), copy.shard(first, 0).with_name("00000 copy.parquet")):  # not ours
        shutil.copy(copy.shard(first, 0), stray)
    table = StudyTable(copy.root)
    assert table.warnings[1:] == ["5 of 9 shards are done; the other images are empty"]
    table.use(first, models(THREE)[1].id)
    explained = [row.results[0].predicted is not None or row.results[0].error is not None for row in content(table)]
    assert explained == [place // 20 != 1 for place in range(60)]
    assert all(row.results[1] == (None,) * 8 for row in content(table))
    assert table.choose("right not failed").tolist() == [
        p for p, row in enumerate(content(table)) if row.results[0].correct
    ]
    assert len(table.class_counts(table.choose())) > 1


def test_tables_older_than_the_shards_are_opened_and_left_alone(
    study: tuple[StudyFolder, Manifest], copy: StudyFolder
) -> None:
    manifest = study[1]
    kept = copy.shard(manifest.models[0].id, 2)
    later = kept.read_bytes()
    kept.unlink()
    shutil.rmtree(copy.root / "tables")
    write_tables(copy, manifest)
    kept.write_bytes(later)
    before = {path: path.stat().st_mtime_ns for path in copy.root.rglob("*")}
    with FileLock(copy.lock):
        table = StudyTable(copy.root)
        content(table)
        with pytest.raises(InputError, match="a run works on it; tables follow at its end"):
            table.tables()
    assert table.warnings == ["the tables are older than the shards; `clipmk study report` brings them up to date"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert table.tables().completeness.complete
    assert StudyTable(copy.root).warnings == []


def test_a_damaged_table_or_one_of_another_version_gives_way_to_the_shards(copy: StudyFolder) -> None:
    path, whole = copy.table("images"), copy.table("images").read_bytes()
    for damage in (b"", b"PAR1", whole[: len(whole) // 2], b"\0" * len(whole)):
        path.write_bytes(damage)
        table = StudyTable(copy.root)
        assert table.warnings[0].endswith("; the shards are read instead; p follows with them")
        assert len(content(table)) == 60
    pq.write_table(pq.read_table(study_table := copy.table("models")), path)
    assert study_table.exists()
    assert StudyTable(copy.root).warnings[0].endswith("; the shards are read instead; p follows with them")


def test_damage_that_shows_when_a_model_is_chosen_is_an_error_that_names_the_file(copy: StudyFolder) -> None:
    path = copy.table("images")
    rows = pq.read_table(path)
    places = [0 if place % 2 else 4_000 for place in range(len(rows))]
    table = StudyTable(copy.root)
    pq.write_table(rows.set_column(0, "image", [places]), path)
    with pytest.raises(InputError, match=r"images\.parquet' is damaged or cannot be read: index 4000 is out of bounds"):
        table.choose("wrong")
    assert StudyTable(copy.root).warnings[0].endswith("; the shards are read instead; p follows with them")


@pytest.mark.parametrize("column", ["vision_concepts", "mutual"])
def test_concepts_and_flags_that_differ_in_number_are_an_error_that_names_the_file(
    copy: StudyFolder, column: str
) -> None:
    shorten(copy.table("images"), column)
    table = StudyTable(copy.root)
    with pytest.raises(InputError, match=r"images\.parquet' is damaged .* differ in length; a new run of the study"):
        table.choose("wrong")
    assert table.tables().completeness.complete  # which rebuilds the file
    assert len(content(StudyTable(copy.root))) == 60


def test_models_that_are_known_stay_where_another_cannot_be_read(copy: StudyFolder) -> None:
    table = StudyTable(copy.root)
    first, third = (table.a, table.b), next(one for one in table.models if one not in {table.a, table.b})
    before = table.choose("wrong").tolist()
    copy.table("images").unlink()
    table.use(third, table.b)
    with pytest.raises(InputError, match="is damaged or cannot be read"):
        table.choose("wrong")
    table.use(*first)
    assert table.choose("wrong").tolist() == before


def test_damaged_shards_are_left_out_and_named(copy: StudyFolder) -> None:
    shutil.rmtree(copy.root / "tables")
    first = models(THREE)[0].id
    shard = copy.shard(first, 1)
    data = bytearray(shard.read_bytes())
    data[len(data) // 3] ^= 1
    shard.write_bytes(bytes(data))
    table = StudyTable(copy.root)
    assert any("damaged files are left out: 'shards/" in one and "00001.parquet" in one for one in table.warnings)
    table.use(first)
    assert [row.results[0].predicted is None and row.results[0].error is None for row in content(table)] == [
        place // 20 == 1 for place in range(60)
    ]


def test_what_is_not_a_study_is_refused(copy: StudyFolder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not a study: it has no study\.json"):
        StudyTable(tmp_path)
    with pytest.raises(InputError, match=r"study\.json' is not a study"):
        StudyTable(copy.manifest)
    copy.manifest.write_text(
        copy.manifest.read_text(encoding="utf-8").replace('"format": 2', '"format": 9'), encoding="utf-8"
    )
    with pytest.raises(InputError, match="has format 9; this version reads format 2"):
        StudyTable(copy.root)


def test_a_study_without_its_plan_is_refused(copy: StudyFolder) -> None:
    copy.plan.unlink()
    with pytest.raises(InputError, match=r"plan.parquet' does not exist"):
        StudyTable(copy.root)


@pytest.mark.parametrize("shard", [2**40, 3, -1, None])
def test_a_plan_with_a_shard_that_the_study_does_not_have_is_refused(copy: StudyFolder, shard: int | None) -> None:
    plan = pq.read_table(copy.plan)
    place, shards = plan.schema.get_field_index("shard"), [shard, *plan["shard"].to_pylist()[1:]]
    pq.write_table(plan.set_column(place, plan.schema.field(place), [shards]), copy.plan)
    with pytest.raises(InputError, match=r"plan\.parquet' is damaged: its shards .*; a new run of the study"):
        StudyTable(copy.root)


def test_one_model_two_images_no_labels(tmp_path: Path) -> None:
    manifest = make_manifest(pool=POOL[:1], images=2, classes=1)
    folder = write_study(tmp_path, manifest, pool=POOL[:1])
    write_named_plan(folder, manifest)
    for tables in (False, True):
        if tables:
            write_tables(folder, manifest)
        table = StudyTable(tmp_path)
        assert (table.b, len(table), table.row(1).differs_in) == (None, 2, ())
        assert [one.name for one in table.class_counts(table.choose("right"))] == ["<b>cat & dog</b>"]
        assert table.concept_counts(np.array([0, 1]))[0].mutual_b == 0


def begun_study(root: Path, spec: str) -> StudyFolder:
    """The manifest and plan of a study of which nothing is explained."""
    folder = StudyFolder(root)
    root.mkdir()
    request = StudyRequest(
        folder=folder,
        dataset=open_dataset(spec),
        models=(),
        vocabulary=load_vocabulary("world"),
        settings=preset("default"),
    )
    resolve_manifest(request, models(THREE))
    return folder


def test_images_of_every_kind_of_dataset_can_be_opened(tmp_path: Path) -> None:
    images = tmp_path / "images" / "cat"
    images.mkdir(parents=True)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (20, 10), "red").save(images / name)
    shutil.make_archive(str(tmp_path / "shard"), "tar", tmp_path / "images")
    data = [{"bytes": (images / name).read_bytes(), "path": name} for name in ("a.png", "b.png")]
    pq.write_table(pa.table({"image": data}), tmp_path / "rows.parquet")
    named = {
        str(images.parent): ["a.png", "b.png"],
        str(tmp_path / "shard.tar"): ["shard.tar-cat-a.png", "shard.tar-cat-b.png"],
        str(tmp_path / "rows.parquet"): ["rows.parquet-a.png", "rows.parquet-b.png"],
        "world:test?scenes=2&size=32": ["test-000000.png", "test-000001.png"],
    }
    for number, (spec, names) in enumerate(named.items()):
        table = StudyTable(begun_study(tmp_path / f"study {number}", spec).root)
        paths = [Path(table.image(place)) for place in (0, 1)]
        assert [path.name for path in paths] == names
        sizes = [read_picture(str(path)).image.size for path in paths]
        assert sizes == [(32, 32) if spec.startswith("world:") else (20, 10)] * 2
        table.closing.close()
        assert [path.exists() for path in paths] == [number == 0] * 2


def test_an_image_that_is_gone_is_an_error_of_the_image(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    shutil.make_archive(str(tmp_path / "shard"), "tar", tmp_path)
    spec = str(tmp_path / "shard.tar")
    folder = begun_study(tmp_path / "study", spec)
    Path(spec).write_bytes(b"")
    with pytest.raises(ImageError, match="is truncated"):
        StudyTable(folder.root).image(0)
    Path(spec).unlink()
    with pytest.raises(ClipmkError):
        StudyTable(folder.root).image(0)

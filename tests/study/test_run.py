"""Whole studies with embedded models: interrupted, resumed, refused; by the local engine and by Ray."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from clipmk.concepts import superpixels
from clipmk.datasets.opening import open_dataset
from clipmk.errors import ClipmkError, InputError, ModelError, UsageError
from clipmk.records import ModelInfo
from clipmk.settings import preset
from clipmk.study.manifest import read_manifest, write_manifest
from clipmk.study.run import run_study
from study_runs import MODELS, SCENES, fingerprints, images, killed, request, stopping_after, undisturbed  # noqa: F401


def test_a_study_has_one_row_per_image_model_and_part_method(undisturbed: Path, images: Path) -> None:
    table = pq.read_table(undisturbed / "tables" / "images.parquet").to_pylist()
    assert len(table) == (SCENES + 1) * len(MODELS)
    assert [row["model"] for row in table] == [model for model in MODELS for _ in range(SCENES + 1)]
    for model in MODELS:
        rows = [row for row in table if row["model"] == model]
        assert sorted(row["image"] for row in rows) == list(range(SCENES + 1))
        (broken,) = [row for row in rows if row["error"] is not None]
        assert broken["key"].endswith("zzz.png")
        assert "zzz.png" in broken["error"]
        assert broken["predicted"] is None
        assert all(row["correct"] == (row["predicted"] == row["label"]) for row in rows if row is not broken)
    models = pq.read_table(undisturbed / "tables" / "models.parquet").to_pylist()
    assert [(row["model"], row["images"], row["failed"], row["labelled"]) for row in models] == [
        (model, SCENES, 1, SCENES) for model in MODELS
    ]


def test_models_share_what_parts_are_found_on(tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, sides = superpixels.colour_regions, []

    def counted(lab: Any) -> Any:
        sides.append(lab.shape[:2])
        return plain(lab)

    monkeypatch.setattr(superpixels, "colour_regions", counted)
    outcome = run_study(request(tmp_path / "study", images))
    assert (outcome.failed, len(MODELS)) == (1, 2)
    assert sides == [(superpixels.WORK_SIDE, superpixels.WORK_SIDE)] * SCENES


@pytest.mark.parametrize("moments", [(0,), (1, 7), (5, 12, 19)])
def test_an_interrupted_study_ends_in_the_same_bytes(
    tmp_path: Path, images: Path, undisturbed: Path, moments: tuple[int, ...]
) -> None:
    folder = tmp_path / "study"
    for moment in moments:
        with pytest.raises(KeyboardInterrupt):
            run_study(request(folder, images), progress=stopping_after(moment))
    (folder / "shards").mkdir(exist_ok=True)
    (folder / "shards" / ".0123456789abcdef.tmp").write_bytes(b"half a shard")  # of a run that was killed
    run_study(request(folder, images))
    assert fingerprints(folder) == fingerprints(undisturbed)


def test_missing_and_damaged_shards_are_rebuilt(tmp_path: Path, images: Path, undisturbed: Path) -> None:
    folder = tmp_path / "study"
    shutil.copytree(undisturbed, folder)
    first, second, *_ = sorted((folder / "shards").glob("*/*.parquet"))
    first.unlink()
    second.write_bytes(second.read_bytes()[:-20])
    outcome = run_study(request(folder, images))
    assert outcome.resumed == outcome.manifest.shards * len(MODELS) - 2
    assert fingerprints(folder) == fingerprints(undisturbed)


def test_a_killed_process_leaves_a_study_that_can_be_resumed(tmp_path: Path, images: Path, undisturbed: Path) -> None:
    folder = tmp_path / "study"
    killed(folder, images, *(word for model in MODELS for word in ("-m", model)), shards=1)
    run_study(request(folder, images))
    made, expected = fingerprints(folder), fingerprints(undisturbed)
    assert made.pop("study.json") != expected.pop("study.json")  # the commands differ
    assert made == expected


@pytest.mark.filterwarnings("ignore")  # Ray warns of its own deprecated settings and leaves sockets to the collector
def test_ray_and_the_local_engine_write_the_same_bytes(
    tmp_path: Path, images: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    folder = tmp_path / "study"
    reported: list[tuple[str, int, int]] = []
    ray.init(address="local", num_cpus=2, logging_level="error", log_to_driver=False, include_dashboard=False)
    try:
        run_study(request(folder, images, engine="ray", workers=2), progress=lambda *step: reported.append(step))
    finally:
        ray.shutdown()
    assert fingerprints(folder) == fingerprints(undisturbed)
    assert reported[-2] == ("study", 2 * (SCENES + 1), 2 * (SCENES + 1))


def test_another_study_in_the_folder_is_refused_with_the_difference(undisturbed: Path, images: Path) -> None:
    before = fingerprints(undisturbed)
    for changes, words in (
        ({"settings": preset("default", seed=3)}, "settings.seed: 0 there, 3 here"),
        ({"batch_size": 2}, "batch_size: 3 there, 2 here"),
        (
            {"models": MODELS[:1]},
            rf"same again: models: '{MODELS[0]}, {MODELS[1]}' there, '{MODELS[0]}' here; --extend keeps the models",
        ),
        (
            {"dataset": open_dataset("world:test?scenes=10")},
            rf"same again: dataset: '{images} \(10 images\)' there, 'world:test\?scenes=10 \(10 images\)' here$",
        ),
    ):
        with pytest.raises(UsageError, match=words):
            run_study(request(undisturbed, images, **changes))
    assert fingerprints(undisturbed) == before


def test_options_that_are_not_given_are_taken_from_the_folder(undisturbed: Path, images: Path) -> None:
    outcome = run_study(request(undisturbed, images, shard_size=None, batch_size=None, threads=None))
    assert outcome.resumed == outcome.manifest.shards * len(MODELS)


def test_other_versions_are_a_warning(tmp_path: Path, images: Path, undisturbed: Path) -> None:
    folder = tmp_path / "study"
    shutil.copytree(undisturbed, folder)
    path = folder / "study.json"
    manifest = read_manifest(path)
    versions = {**manifest.versions, "clipmk": "9." + manifest.versions["clipmk"]}
    write_manifest(dataclasses.replace(manifest, versions=versions), path)
    outcome = run_study(request(folder, images))
    assert any("other versions (clipmk 9." in warning for warning in outcome.warnings)


@pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
def test_all_files_of_a_study_follow_the_umask(tmp_path: Path, images: Path) -> None:
    folder = tmp_path / "study"
    before = os.umask(0o027)
    try:
        run_study(request(folder, images, models=MODELS[:1]))
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}
    assert {"study.json", "plan.parquet", "images.parquet", "models.csv"} <= modes.keys()
    modes.pop("study.lock")
    assert set(modes.values()) == {0o640}, modes


def test_two_runs_never_share_a_folder(undisturbed: Path, images: Path) -> None:
    with FileLock(undisturbed / "study.lock"), pytest.raises(ClipmkError, match="another run is using"):
        run_study(request(undisturbed, images))


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path, images: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="is not empty and is not a study"):
        run_study(request(tmp_path, images))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_two_spellings_of_one_model_are_refused(tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = ModelInfo(
        id="ViT-B-32-quickgelu:openai",
        family="vit",
        weights_sha256="0" * 64,
        architecture="ViT-B-32-quickgelu",
        pretrained="openai",
        input_size=224,
    )
    monkeypatch.setattr("clipmk.study.resolve.describe", lambda name: (dataclasses.replace(entry, id=name), 1))
    models = ("ViT-B-32:openai", "ViT-B/32:openai")
    with pytest.raises(UsageError, match="models 'ViT-B-32:openai' and 'ViT-B/32:openai' are the same"):
        run_study(request(tmp_path / "study", images, models=models))


def test_all_missing_models_are_named_before_any_work(tmp_path: Path, images: Path) -> None:
    models = ("embedded/vit-s9", MODELS[0], "ViT-B-32:laion2b_s34b_b79k")
    with pytest.raises(ModelError, match=r"2 of 3 models.*vit-s9.*laion2b"):
        run_study(request(tmp_path / "study", images, models=models))
    assert not (tmp_path / "study").exists()
    with pytest.raises(UsageError, match="'embedded/rn-xs' is named twice"):
        run_study(request(tmp_path / "study", images, models=("embedded/rn-xs", *MODELS)))


def test_the_paper_preset_records_both_part_methods_and_fits_classes_together(tmp_path: Path, images: Path) -> None:
    outcome = run_study(
        request(tmp_path / "study", images, models=MODELS[:1], settings=preset("paper"), shard_size=None)
    )
    assert outcome.manifest.parts == ("kmeans", "pca")
    assert outcome.manifest.settings["fit"] == "batch"
    rows = pq.read_table(tmp_path / "study" / "tables" / "images.parquet").to_pylist()
    assert [row["parts"] for row in rows] == ["kmeans", "pca"] * (SCENES + 1)
    models = pq.read_table(tmp_path / "study" / "tables" / "models.parquet").to_pylist()
    assert [row["parts"] for row in models] == ["kmeans", "pca", "mean"]


@pytest.mark.parametrize(
    "error", [ConnectionError("no cluster"), BrokenPipeError(32, "Broken pipe"), OSError("weights")]
)
def test_errors_of_the_work_are_not_blamed_on_the_folder(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("clipmk.study.run.run_local", failing)
    with pytest.raises(type(error)) as caught:
        run_study(request(tmp_path / "study", images))
    assert caught.value is error
    with FileLock(tmp_path / "study" / "study.lock", timeout=0):
        pass  # released


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, images: Path, undisturbed: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ClipmkError, match=r"file/study' cannot be written: Not a directory"):
        run_study(request(tmp_path / "file" / "study", images))
    for name in ("shards", "tables"):
        folder = tmp_path / name
        shutil.copytree(undisturbed, folder)
        shutil.rmtree(folder / name)
        (folder / name).write_text("in the way")
        with pytest.raises(ClipmkError, match=rf"/{name}[^']*' cannot be written"):
            run_study(request(folder, images))


@pytest.mark.parametrize(
    ("error", "address", "words"),
    [
        (
            ConnectionError("no node\nanswers"),
            "auto",
            r"RAY_ADDRESS='auto' cannot be reached: no node answers; if it needs a token, set RAY_AUTH_MODE=token",
        ),
        (ValueError("Invalid address format: x"), "x", r"RAY_ADDRESS='x' cannot be reached: Invalid address format: x"),
        (AssertionError("no host"), "head..node:6379", r"'head\.\.node:6379' cannot be reached: "),
        (AssertionError("nobody listens"), "127.0.0.1:1", r"'127.0.0.1:1' cannot be reached: Connection refused$"),
        (AssertionError("nobody listens"), "ray://[::1]:1", r"'ray://\[::1\]:1' cannot be reached: "),
        ("InvalidAuthToken", "auto", r"cannot be reached: InvalidAuthToken.*set RAY_AUTH_MODE=token"),
        (ConnectionError("no port is free"), None, r"Ray does not start: no port is free"),
    ],
)
def test_an_unreachable_cluster_is_named(
    tmp_path: Path,
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception | str,
    address: str | None,
    words: str,
) -> None:
    ray = pytest.importorskip("ray")

    def init(**_: object) -> None:
        raise error if isinstance(error, Exception) else ray.exceptions.AuthenticationError(error)

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ClipmkError, match=words):
        run_study(request(tmp_path / "study", images, engine="ray"))


def test_a_full_disk_ends_the_study_with_a_message(tmp_path: Path, images: Path, undisturbed: Path) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    largest = max(path.stat().st_size for path in undisturbed.glob("shards/*/*.parquet"))
    folder = tmp_path / "study"
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest - 100, hard))
    try:
        with pytest.raises(ClipmkError, match=r"cannot be written: File too large"):
            run_study(request(folder, images))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(folder.rglob("*.tmp"))
    run_study(request(folder, images))
    assert fingerprints(folder) == fingerprints(undisturbed)

"""`clipmk study` through its real entry point: errors before any work, a whole study, messages at the end."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from clipmk.study.manifest import StudyRequest, read_manifest
from clipmk.system.text import encodable
from clipmk.world.export import export_scenes
from clipmk_tui.cli.commands.study.run import StudyProgress
from command_line import Runner
from study_shards import POOL, make_manifest, write_study

MODEL = "embedded/vit-xs8-48"


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["world:test"], 2, "no model is named; name models with -m MODEL, or a pool with --pool zoo|paper13|FILE"),
        (["world:test", "--pool", "zoos"], 2, "pool 'zoos' is neither a file nor one of: zoo, paper13; close: 'zoo'"),
        (["world:test", "--pool", "zoo", "-m", MODEL], 2, "--pool and -m name models twice"),
        (["world:tset", "-m", MODEL], 2, "split 'tset' of the rendered world does not exist; close: 'test'"),
        (["nowhere", "-m", MODEL], 3, "'nowhere'"),
        (
            ["reprot", "here"],
            2,
            "'reprot' is not a command of `clipmk study` and not a dataset; did you mean `clipmk study re",
        ),
        (["world:test", "-m", MODEL, "--engine", "spark"], 2, "engine 'spark' does not exist; known: local, ray"),
        (["world:test", "-m", MODEL, "--fit", "all"], 2, "fit 'all' does not exist; known: image, batch"),
        (["world:test", "-m", MODEL, "--language-counts", "5,0"], 2, "'5,0' must be whole numbers from 1 on, such as"),
        (["world:test", "-m", MODEL, "--workers", "2"], 2, "--workers needs --engine ray"),
        (["world:test", "-m", "ViT-B-32:laion2b_s34b_b79k", "--vocab", "world"], 4, "is not on this machine"),
        (
            ["world:test", "--pool", "paper13"],
            2,
            "error: no vocabulary is named; name one with --vocab NAME|FILE; world has all labels of the dataset\n",
        ),
        (["world:test", "-m", MODEL, "--classes", "cat,dog"], 3, "are not classes of the vocabulary"),
    ],
)
def test_errors_are_reported_before_any_work(
    clipmk: Runner, tmp_path: Path, arguments: list[str], status: int, words: str
) -> None:
    ran = clipmk("study", *arguments, "--out", tmp_path / "study")
    assert ran.status == status
    assert words in ran.err
    assert ran.out == ""
    assert not (tmp_path / "study" / "shards").exists()


@pytest.mark.parametrize(
    ("labels", "options", "end"),
    [
        (("pizza", "Apple_pie"), ("--pool", "paper13"), "; food101 and everyday have all labels of the dataset\n"),
        (("pizza", "beef_tartare"), ("-m", MODEL), "--vocab NAME|FILE; food101 has all labels of the dataset\n"),
        (("n01440764", "n02123045"), ("--pool", "paper13"), "; imagenet has all labels of the dataset\n"),
        (
            ("pizza", "gizmo"),
            ("--pool", "paper13"),
            "; no shipped one has all labels of the dataset: 'pizza', 'gizmo';",
        ),
        (("0", "1"), ("--pool", "paper13"), "; no shipped one has all labels of the dataset: '0', '1'; shipped are"),
        ((None, None), ("--pool", "paper13"), "name one with --vocab NAME|FILE; shipped are world, cifar10, "),
    ],
)
def test_a_missing_vocabulary_is_suggested_from_the_labels(
    clipmk: Runner, tmp_path: Path, labels: tuple[str | None, ...], options: tuple[str, ...], end: str
) -> None:
    for number in range(len(labels)):
        Image.new("RGB", (32, 32)).save(tmp_path / f"{number}.png")
    rows = "".join(f"{number}.png,{label or ''}\n" for number, label in enumerate(labels))
    (tmp_path / "table.csv").write_text(f"path,label\n{rows}")
    ran = clipmk("study", "table.csv", *options)
    assert ran.status in {2, 3}
    assert end in ran.err
    assert "ViT-B-32" not in ran.err


def test_a_missing_file_of_a_manifest_is_reported_before_any_work(clipmk: Runner, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("path,label\nnope.png,cat\n")
    ran = clipmk("study", tmp_path / "table.csv", "-m", MODEL, "--out", tmp_path / "study")
    assert ran.status == 3
    assert "1 of 1 image is missing" in ran.err
    assert not (tmp_path / "study").exists()


def test_a_study_runs_resumes_and_prints_its_tables(
    clipmk: Runner, loaded_once: None, tmp_path: Path, valid: Callable[[Any], None]
) -> None:
    images = export_scenes(tmp_path / "scenes", split="test", count=5)
    (images / "fox").mkdir(exist_ok=True)
    (images / "fox" / "broken.png").write_bytes(b"no picture")
    command = ("study", images, "-m", MODEL, "--out", tmp_path / "study", "--device", "cpu")
    ran = clipmk(*command)
    assert ran.status == 3
    assert "1 image could not be explained" in ran.err
    assert "vit-xs8-48" in ran.out
    again = clipmk(*command, "--json")
    assert again.status == 3
    assert "1 of 1 shard had been done already" in again.err
    content = json.loads(again.out)
    valid(content)
    (model,) = content["study"]["models"]
    assert (model["model"], model["images"], model["failed"]) == (MODEL, 5, 1)
    quiet = clipmk(*command, "--json", "--quiet")
    assert quiet.status == 3
    assert [line.split(";")[0] for line in quiet.err.splitlines()] == [
        "clipmk: error: image 'fox/broken.png' is not an image that can be read",
        "clipmk: error: 1 image could not be explained",
    ]
    other = clipmk("study", "world:hard?scenes=3", "--preset", "paper", *command[2:])
    assert other.status == 2
    assert other.err.endswith(
        f"ask for the same again: dataset: '{images} (6 images)' there, 'world:hard?scenes=3 (3 images)' here; "
        "settings.preset: 'default' there, 'paper' here\n"
    )


def test_the_first_images_that_cannot_be_read_are_named_with_the_reason(
    clipmk: Runner, loaded_once: None, tmp_path: Path
) -> None:
    images = export_scenes(tmp_path / "scenes", split="test", count=2)
    (images / "fox").mkdir(exist_ok=True)
    (images / "fox" / "a\x1b[31m.png").write_bytes(b"")
    for name in ("b.png", "c.png", "d.png"):
        (images / "fox" / name).write_bytes(b"no picture")
    ran = clipmk("study", images, "-m", MODEL, "-m", "embedded/rn-xs", "--out", tmp_path / "study", "--device", "cpu")
    assert ran.status == 3
    errors = [line.removeprefix("clipmk: error: ") for line in ran.err.splitlines() if "error: " in line]
    assert [error.split(";")[0] for error in errors] == [
        r"image 'fox/a\x1b[31m.png' is empty",
        "image 'fox/b.png' is not an image that can be read",
        "image 'fox/c.png' is not an image that can be read",
        "4 images could not be explained, the first 3 of which are named here",
    ]


@pytest.mark.parametrize("images", [1, 8])  # the eighth cannot be decoded
def test_counts_of_one_are_in_the_singular(clipmk: Runner, tmp_path: Path, images: int) -> None:
    pool = POOL[:1]
    manifest = make_manifest(pool=pool, images=images, classes=1, shard_size=images)
    manifest = dataclasses.replace(manifest, threads=1, shards=2)
    folder = write_study(tmp_path / "study", manifest, pool=pool)
    folder.shard(manifest.models[0].id, 1).unlink()
    ran = clipmk("study", "report", tmp_path / "study", "--against", "paper")
    page = (tmp_path / "study" / "report" / "index.html").read_text(encoding="utf-8")
    for text in (ran.out, ran.err, page):
        assert not re.search(r"(?<![\d.,])1 (image|model|class|shard|label|thread|template)e?s\b", text)
    assert f"{images} image{'s' * (images > 1)}, 1 model, paper preset" in " ".join(ran.out.split())
    assert "warning: the study is not finished: 1 of 2 shards is done" in ran.err
    assert "1 thread<" in page
    assert ("1 image per model could not be explained" in ran.err) == (images == 8)
    assert ("1 image could not be explained; no mean includes it" in page) == (images == 8)


@pytest.mark.parametrize("quiet", [False, True])
def test_a_stopped_study_says_so_unless_it_is_quiet(
    clipmk: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, quiet: bool
) -> None:
    def stopped(request: object, *, progress: Callable[[str, int, int], None]) -> None:
        progress("study", 3, 8)
        raise KeyboardInterrupt

    monkeypatch.setattr("clipmk.study.run.run_study", stopped)
    ran = clipmk("study", "world:test?scenes=8", "-m", MODEL, "--out", tmp_path, *(["--quiet"] if quiet else []))
    assert ran.status == 130
    assert ("stopped at 3 of 8 images x models" in ran.err) is not quiet
    assert "error: interrupted" in ran.err


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such file names")
def test_a_command_line_that_is_not_utf_8_is_recorded(
    clipmk: Runner, loaded_once: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vocabulary, out = (os.fsdecode(os.fsencode(tmp_path) + name) for name in (b"/t\xff.json", b"/caf\xe9"))
    Path(vocabulary).write_text(json.dumps({"robot": ["an antenna", "metal"], "bird": ["wings", "a beak"]}))
    command = ["study", "world:test?scenes=2", "-m", MODEL, "--vocab", vocabulary, "--out", out, "--device", "cpu"]
    monkeypatch.setattr("sys.argv", ["clipmk", *command])
    ran = clipmk(*command)
    assert ran.status == 0, ran.err
    assert read_manifest(Path(out) / "study.json").command == encodable(shlex.join(["clipmk", *command]))
    again = clipmk(*command)
    assert again.status == 0, again.err
    assert "1 of 1 shard had been done already" in again.err


NAMED = {"out": "there", "engine": "ray", "workers": 3, "limit": 5, "fit": "batch", "shard_size": 60, "batch_size": 7,
         "threads": 2}  # fmt: skip


@pytest.mark.parametrize("by_flag", [False, True])
def test_options_are_read_from_the_environment_unless_a_flag_is_given(
    clipmk: Runner, monkeypatch: pytest.MonkeyPatch, *, by_flag: bool
) -> None:
    asked: list[StudyRequest] = []

    def stopped(request: StudyRequest, **_: object) -> None:
        asked.append(request)
        raise KeyboardInterrupt

    monkeypatch.setattr("clipmk.study.run.run_study", stopped)
    for name, value in NAMED.items():
        monkeypatch.setenv(f"CLIPMK_{name.upper()}", "1" if by_flag else str(value))
    monkeypatch.setenv("CLIPMK_POOL", "nowhere.txt" if by_flag else "zoo")
    flags = [word for name, value in NAMED.items() for word in (f"--{name.replace('_', '-')}", value)]
    ran = clipmk("study", "world:test?scenes=9", *(["-m", MODEL, *flags] if by_flag else []))
    assert ran.status == 130, ran.err
    [found] = asked
    assert str(found.folder.root) == "there"
    assert found.dataset.info.images == 5
    assert {name: getattr(found, name) for name in NAMED if name not in {"out", "limit"}} == {
        name: value for name, value in NAMED.items() if name not in {"out", "limit"}
    }
    assert len(found.models) == (1 if by_flag else 13)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("limit", "0", "CLIPMK_LIMIT is 0; it must be at least 1; see clipmk study run --help"),
        ("threads", "two", "CLIPMK_THREADS is 'two'; it must be a whole number; see clipmk study run --help"),
        ("engine", "spark", "engine 'spark' does not exist; known: local, ray"),
        ("quiet", "maybe", "CLIPMK_QUIET is 'maybe'; it must be true or false"),
    ],
)
def test_an_invalid_variable_is_named(
    clipmk: Runner, monkeypatch: pytest.MonkeyPatch, name: str, text: str, words: str
) -> None:
    monkeypatch.setenv(f"CLIPMK_{name.upper()}", text)
    ran = clipmk("study", "world:test", "-m", MODEL)
    assert (ran.status, ran.out) == (2, "")
    assert words in ran.err


def test_workers_of_the_environment_do_not_hinder_the_local_engine(
    clipmk: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPMK_WORKERS", "4")
    assert "'nowhere'" in clipmk("study", "nowhere", "-m", MODEL).err


def test_a_study_is_json_quiet_and_plain_where_the_environment_or_the_config_says_so(
    clipmk: Runner, loaded_once: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, valid: Callable[[Any], None]
) -> None:
    command = ("study", "world:test?scenes=2", "-m", MODEL, "--out", tmp_path / "study", "--device", "cpu")
    monkeypatch.setenv("CLIPMK_JSON", "1")
    (tmp_path / "config.toml").write_text("quiet = true\nno_color = true\n")
    ran = clipmk(*command)
    assert (ran.status, ran.err) == (0, "")
    valid(json.loads(ran.out))
    plain: list[bool] = []
    monkeypatch.setattr(
        "clipmk_tui.cli.commands.study.report.put_tables", lambda *_, no_color, **__: plain.append(no_color)
    )
    clipmk(*command)
    (tmp_path / "config.toml").unlink()
    clipmk(*command)
    monkeypatch.setenv("CLIPMK_NO_COLOR", "1")
    clipmk(*command)
    assert plain == [True, False, True]


def test_the_help_of_the_group_names_the_short_form(clipmk: Runner) -> None:
    assert "clipmk study DATASET" in clipmk("study", "--help").out


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_log_file_gets_rate_and_time_left_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with StudyProgress(shown=True, clock=clock) as progress:
        progress("loading a model", 0, 0)
        progress("study", 1_000, 13_000)  # done in an earlier run, not counted in the rate
        for second in (*range(0, 61, 10), 180):
            clock.now = second
            progress("study", 1_000 + 50 * second, 13_000)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "clipmk: note: 2500 of 13000 images x models, 50.0/s, 4 minutes left",
        "clipmk: note: 4000 of 13000 images x models, 50.0/s, 3 minutes left",
        "clipmk: note: 10000 of 13000 images x models, 50.0/s, 1 minute left",
    ]
    assert (progress.done, progress.total) == (10_000, 13_000)


def test_a_quiet_study_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with StudyProgress(shown=False, clock=clock) as progress:
        clock.now = 100
        progress("study", 5, 10)
    assert capsys.readouterr().err == ""


def test_shards_that_a_shell_has_expanded_are_one_dataset_and_columns_are_named(clipmk: Runner, tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b")):
        Image.new("RGB", (32, 32), (number, 90, 200)).save(tmp_path / f"{name}.png")
        with tarfile.open(tmp_path / f"t-{number}.tar", "w") as archive:
            archive.add(tmp_path / f"{name}.png", f"{name}.png")
            archive.add(tmp_path / f"{name}.png", f"{name}.v2.png")
    Path("t.csv").write_text("id,breed\na,fox\nb,cat\n", encoding="utf-8")
    tars = clipmk("study", "t-0.tar", "t-1.tar", "-m", MODEL, "--out", "one", "-q")
    assert (tars.status, read_manifest(Path("one/study.json")).dataset.images) == (0, 2)
    left_out = "2 images share samples and are left out: 'a.v2.png', 'b.v2.png'"
    assert tars.err == f"clipmk: warning: {left_out}\n"
    columns = ("--image-column", "id", "--label-column", "breed")
    table = clipmk("study", "t.csv", "-m", MODEL, "--out", "two", *columns)
    assert (table.status, read_manifest(Path("two/study.json")).dataset.labelled) == (0, 2)
    assert table.err.count("2 images are found below by their names: 'a', 'b'") == 1
    refused = clipmk("study", "t.csv", "-m", MODEL, "--out", "three", "--image-column", "nmae")
    assert refused.status == 3
    assert "has no column 'nmae'; its columns: 'id', 'breed'" in refused.err
    refused = clipmk("study", "a.png", "b.png", "-m", MODEL, "--out", "three")
    assert refused.status == 2
    assert "a dataset is one folder, one table, or shards of one kind" in refused.err


def test_texts_that_the_model_cuts_are_named_in_a_study(clipmk: Runner, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), (9, 90, 200)).save(tmp_path / "a.png")
    long = "a " + " ".join(["shiny"] * 40)
    Path("v.json").write_text(json.dumps({"car": [long, f"{long} red", "x\ty"], "bus": []}), encoding="utf-8")
    ran = clipmk("study", tmp_path, "-m", MODEL, "--out", "one", "--vocab", "v.json")
    assert ran.status == 0
    assert f"model {MODEL}: 2 descriptors are longer than the context of the model and are cut: 'a photo" in ran.err
    assert "1 text has tabs, line breaks or invisible characters, cleaned: 'x y'" in ran.err
    assert "1 class has no descriptors: 'bus'" in ran.err

"""`clipmk study` through its real entry point: errors before any work, a whole study, what is said at the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clipmk import world
from clipmk_tui.study_progress import StudyProgress
from conftest import Runner

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
            ["world:test", "-m", MODEL, "--engine", "spark"],
            2,
            "engine 'spark' does not exist; choose one of: local, ray",
        ),
        (["world:test", "-m", MODEL, "--fit", "all"], 2, "fit 'all' does not exist; choose one of: image, batch"),
        (["world:test", "-m", MODEL, "--workers", "2"], 2, "--workers goes with --engine ray"),
        (["world:test", "-m", "ViT-B-32:laion2b_s34b_b79k", "--vocab", "world"], 4, "is not on this machine"),
        (["world:test", "-m", MODEL, "--classes", "cat,dog"], 3, "are no classes of the vocabulary"),
    ],
)
def test_what_cannot_be_studied_is_said_before_any_work(
    clipmk: Runner, tmp_path: Path, arguments: list[str], status: int, words: str
) -> None:
    ran = clipmk("study", *arguments, "--out", tmp_path / "study")
    assert ran.status == status
    assert words in ran.err
    assert ran.out == ""
    assert not (tmp_path / "study" / "shards").exists()


def test_a_missing_file_of_a_manifest_is_said_before_any_work(clipmk: Runner, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("path,label\nnope.png,cat\n")
    ran = clipmk("study", tmp_path / "table.csv", "-m", MODEL, "--out", tmp_path / "study")
    assert ran.status == 3
    assert "1 of 1 images are missing" in ran.err
    assert not (tmp_path / "study").exists()


def test_a_study_runs_resumes_and_tells_its_headline(
    clipmk: Runner, loaded_once: None, tmp_path: Path, valid: Callable[[Any], None]
) -> None:
    images = world.export(tmp_path / "scenes", split="test", count=5)
    (images / "fox").mkdir(exist_ok=True)
    (images / "fox" / "broken.png").write_bytes(b"no picture")
    command = ("study", images, "-m", MODEL, "--out", tmp_path / "study", "--device", "cpu")
    ran = clipmk(*command)
    assert ran.status == 3
    assert "1 images could not be explained" in ran.err
    assert "vit-xs8-48" in ran.out
    again = clipmk(*command, "--json")
    assert again.status == 3
    assert "1 of 1 shards were there already" in again.err
    content = json.loads(again.out)
    valid(content)
    (model,) = content["study"]["models"]
    assert (model["model"], model["images"], model["failed"]) == (MODEL, 5, 1)
    quiet = clipmk(*command, "--json", "--quiet")
    assert quiet.status == 3
    assert [line.split(";")[0] for line in quiet.err.splitlines()] == ["clipmk: error: 1 images could not be explained"]


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


def test_the_help_of_the_group_names_the_short_form(clipmk: Runner) -> None:
    assert "clipmk study DATASET" in clipmk("study", "--help").out


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_log_file_hears_of_rate_and_time_left_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with StudyProgress(shown=True, clock=clock) as progress:
        progress("loading a model", 0, 0)
        progress("study", 1_000, 13_000)  # done in an earlier run: no part of the rate
        for second in range(0, 61, 10):
            clock.now = second
            progress("study", 1_000 + 50 * second, 13_000)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "clipmk: note: 2500 of 13000 images x models, 50.0/s, 4 minutes left",
        "clipmk: note: 4000 of 13000 images x models, 50.0/s, 3 minutes left",
    ]
    assert (progress.done, progress.total) == (4_000, 13_000)


def test_a_quiet_study_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with StudyProgress(shown=False, clock=clock) as progress:
        clock.now = 100
        progress("study", 5, 10)
    assert capsys.readouterr().err == ""

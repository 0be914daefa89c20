"""A small study to start, interrupt, kill and compare, with embedded models; import its fixtures by name."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clipmk.datasets.opening import open_dataset
from clipmk.settings import preset
from clipmk.study.manifest import StudyFolder, StudyRequest
from clipmk.study.run import run_study
from clipmk.vocabulary.vocabulary import load_vocabulary
from clipmk.world.export import export_scenes

MODELS = ("embedded/vit-xs8-48", "embedded/rn-xs")
SCENES = 9


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of class folders with one file that is not an image."""
    folder = export_scenes(tmp_path_factory.mktemp("data") / "scenes", split="test", count=SCENES)
    broken = next(folder.glob("*/*.png")).with_name("zzz.png")
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return folder


def request(folder: Path, images: Path, **changes: Any) -> StudyRequest:
    made = StudyRequest(
        folder=StudyFolder(folder),
        dataset=open_dataset(str(images)),
        models=MODELS,
        vocabulary=load_vocabulary("world"),
        settings=preset("default"),
        shard_size=4,
        batch_size=3,
        threads=1,
        device="cpu",
    )
    return dataclasses.replace(made, **changes)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Path:
    folder = tmp_path_factory.mktemp("studies") / "undisturbed"
    outcome = run_study(request(folder, images))
    assert (outcome.failed, outcome.resumed) == (1, 0)
    return folder


def fingerprints(folder: Path) -> dict[str, str]:
    """The bytes of everything a study wrote, by name."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "study.lock"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def stopping_after(images_done: int) -> Callable[[str, int, int], None]:
    def progress(stage: str, done: int, total: int) -> None:
        if stage == "study" and done >= images_done:
            raise KeyboardInterrupt

    return progress


KILLED = """
import os, pathlib, signal, sys
from clipmk_tui.__main__ import main
def kill(descriptor):
    if len(list(folder.glob("shards/*/*.parquet"))) == int(os.environ["SHARDS"]):
        os.kill(os.getpid(), signal.SIGKILL)
folder = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
os.fsync = kill
main(sys.argv[1:])
"""
"""The command line, killed while writing a file once there are so many shards: its bytes exist, its name does not."""


def killed(folder: Path, images: Path, *options: str, shards: int) -> None:
    command = [
        sys.executable, "-c", KILLED, "study", str(images), "--out", str(folder), "--shard-size", "4",
        "--batch-size", "3", "--threads", "1", "--device", "cpu", *options,
    ]  # fmt: skip
    environment = {**os.environ, "SHARDS": str(shards), "CLIPMK_CONFIG": str(folder / "no config.toml")}
    ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert len(list(folder.glob("shards/*/*.parquet"))) == shards
    assert list(folder.rglob(".*.tmp"))

"""The engine on Ray: an actor processes one shard at a time and decodes the next one meanwhile."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipmk.datasets.entries import Entry, Reader
from clipmk.datasets.opening import open_dataset
from clipmk.errors import ImageError
from clipmk.images.decoder import Picture
from clipmk.settings import preset
from clipmk.study.engines import ShardActor
from clipmk.study.manifest import StudyFolder, StudyRequest
from clipmk.study.run import run_study
from clipmk.vocabulary.vocabulary import load_vocabulary

PATIENCE = 120.0
"""Seconds to wait for what should happen immediately."""


class Worker:
    """Processes shard 0 only when shard 1 is being decoded."""

    def __init__(self, task: object, models: list[str]) -> None:
        self.begun = {0: threading.Event(), 1: threading.Event()}
        self.met = False
        self.at_work = 0
        self.most_at_work = 0

    def prepare(self, number: int) -> int:
        self.begun[number].set()
        return number

    def work(self, prepared: int, models: list[str]) -> Iterator[int]:
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        if prepared == 0:
            self.met = self.begun[1].wait(PATIENCE)
        yield 3 + prepared
        self.at_work -= 1


def test_an_actor_processes_one_shard_and_decodes_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipmk.study.engines.ShardWorker", Worker)
    actor: Any = ShardActor(None, {0: ["m"], 1: ["m"]}, ["m"])  # type: ignore[arg-type]
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(actor, {"shard": np.array([0])})
        assert actor._worker.begun[0].wait(PATIENCE)
        second = pool.submit(actor, {"shard": np.array([1])})
        assert [one.result()["done"] for one in (first, second)] == [[3], [4]]
    assert actor._worker.met
    assert actor._worker.most_at_work == 1


@dataclass(frozen=True)
class Together:
    """Reads an image only when another one is being read as well."""

    reader: Reader
    folder: Path

    def read(self, entry: Entry) -> Picture:
        (self.folder / entry.key.replace("/", "-")).touch()
        end = time.monotonic() + PATIENCE
        while len(list(self.folder.iterdir())) < 2:
            if time.monotonic() > end:
                raise ImageError(f"image '{entry.key}' is read alone")
            time.sleep(0.01)
        return self.reader.read(entry)


@pytest.mark.filterwarnings("ignore")  # Ray warns of its own deprecated settings and leaves sockets to the collector
def test_ray_gives_an_actor_two_shards_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    (tmp_path / "begun").mkdir()
    dataset = open_dataset("world:test?scenes=2")
    request = StudyRequest(
        folder=StudyFolder(tmp_path / "study"),
        dataset=replace(dataset, reader=Together(dataset.reader, tmp_path / "begun")),
        models=("embedded/vit-xs8-48",),
        vocabulary=load_vocabulary("world"),
        settings=preset("default"),
        shard_size=1,
        threads=2,
        device="cpu",
        engine="ray",
        workers=1,
    )
    ray.init(address="local", num_cpus=2, logging_level="error", log_to_driver=False, include_dashboard=False)
    try:
        outcome = run_study(request)
    finally:
        ray.shutdown()
    assert (outcome.manifest.shards, outcome.failures) == (2, ())

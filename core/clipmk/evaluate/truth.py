"""Explanations held against the truth of rendered scenes (world.md, "Truth metrics").

Every way of explaining sees the same scenes; baselines stand beside them. Numbers are means over scenes with 95 %
bootstrap intervals; margins are paired differences on the same scenes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from clipmk.evaluate.bench import Bench, SceneBatch, calibration_scenes
from clipmk.evaluate.report import Row, TruthReport
from clipmk.evaluate.ways import Way, ways
from clipmk.world.scene import Scene, render_scenes

if TYPE_CHECKING:
    from clipmk.backbones.base import Backbone
    from clipmk.pipeline.grounding import Progress

__all__ = ["Row", "TruthReport", "Way", "run", "run_all", "ways"]

BATCH = 16
"""Scenes that go through a model together."""


def run(
    backbone: Backbone,
    *,
    scenes: int = 500,
    seed: int = 0,
    splits: Sequence[str] = ("test", "counterfactual"),
    chosen: Sequence[Way] | None = None,
    behaviour: bool = True,
    cache: bool = True,
    progress: Progress | None = None,
) -> TruthReport:
    """Measure every way of explaining on the same scenes: `run_all` for one model."""
    return run_all(
        [backbone],
        scenes=scenes,
        seed=seed,
        splits=splits,
        chosen=chosen,
        behaviour=behaviour,
        cache=cache,
        progress=progress,
    )[0]


def run_all(
    backbones: Sequence[Backbone],
    *,
    scenes: int = 500,
    seed: int = 0,
    splits: Sequence[str] = ("test", "counterfactual"),
    chosen: Sequence[Way] | None = None,
    behaviour: bool = True,
    cache: bool = True,
    progress: Progress | None = None,
) -> list[TruthReport]:
    """Measure every way of explaining with every model on the same scenes, each rendered once.

    Args:
        backbones: the models.
        scenes: how many of each split.
        seed: of the scenes, the bootstrap, k-means and what is drawn.
        splits: of the world, such as `test`, `counterfactual` and `hard`; tune on `val` only.
        chosen: ways to compare; None: all of `ways`.
        behaviour: measure effect and stability too (about as much work again).
        cache: keep the embedded texts on disk.
        progress: called with ("truth SPLIT", done, total), in scenes times models.

    Returns:
        One report per model, in order.
    """
    selected = ways(seed=seed) if chosen is None else tuple(chosen)
    calibration = calibration_scenes(seed)
    benches = [
        Bench(backbone, selected, calibration, seed=seed, behaviour=behaviour, cache=cache) for backbone in backbones
    ]
    rows: list[list[Row]] = [[] for _ in benches]
    for split in splits:
        done = 0
        for drawn in _batches(render_scenes(split, count=scenes, seed=seed)):
            batch = SceneBatch.of(drawn)
            for bench in benches:
                if batch is not None:
                    bench.measure(batch)
                done += len(drawn)
                if progress is not None:
                    progress(f"truth {split}", done, scenes * len(benches))
        for own, bench in zip(rows, benches, strict=True):
            own.extend(bench.rows(split))
    return [
        TruthReport(model=bench.model, scenes=scenes, seed=seed, rows=tuple(own), settings=bench.settings())
        for own, bench in zip(rows, benches, strict=True)
    ]


def _batches(scenes: Iterator[Scene]) -> Iterator[list[Scene]]:
    while batch := list(islice(scenes, BATCH)):
        yield batch

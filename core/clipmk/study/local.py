"""The engine for one machine: one process, one shard after the other, the next one decoded meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from clipmk.study.work import ShardWorker, Task

if TYPE_CHECKING:
    from clipmk.pipeline.grounding import Progress
    from clipmk.study.examine import Step


def run_local(
    task: Task, missing: Mapping[int, Sequence[str]], models: Sequence[str], *, step: Step, progress: Progress | None
) -> None:
    """Work off shards in rising order.

    Args:
        task: what to do.
        missing: shard -> the models that have not examined it; shards without any are left out.
        models: those that are held in memory, all that `missing` names.
        step: hears of images done, per model.
        progress: hears of models and texts while they are loaded.
    """
    shards = sorted(missing)
    if not shards:
        return
    with ShardWorker(task, models, progress=progress) as worker:
        prepared = worker.prepare(shards[0])
        for number, following in zip(shards, [*shards[1:], None], strict=True):
            current = prepared
            if following is not None:
                prepared = worker.prepare(following)
            worker.work(current, missing[number], step=step)

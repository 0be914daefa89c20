"""The engine beyond one machine: Ray Data hands shards to actors, one per GPU or per few CPU cores.

Every actor holds all models of the pass and works exactly as the local engine does (`ShardWorker`); the shards lie in
a folder that all machines share. Ray decides who does what and starts again what was lost with a machine; which shards
are done is read from the folder, so a run that was killed as a whole resumes as a local one does.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from clipmk.errors import ClipmkError, UsageError
from clipmk.study.work import ShardWorker, Task
from clipmk.system.text import counted, printable, quoted

if TYPE_CHECKING:
    from clipmk.pipeline.grounding import Progress
    from clipmk.study.examine import Step

_SILENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DATA_DISABLE_PROGRESS_BARS": "1", "RAY_BACKEND_LOG_LEVEL": "fatal"}
"""No telemetry, no progress display beside ours, and no notes of its core on our stderr (its own log has them).

Ray tells in one line that the level was set, and nothing keeps it from that; without the level it tells more.
"""
KNOCK_SECONDS: Final = 10.0
"""For a cluster's machine to let us in."""
_CALLS: Final = 2
"""At once in an actor: one works off a shard, the other has its shard decoded meanwhile."""


class ShardActor:
    """What Ray starts once per GPU: a `ShardWorker` that takes the numbers of shards, from several threads.

    The images of a shard are decoded while the shard before is worked off; one shard is worked off at a time.
    """

    def __init__(self, task: Task, missing: dict[int, list[str]], models: list[str]) -> None:
        self._missing = missing
        self._worker = ShardWorker(task, models)
        self._turn = threading.Lock()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Work off the shards of a batch; gives back their numbers and how many images times models were done."""
        done = []
        for number in batch["shard"].tolist():
            count = [0]

            def step(more: int, count: list[int] = count) -> None:
                count[0] += more

            prepared = self._worker.prepare(number)
            with self._turn:
                self._worker.work(prepared, self._missing[number], step=step)
            done.append(count[0])
        return {"shard": batch["shard"], "done": done}


def run_ray(
    task: Task,
    missing: Mapping[int, Sequence[str]],
    models: Sequence[str],
    *,
    workers: int | None,
    step: Step,
    progress: Progress | None,
) -> None:
    """Work off shards on a Ray cluster: that of `RAY_ADDRESS`, else the one this machine is part of, else a new one.

    Args:
        task: what to do; its folder must be at the same path on every machine.
        missing: shard -> the models that have not examined it.
        models: those that every actor holds.
        workers: how many actors; None: as many as there are GPUs, or groups of `task.threads` cores.
        step: hears of images done, per model.
        progress: hears that Ray starts.

    Raises:
        UsageError: Ray is not installed, or the cluster has no room for an actor.
        ClipmkError: the cluster cannot be reached or started, or a shard could not be worked off; the message is Ray's
            or that of the actor.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in _SILENT.items()})
    try:
        import ray  # noqa: PLC0415 - optional, and seconds
        import ray.data  # noqa: PLC0415
    except ImportError as reason:
        raise UsageError("the engine 'ray' needs Ray: pip install 'clipmk[ray]'") from reason
    if progress is not None:
        progress("starting Ray", 0, 0)
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    started_here = not ray.is_initialized()
    if started_here:
        _init(ray)
    try:
        _work(ray, task, {shard: list(names) for shard, names in missing.items()}, list(models), workers, step)
    except ray.exceptions.RayError as reason:
        raise ClipmkError(f"a worker of the cluster failed: {_cause(reason)}") from reason
    finally:
        if started_here:
            ray.shutdown()


def _init(ray: Any) -> None:
    address = os.environ.get("RAY_ADDRESS")
    what, advice = "Ray does not start", ""
    if address:
        what = f"the Ray cluster of RAY_ADDRESS={quoted(address)} cannot be reached"
        advice = "; if it asks for a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN here and on all its machines"
        try:
            _knock(address)
        except (OSError, ValueError) as reason:  # ValueError: no name of a host
            raise ClipmkError(f"{what}: {printable(getattr(reason, 'strerror', None) or str(reason))}") from reason
    try:
        ray.init(logging_level="error", log_to_driver=False, include_dashboard=False)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as reason:  # RayError: no token, or another
        raise ClipmkError(f"{what}: {printable(' '.join(str(reason).split()))}{advice}") from reason


def _knock(address: str) -> None:
    """Make sure that somebody listens at HOST:PORT, for Ray itself would try for minutes; other forms are left to Ray.

    Raises:
        OSError: nobody does.
        ValueError: the host's name is none.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal() and int(port) < 2**16:
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_SECONDS).close()


def _work(
    ray: Any, task: Task, missing: dict[int, list[str]], models: list[str], workers: int | None, step: Step
) -> None:
    on_gpus = task.device.startswith("cuda")
    count = workers or _room(ray.cluster_resources(), on_gpus=on_gpus, threads=task.threads)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    shards = ray.data.from_items([{"shard": number} for number in sorted(missing)], override_num_blocks=len(missing))
    done = shards.map_batches(
        ShardActor,
        fn_constructor_args=(task, missing, models),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(
            size=min(count, len(missing)), max_tasks_in_flight_per_actor=_CALLS, enable_true_multi_threading=True
        ),
        max_concurrency=_CALLS,
        num_gpus=1 if on_gpus else 0,
        num_cpus=task.threads,
    )
    for row in done.iter_rows():
        step(int(row["done"]))


def _room(resources: Mapping[str, float], *, on_gpus: bool, threads: int) -> int:
    """How many actors the cluster has room for.

    Raises:
        UsageError: none.
    """
    gpus, cores = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
    room = gpus if on_gpus else cores // threads
    if room < 1:
        wanted = "a GPU" if on_gpus else f"{counted(threads, 'core')} (--threads)"
        raise UsageError(
            f"the Ray cluster has {counted(gpus, 'GPU')} and {counted(cores, 'core')}; a worker needs {wanted}"
        )
    return room


def _cause(reason: Exception) -> str:
    """The first line of what went wrong in the actor."""
    cause: BaseException = reason
    while getattr(cause, "cause", None) is not None:
        cause = cause.cause  # type: ignore[attr-defined]
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return printable(lines[-1]) if lines else type(cause).__name__

"""Two engines that hand shards to a `ShardWorker`: one process, or the actors of a Ray cluster.

In one process, shards are processed one by one while the images of the next one are decoded. On a cluster, Ray Data
hands shards to actors, one per GPU or per few CPU cores; every actor holds all models of the pass, and the study's
folder is shared by all machines. Ray decides who does what and restarts what was lost with a machine. Which shards are
done is read from the folder, so a killed run resumes with either engine.
"""

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, pairwise
from typing import Any, Final

from clipmk.errors import ClipmkError, UsageError
from clipmk.pipeline.grounding import Progress
from clipmk.study.shard_worker import ShardWorker, StudyTask
from clipmk.system.text import counted, printable, quoted

_SILENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DATA_DISABLE_PROGRESS_BARS": "1", "RAY_BACKEND_LOG_LEVEL": "fatal"}
"""No telemetry, no progress display beside ours, and no messages of its core on our stderr (they are in its own log).
Ray prints one line saying that the level was set, which cannot be prevented; without the level it prints more."""
CONNECT_SECONDS: Final = 10.0  # for a cluster's machine to accept a connection
_CALLS: Final = 2
"""Concurrent calls of an actor: one processes a shard, the other has its shard decoded meanwhile."""


def run_local(
    task: StudyTask, missing: Mapping[int, Sequence[str]], models: Sequence[str], *, progress: Progress
) -> Iterator[int]:
    """Process shards (shard -> the models that have not explained it) in this process, in rising order.

    `models` are held in memory: all that `missing` names, and those whose D_y alone is missing. Yields images done.
    """
    with contextlib.closing(ShardWorker(task, models, progress=progress)) as worker:
        prepared = map(worker.prepare, sorted(missing))
        for current, _ in pairwise(chain(prepared, [None])):  # the images of the next one are decoded meanwhile
            if current is not None:
                yield from worker.work(current, missing[current.number])


class ShardActor:
    """What Ray starts once per GPU: processes one shard at a time, while the images of the next one are decoded."""

    def __init__(self, task: StudyTask, missing: Mapping[int, Sequence[str]], models: Sequence[str]) -> None:
        self._missing = missing
        self._worker = ShardWorker(task, models)
        self._turn = threading.Lock()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Process the one shard of a batch; returns how many images times models were done."""
        (number,) = batch["shard"].tolist()
        prepared = self._worker.prepare(number)
        with self._turn:
            return {"done": [sum(self._worker.work(prepared, self._missing[number]))]}


def run_ray(
    task: StudyTask,
    missing: Mapping[int, Sequence[str]],
    models: Sequence[str],
    *,
    workers: int | None,
    progress: Progress,
) -> Iterator[int]:
    """Process shards on a Ray cluster: that of `RAY_ADDRESS`, else the one this machine belongs to, else a new one.

    As `run_local`; the folder must be at the same path on every machine. `workers` None: as many actors as there are
    GPUs, or groups of `task.threads` cores. UsageError if Ray is not installed, or the cluster has no room for an
    actor; ClipmkError if it cannot be reached or started, or a shard failed, with Ray's or the actor's message.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in _SILENT.items()})
    try:
        import ray  # noqa: PLC0415 - optional, and seconds
        import ray.data  # noqa: PLC0415
    except ImportError as reason:
        raise UsageError("the engine 'ray' needs Ray: pip install 'clipmk[ray]'") from reason
    progress("starting Ray", 0, 0)
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    started_here = not ray.is_initialized()
    if started_here:
        _start(ray)
    try:
        yield from _work(ray, task, missing, models, workers)
    except ray.exceptions.RayError as reason:
        raise ClipmkError(f"a worker of the cluster failed: {_cause(reason)}") from reason
    finally:
        if started_here:
            ray.shutdown()


def _start(ray: Any) -> None:
    """Connect to the cluster of `RAY_ADDRESS`, or to this machine's, or start one."""
    address = os.environ.get("RAY_ADDRESS")
    what, advice = "Ray does not start", ""
    if address:
        what = f"the Ray cluster of RAY_ADDRESS={quoted(address)} cannot be reached"
        advice = "; if it needs a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN here and on all its machines"
        host, _, port = address.rpartition("://")[2].rpartition(":")
        try:
            if host and port.isdecimal() and int(port) < 2**16:  # Ray itself would try for minutes
                socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
        except (OSError, ValueError) as reason:  # ValueError: not a host name
            raise ClipmkError(f"{what}: {printable(getattr(reason, 'strerror', None) or str(reason))}") from reason
    try:
        ray.init(logging_level="error", log_to_driver=False, include_dashboard=False)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as reason:  # RayError: no token, or a wrong one
        raise ClipmkError(f"{what}: {printable(' '.join(str(reason).split()))}{advice}") from reason


def _work(
    ray: Any, task: StudyTask, missing: Mapping[int, Sequence[str]], models: Sequence[str], workers: int | None
) -> Iterator[int]:
    on_gpus = task.device.startswith("cuda")
    count = workers or _capacity(ray.cluster_resources(), on_gpus=on_gpus, threads=task.threads)
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
        yield int(row["done"])


def _capacity(resources: Mapping[str, float], *, on_gpus: bool, threads: int) -> int:
    """How many actors fit on the cluster; UsageError if none."""
    gpus, cores = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
    room = gpus if on_gpus else cores // threads
    if room < 1:
        wanted = "a GPU" if on_gpus else f"{counted(threads, 'core')} (--threads)"
        raise UsageError(
            f"the Ray cluster has {counted(gpus, 'GPU')} and {counted(cores, 'core')}; a worker needs {wanted}"
        )
    return room


def _cause(reason: Exception) -> str:
    """The last line of the error in the actor."""
    cause: BaseException = reason
    while getattr(cause, "cause", None) is not None:
        cause = cause.cause  # type: ignore[attr-defined]
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return printable(lines[-1]) if lines else type(cause).__name__

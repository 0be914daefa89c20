"""From a request to the finished tables: resolve the manifest, explain what is missing, aggregate."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from filelock import FileLock, Timeout

from clipmk.backbones.devices import choose_device
from clipmk.errors import ClipmkError, InputError, ModelError, UsageError
from clipmk.models.loading import describe, pull
from clipmk.records import ModelInfo
from clipmk.study.engines import run_local, run_ray
from clipmk.study.manifest import Manifest, read_manifest
from clipmk.study.plan import shard_sizes
from clipmk.study.resolve import part_methods_of, resolve_manifest
from clipmk.study.results import FailedImage, failed_images
from clipmk.study.schema import MODELS
from clipmk.study.shard_worker import StudyTask, is_done
from clipmk.study.tables import write_tables
from clipmk.system.memory import device_memory
from clipmk.system.parquet import read_table
from clipmk.system.text import quoted

if TYPE_CHECKING:
    from clipmk.pipeline.grounding import Progress
    from clipmk.study.paths import StudyFolder
    from clipmk.study.request import StudyRequest

MEMORY_SHARE = 0.5
"""Share of a device's memory that the weights of the models held at once may take."""
WEIGHT_GROWTH = 2
"""A weight file in half precision takes twice its size in float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyOutcome:
    """A finished study."""

    manifest: Manifest
    failed: int
    """Images that could not be explained."""
    failures: tuple[FailedImage, ...]
    """The first of them, in the data set's order."""
    resumed: int
    """Shards times models that were done before."""
    warnings: tuple[str, ...]


def run_study(request: StudyRequest, *, progress: Progress | None = None) -> StudyOutcome:
    """Study a data set with a pool of models, or resume a study that was interrupted.

    Args:
        request: what to do.
        progress: called with ("study", images times models done, in all) and while something is loaded; an exception it
            raises stops the study, and everything finished is kept.

    Raises:
        InputError: the folder holds something else, or no study to extend, or the vocabulary lacks labels.
        UsageError: the folder holds a different study (the message shows the differences), or an option is invalid.
        ModelError: models are not on this machine; all of them are named.
        ClipmkError: another run uses the folder, or it cannot be written.
    """
    if request.extend and not request.folder.manifest.exists():
        raise InputError(f"{quoted(request.folder.root)} holds no study to extend; leave --extend out to start one")
    asked = _described(request.models, download=request.download)
    with _locked(request.folder):
        described = _with_others(request, asked) if request.extend else asked
        manifest, warnings = resolve_manifest(request, [info for info, _ in described])
        sizes = shard_sizes(request.folder.plan)
        missing = _missing(request.folder, manifest, sizes)
        done = sum(sizes.values()) * len(manifest.models) - _images(missing, sizes)
        resumed = len(sizes) * len(manifest.models) - sum(map(len, missing.values()))
        step = _Counter(done, sum(sizes.values()) * len(manifest.models), progress)
        task = _task(request, manifest)
        for models in _passes(described, task.device):
            wanted = {shard: [m for m in names if m in models] for shard, names in missing.items()}
            _work(request, task, {shard: names for shard, names in wanted.items() if names}, models, step, progress)
        if progress is not None:
            progress("tables", 0, 0)
        write_tables(request.folder, manifest)
    failures, failed = _failures(request.folder)
    return StudyOutcome(manifest=manifest, failed=failed, failures=failures, resumed=resumed, warnings=warnings)


class _Counter:
    """Turns steps into the progress of the whole study."""

    def __init__(self, done: int, total: int, progress: Progress | None) -> None:
        self._done, self._total, self._progress = done, total, progress
        self(0)

    def __call__(self, more: int) -> None:
        self._done += more
        if self._progress is not None:
            self._progress("study", self._done, self._total)


def _failures(folder: StudyFolder) -> tuple[tuple[FailedImage, ...], int]:
    """The first images of a finished study that could not be explained, and how many failed in all."""
    counts = read_table(folder.table("models"), MODELS, columns=["failed"])["failed"].to_pylist()
    if not any(counts):  # the table of images is large
        return (), 0
    found, count = failed_images(folder)
    return tuple(found), count


def _with_others(request: StudyRequest, asked: Sequence[tuple[ModelInfo, int]]) -> list[tuple[ModelInfo, int]]:
    """The models of the folder's study, then those of `asked` that are new to it.

    Models that have explained every image are not looked up: they are not needed, and their weights may be gone.
    """
    folder = request.folder
    had = read_manifest(folder.manifest)
    given = {info.id: (info, size) for info, size in asked}
    missing = _missing(folder, had, shard_sizes(folder.plan))
    needed = {name for names in missing.values() for name in names} - given.keys()
    others = [model.id for model in had.models if model.id in needed]
    if others:
        given |= {info.id: (info, size) for info, size in _described(others, download=request.download)}
    found = [given.get(model.id, (model, 0)) for model in had.models]
    known = {info.id for info, _ in found}
    every = found + [one for one in asked if one[0].id not in known]
    _refuse_twins([info for info, _ in every])
    return every


def _described(models: Sequence[str], *, download: bool) -> list[tuple[ModelInfo, int]]:
    """What each model is, and the bytes of its weights; all missing models are reported at once."""
    repeated = [model for model, group in itertools.groupby(sorted(models)) if len(list(group)) > 1]
    if repeated:
        raise UsageError(f"model {quoted(repeated[0])} is named twice; every model is studied once")
    if not models:
        raise UsageError("no model is named; name models with -m MODEL or --pool zoo|paper13|FILE")
    found, faults = [], []
    for model in models:
        try:
            if download:
                pull(model)
            found.append(describe(model))
        except ModelError as fault:
            faults.append((model, str(fault)))
    if len(faults) == 1:
        raise ModelError(faults[0][1])
    if faults:
        listed = ", ".join(quoted(model) for model, _ in faults)
        raise ModelError(
            f"{len(faults)} of {len(models)} models are not available, nothing was started: {listed}; the first: "
            f"{faults[0][1]}"
        )
    _refuse_twins([info for info, _ in found])
    return found


def _refuse_twins(infos: Sequence[ModelInfo]) -> None:
    """Refuse the same weights of the same architecture under two names."""
    first: dict[tuple[str, str], str] = {}
    for info in infos:
        key = (info.architecture, info.weights_sha256)
        if key in first:
            raise UsageError(
                f"models {quoted(first[key])} and {quoted(info.id)} are the same; every model is studied once"
            )
        first[key] = info.id


@contextlib.contextmanager
def _locked(folder: StudyFolder) -> Iterator[None]:
    """Be the only run in a folder; it is created if necessary.

    Raises:
        InputError: it holds something else.
        ClipmkError: another run holds it, or it cannot be written.
    """
    root = folder.root
    with contextlib.ExitStack() as held:
        try:
            root.mkdir(parents=True, exist_ok=True)
            others = [path for path in root.iterdir() if path not in {folder.lock, folder.plan}]
            if others and not folder.manifest.exists() and any(not path.name.endswith(".tmp") for path in others):
                raise InputError(f"folder {quoted(root)} is not empty and is not a study; name another one with --out")
            held.enter_context(FileLock(folder.lock, timeout=0))
            for left in root.rglob(".*.tmp"):  # of a run that was killed while writing
                left.unlink(missing_ok=True)
        except Timeout as reason:
            raise ClipmkError(f"another run is using {quoted(root)}") from reason
        except OSError as reason:
            raise ClipmkError(f"{quoted(root)} cannot be written: {reason.strerror or reason}") from reason
        yield  # outside: an error of the work itself, such as a lost connection, is not about this folder


def _task(request: StudyRequest, manifest: Manifest) -> StudyTask:
    device = str(choose_device(request.device))
    return StudyTask(
        folder=request.folder,
        reader=request.dataset.reader,
        vocabulary=request.vocabulary,
        settings=dataclasses.replace(request.settings, fit=manifest.settings["fit"]),
        part_methods=part_methods_of(request.settings),
        batch_size=manifest.batch_size,
        device=device,
        precision=request.precision,
        threads=manifest.threads or request.threads or torch.get_num_threads(),
        cache=request.cache,
    )


def _missing(folder: StudyFolder, manifest: Manifest, sizes: Mapping[int, int]) -> dict[int, list[str]]:
    """Shard -> the models that have not explained it."""
    methods = len(manifest.parts)
    found = {
        shard: [one.id for one in manifest.models if not is_done(folder.shard(one.id, shard), size * methods)]
        for shard, size in sizes.items()
    }
    return {shard: names for shard, names in found.items() if names}


def _images(missing: Mapping[int, Sequence[str]], sizes: Mapping[int, int]) -> int:
    return sum(sizes[shard] * len(names) for shard, names in missing.items())


def _passes(described: Sequence[tuple[ModelInfo, int]], device: str) -> Iterator[list[str]]:
    """The models in passes that fit into the device's memory together; images are decoded once per pass."""
    budget = device_memory(torch.device(device)) * MEMORY_SHARE
    held: list[str] = []
    weight = 0
    for info, size in described:
        if held and weight + WEIGHT_GROWTH * size > budget:
            yield held
            held, weight = [], 0
        held.append(info.id)
        weight += WEIGHT_GROWTH * size
    if held:
        yield held


def _work(
    request: StudyRequest,
    task: StudyTask,
    missing: Mapping[int, Sequence[str]],
    models: list[str],
    step: _Counter,
    progress: Progress | None,
) -> None:
    needed = [model for model in models if any(model in names for names in missing.values())]
    if not needed:
        return
    if request.engine == "ray":
        run_ray(task, missing, needed, workers=request.workers, step=step, progress=progress)
        return
    run_local(task, missing, needed, step=step, progress=progress)

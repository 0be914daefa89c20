"""From a request to the finished tables: settle what is asked, check it against the folder, work, aggregate."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Literal

import torch
from filelock import FileLock, Timeout

import clipmk
from clipmk.backbones import describe, pull
from clipmk.backbones.devices import choose_device, choose_dtype
from clipmk.errors import ClipmkError, InputError, ModelError, UsageError
from clipmk.memory import device_memory
from clipmk.records import ModelInfo, plain
from clipmk.settings import PartMethod, Settings
from clipmk.study import schema
from clipmk.study.labels import resolve_labels
from clipmk.study.manifest import Manifest, VocabularyInfo, differences, read_manifest, write_manifest
from clipmk.study.parquet import read_table
from clipmk.study.plan import make_plan, shard_sizes, write_plan
from clipmk.study.results import FailedImage, failed_images
from clipmk.study.tables import write_tables
from clipmk.study.work import Task, is_done
from clipmk.text import printable, quoted

if TYPE_CHECKING:
    from clipmk.grounding import Progress
    from clipmk.study.dataset import Dataset
    from clipmk.study.layout import StudyFolder
    from clipmk.vocabulary import Vocabulary

Engine = Literal["local", "ray"]

SHARD_SIZE = 128
"""Images of a shard: what is lost, per model, when a run is killed."""
SMALL_SIDE = 128
"""Pixels; inputs up to this size are bound by the overhead of a call on a CPU."""
MEMORY_SHARE = 0.5
"""Of a device's memory, what the weights of the models held at once may take."""
WEIGHT_GROWTH = 2
"""A weight file in half precision takes twice its size in float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What somebody wants studied; None leaves the choice to the folder, if it holds this study, else to `clipmk`."""

    folder: StudyFolder
    dataset: Dataset
    models: tuple[str, ...]
    vocabulary: Vocabulary
    settings: Settings
    fit: Literal["image", "batch"] | None = None
    engine: Engine = "local"
    workers: int | None = None
    """Actors of the engine "ray"."""
    shard_size: int | None = None
    batch_size: int | None = None
    device: str = "auto"
    precision: str = "fp32"
    threads: int | None = None
    cache: bool = True
    download: bool = False
    """Fetch missing weights first."""
    command: str | None = None
    """The command line, for the record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A finished study."""

    manifest: Manifest
    failed: int
    """Images that could not be explained."""
    failures: tuple[FailedImage, ...]
    """The first of them, in the order of the data set."""
    resumed: int
    """Shards times models that were there already."""
    warnings: tuple[str, ...]


def run_study(request: Request, *, progress: Progress | None = None) -> Outcome:
    """Study a data set with a pool of models, or go on with a study that was interrupted.

    Args:
        request: what to do.
        progress: hears ("study", images done times models, of how many) and of what is loaded meanwhile; an exception
            raised in it stops the study cleanly, and everything finished stays.

    Raises:
        InputError: the folder holds something else, or labels are unknown to the vocabulary.
        UsageError: the folder holds a study of something else (the message shows the difference), or an option cannot
            be meant.
        ModelError: models are not at hand; all of them are named.
        ClipmkError: another run is at work in the folder, or it cannot be written.
    """
    described = _described(request.models, download=request.download)
    with _locked(request.folder):
        manifest, warnings = _settled(request, [info for info, _ in described])
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
    return Outcome(manifest=manifest, failed=failed, failures=failures, resumed=resumed, warnings=warnings)


class _Counter:
    """Turns steps into the progress of the whole."""

    def __init__(self, done: int, total: int, progress: Progress | None) -> None:
        self._done, self._total, self._progress = done, total, progress
        self(0)

    def __call__(self, more: int) -> None:
        self._done += more
        if self._progress is not None:
            self._progress("study", self._done, self._total)


def _failures(folder: StudyFolder) -> tuple[tuple[FailedImage, ...], int]:
    """The first images of a finished study that could not be explained, and how many there are."""
    counts = read_table(folder.table("models"), schema.MODELS, columns=["failed"])["failed"].to_pylist()
    if not any(counts):  # the table of images is large
        return (), 0
    found, count = failed_images(folder)
    return tuple(found), count


def ways_of(settings: Settings) -> tuple[PartMethod, ...]:
    """The ways of finding parts that a study records: the `paper` preset's k-means and PCA, else what is set."""
    if settings.preset == "paper" and settings.parts == "kmeans":
        return ("kmeans", "pca")
    return (settings.parts,)


def _described(models: Sequence[str], *, download: bool) -> list[tuple[ModelInfo, int]]:
    """What each model is, and the bytes of its weights; all that is wrong with any of them is said at once."""
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
            f"{len(faults)} of {len(models)} models cannot be had, nothing was started: {listed}; of the first: "
            f"{faults[0][1]}"
        )
    ids = [info.id for info, _ in found]
    if twice := [name for name in ids if ids.count(name) > 1]:
        raise UsageError(f"model {quoted(twice[0])} is named twice, by two of its names; every model is studied once")
    return found


@contextlib.contextmanager
def _locked(folder: StudyFolder) -> Iterator[None]:
    """Be the only run in a folder, which is made if need be.

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
                raise InputError(f"folder {quoted(root)} is not empty and holds no study; name another one with --out")
            held.enter_context(FileLock(folder.lock, timeout=0))
            for left in root.rglob(".*.tmp"):  # of a run that was killed while it wrote
                left.unlink(missing_ok=True)
        except Timeout as reason:
            raise ClipmkError(f"another run is at work in {quoted(root)}") from reason
        except OSError as reason:
            raise ClipmkError(f"{quoted(root)} cannot be written: {reason.strerror or reason}") from reason
        yield  # outside: an error of the work itself, a lost connection say, is none of this folder


def _settled(request: Request, infos: Sequence[ModelInfo]) -> tuple[Manifest, tuple[str, ...]]:
    """The manifest of this study, new or that of the folder, and what needs a warning.

    Raises:
        UsageError: the folder's study is another one.
    """
    folder = request.folder
    old = read_manifest(folder.manifest) if folder.manifest.exists() else None
    labels, warnings = resolve_labels([entry.label for entry in request.dataset.entries], request.vocabulary)
    fit = _fit(request, labels)
    shard_size = request.shard_size or (old.shard_size if old else SHARD_SIZE)
    plan = make_plan(request.dataset.entries, labels, fit=fit, shard_size=shard_size)
    new = _manifest(request, infos, old, settings=dataclasses.replace(request.settings, fit=fit), labels=labels)
    new = dataclasses.replace(new, shards=plan["shard"][-1].as_py() + 1, shard_size=shard_size)
    if old is None:
        write_plan(plan, folder.plan)
        write_manifest(new, folder.manifest)
        return new, request.dataset.warnings + warnings
    different = differences(old, new)
    if different:
        raise UsageError(
            f"{quoted(folder.root)} holds a study of something else; name another folder with --out, or ask for the "
            f"same again: {printable('; '.join(different))}"
        )
    changed = [f"{name} {old.versions.get(name)} then, {now} now" for name, now in new.versions.items()]
    if old.versions != new.versions:
        note = f"the study was begun with other versions ({', '.join(changed)}); its last digits may differ"
        warnings = (*warnings, note)
    return old, request.dataset.warnings + warnings


def _fit(request: Request, labels: Sequence[str | None]) -> Literal["image", "batch"]:
    """Whether images of one class are fitted together: as asked, else as the reference code does for a data set."""
    if request.fit is not None:
        return request.fit
    labelled = any(label is not None for label in labels)
    return "batch" if labelled and request.settings.preset == "paper" else "image"


def _manifest(
    request: Request,
    infos: Sequence[ModelInfo],
    old: Manifest | None,
    *,
    settings: Settings,
    labels: Sequence[str | None],
) -> Manifest:
    """All but the shards. What the request leaves open is as in the folder's study."""
    device = choose_device(request.device)
    dtype = choose_dtype(request.precision, device)
    on_cpu = device.type == "cpu"
    words = request.vocabulary
    known = [label for label in labels if label is not None]
    largest = max(info.input_size for info in infos)
    return Manifest(
        dataset=dataclasses.replace(request.dataset.info, labelled=len(known), classes=len(set(known))),
        vocabulary=VocabularyInfo(
            name=words.name,
            sha256=words.sha256,
            classes=len(words.classes),
            descriptors=len(words.descriptors),
            templates=words.templates,
            descriptor_template=words.descriptor_template,
        ),
        models=tuple(infos),
        parts=ways_of(settings),
        settings=plain(settings),
        shards=0,
        shard_size=0,
        batch_size=request.batch_size or (old.batch_size if old else _batch_size(largest, on_cpu=on_cpu)),
        device=device.type,
        dtype=str(dtype).removeprefix("torch."),
        threads=(request.threads or (old.threads if old else torch.get_num_threads())) if on_cpu else None,
        versions={
            "clipmk": clipmk.__version__,
            "torch": torch.__version__,
            "open_clip": metadata.version("open_clip_torch"),
        },
        command=request.command,
    )


def _batch_size(side: int, *, on_cpu: bool) -> int:
    """Images per forward: on a CPU large batches gain nothing for large inputs and cost memory."""
    if on_cpu:
        return 64 if side <= SMALL_SIDE else 16
    return 256 if side <= 256 else 64


def _task(request: Request, manifest: Manifest) -> Task:
    device = str(choose_device(request.device))
    return Task(
        folder=request.folder,
        reader=request.dataset.reader,
        vocabulary=request.vocabulary,
        settings=dataclasses.replace(request.settings, fit=manifest.settings["fit"]),
        ways=ways_of(request.settings),
        batch_size=manifest.batch_size,
        device=device,
        precision=request.precision,
        threads=manifest.threads or request.threads or torch.get_num_threads(),
        cache=request.cache,
    )


def _missing(folder: StudyFolder, manifest: Manifest, sizes: Mapping[int, int]) -> dict[int, list[str]]:
    """Shard -> the models that have not examined it."""
    ways = len(manifest.parts)
    found = {
        shard: [one.id for one in manifest.models if not is_done(folder.shard(one.id, shard), size * ways)]
        for shard, size in sizes.items()
    }
    return {shard: names for shard, names in found.items() if names}


def _images(missing: Mapping[int, Sequence[str]], sizes: Mapping[int, int]) -> int:
    return sum(sizes[shard] * len(names) for shard, names in missing.items())


def _passes(described: Sequence[tuple[ModelInfo, int]], device: str) -> Iterator[list[str]]:
    """The models in runs that fit into the device's memory together; images are decoded once per run."""
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
    request: Request,
    task: Task,
    missing: Mapping[int, Sequence[str]],
    models: list[str],
    step: _Counter,
    progress: Progress | None,
) -> None:
    needed = [model for model in models if any(model in names for names in missing.values())]
    if not needed:
        return
    if request.engine == "ray":
        from clipmk.study.ray_engine import run_ray  # noqa: PLC0415 - optional

        run_ray(task, missing, needed, workers=request.workers, step=step, progress=progress)
        return
    from clipmk.study.local import run_local  # noqa: PLC0415

    run_local(task, missing, needed, step=step, progress=progress)

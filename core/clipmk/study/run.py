"""From a request to the finished tables: resolve the manifest, explain what is missing, aggregate."""

import contextlib
import dataclasses
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import torch
from filelock import Timeout

from clipmk.backbones.devices import choose_device
from clipmk.errors import ClipmkError, InputError
from clipmk.pipeline.grounding import Progress, no_progress
from clipmk.study.engines import run_local, run_ray
from clipmk.study.manifest import Manifest, StudyFolder, StudyRequest
from clipmk.study.plan import Missing, missing_parts, shard_sizes
from clipmk.study.resolve import Described, describe_models, resolve_manifest, with_other_models
from clipmk.study.results import FailedImage, failed_images
from clipmk.study.shard_worker import StudyTask
from clipmk.study.tables import write_tables
from clipmk.system.files import file_lock, unwritable
from clipmk.system.memory import device_memory
from clipmk.system.text import counted, listed, quoted

MEMORY_SHARE = 0.5  # share of a device's memory that the weights of the models held at once may take
WEIGHT_GROWTH = 2  # a weight file in half precision takes twice its size in float32


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyOutcome:
    """A finished study."""

    manifest: Manifest
    failed: int
    """Images that could not be explained."""
    failures: tuple[FailedImage, ...]
    """The first of them, in the dataset's order."""
    resumed: int
    """Shards times models that were done before."""
    warnings: tuple[str, ...]


def run_study(request: StudyRequest, *, progress: Progress = no_progress) -> StudyOutcome:
    """Study a dataset with a pool of models, or resume a study that was interrupted.

    `progress` is called with ("study", images times models done, in all) and while something is loaded; an exception it
    raises stops the study, and everything finished is kept.

    InputError if the folder holds something else, or no study to extend, or the vocabulary lacks labels; UsageError if
    it holds a different study, or an option is invalid; ModelError names all models that are not on this machine;
    ClipmkError if another run uses the folder, or it cannot be written.
    """
    folder = request.folder
    if request.extend and not folder.manifest.exists():
        raise InputError(f"{quoted(folder.root)} holds no study to extend; leave --extend out to start one")
    asked = describe_models(request.models, download=request.download)
    with locked(folder):
        models = with_other_models(request, asked) if request.extend else asked
        manifest, warnings = resolve_manifest(request, [info for info, _ in models])
        sizes = shard_sizes(folder.plan)
        missing = missing_parts(folder, manifest)
        if missing.damaged:
            files = counted(len(missing.damaged), "file")
            warnings += (f"{files} damaged or out of place, rebuilt: {listed(missing.damaged, most=3)}",)
        total = sum(sizes.values()) * len(manifest.models)
        done = total - sum(sizes[shard] * len(names) for shard, names in missing.shards.items())
        progress("study", done, total)
        with contextlib.closing(_explain(request, manifest, models, missing, progress)) as steps:
            for more in steps:
                done += more
                progress("study", done, total)
        progress("tables", 0, 0)
        write_tables(folder, manifest)
    failures, failed = failed_images(folder)
    resumed = len(sizes) * len(manifest.models) - sum(map(len, missing.shards.values()))
    return StudyOutcome(manifest=manifest, failed=failed, failures=tuple(failures), resumed=resumed, warnings=warnings)


def _explain(
    request: StudyRequest, manifest: Manifest, models: Sequence[Described], missing: Missing, progress: Progress
) -> Generator[int, None, None]:
    """Explain what is missing, in passes over the shards; yields how many more images are done, per model."""
    settings = dataclasses.replace(request.settings, fit=manifest.settings["fit"])
    dataset = dataclasses.replace(request.dataset, entries=())
    task = StudyTask(
        request=dataclasses.replace(request, settings=settings, dataset=dataset),
        manifest=manifest,
        device=str(choose_device(request.device)),
        threads=manifest.threads or request.threads or torch.get_num_threads(),
    )
    for held in _passes([model for model in models if model[0].id in missing.models], task.device):
        wanted = {shard: [name for name in names if name in held] for shard, names in missing.shards.items()}
        shards = {shard: names for shard, names in wanted.items() if names}
        if request.engine == "ray" and shards:
            yield from run_ray(task, shards, held, workers=request.workers, progress=progress)
        else:
            yield from run_local(task, shards, held, progress=progress)


@contextlib.contextmanager
def locked(folder: StudyFolder) -> Iterator[None]:
    """Be the only run in a folder, which is created if necessary; InputError if it holds something else."""
    root = folder.root
    with contextlib.ExitStack() as held:
        try:
            root.mkdir(parents=True, exist_ok=True)
            ours = {folder.lock, folder.plan}
            if folder.plan.exists():  # a study that lost its manifest: its files say themselves what belongs to it
                ours |= {root / name for name in ("language", "shards", "tables", "report")}
            others = [path for path in root.iterdir() if path not in ours and path.suffix != ".tmp"]
            if others and not folder.manifest.exists():
                raise InputError(f"folder {quoted(root)} is not empty and is not a study; name another one with --out")
            held.enter_context(file_lock(folder.lock, seconds=0))
            for left in root.rglob(".*.tmp"):  # of a run that was killed while writing
                left.unlink(missing_ok=True)
        except Timeout as reason:
            raise ClipmkError(f"another run is using {quoted(root)}") from reason
        except OSError as reason:
            raise unwritable(root, reason) from reason
        yield  # outside: an error of the work itself, such as a lost connection, is not about this folder


def _passes(models: Sequence[Described], device: str) -> Iterator[list[str]]:
    """The models in passes that fit into the device's memory together; images are decoded once per pass."""
    budget = device_memory(torch.device(device)) * MEMORY_SHARE
    held: list[str] = []
    weight = 0
    for info, size in models:
        if held and weight + WEIGHT_GROWTH * size > budget:
            yield held
            held, weight = [], 0
        held.append(info.id)
        weight += WEIGHT_GROWTH * size
    if held:
        yield held

"""What a study is: its models, and the manifest and plan that follow from what was asked and what the folder holds."""

import dataclasses
from collections.abc import Sequence
from importlib import metadata

import pyarrow as pa
import pyarrow.compute as pc
import torch

from clipmk.backbones.devices import choose_device, choose_dtype
from clipmk.datasets.matching import resolve_labels
from clipmk.errors import InputError, ModelError, UsageError
from clipmk.models.loading import describe, pull
from clipmk.records import ModelInfo
from clipmk.settings import Fit, Settings
from clipmk.study.manifest import Manifest, StudyRequest, VocabularyInfo, differences, read_manifest, write_manifest
from clipmk.study.plan import make_plan, missing_parts, write_plan
from clipmk.system.parquet import is_intact
from clipmk.system.serialization import plain
from clipmk.system.text import printable, quoted
from clipmk.version import __version__

SHARD_SIZE = 128  # images in a shard: what is lost, per model, when a run is killed
SMALL_SIDE = 128  # pixels; on a CPU, inputs up to this size are bound by the overhead of a call
Described = tuple[ModelInfo, int]  # a model, and the bytes of its weights


def describe_models(models: Sequence[str], *, download: bool) -> list[Described]:
    """What each model is, and the bytes of its weights; all missing models are reported at once."""
    for model in models:
        if models.count(model) > 1:
            raise UsageError(f"model {quoted(model)} is named twice; every model is studied once")
    if not models:
        raise UsageError("no model is named; name models with -m MODEL or --pool zoo|paper13|FILE")
    found: list[Described] = []
    faults: dict[str, str] = {}
    for model in models:
        try:
            if download:
                pull(model)
            found.append(describe(model))
        except ModelError as fault:
            faults[model] = str(fault)
    first = next(iter(faults.values()), "")
    if len(faults) > 1:
        listed = ", ".join(map(quoted, faults))
        what = f"{len(faults)} of {len(models)} models are not available, nothing was started: {listed}"
        raise ModelError(f"{what}; the first: {first}")
    if faults:
        raise ModelError(first)
    _refuse_twins([info for info, _ in found])
    return found


def with_other_models(request: StudyRequest, asked: Sequence[Described]) -> list[Described]:
    """The models of the folder's study, then those of `asked` that are new to it.

    Models that have explained every image are not looked up: they are not needed, and their weights may be gone.
    """
    folder = request.folder
    had = read_manifest(folder.manifest)
    given = {info.id: (info, size) for info, size in asked}
    needed = missing_parts(folder, had).models - given.keys()
    others = [model.id for model in had.models if model.id in needed]
    if others:
        given |= {info.id: (info, size) for info, size in describe_models(others, download=request.download)}
    found = [given.get(model.id, (model, 0)) for model in had.models]
    known = {info.id for info, _ in found}
    every = found + [one for one in asked if one[0].id not in known]
    _refuse_twins([info for info, _ in every])
    return every


def resolve_manifest(request: StudyRequest, infos: Sequence[ModelInfo]) -> tuple[Manifest, tuple[str, ...]]:
    """The manifest of this study, new or that of the folder, and warnings; a new one is written with its plan.

    UsageError if the folder holds a different study, InputError if it holds shards whose manifest is lost.
    """
    folder = request.folder
    old = read_manifest(folder.manifest) if folder.manifest.exists() else None
    if old is not None:  # the study there has what the request leaves open
        names = ("shard_size", "batch_size", "threads", "asks", "language_counts")
        request = dataclasses.replace(request, **{name: getattr(request, name) or getattr(old, name) for name in names})
    labels, warnings = resolve_labels([entry.label for entry in request.dataset.entries], request.vocabulary)
    # the reference code fits images of one class together
    usual: Fit = "batch" if request.settings.preset == "paper" and any(one is not None for one in labels) else "image"
    settings = dataclasses.replace(request.settings, fit=request.fit or usual)
    shard_size = request.shard_size or SHARD_SIZE
    plan = make_plan(request.dataset.entries, labels, fit=settings.fit, shard_size=shard_size)
    new = _manifest(request, infos, settings, plan, shard_size)
    warnings = request.dataset.warnings + request.vocabulary.notes + warnings
    if old is None:
        if (folder.root / "shards").exists() and not is_intact(folder.plan, new.made_of()):
            raise InputError(f"{quoted(folder.root)} holds shards of another study, without its {folder.manifest.name}")
        write_plan(plan, folder.plan, new.made_of())
        write_manifest(new, folder.manifest)
        return new, warnings
    kept = _continued(request, old, new)
    kept = dataclasses.replace(kept, language_counts=new.language_counts)
    if (kept.models, kept.language_counts) != (old.models, old.language_counts):
        write_manifest(kept, folder.manifest)
    if not is_intact(folder.plan, kept.made_of()):
        write_plan(plan, folder.plan, kept.made_of())
        warnings = (*warnings, f"{folder.plan.name} was missing or damaged; it is rebuilt")
    if old.versions != new.versions:
        changed = [f"{name} {old.versions.get(name)} then, {now} now" for name, now in new.versions.items()]
        note = f"the study was started with other versions ({', '.join(changed)}); its last digits may differ"
        warnings = (*warnings, note)
    return kept, warnings


def _continued(request: StudyRequest, old: Manifest, new: Manifest) -> Manifest:
    """The folder's study, with more models if it is to be extended; UsageError if another study is asked for.

    A model that was added and has no result yet is not binding: the study continues without it if it is not asked for,
    so that a model that cannot be loaded does no harm.
    """
    asked = {model.id for model in new.models}
    results = {model.id for model in old.models if any(request.folder.shard(model.id, 0).parent.glob("*.parquet"))}
    binding = tuple(model for model in old.models if model.id in asked | results)
    bound = dataclasses.replace(old, models=binding if any(model.id in asked for model in binding) else old.models)
    different = differences(bound, new)
    if not different:
        return bound
    others = differences(old, dataclasses.replace(new, models=old.models))
    if request.extend and not others and new.models[: len(old.models)] == old.models:
        command = None if old.command is None or new.command is None else f"{old.command} && {new.command}"
        return dataclasses.replace(old, models=new.models, command=command)
    hint = "" if others or request.extend else "; --extend keeps the models of the study and adds others"
    raise UsageError(
        f"{quoted(request.folder.root)} holds a different study; name another folder with --out, or ask for the same "
        f"again: {printable('; '.join(different))}{hint}"
    )


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


def _manifest(
    request: StudyRequest, infos: Sequence[ModelInfo], settings: Settings, plan: pa.Table, shard_size: int
) -> Manifest:
    device = choose_device(request.device)
    dtype = choose_dtype(request.precision, device)
    on_cpu = device.type == "cpu"
    vocabulary = request.vocabulary
    labelled = plan.num_rows - plan["label"].null_count
    classes = pc.count_distinct(plan["label"]).as_py()
    side = max(info.input_size for info in infos)
    # on a CPU, large batches of large inputs gain nothing and cost memory
    limit, of_small, of_large = (SMALL_SIDE, 64, 16) if on_cpu else (256, 256, 64)
    return Manifest(
        dataset=dataclasses.replace(request.dataset.info, labelled=labelled, classes=classes),
        vocabulary=VocabularyInfo(
            name=vocabulary.name,
            sha256=vocabulary.sha256,
            classes=len(vocabulary.classes),
            descriptors=len(vocabulary.descriptors),
            templates=vocabulary.templates,
            descriptor_template=vocabulary.descriptor_template,
        ),
        models=tuple(infos),
        parts=("kmeans", "pca") if (settings.preset, settings.parts) == ("paper", "kmeans") else (settings.parts,),
        settings=plain(settings),
        shards=plan["shard"][-1].as_py() + 1,
        shard_size=shard_size,
        batch_size=request.batch_size or (of_small if side <= limit else of_large),
        device=device.type,
        dtype=str(dtype).removeprefix("torch."),
        threads=(request.threads or torch.get_num_threads()) if on_cpu else None,
        versions={"clipmk": __version__, "torch": torch.__version__, "open_clip": metadata.version("open_clip_torch")},
        asks=request.asks,
        language_counts=tuple(sorted({min(u, len(vocabulary.descriptors)) for u in request.language_counts})),
        command=request.command,
    )

"""What a study is: what was asked for, what the folder already holds, and what follows from both."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from importlib import metadata

import torch

from clipmk.backbones.devices import choose_device, choose_dtype
from clipmk.datasets.matching import resolve_labels
from clipmk.errors import UsageError
from clipmk.records import ModelInfo
from clipmk.settings import Fit, PartMethod, Settings
from clipmk.study.manifest import Manifest, VocabularyInfo, differences, read_manifest, write_manifest
from clipmk.study.plan import make_plan, write_plan
from clipmk.study.request import StudyRequest
from clipmk.system.serialization import plain
from clipmk.system.text import printable, quoted
from clipmk.version import __version__

SHARD_SIZE = 128
"""Images in a shard: what is lost, per model, when a run is killed."""
SMALL_SIDE = 128
"""Pixels; on a CPU, inputs up to this size are bound by the overhead of a call."""


def resolve_manifest(request: StudyRequest, infos: Sequence[ModelInfo]) -> tuple[Manifest, tuple[str, ...]]:
    """The manifest of this study, new or that of the folder, and warnings; a new one is written with its plan.

    Raises:
        UsageError: the folder holds a different study.
    """
    folder = request.folder
    old = read_manifest(folder.manifest) if folder.manifest.exists() else None
    labels, warnings = resolve_labels([entry.label for entry in request.dataset.entries], request.vocabulary)
    fit = _fit(request, labels)
    shard_size = request.shard_size or (old.shard_size if old else SHARD_SIZE)
    plan = make_plan(request.dataset.entries, labels, fit=fit, shard_size=shard_size)
    new = _manifest(request, infos, old, settings=dataclasses.replace(request.settings, fit=fit), labels=labels)
    new = dataclasses.replace(new, shards=plan["shard"][-1].as_py() + 1, shard_size=shard_size)
    warnings = request.dataset.warnings + warnings
    if old is None:
        write_plan(plan, folder.plan)
        write_manifest(new, folder.manifest)
        return new, warnings
    kept = _continued(request, old, new)
    if kept.models != old.models:
        write_manifest(kept, folder.manifest)
    if old.versions != new.versions:
        changed = [f"{name} {old.versions.get(name)} then, {now} now" for name, now in new.versions.items()]
        note = f"the study was started with other versions ({', '.join(changed)}); its last digits may differ"
        warnings = (*warnings, note)
    return kept, warnings


def part_methods_of(settings: Settings) -> tuple[PartMethod, ...]:
    """The part methods that a study records: k-means and PCA under the `paper` preset, else the one that is set."""
    if settings.preset == "paper" and settings.parts == "kmeans":
        return ("kmeans", "pca")
    return (settings.parts,)


def _continued(request: StudyRequest, old: Manifest, new: Manifest) -> Manifest:
    """The folder's study, with more models if it is to be extended.

    A model that was added and has no result yet is not binding: the study continues without it if it is not asked for,
    so that a model that cannot be loaded does no harm.

    Raises:
        UsageError: what is asked for is a different study.
    """
    bound = dataclasses.replace(old, models=_bound(request, old, new))
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


def _bound(request: StudyRequest, old: Manifest, new: Manifest) -> tuple[ModelInfo, ...]:
    """The models of the folder's study that are asked for or have results; all of them if there are no results yet."""
    asked = {model.id for model in new.models}
    found = [
        model
        for model in old.models
        if model.id in asked or any(request.folder.shard(model.id, 0).parent.glob("*.parquet"))
    ]
    return tuple(found) if any(model.id in asked for model in found) else old.models


def _fit(request: StudyRequest, labels: Sequence[str | None]) -> Fit:
    """Whether images of one class are fitted together: as asked, else as the reference code does for a dataset."""
    if request.fit is not None:
        return request.fit
    labelled = any(label is not None for label in labels)
    return "batch" if labelled and request.settings.preset == "paper" else "image"


def _manifest(
    request: StudyRequest,
    infos: Sequence[ModelInfo],
    old: Manifest | None,
    *,
    settings: Settings,
    labels: Sequence[str | None],
) -> Manifest:
    """Everything but the shards. What the request leaves open is taken from the folder's study."""
    device = choose_device(request.device)
    dtype = choose_dtype(request.precision, device)
    on_cpu = device.type == "cpu"
    vocabulary = request.vocabulary
    known = [label for label in labels if label is not None]
    largest = max(info.input_size for info in infos)
    return Manifest(
        dataset=dataclasses.replace(request.dataset.info, labelled=len(known), classes=len(set(known))),
        vocabulary=VocabularyInfo(
            name=vocabulary.name,
            sha256=vocabulary.sha256,
            classes=len(vocabulary.classes),
            descriptors=len(vocabulary.descriptors),
            templates=vocabulary.templates,
            descriptor_template=vocabulary.descriptor_template,
        ),
        models=tuple(infos),
        parts=part_methods_of(settings),
        settings=plain(settings),
        shards=0,
        shard_size=0,
        batch_size=request.batch_size or (old.batch_size if old else _batch_size(largest, on_cpu=on_cpu)),
        device=device.type,
        dtype=str(dtype).removeprefix("torch."),
        threads=(request.threads or (old.threads if old else torch.get_num_threads())) if on_cpu else None,
        versions={
            "clipmk": __version__,
            "torch": torch.__version__,
            "open_clip": metadata.version("open_clip_torch"),
        },
        command=request.command,
    )


def _batch_size(side: int, *, on_cpu: bool) -> int:
    """Images per forward: on a CPU, large batches of large inputs gain nothing and cost memory."""
    if on_cpu:
        return 64 if side <= SMALL_SIDE else 16
    return 256 if side <= 256 else 64

"""The models of a study: what they are, and which of them are needed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from clipmk.errors import ModelError, UsageError
from clipmk.models.loading import describe, pull
from clipmk.records import ModelInfo
from clipmk.study.manifest import read_manifest
from clipmk.study.plan import missing_shards, shard_sizes
from clipmk.study.request import StudyRequest
from clipmk.system.text import quoted

Described = tuple[ModelInfo, int]
"""A model, and the bytes of its weights."""


def describe_models(models: Sequence[str], *, download: bool) -> list[Described]:
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


def with_other_models(request: StudyRequest, asked: Sequence[Described]) -> list[Described]:
    """The models of the folder's study, then those of `asked` that are new to it.

    Models that have explained every image are not looked up: they are not needed, and their weights may be gone.
    """
    folder = request.folder
    had = read_manifest(folder.manifest)
    given = {info.id: (info, size) for info, size in asked}
    missing = missing_shards(folder, had, shard_sizes(folder.plan))
    needed = {name for names in missing.values() for name in names} - given.keys()
    others = [model.id for model in had.models if model.id in needed]
    if others:
        given |= {info.id: (info, size) for info, size in describe_models(others, download=request.download)}
    found = [given.get(model.id, (model, 0)) for model in had.models]
    known = {info.id for info, _ in found}
    every = found + [one for one in asked if one[0].id not in known]
    _refuse_twins([info for info, _ in every])
    return every


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

"""What models exist: shipped, registered, in the hub's cache, or downloadable; each with what is known of it."""

from __future__ import annotations

import functools
import json
import logging
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from clipmk.errors import ModelError
from clipmk.models import hub
from clipmk.models.folders import CONFIG_NAME, SUFFIXES, WEIGHT_NAMES, read_folder, stored_parameters, weights_in
from clipmk.models.inventory import Inventory, Pair, describe, inventory
from clipmk.records import ModelEntry, Source
from clipmk.system import locations
from clipmk.system.config import read_config

_log = logging.getLogger(__name__)

EMBEDDED, HUB, LOCAL, CHECKPOINT = "embedded/", "hf-hub:", "local-dir:", "checkpoint:"
"""Prefixes of model ids; all other ids are open_clip's NAME:TAG, registered names, or checkpoint files."""
RANDOM = "random"
"""The tag that asks for random weights, for measuring and testing only."""

_UNITS = {"m": 10**6, "b": 10**9}


def list_models(sources: Collection[Source] = ("embedded", "local", "cached", "remote")) -> list[ModelEntry]:
    """List what can be named: embedded models first, then registered, cached and downloadable ones.

    Args:
        sources: what to look for. Neither torch nor open_clip is imported, unless another version of open_clip is
            installed than the one that `inventory` was written for.

    Raises:
        UsageError: the config file is malformed.
    """
    entries: list[ModelEntry] = []
    if "embedded" in sources:
        entries.extend(_folder(model_id, embedded_folder(model_id)) for model_id in embedded_names())
    if "local" in sources:
        entries.extend(_registered())
    if "cached" in sources or "remote" in sources:
        known = inventory()
        pairs = [_entry(pair, known) for pair in known.pairs.values()]
        if "cached" in sources:
            entries.extend(entry for entry in pairs if entry.source == "cached")
            entries.extend(_cached_others({entry.repository for entry in pairs}))
        if "remote" in sources:
            entries.extend(entry for entry in pairs if entry.source == "remote")
    return entries


def embedded_names() -> list[str]:
    """Ids of the shipped models."""
    return [
        EMBEDDED + path.parent.name for path in sorted((locations.assets_dir() / "models").glob(f"*/{CONFIG_NAME}"))
    ]


def embedded_folder(model_id: str) -> Path:
    """Folder of a shipped model."""
    return locations.assets_dir() / "models" / model_id.removeprefix(EMBEDDED)


def registered_models() -> Mapping[str, str]:
    """Names from the `[models]` table of the config file, and what each stands for."""
    return read_config().models


def pair_entry(name: str, tag: str) -> ModelEntry:
    """The entry of one of open_clip's pairs, "cached" or "remote".

    Raises:
        ModelError: open_clip has no such pair.
    """
    known = inventory()
    if (name, tag) not in known.pairs:
        raise ModelError(f"open_clip has no pair '{name}:{tag}'")
    return _entry(known.pairs[name, tag], known)


def folder_entry(model_id: str, folder: Path, content: Mapping[str, Any], weights: Path | None) -> ModelEntry:
    """The entry of a model folder.

    Args:
        model_id: its id.
        folder: the folder.
        content: of its configuration, from `read_folder`.
        weights: its weight file.

    Raises:
        ModelError: the configuration is not one of an image-text model with square images.
    """
    entry = describe(model_id, content["model_cfg"], source="local", architecture=folder.resolve().name)
    entry = replace(entry, path=str(folder), parameters=stored_parameters(weights))
    if not model_id.startswith(EMBEDDED):
        return entry
    licence = "LICENSE of clipmk"
    data = "clipmk's rendered world"
    return replace(entry, source="embedded", data=data, licence="MIT", licence_source=licence)


def repository_entry(entry: ModelEntry, repository: str, weights: Path) -> ModelEntry:
    """The entry of a folder that is the hub's copy of a repository."""
    name = repository.rpartition("/")[2]
    return replace(entry, source="cached", architecture=name, path=str(weights), repository=repository)


def is_checkpoint(target: str) -> bool:
    """Whether a model id names a weight file by its ending."""
    return target.endswith(SUFFIXES) and not target.startswith((EMBEDDED, HUB, LOCAL, CHECKPOINT))


def split_checkpoint(target: str) -> tuple[str, Path]:
    """Architecture and file of `checkpoint:ARCHITECTURE:FILE`.

    Raises:
        ModelError: one of the two is missing.
    """
    architecture, _, path = target.removeprefix(CHECKPOINT).partition(":")
    if not architecture or not path:
        raise ModelError(f"{target!r} does not name a checkpoint; write checkpoint:ARCHITECTURE:FILE")
    return architecture, Path(path).expanduser()


def training_of(tag: str) -> tuple[str | None, int | None, int | None]:
    """What the tag of a pair says about its training: `laion2b_s34b_b79k` is LAION-2B, 34 billion samples seen.

    Returns:
        Readable name of the data set, image-text pairs in all of it, pairs shown in training (repetitions included).
    """
    data, pairs = _first_match(_pretraining()["data"], tag) or (None, None)
    seen = re.search(r"_s(\d+)([mb])(?=_|$)", tag)
    return data, pairs, int(seen[1]) * _UNITS[seen[2]] if seen else None


def licence_of(repository: str) -> tuple[str | None, str | None]:
    """Licence of the weights in a repository of the hub, and where it is written; None, None where not known."""
    licence, source = _first_match(_pretraining()["licences"], repository) or (None, None)
    return licence, source


@functools.cache
def _pretraining() -> dict[str, list[list[Any]]]:
    """Data sets by the beginning of a tag, licences by the beginning of a repository's name, as regular expressions.

    Sizes are image-text pairs of the whole data set as its authors publish them; licences are those of the model cards
    on the hub. Both were noted by hand, and only where they are beyond doubt: null means "not known", never "none".
    """
    content: dict[str, list[list[Any]]] = json.loads(
        (locations.assets_dir() / "pretraining.json").read_text(encoding="utf-8")
    )
    return content


def _first_match(rows: list[list[Any]], name: str) -> list[Any] | None:
    return next((facts for beginning, *facts in rows if re.match(beginning, name)), None)


def _entry(pair: Pair, known: Inventory) -> ModelEntry:
    architecture = known.architectures[pair.name]
    data, data_pairs, samples_seen = training_of(pair.tag)
    licence, licence_source = licence_of(pair.repository)
    weights = hub.cached_file(*hub.candidates(pair.address))
    twin = known.twin(pair)
    return ModelEntry(
        id=pair.id,
        source="remote" if weights is None else "cached",
        architecture=pair.name,
        pretrained=pair.tag,
        family=architecture.family,
        input_size=architecture.input_size,
        embed_dim=architecture.embed_dim,
        needs_transformers=architecture.needs_transformers,
        path=None if weights is None else str(weights),
        alias_of=None if twin is None else twin.id,
        parameters=architecture.parameters,
        data=data,
        data_pairs=data_pairs,
        samples_seen=samples_seen,
        licence=licence,
        licence_source=licence_source,
        repository=pair.repository or None,
    )


def _registered() -> Iterator[ModelEntry]:
    """Registered folders and checkpoints; other registered names stand for ids that are listed anyway."""
    for name, target in registered_models().items():
        try:
            if target.startswith(CHECKPOINT):
                yield _checkpoint(name, target)
            elif target.startswith(LOCAL) or Path(target).expanduser().is_dir():
                yield _folder(name, Path(target.removeprefix(LOCAL)).expanduser())
        except ModelError as error:  # one broken folder must not hide the other models
            _log.warning("%s", error)


def _folder(model_id: str, folder: Path) -> ModelEntry:
    if not folder.is_dir():
        raise ModelError(f"the folder {str(folder)!r} of model {model_id!r} does not exist")
    return folder_entry(model_id, folder, read_folder(folder, model_id), weights_in(folder))


def _checkpoint(name: str, target: str) -> ModelEntry:
    architecture, path = split_checkpoint(target)
    known = inventory().architectures.get(architecture)
    if known is None:
        raise ModelError(f"model {name!r} names the architecture {architecture!r}, which open_clip does not have")
    if not path.is_file():
        raise ModelError(f"the checkpoint {str(path)!r} of model {name!r} does not exist")
    return ModelEntry(
        id=name,
        source="local",
        architecture=architecture,
        pretrained=None,
        family=known.family,
        input_size=known.input_size,
        embed_dim=known.embed_dim,
        needs_transformers=known.needs_transformers,
        path=str(path),
        parameters=known.parameters,
    )


def _cached_others(known: Collection[str | None]) -> Iterator[ModelEntry]:
    """Models in the hub's cache that belong to none of open_clip's pairs."""
    for repository in hub.cached_repositories():
        config = hub.cached_file(repository, [CONFIG_NAME])
        weights = hub.cached_file(repository, WEIGHT_NAMES)
        if repository in known or config is None or weights is None:
            continue
        model_id = HUB + repository
        try:
            content = read_folder(config.parent, model_id)
            yield repository_entry(folder_entry(model_id, config.parent, content, weights), repository, weights)
        except ModelError as error:  # one odd repository must not hide the other models
            _log.warning("%s", error)

"""What models exist: shipped, registered, in the hub's cache, or downloadable; and pools, sets of models."""

import logging
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from clipmk.errors import InputError, ModelError, UsageError, suggest
from clipmk.models import local
from clipmk.models.inventory import architecture, architecture_spelt, inventory, read_architecture
from clipmk.models.local import CONFIG_NAME, SUFFIXES, config_in, read_model_config, stored_parameters, weights_in
from clipmk.records import ModelEntry, Source
from clipmk.system import locations
from clipmk.system.config import read_config
from clipmk.system.files import decoded, read_regular
from clipmk.system.text import is_unsafe, printable, quoted

_log = logging.getLogger(__name__)

EMBEDDED, HUB, LOCAL, CHECKPOINT = "embedded/", "hf-hub:", "local-dir:", "checkpoint:"
"""Prefixes of model ids; all other ids are open_clip's NAME:TAG, registered names, or checkpoint files."""
RANDOM = "random"  # the tag of random weights, for measuring and testing only

POOLS = ("zoo", "paper13")
"""Pools with a name: the embedded models, and the paper's 13 in the order of its table."""

_UNITS = {"m": 10**6, "b": 10**9}


def list_models(sources: Collection[Source] = ("embedded", "local", "cached", "remote")) -> list[ModelEntry]:
    """List the models that have a name: embedded models first, then registered, cached and downloadable ones.

    Imports neither torch nor open_clip, unless another version of open_clip is installed than `inventory` was made for.
    """
    entries: list[ModelEntry] = []
    if "embedded" in sources:
        entries.extend(folder_entry(model_id, config_in(embedded_folder(model_id)))[0] for model_id in embedded_names())
    if "local" in sources:
        entries.extend(_registered())
    if "cached" in sources or "remote" in sources:
        pairs = [pair_entry(name, tag) for name, tag in inventory().pairs]
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


def pool(name: str) -> tuple[str, ...]:
    """The ids of the models in a pool, in its order, each once, whether they exist or not.

    A pool is one of `POOLS`, or a text file with one model per line. A `#` at the start of a line or after a space
    begins a comment; empty lines are ignored. Raises `UsageError` if there is no such pool or file, `InputError` if the
    file is unusable.
    """
    if name == "zoo":
        return tuple(embedded_names())
    if name == "paper13":
        return tuple(f"{row['architecture']}:{row['pretrained']}" for row in locations.json_asset("paper13.json"))
    if not os.path.exists(os.path.expanduser(name)):  # noqa: PTH110, PTH111 - neither raises
        raise UsageError(
            f"pool {quoted(name)} is neither a file nor one of: {', '.join(POOLS)}; {printable(suggest(name, POOLS))}"
        )
    return _parsed(read_regular(name, limit=2**20, noun="pool", error=InputError), name)


def _parsed(data: bytes, name: str) -> tuple[str, ...]:
    seen: dict[str, int] = {}
    for number, line in enumerate(decoded(data, f"pool {quoted(name)}", InputError).splitlines(), start=1):
        model = re.sub(r"(^|\s)#.*", "", line).strip()
        if not model:
            continue
        if any(is_unsafe(character) for character in model):
            raise InputError(f"pool {quoted(name)}, line {number}: {quoted(model)} contains control characters")
        if model in seen:
            raise InputError(f"pool {quoted(name)}, line {number}: {quoted(model)} is already in line {seen[model]}")
        seen[model] = number
    if not seen:
        raise InputError(f"pool {quoted(name)} does not name any model")
    return tuple(seen)


def pair_entry(name: str, tag: str) -> ModelEntry:
    """The entry of one of open_clip's pairs, "cached" or "remote"."""
    known = inventory()
    pair, twin = known.pairs[name, tag], known.twin(known.pairs[name, tag])
    data, data_pairs, samples_seen = training_of(tag)
    licence, licence_source = _first_match("licences", pair.repository) or (None, None)
    weights = local.cached_file(*local.candidates(pair.address))
    return replace(
        known.architectures[name],
        id=pair.id,
        source="remote" if weights is None else "cached",
        pretrained=tag,
        path=None if weights is None else str(weights),
        weights=None if weights is None else str(weights),
        alias_of=None if twin is None else twin.id,
        data=data,
        data_pairs=data_pairs,
        samples_seen=samples_seen,
        licence=licence,
        licence_source=licence_source,
        repository=pair.repository or None,
    )


def folder_entry(model_id: str, config: Path, weights: Path | None = None) -> tuple[ModelEntry, dict[str, Any]]:
    """The entry of a model folder, and the content of its configuration as `read_model_config` has it.

    The weight file is looked for if none is given. Raises `ModelError` if there is none, or the configuration is not
    that of an image-text model with square images.
    """
    folder, content = config.parent, read_model_config(config, model_id)
    weights = weights or weights_in(folder)
    facts = read_architecture(folder.resolve().name, content["model_cfg"], parameters=stored_parameters(weights))
    entry = replace(facts, id=model_id, path=str(folder), weights=str(weights))
    if not model_id.startswith(EMBEDDED):
        return entry, content
    world, text = "clipmk's rendered world", "LICENSE of clipmk"
    return replace(entry, source="embedded", data=world, licence="MIT", licence_source=text), content


def repository_entry(entry: ModelEntry, repository: str, weights: Path) -> ModelEntry:
    """The entry of a folder in the hub's cache, from its entry as a folder."""
    name = repository.rpartition("/")[2]
    return replace(entry, source="cached", architecture=name, path=str(weights), repository=repository)


def checkpoint_entry(model_id: str, arch: str, path: Path) -> ModelEntry:
    """The entry of a checkpoint file; raises `ModelError` if the file or the architecture does not exist."""
    if not local.is_file(path):
        raise ModelError(f"checkpoint {str(path)!r} does not exist")
    name = architecture_spelt(arch) or arch
    found = architecture(name)
    if found is None:
        raise ModelError(f"architecture {arch!r} does not exist; {suggest(name, inventory().architectures)}")
    return replace(found, id=model_id, path=str(path), weights=str(path))


def checkpoint_of(target: str) -> tuple[str | None, Path] | None:
    """Architecture and file of `checkpoint:ARCHITECTURE:FILE`, or None and a weight file that is named; else None."""
    if target.startswith(CHECKPOINT):
        arch, _, file = target.removeprefix(CHECKPOINT).partition(":")
        if not arch or not file:
            raise ModelError(f"{target!r} does not name a checkpoint; write checkpoint:ARCHITECTURE:FILE")
        return arch, local.expanded(file)
    if not target.endswith(SUFFIXES) or target.startswith((EMBEDDED, HUB, LOCAL)):
        return None
    path = local.expanded(target)
    return None if local.is_folder(path) else (None, path)


def training_of(tag: str) -> tuple[str | None, int | None, int | None]:
    """What a tag says: name of the dataset, image-text pairs in it, pairs shown in training (repetitions included).

    `laion2b_s34b_b79k` is LAION-2B, 34 billion samples seen.
    """
    data, pairs = _first_match("data", tag) or (None, None)
    seen = re.search(r"_s(\d+)([mb])(?=_|$)", tag)
    return data, pairs, int(seen[1]) * _UNITS[seen[2]] if seen else None


def _first_match(table: str, name: str) -> list[Any] | None:
    """Datasets by the beginning of a tag, licences by the beginning of a repository's name, as regular expressions.

    Sizes are image-text pairs of the whole dataset as its authors publish them; licences are those of the model cards
    on the hub. Both were noted by hand, and only where they are beyond doubt: null means "not known", never "none".
    """
    rows = locations.json_asset("pretraining.json")[table]
    return next((facts for beginning, *facts in rows if re.match(beginning, name)), None)


def _registered() -> Iterator[ModelEntry]:
    """Registered folders and checkpoints; other registered names stand for ids that are listed anyway."""
    for name, target in registered_models().items():
        try:
            arch, path = checkpoint_of(target) or (None, None)
            folder = path.parent if path else local.expanded(target.removeprefix(LOCAL))
            if arch and path:
                yield checkpoint_entry(name, arch, path)
            elif path or target.startswith(LOCAL) or local.is_folder(folder):
                yield folder_entry(name, config_in(folder), path)[0]
        except ModelError as error:  # one broken folder must not hide the other models
            _log.warning("registered model %r: %s", name, error)


def _cached_others(known: Collection[str | None]) -> Iterator[ModelEntry]:
    """Models in the hub's cache that belong to none of open_clip's pairs."""
    for repository, (config, weights) in local.cached_models().items():
        if repository in known:
            continue
        model_id = HUB + repository
        try:
            yield repository_entry(folder_entry(model_id, config, weights)[0], repository, weights)
        except ModelError as error:  # one odd repository must not hide the other models
            _log.warning("%s", error)

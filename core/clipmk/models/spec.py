"""What the name of a model stands for: its configuration, its weights, and all else that building it takes."""

import logging
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clipmk.backbones.library import open_clip
from clipmk.errors import ModelError, UsageError, suggest
from clipmk.models import catalog, foreign, local
from clipmk.models.catalog import EMBEDDED, HUB, LOCAL, RANDOM
from clipmk.models.download import AbsentFileError, TransferCallback, fetch
from clipmk.models.inventory import architecture, architecture_spelt, canonical, inventory
from clipmk.records import ModelEntry

_log = logging.getLogger(__name__)

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """How to build one model."""

    entry: ModelEntry
    config: Mapping[str, Any]
    """open_clip's model configuration."""
    preprocess: Mapping[str, Any]
    """open_clip's preprocessing configuration; its defaults hold for what is missing."""
    folder: Path | None = None
    """The model's folder; None for open_clip's own architectures."""
    repository: str | None = None
    """The repository on the hub of which the folder is a copy."""
    bpe: Path | None = None
    """Merges of the model's own tokenizer."""
    weights: Path | None = None
    """None for random weights."""
    quick_gelu: bool = False
    """Whether the weights were trained with QuickGELU although the configuration does not say so."""
    trunk: Mapping[str, Any] | None = None
    """Arguments of timm's image tower, for models made for `transformers`."""
    has_own_config: bool = False
    """Whether the configuration is not that of one of open_clip's own architectures."""


def resolve(
    model_id: str, *, arch: str | None = None, download: bool = False, progress: TransferCallback | None = None
) -> ModelSpec:
    """Find what a model id stands for, and its weights, by any id that `load` takes.

    `arch` is for a checkpoint file only; missing weights are downloaded only if `download` is set. Raises `ModelError`,
    which says what to do, if the model does not exist or is not on this machine, and `UsageError` if `arch` is missing
    or superfluous.
    """
    try:
        return _resolve(model_id, arch=arch, download=download, progress=progress)
    except (ModelError, UsageError) as error:
        names = list(filter(None, map(str.strip, model_id.split(","))))
        if len(names) < 2 or os.path.lexists(local.expanded(model_id)):
            raise
        each = " ".join(f"-m {name}" for name in names)  # only CLIPMK_MODEL takes a comma-separated list
        raise ModelError(f"model {model_id!r} does not exist; name each with -m: {each}") from error


def _resolve(model_id: str, *, arch: str | None, download: bool, progress: TransferCallback | None) -> ModelSpec:
    target = catalog.registered_models().get(model_id, model_id)
    if (checkpoint := catalog.checkpoint_of(target)) is not None:
        named, path = checkpoint
        if arch or named or not local.is_configured(path.parent):
            return _checkpoint(path, model_id, arch or named)
        return _folder(local.config_in(path.parent), model_id, weights=path)
    if arch is not None:
        raise UsageError(f"architecture {arch!r} is for checkpoint files only; {target!r} has its own")
    if target.startswith(EMBEDDED):
        return _embedded(target, model_id)
    folder = local.expanded(target.removeprefix(LOCAL))
    if target.startswith(LOCAL) or local.is_folder(folder):
        return _folder(local.config_in(folder), model_id)
    cached = local.cached_model(target.removeprefix(HUB)) if target.startswith(HUB) else None
    if cached is None or cached[0].name == local.CONFIG_NAME:
        target = canonical(target)  # some repositories for `transformers` have a pair as a twin
    if target.startswith(HUB):
        return _hub(target, model_id, download=download, progress=progress)
    if local.is_file(folder):
        raise ModelError(f"weight file {target!r} has an unknown ending; known: {', '.join(local.SUFFIXES)}")
    return _pair(target, model_id, download=download, progress=progress)


def pair_spec(name: str, tag: str) -> ModelSpec:
    """The spec of one of open_clip's pairs, without weights: its preprocessing and its activation.

    The pair's own record decides about the activation, not the configuration of the architecture. (`canonical` has
    chosen the architecture with the right one where there is one.)
    """
    config, settings = open_clip().get_model_config(name), open_clip().get_pretrained_cfg(name, tag)
    quick_gelu = bool(settings.get("quick_gelu", False)) and not config.get("quick_gelu", False)
    return ModelSpec(entry=catalog.pair_entry(name, tag), config=config, preprocess=settings, quick_gelu=quick_gelu)


def _checkpoint(path: Path, model_id: str, arch: str | None) -> ModelSpec:
    if arch is None and local.is_file(path):
        named = local.noted_architecture(path) or "NAME, such as ViT-B-32"
        raise UsageError(f"checkpoint {str(path)!r} needs its architecture (--arch {named})")
    entry = catalog.checkpoint_entry(model_id, arch or "", path)
    config = open_clip().get_model_config(entry.architecture)
    return ModelSpec(entry=entry, config=config, preprocess=_usual_preprocessing(entry.architecture), weights=path)


def _usual_preprocessing(arch: str) -> dict[str, Any]:
    """The preprocessing of all tags of an architecture; where they differ, open_clip's default with a warning."""
    clip = open_clip()
    tags = [clip.get_pretrained_cfg(arch, tag) for tag in clip.list_pretrained_tags_by_model(arch)]
    agreed: dict[str, Any] = {}
    for name in ("mean", "std", "interpolation"):
        values = [settings.get(name) for settings in tags]
        if values and all(value == values[0] for value in values):
            agreed[name] = values[0]
        elif values:
            _log.warning("pretrained tags of %s differ in %r; open_clip's default is used for this file", arch, name)
    return agreed


def _embedded(target: str, model_id: str) -> ModelSpec:
    known = catalog.embedded_names()
    if target not in known:
        advice = "'embedded/rn-parts' replaced it" if target == "embedded/rn-l" else suggest(target, known)
        raise ModelError(f"model {target!r} does not exist; {advice}")
    spec = _folder(catalog.embedded_folder(target) / local.CONFIG_NAME, target)
    return replace(spec, entry=replace(spec.entry, id=model_id))


def _folder(path: Path, model_id: str, *, weights: Path | None = None) -> ModelSpec:
    """The spec of a model with a configuration of its own; its weight file is looked for unless it is given."""
    entry, content = catalog.folder_entry(model_id, path, weights)
    converted = path.name == foreign.CONFIG_NAME
    return ModelSpec(
        entry=entry,
        config=content["model_cfg"],
        preprocess=_foreign_preprocessing(path, model_id) if converted else content.get("preprocess_cfg") or {},
        folder=path.parent,
        bpe=None if converted else local.merges_in(path.parent, content, model_id),
        weights=Path(str(entry.weights)),
        trunk=content.get("trunk") if converted else None,
        has_own_config=True,
    )


def _foreign_preprocessing(config: Path, model_id: str) -> dict[str, Any]:
    files = [path for path in map(config.with_name, foreign.PREPROCESSOR_NAMES) if local.is_file(path)]
    if not files:
        _log.warning("%r has no %s; the usual one is used", str(config.parent), foreign.PREPROCESSOR_NAMES[0])
    processor = local.read_json(files[0], model_id) if files else {}
    return foreign.preprocessing(processor, str(local.read_json(config, model_id)["model_type"]))


def _hub(target: str, model_id: str, *, download: bool, progress: TransferCallback | None) -> ModelSpec:
    repository = target.removeprefix(HUB)
    if _REPOSITORY.fullmatch(repository) is None:
        raise ModelError(f"{target!r} is not a repository on the hub; write hf-hub:ORGANISATION/NAME")
    found = local.cached_model(repository)
    if found is None:
        if not download:
            raise _absent(target, repository)
        found = _fetched(repository, model_id, progress)
    config, weights = found
    spec = _folder(config, model_id, weights=weights)
    return replace(spec, entry=catalog.repository_entry(spec.entry, repository, weights), repository=repository)


def _fetched(repository: str, model_id: str, progress: TransferCallback | None) -> tuple[Path, Path]:
    """Download the configuration and weights of a repository, open_clip's or else those made for `transformers`."""
    config = fetch(repository, [local.CONFIG_NAME, foreign.CONFIG_NAME], progress=progress)
    content = local.read_model_config(config, model_id)
    if config.name == local.CONFIG_NAME:
        if (merges := local.merges_named(content)) is not None:
            fetch(repository, [merges], progress=progress)
        return config, fetch(repository, local.HUB_WEIGHTS, progress=progress)
    with suppress(AbsentFileError):
        fetch(repository, foreign.PREPROCESSOR_NAMES, progress=progress)
    weights = fetch(repository, foreign.WEIGHTS, progress=progress)
    for shard in local.shard_names(weights):
        fetch(repository, [shard], progress=progress)
    return config, weights


def _pair(target: str, model_id: str, *, download: bool, progress: TransferCallback | None) -> ModelSpec:
    found, tag = _known_pair(target)
    name = found.architecture
    if tag == RANDOM:
        entry = replace(found, id=f"{name}:{RANDOM}", pretrained=RANDOM)
        return ModelSpec(entry=entry, config=open_clip().get_model_config(name), preprocess={})
    spec = pair_spec(name, tag)
    repository, files = local.candidates(str(spec.preprocess["hf_hub"]))
    weights = local.cached_file(repository, files)
    if weights is None and not download:
        raise _absent(f"{name}:{tag}", repository)
    weights = weights or fetch(repository, files, progress=progress)
    entry = replace(spec.entry, id=model_id, source="cached", path=str(weights), weights=str(weights))
    return replace(spec, weights=weights, entry=entry)


def _known_pair(target: str) -> tuple[ModelEntry, str]:
    """Check NAME:TAG, because open_clip itself silently falls back to something else."""
    known = inventory()
    wanted, _, wanted_tag = target.partition(":")
    name = architecture_spelt(wanted) or wanted
    found = architecture(name)
    if found is None:
        names = [*catalog.embedded_names(), *catalog.registered_models(), *known.architectures]
        raise ModelError(f"model {target!r} does not exist; {_alternatives(target, name, names)}")
    tags = [tag for owner, tag in known.pairs if owner == name]
    if wanted_tag in {RANDOM, *tags}:
        return found, wanted_tag
    if wanted_tag:
        raise ModelError(f"model {name!r} has no pretrained tag {wanted_tag!r}; {suggest(wanted_tag, tags)}")
    if not tags:
        raise ModelError(f"model {target!r} has no pretrained weights; give a checkpoint file with --arch {name}")
    raise ModelError(f"model {target!r} needs a pretrained tag: {', '.join(f'{name}:{tag}' for tag in tags)}")


def _alternatives(target: str, name: str, known: list[str]) -> str:
    """Close names, a hub repository where it looks like one, else known names."""
    hint = suggest(name, known)
    if _REPOSITORY.fullmatch(target) is None:
        return hint
    close = f"{hint}; " if hint.startswith("close") else ""
    return f"{close}for a repository on the hub write {HUB}{target}"


def _absent(model_id: str, repository: str) -> ModelError:
    return ModelError(
        f"model {model_id!r} is not on this machine; `clipmk models pull {model_id}` downloads it from the repository "
        f"{repository} (or pass --download)"
    )

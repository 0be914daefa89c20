"""What the name of a model stands for: its configuration, its weights, and all else that building it takes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clipmk.backbones.library import open_clip
from clipmk.errors import ModelError, UsageError, suggest
from clipmk.models import catalog, local
from clipmk.models.catalog import EMBEDDED, HUB, LOCAL, RANDOM
from clipmk.models.download import TransferCallback, fetch
from clipmk.models.inventory import Architecture, architecture, architecture_spelt, canonical, inventory
from clipmk.models.local import CONFIG_NAME, WEIGHT_NAMES, merges_in, merges_named, read_folder, weights_in
from clipmk.records import ModelEntry

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

    @property
    def open_clip_name(self) -> str:
        """The name by which open_clip finds the configuration."""
        return self.entry.architecture if self.folder is None else f"{LOCAL}{self.folder}"


def resolve(
    model_id: str, *, arch: str | None = None, download: bool = False, progress: TransferCallback | None = None
) -> ModelSpec:
    """Find what a model id stands for, and its weights.

    Args:
        model_id: `embedded/NAME`, `NAME:TAG` in any spelling, `hf-hub:ORG/REPO`, `local-dir:FOLDER`, a
            folder, a name registered in the config, a checkpoint file, or `checkpoint:ARCHITECTURE:FILE`.
        arch: open_clip's architecture name, for a checkpoint file only.
        download: download missing weights; without it no network request is made.
        progress: called while files arrive.

    Raises:
        ModelError: the model does not exist or is not on this machine; the message says what to do.
        UsageError: `arch` without a checkpoint, or a checkpoint without `arch`.
    """
    try:
        return _resolve(model_id, arch=arch, download=download, progress=progress)
    except (ModelError, UsageError) as error:
        names = [name.strip() for name in model_id.split(",")]
        if len(names) == 1 or not all(map(_exists, names)):  # only CLIPMK_MODEL takes a comma-separated list
            raise
        each = " ".join(f"-m {name}" for name in names)
        raise ModelError(f"model {model_id!r} does not exist; name each with -m: {each}") from error


def _resolve(model_id: str, *, arch: str | None, download: bool, progress: TransferCallback | None) -> ModelSpec:
    target = catalog.registered_models().get(model_id, model_id)
    if (checkpoint := catalog.checkpoint_of(target)) is not None:
        named, path = checkpoint
        return _checkpoint(path, model_id, arch or named)
    if arch is not None:
        raise UsageError(f"architecture {arch!r} is for checkpoint files only; {target!r} has its own")
    if target.startswith(EMBEDDED):
        return _embedded(target, model_id)
    if not Path(target).expanduser().is_dir():
        target = canonical(target)
    if target.startswith(HUB):
        return _hub(target, model_id, download=download, progress=progress)
    if target.startswith(LOCAL) or Path(target).expanduser().is_dir():
        return _folder(Path(target.removeprefix(LOCAL)).expanduser(), model_id)
    return _pair(target, model_id, download=download, progress=progress)


def _exists(name: str) -> bool:
    if name in {*catalog.embedded_names(), *catalog.registered_models()} or name.startswith(HUB):
        return True
    head, _, tag = canonical(name).partition(":")
    if (head, tag) in inventory().pairs or (tag == RANDOM and head in inventory().architectures):
        return True
    return name != "" and Path(name.removeprefix(LOCAL)).expanduser().exists()


def pair_spec(name: str, tag: str) -> ModelSpec:
    """The spec of one of open_clip's pairs, without weights: its preprocessing and its activation.

    The pair's own record decides about the activation, not the configuration of the architecture. (`canonical`
    has chosen the architecture with the right one where there is one.)
    """
    config, settings = open_clip().get_model_config(name), open_clip().get_pretrained_cfg(name, tag)
    quick_gelu = bool(settings.get("quick_gelu", False)) and not config.get("quick_gelu", False)
    return ModelSpec(entry=catalog.pair_entry(name, tag), config=config, preprocess=settings, quick_gelu=quick_gelu)


def _checkpoint(path: Path, model_id: str, arch: str | None) -> ModelSpec:
    if arch is None and path.is_file():
        raise UsageError(f"checkpoint {str(path)!r} needs its architecture (--arch NAME, such as ViT-B-32)")
    entry = catalog.checkpoint_entry(model_id, arch or "", path)
    config = open_clip().get_model_config(entry.architecture)
    return ModelSpec(entry=entry, config=config, preprocess={}, weights=path)


def _embedded(target: str, model_id: str) -> ModelSpec:
    known = catalog.embedded_names()
    if target not in known:
        raise ModelError(f"model {target!r} does not exist; {suggest(target, known)}")
    spec = _folder(catalog.embedded_folder(target), target)
    return replace(spec, entry=replace(spec.entry, id=model_id))


def _folder(folder: Path, model_id: str) -> ModelSpec:
    content = read_folder(folder, model_id)
    weights = weights_in(folder)
    if weights is None:
        raise ModelError(f"model folder {str(folder)!r} has no weights ({', '.join(WEIGHT_NAMES)})")
    return ModelSpec(
        entry=catalog.folder_entry(model_id, folder, content, weights),
        config=content["model_cfg"],
        preprocess=content.get("preprocess_cfg") or {},
        folder=folder,
        bpe=merges_in(folder, content, model_id),
        weights=weights,
    )


def _hub(target: str, model_id: str, *, download: bool, progress: TransferCallback | None) -> ModelSpec:
    repository = target.removeprefix(HUB)
    if _REPOSITORY.fullmatch(repository) is None:
        raise ModelError(f"{target!r} is not a repository on the hub; write hf-hub:ORGANISATION/NAME")
    config = local.cached_file(repository, [CONFIG_NAME])
    weights = local.cached_file(repository, WEIGHT_NAMES)
    if config is None or weights is None:
        if not download:
            raise _absent(target)
        config = fetch(repository, [CONFIG_NAME], progress=progress)
        merges = merges_named(read_folder(config.parent, model_id))
        if merges is not None:
            fetch(repository, [merges], progress=progress)
        weights = fetch(repository, WEIGHT_NAMES, progress=progress)
    spec = _folder(config.parent, model_id)
    entry = catalog.repository_entry(spec.entry, repository, weights)
    return replace(spec, entry=entry, weights=weights, repository=repository)


def _pair(target: str, model_id: str, *, download: bool, progress: TransferCallback | None) -> ModelSpec:
    found, tag = _known_pair(target)
    name = found.name
    if tag == RANDOM:
        entry = found.entry(f"{name}:{RANDOM}", source="local", pretrained=RANDOM)
        return ModelSpec(entry=entry, config=open_clip().get_model_config(name), preprocess={})
    spec = pair_spec(name, tag)
    if model_id != target:  # a registered name
        spec = replace(spec, entry=replace(spec.entry, id=model_id))
    if spec.entry.path is not None:
        return replace(spec, weights=Path(spec.entry.path))
    if not download:
        raise _absent(f"{name}:{tag}")
    weights = fetch(*local.candidates(str(spec.preprocess["hf_hub"])), progress=progress)
    return replace(spec, weights=weights, entry=replace(spec.entry, source="cached", path=str(weights)))


def _known_pair(target: str) -> tuple[Architecture, str]:
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


def _absent(model_id: str) -> ModelError:
    return ModelError(
        f"model {model_id!r} is not on this machine; `clipmk models pull {model_id}` downloads it (or pass --download)"
    )

"""From the name of a model to everything that building it takes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clipmk.backbones.library import open_clip
from clipmk.errors import ModelError, UsageError, suggest
from clipmk.models import aliases, catalog, hub
from clipmk.models.catalog import CHECKPOINT, EMBEDDED, HUB, LOCAL, RANDOM
from clipmk.models.download import Progress, fetch
from clipmk.models.folders import CONFIG_NAME, WEIGHT_NAMES, merges_in, merges_named, read_folder, weights_in
from clipmk.models.inventory import architecture_config, describe, inventory
from clipmk.records import ModelEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """How to build one model."""

    entry: ModelEntry
    config: Mapping[str, Any]
    """open_clip's model configuration."""
    preprocess: Mapping[str, Any]
    """What is known of mean, std, interpolation, resize_mode; open_clip's defaults hold for the rest."""
    folder: Path | None = None
    """The folder that describes the model, None for open_clip's own architectures."""
    repository: str | None = None
    """The hub's repository that the folder is a copy of."""
    bpe: Path | None = None
    """The folder's own merges for the tokenizer."""
    weights: Path | None = None
    """None for random weights."""
    quick_gelu: bool = False
    """The weights were trained with the QuickGELU activation though the configuration does not say so."""

    @property
    def open_clip_name(self) -> str:
        """The name by which open_clip finds the configuration."""
        return self.entry.architecture if self.folder is None else f"{LOCAL}{self.folder}"


def resolve(
    model_id: str, *, arch: str | None = None, download: bool = False, progress: Progress | None = None
) -> ModelSpec:
    """Find out what a model id stands for and where its weights lie.

    Args:
        model_id: `embedded/NAME`, `NAME:TAG` in any spelling of `aliases`, `hf-hub:ORG/REPO`, `local-dir:FOLDER`, a
            folder, a name registered in the config, a checkpoint file, or `checkpoint:ARCHITECTURE:FILE`.
        arch: open_clip's architecture name, for a checkpoint file only.
        download: fetch missing weights; without it no request is made at all.
        progress: is told how far a download has come.

    Raises:
        ModelError: there is no such model, or it is not on this machine; the message says what to do.
        UsageError: `arch` without a checkpoint, or a checkpoint without `arch`.
    """
    try:
        return _resolve(model_id, arch=arch, download=download, progress=progress)
    except (ModelError, UsageError) as error:
        if not _names_several(model_id):
            raise
        each = " ".join(f"-m {name}" for name in _pieces(model_id))
        raise ModelError(f"model {model_id!r} does not exist; name each with -m: {each}") from error


def _resolve(model_id: str, *, arch: str | None, download: bool, progress: Progress | None) -> ModelSpec:
    target = catalog.registered_models().get(model_id, model_id)
    if target.startswith(CHECKPOINT):
        named, path = catalog.split_checkpoint(target)
        return _checkpoint(str(path), model_id, arch or named)
    if catalog.is_checkpoint(target):
        return _checkpoint(target, model_id, arch)
    if arch is not None:
        raise UsageError(f"an architecture ({arch!r}) goes with a checkpoint file; {target!r} has its own")
    if target.startswith(EMBEDDED):
        return _embedded(target, model_id)
    if not Path(target).expanduser().is_dir():
        target = aliases.canonical(target)
    if target.startswith(HUB):
        return _hub(target, model_id, download=download, progress=progress)
    if target.startswith(LOCAL) or Path(target).expanduser().is_dir():
        return _folder(Path(target.removeprefix(LOCAL)).expanduser(), model_id)
    return _pair(target, model_id, download=download, progress=progress)


def _names_several(model_id: str) -> bool:
    """Whether a model id is a list of models that exist, as the environment takes it."""
    return "," in model_id and all(_exists(name) for name in _pieces(model_id))


def _pieces(model_id: str) -> list[str]:
    return [piece.strip() for piece in model_id.split(",")]


def _exists(name: str) -> bool:
    if name in {*catalog.embedded_names(), *catalog.registered_models()} or name.startswith(HUB):
        return True
    architecture, _, tag = aliases.canonical(name).partition(":")
    if (architecture, tag) in inventory().pairs or (tag == RANDOM and architecture in inventory().architectures):
        return True
    return name != "" and Path(name.removeprefix(LOCAL)).expanduser().exists()


def pair_spec(name: str, tag: str) -> ModelSpec:
    """The spec of one of open_clip's pairs, weights left out: its preprocessing and its activation.

    `aliases.canonical` has chosen the architecture with the weights' own activation; where there is none, it is set
    here: the pair's own record is right, not the configuration.
    """
    library = open_clip()
    config = architecture_config(name)
    settings = library.get_pretrained_cfg(name, tag)
    if config is None:
        raise ModelError(f"architecture {name!r} is unknown to open_clip")
    quick = bool(settings.get("quick_gelu", False)) and not config.get("quick_gelu", False)
    return ModelSpec(entry=catalog.pair_entry(name, tag), config=config, preprocess=settings, quick_gelu=quick)


def _checkpoint(target: str, model_id: str, arch: str | None) -> ModelSpec:
    path = Path(target).expanduser()
    if not path.is_file():
        raise ModelError(f"checkpoint {target!r} does not exist")
    if arch is None:
        raise UsageError(f"checkpoint {target!r} needs its architecture (--arch NAME, such as ViT-B-32)")
    name = aliases.architecture_spelt(arch) or arch
    config = architecture_config(name)
    if config is None:
        raise ModelError(f"architecture {arch!r} does not exist; {suggest(name, open_clip().list_models())}")
    entry = describe(model_id, config, source="local", architecture=name)
    entry = replace(entry, path=str(path), parameters=_parameters(name))
    return ModelSpec(entry=entry, config=config, preprocess={}, weights=path)


def _embedded(target: str, model_id: str) -> ModelSpec:
    known = catalog.embedded_names()
    if target not in known:
        raise ModelError(f"model {target!r} does not exist; {suggest(target, known)}")
    spec = _folder(catalog.embedded_folder(target), target)
    return replace(spec, entry=replace(spec.entry, id=model_id))


def _folder(folder: Path, model_id: str) -> ModelSpec:
    if not folder.is_dir():
        raise ModelError(f"model folder {str(folder)!r} does not exist")
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


def _parameters(name: str) -> int | None:
    known = inventory().architectures.get(name)
    return None if known is None else known.parameters


def _hub(target: str, model_id: str, *, download: bool, progress: Progress | None) -> ModelSpec:
    repository = target.removeprefix(HUB)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", repository) is None:
        raise ModelError(f"{target!r} names no repository of the hub; hf-hub:ORGANISATION/NAME is needed")
    config = hub.cached_file(repository, [CONFIG_NAME])
    weights = hub.cached_file(repository, WEIGHT_NAMES)
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


def _pair(target: str, model_id: str, *, download: bool, progress: Progress | None) -> ModelSpec:
    name, tag = _known_pair(target)
    if tag == RANDOM:
        config = architecture_config(name) or {}
        entry = describe(f"{name}:{RANDOM}", config, source="local", architecture=name)
        entry = replace(entry, pretrained=RANDOM, parameters=_parameters(name))
        return ModelSpec(entry=entry, config=config, preprocess={})
    spec = pair_spec(name, tag)
    if model_id != target:  # a registered name
        spec = replace(spec, entry=replace(spec.entry, id=model_id))
    if spec.entry.path is not None:
        return replace(spec, weights=Path(spec.entry.path))
    if not download:
        raise _absent(f"{name}:{tag}")
    weights = fetch(*hub.candidates(str(spec.preprocess["hf_hub"])), progress=progress)
    return replace(spec, weights=weights, entry=replace(spec.entry, source="cached", path=str(weights)))


def _known_pair(target: str) -> tuple[str, str]:
    """Check NAME:TAG: open_clip itself falls back to something else in silence."""
    library = open_clip()
    wanted, _, wanted_tag = target.partition(":")
    name = aliases.architecture_spelt(wanted) or wanted
    if architecture_config(name) is None:
        known = [*catalog.embedded_names(), *catalog.registered_models(), *library.list_models()]
        raise ModelError(f"model {target!r} does not exist; {_what_else(target, name, known)}")
    tags: list[str] = library.list_pretrained_tags_by_model(name)
    if wanted_tag == RANDOM:
        return name, RANDOM
    if not wanted_tag:
        if not tags:
            raise ModelError(f"model {target!r} has no pretrained weights; give a checkpoint file with --arch {name}")
        raise ModelError(f"model {target!r} needs a pretrained tag: {', '.join(f'{name}:{tag}' for tag in tags)}")
    if wanted_tag in tags:
        return name, wanted_tag
    raise ModelError(f"model {name!r} has no pretrained tag {wanted_tag!r}; {suggest(wanted_tag, tags)}")


def _what_else(target: str, name: str, known: list[str]) -> str:
    """What could be meant: close names, a repository where it looks like one, else what is known."""
    hint = suggest(name, known)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", target) is None:
        return hint
    close = f"{hint}; " if hint.startswith("close") else ""
    return f"{close}for a repository of the hub write {HUB}{target}"


def _absent(model_id: str) -> ModelError:
    return ModelError(
        f"model {model_id!r} is not on this machine; `clipmk models pull {model_id}` fetches it (or pass --download)"
    )

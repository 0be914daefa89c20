"""What models exist: shipped, on this machine, or downloadable; and of which family each is.

Nothing here imports open_clip, whose import takes seconds, but `architecture_config` and `open_clip`.
"""

from __future__ import annotations

import importlib.util
import json
import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipmk.errors import ModelError
from clipmk.models import hub
from clipmk.models.inventory import Inventory, Pair, inventory
from clipmk.models.pretraining import licence_of, pretraining_of
from clipmk.models.sizes import SUFFIXES, stored_parameters, weights_in
from clipmk.records import ModelEntry, Source
from clipmk.system import config as user_config
from clipmk.system import locations

if TYPE_CHECKING:
    from types import ModuleType

_log = logging.getLogger(__name__)

EMBEDDED, HUB, LOCAL, CHECKPOINT = "embedded/", "hf-hub:", "local-dir:", "checkpoint:"
"""Prefixes of model ids; all other ids are open_clip's NAME:TAG, registered names, or checkpoint files."""
RANDOM = "random"
"""The tag that asks for random weights, for measuring and testing only."""


def family_of(config: Mapping[str, Any]) -> str:
    """Family of an open_clip model configuration: "vit", "resnet", "convnext", "siglip", "eva" or "timm" (others)."""
    vision = config["vision_cfg"]
    trunk = str(vision.get("timm_model_name") or "")
    if not trunk:
        return "resnet" if isinstance(vision.get("layers"), list | tuple) else "vit"
    if "siglip" in trunk:
        return "siglip"
    words = trunk.split("_")
    for family in ("convnext", "eva"):
        if any(word.startswith(family) for word in words):
            return family
    return "timm"


def needs_transformers(config: Mapping[str, Any]) -> bool:
    """Whether text encoder or tokenizer come from the `transformers` package."""
    text = config["text_cfg"]
    return bool(text.get("hf_model_name") or text.get("hf_tokenizer_name"))


def hub_text_tower(config: Mapping[str, Any]) -> bool:
    """Whether the text encoder itself, not only its tokenizer, comes from the `transformers` package."""
    return bool(config["text_cfg"].get("hf_model_name"))


def has_transformers() -> bool:
    """Whether `transformers` is installed; does not import it."""
    return importlib.util.find_spec("transformers") is not None


def describe(model_id: str, config: Mapping[str, Any], *, source: Source, architecture: str) -> ModelEntry:
    """Make the entry of a model from its open_clip configuration.

    Raises:
        ModelError: the configuration is not one of an image-text model with square images.
    """
    try:
        size = config["vision_cfg"].get("image_size", 224)
        sides = [int(side) for side in size] if isinstance(size, list | tuple) else [int(size)]
        embed_dim = int(config["embed_dim"])
        family, transformers = family_of(config), needs_transformers(config)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"the configuration of {model_id!r} is not one of an image-text model: {error!r}") from error
    if len(set(sides)) != 1:
        raise ModelError(f"{model_id!r} takes images of {sides[0]}x{sides[1]} px; only square ones can be explained")
    return ModelEntry(
        id=model_id,
        source=source,
        architecture=architecture,
        pretrained=None,
        family=family,
        input_size=sides[0],
        embed_dim=embed_dim,
        needs_transformers=transformers,
    )


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
        entries.extend(_embedded())
    if "local" in sources:
        entries.extend(_registered())
    if "cached" in sources or "remote" in sources:
        pairs = inventory()
        known = [_entry(pair, pairs) for pair in pairs.pairs.values()]
        addresses = {entry.repository for entry in known}
        cached = [entry for entry in known if entry.source == "cached"]
        if "cached" in sources:
            entries.extend(cached)
            entries.extend(_cached_others(addresses))
        if "remote" in sources:
            entries.extend(entry for entry in known if entry.source == "remote")
    return entries


def read_folder(folder: Path, model_id: str) -> dict[str, Any]:
    """Read the `open_clip_config.json` of a model folder.

    Raises:
        ModelError: the folder or its configuration is missing or malformed.
    """
    path = folder / hub.CONFIG_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"model {model_id!r} needs the file {str(path)!r}: {error.strerror}") from error
    except ValueError as error:
        raise ModelError(f"the file {str(path)!r} of model {model_id!r} is not JSON: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("model_cfg"), dict):
        raise ModelError(f"the file {str(path)!r} of model {model_id!r} has no 'model_cfg'")
    return content


def embedded_names() -> list[str]:
    """Ids of the shipped models."""
    folder = locations.assets_dir() / "models"
    return [EMBEDDED + path.parent.name for path in sorted(folder.glob(f"*/{hub.CONFIG_NAME}"))]


def registered_models() -> Mapping[str, str]:
    """Names from the `[models]` table of the config file, and what each stands for."""
    return user_config.read_config().models


def architecture_config(name: str) -> dict[str, Any] | None:
    """open_clip's configuration of an architecture; None when there is no such architecture."""
    config: dict[str, Any] | None = open_clip().get_model_config(name)
    return config


def open_clip() -> ModuleType:
    """Import open_clip, quietly."""
    from clipmk.system.quiet import hushed  # noqa: PLC0415

    with hushed():
        import open_clip as library  # noqa: PLC0415 - seconds
    return library  # type: ignore[no-any-return]


def pair_entry(name: str, tag: str) -> ModelEntry:
    """The entry of one of open_clip's pairs, "cached" or "remote".

    Raises:
        ModelError: open_clip has no such pair.
    """
    known = inventory()
    if (name, tag) not in known.pairs:
        raise ModelError(f"open_clip has no pair '{name}:{tag}'")
    return _entry(known.pairs[name, tag], known)


def _entry(pair: Pair, known: Inventory) -> ModelEntry:
    architecture = known.architectures[pair.name]
    training = pretraining_of(pair.tag)
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
        data=training.data,
        data_pairs=training.pairs,
        samples_seen=training.samples_seen,
        licence=licence,
        licence_source=licence_source,
        repository=pair.repository or None,
    )


def _embedded() -> Iterator[ModelEntry]:
    for model_id in embedded_names():
        folder = locations.assets_dir() / "models" / model_id.removeprefix(EMBEDDED)
        config = read_folder(folder, model_id)["model_cfg"]
        entry = describe(model_id, config, source="embedded", architecture=folder.name)
        yield as_embedded(replace(entry, path=str(folder), parameters=stored_parameters(weights_in(folder))))


def as_embedded(entry: ModelEntry) -> ModelEntry:
    """A model that comes with the package: with what is known of all of those."""
    return replace(
        entry,
        source="embedded",
        data="clipmk's rendered world",
        licence="MIT",
        licence_source="LICENSE of clipmk",
    )


def _registered() -> Iterator[ModelEntry]:
    """Registered folders and checkpoints, described; other registered names stand for ids that are listed anyway."""
    for name, target in registered_models().items():
        try:
            entry = _described(name, target)
        except ModelError as error:  # one broken folder must not hide the other models
            _log.warning("%s", error)
        else:
            if entry is not None:
                yield entry


def _described(name: str, target: str) -> ModelEntry | None:
    if target.startswith(CHECKPOINT):
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
    folder = Path(target.removeprefix(LOCAL)).expanduser()
    if not folder.is_dir():
        if target.startswith(LOCAL):
            raise ModelError(f"the folder {str(folder)!r} of model {name!r} does not exist")
        return None
    entry = describe(name, read_folder(folder, name)["model_cfg"], source="local", architecture=folder.name)
    return replace(entry, path=str(folder), parameters=stored_parameters(weights_in(folder)))


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
        raise ModelError(f"{target!r} names no checkpoint; checkpoint:ARCHITECTURE:FILE is needed")
    return architecture, Path(path).expanduser()


def _cached_others(known: Collection[str | None]) -> Iterator[ModelEntry]:
    for repository in hub.cached_repositories():
        config = hub.cached_file(repository, [hub.CONFIG_NAME])
        weights = hub.cached_file(repository, hub.WEIGHT_NAMES)
        if repository in known or config is None or weights is None:
            continue
        model_id = HUB + repository
        try:
            content = read_folder(config.parent, model_id)["model_cfg"]
            entry = describe(model_id, content, source="cached", architecture=repository.rpartition("/")[2])
        except ModelError as error:  # one odd repository must not hide the other models
            _log.warning("%s", error)
            continue
        size = stored_parameters(weights)
        yield replace(entry, path=str(weights), parameters=size, repository=repository)

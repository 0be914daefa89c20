"""What open_clip knows, without importing it: architectures and pretrained pairs, from a shipped file.

`assets/open_clip.json` is written by `python tools/make_catalog.py`. Where another version of open_clip is installed
than the file's, its own lists count, and only parameter counts come from the file.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clipmk.backbones.library import open_clip
from clipmk.errors import ModelError
from clipmk.records import ModelEntry, Source
from clipmk.system.locations import assets_dir

FILE_NAME = "open_clip.json"
"""Name of the shipped list below `assets`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """One of open_clip's model configurations."""

    name: str
    family: str
    """"vit", "resnet", "convnext", "siglip", "eva" or "timm"."""
    input_size: int
    """Side of the square input in pixels."""
    embed_dim: int
    needs_transformers: bool
    quick_gelu: bool
    """The activation is x sigmoid(1.702 x)."""
    parameters: int | None
    """Of all its towers; None where the text tower's configuration lies on the hub, or the architecture is newer."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An architecture with weights to download."""

    name: str
    tag: str
    address: str
    """"org/repository/" or "org/repository/file" on the hub."""
    quick_gelu: bool
    """The weights were trained with QuickGELU, whatever the architecture says."""

    @property
    def id(self) -> str:
        """NAME:TAG."""
        return f"{self.name}:{self.tag}"

    @property
    def repository(self) -> str:
        """Repository on the hub, "org/name"."""
        return self.address.rpartition("/")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """All architectures and pairs, in open_clip's order."""

    architectures: Mapping[str, Architecture]
    pairs: Mapping[tuple[str, str], Pair]

    def twin(self, pair: Pair) -> Pair | None:
        """The same weights under the architecture whose activation is theirs; None where `pair` is right already.

        27 of open_clip's 196 pairs name an architecture with the wrong activation, among them every plain `*:openai`.
        Each has such a twin; without one, None as well (the loader then sets the activation itself).
        """
        known = self.architectures.get(pair.name)
        if known is None or known.quick_gelu or not pair.quick_gelu:
            return None
        return self.pairs.get((f"{pair.name}-quickgelu", pair.tag))


@functools.cache
def inventory() -> Inventory:
    """Read the shipped list, or open_clip's own when another version than the list's is installed.

    Raises:
        ModelError: the shipped file is missing.
    """
    try:
        content = json.loads((assets_dir() / FILE_NAME).read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"clipmk's list of models cannot be read: {error.strerror}; reinstall clipmk") from error
    return shipped(content) if content["open_clip"] == _installed() else live(content)


def shipped(content: Mapping[str, Any]) -> Inventory:
    """The inventory of the shipped file."""
    architectures = {name: Architecture(name=name, **facts) for name, facts in content["architectures"].items()}
    pairs = {(row[0], row[1]): Pair(*row) for row in content["pairs"]}
    return Inventory(architectures=architectures, pairs=pairs)


def live(content: Mapping[str, Any]) -> Inventory:
    """The inventory of the installed open_clip, which takes seconds; parameter counts from the shipped file."""
    library = open_clip()
    architectures = {}
    for name in library.list_models():
        config = library.get_model_config(name)
        try:
            entry = describe(name, config, source="remote", architecture=name)
        except ModelError:  # a new kind of model must not hide the others; loading it says why
            continue
        architectures[name] = Architecture(
            name=name,
            family=entry.family,
            input_size=entry.input_size,
            embed_dim=entry.embed_dim,
            needs_transformers=entry.needs_transformers,
            quick_gelu=bool(config.get("quick_gelu", False)),
            parameters=content["architectures"].get(name, {}).get("parameters"),
        )
    pairs = {}
    for name, tag in library.list_pretrained():
        if name in architectures:
            settings = library.get_pretrained_cfg(name, tag)
            quick = bool(settings.get("quick_gelu", False))
            pairs[name, tag] = Pair(name, tag, str(settings.get("hf_hub", "")), quick)
    return Inventory(architectures=architectures, pairs=pairs)


def architecture_config(name: str) -> dict[str, Any] | None:
    """open_clip's configuration of an architecture, by importing open_clip; None when it has no such architecture."""
    config: dict[str, Any] | None = open_clip().get_model_config(name)
    return config


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
    return hub_text_tower(config) or bool(config["text_cfg"].get("hf_tokenizer_name"))


def hub_text_tower(config: Mapping[str, Any]) -> bool:
    """Whether the text encoder itself, not only its tokenizer, comes from the `transformers` package."""
    return bool(config["text_cfg"].get("hf_model_name"))


def _installed() -> str:
    try:
        return importlib.metadata.version("open_clip_torch")
    except importlib.metadata.PackageNotFoundError:
        return ""

"""What open_clip knows, without importing it: architectures and pretrained pairs, and other spellings of their names.

`assets/open_clip.json` is written by `python tools/make_catalog.py`. Where another version of open_clip is installed
than the file's, its own lists count, and only parameter counts come from the file.
"""

import contextlib
import functools
import importlib.metadata
import re
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from clipmk.backbones.library import open_clip
from clipmk.errors import ModelError, raised_as
from clipmk.models.foreign import MALFORMED, tables
from clipmk.records import ModelEntry
from clipmk.system.locations import json_asset


@dataclass(frozen=True, slots=True)
class Pair:
    """An architecture with weights to download."""

    name: str
    tag: str
    address: str
    """"org/repository/" or "org/repository/file" on the hub."""
    quick_gelu: bool
    """Whether the weights were trained with QuickGELU, whatever the architecture says."""

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

    architectures: Mapping[str, ModelEntry]
    """As models without weights, see `read_architecture`."""
    quick_gelu: frozenset[str]
    """Names of the architectures whose activation is x sigmoid(1.702 x)."""
    pairs: Mapping[tuple[str, str], Pair]

    def twin(self, pair: Pair) -> Pair | None:
        """The same weights under the architecture with their activation; None where `pair` itself has it.

        27 of open_clip's 196 pairs name an architecture with the wrong activation, among them every plain `*:openai`.
        Each has such a twin; where one has not, None (the loader then sets the activation itself).
        """
        wrong = pair.quick_gelu and pair.name not in self.quick_gelu
        return self.pairs.get((f"{pair.name}-quickgelu", pair.tag)) if wrong else None


@functools.cache
def inventory() -> Inventory:
    """Read the shipped list, or open_clip's own where another version is installed than the list's."""
    with raised_as(ModelError, "clipmk must be reinstalled, for its list of models cannot be read", OSError):
        content = json_asset("open_clip.json")
    return shipped(content) if content["open_clip"] == _installed() else live(content)


def shipped(content: Mapping[str, Any]) -> Inventory:
    """The inventory of the shipped file."""
    architectures = {name: _architecture(name, **facts) for name, facts in content["architectures"].items()}
    pairs = {(row[0], row[1]): Pair(*row) for row in content["pairs"]}
    return Inventory(architectures=architectures, quick_gelu=frozenset(content["quick_gelu"]), pairs=pairs)


def live(content: Mapping[str, Any]) -> Inventory:
    """The inventory of the installed open_clip, which takes seconds; parameter counts from the shipped file."""
    library = open_clip()
    configs = {name: library.get_model_config(name) for name in library.list_models()}
    architectures = {}
    for name, config in configs.items():
        parameters = content["architectures"].get(name, {}).get("parameters")
        with contextlib.suppress(ModelError):  # a new kind of model must not hide the others
            architectures[name] = read_architecture(name, config, parameters=parameters)
    pairs = {}
    for name, tag in library.list_pretrained():
        if name in architectures:
            settings = library.get_pretrained_cfg(name, tag)
            quick = bool(settings.get("quick_gelu", False))
            pairs[name, tag] = Pair(name, tag, str(settings.get("hf_hub", "")), quick)
    quick_gelu = frozenset(name for name, config in configs.items() if config.get("quick_gelu", False))
    return Inventory(architectures=architectures, quick_gelu=quick_gelu & architectures.keys(), pairs=pairs)


def architecture(name: str) -> ModelEntry | None:
    """One of open_clip's architectures, or one that was added to open_clip in this process; None for other names."""
    known = inventory().architectures.get(name)
    if known is None and "open_clip" in sys.modules and (config := open_clip().get_model_config(name)) is not None:
        return read_architecture(name, config)
    return known


def read_architecture(name: str, config: Mapping[str, Any], *, parameters: int | None = None) -> ModelEntry:
    """Read the facts in a model configuration of open_clip: the entry of a model that has no weights yet.

    Raises `ModelError` if it is not that of an image-text model with square images.
    """
    with raised_as(ModelError, f"the configuration of {name!r} is not that of an image-text model", *MALFORMED):
        size = config["vision_cfg"].get("image_size", 224)
        sides = [int(side) for side in size] if isinstance(size, list | tuple) else [int(size)]
        facts = _architecture(
            name,
            family=family_of(config),
            input_size=sides[0],
            embed_dim=int(config["embed_dim"]),
            needs_transformers=hub_text_tower(config) or bool(config["text_cfg"].get("hf_tokenizer_name")),
            parameters=parameters,
        )
    if len(set(sides)) != 1:
        raise ModelError(f"{name!r} takes images of {sides[0]}x{sides[1]} px; only square ones can be explained")
    return facts


def _architecture(name: str, **facts: Any) -> ModelEntry:
    return ModelEntry(id=name, source="local", architecture=name, pretrained=None, **facts)


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


def hub_text_tower(config: Mapping[str, Any]) -> bool:
    """Whether the text encoder itself, not only its tokenizer, comes from the `transformers` package."""
    return bool(config["text_cfg"].get("hf_model_name"))


def canonical(name: str) -> str:
    """The NAME:TAG that a spelling stands for, with the activation that its weights need; other names unchanged.

    A repository on the hub stands for the pair whose weights it has. Case and punctuation do not matter, a size may end
    in "px". `clip-` before an architecture means OpenAI's weights. A pair whose architecture has the wrong activation
    stands for its `-quickgelu` twin. The name is not that of a folder, a checkpoint or a registered model.
    """
    known = inventory()
    wanted = tables()["twins"].get(name.lower().removeprefix("hf-hub:"), name)
    head, _, tag = wanted.partition(":")
    pair = known.pairs.get((head, tag)) or _in_repository(wanted, known) or _spelt(head, tag, known)
    if pair is None:
        return name
    return (known.twin(pair) or pair).id


def architecture_spelt(name: str) -> str | None:
    """The architecture that a spelling without a tag stands for; None for other names."""
    return _unique(name, inventory().architectures)


def _in_repository(name: str, known: Inventory) -> Pair | None:
    """The pair with weights in a repository; of several, the one with the right activation."""
    found = [pair for pair in known.pairs.values() if pair.repository.lower() == name.lower()]
    right = [pair for pair in found if known.twin(pair) is None]
    return right[0] if len(right) == 1 else None


def _spelt(head: str, tag: str, known: Inventory) -> Pair | None:
    if not tag and squashed(head).startswith("clip"):
        head, tag = re.sub(r"(?i)^clip[^a-z0-9]*", "", head), "openai"
    architecture = _unique(head, known.architectures)
    chosen = _unique(tag, [other for owner, other in known.pairs if owner == architecture])
    return known.pairs[architecture, chosen] if architecture and chosen else None


def _unique(name: str, names: Collection[str]) -> str | None:
    """The name itself, or the only one that is spelt alike."""
    if name in names:
        return name
    wanted = squashed(name)
    found = [other for other in names if wanted and squashed(other) == wanted]
    return found[0] if len(found) == 1 else None


def squashed(name: str) -> str:
    """A name's letters and digits in lower case, without the "px" of a size."""
    return re.sub(r"[^a-z0-9]", "", re.sub(r"(?<=\d)px\b", "", name.lower()))


def _installed() -> str:
    try:
        return importlib.metadata.version("open_clip_torch")
    except importlib.metadata.PackageNotFoundError:
        return ""

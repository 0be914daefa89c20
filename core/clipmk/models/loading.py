"""One way to load every model: by name or from memory, onto a device, in a precision."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from contextlib import nullcontext
from functools import cache
from typing import Any

import torch
from torch import nn

from clipmk.backbones.base import Backbone, ImageEncoder
from clipmk.backbones.devices import cast, choose_device, choose_dtype
from clipmk.backbones.openclip import OpenClipBackbone, Preprocessing, read_logits
from clipmk.backbones.plain_clip import is_plain, load_plain
from clipmk.backbones.text import TextEncoder
from clipmk.backbones.tokenizer import Tokenizer, quick, simple_tokenizer
from clipmk.errors import ModelError
from clipmk.models import catalog, hub
from clipmk.models.checkpoints import check_weights, file_sha256, fill, first_line, module_sha256
from clipmk.models.download import Progress
from clipmk.models.recipe import Recipe, resolve
from clipmk.records import ModelEntry, ModelInfo
from clipmk.system.memory import device_memory, machine_memory, memory_named, remedies
from clipmk.system.quiet import hushed
from clipmk.system.text import quoted

_OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
_OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
_OPENAI_VOCABULARY = 49408

_PROBES = (
    "a photo of a probe",
    "Ünï-cøde, 1999; it's",
    "the quick brown fox jumps over the lazy dog",
    "Café & Bär <b>",
)
"""Texts by whose tokens a caller's tokenizer is known again."""
_TOKENIZER_FILES = ("*token*.json", "vocab.*", "merges.txt", "*.model")
"""What the tokenizers of `transformers` are stored in."""


def load(
    model: str | nn.Module,
    *,
    device: str = "auto",
    precision: str = "fp32",
    arch: str | None = None,
    download: bool = False,
    tokenizer: Tokenizer | None = None,
) -> Backbone:
    """Load a model for explaining.

    Args:
        model: `embedded/NAME`, open_clip's `NAME:TAG`, `hf-hub:ORG/REPO`, `local-dir:FOLDER`, a name registered in the
            config, a checkpoint file (with `arch`), or an open_clip model in memory. It is used as it is: moved to the
            device and put into evaluation mode in place, copied only if its weights must be cast.
        device: "auto" (the best there is), "cpu", "cuda", "cuda:1" or "mps".
        precision: "fp32", "bf16" or "fp16", of the weights; results are always float32.
        arch: open_clip's architecture name, for a checkpoint file.
        download: fetch the weights if they are missing; without it no network request is made.
        tokenizer: texts -> int64 (texts, context), instead of the model's own.

    Raises:
        ModelError: no such model, not on this machine, refused for safety, or weights that do not fit.
        DeviceError: device or precision are not available here, or the device's memory does not suffice.
        UsageError: `arch` does not go with this model.
    """
    place = choose_device(device)
    dtype = choose_dtype(precision, place)
    subject = f"model {quoted(model)}" if isinstance(model, str) else "the model"
    with memory_named(place, subject, remedies(place, dtype)):
        if isinstance(model, nn.Module):
            return _from_memory(model, place, dtype, tokenizer)
        recipe = resolve(model, arch=arch, download=download)
        _check_memory(recipe.entry, place, dtype)
        built, sha256 = _weighted(recipe, download=download)
        words = tokenizer or _tokenizer(recipe, download=download)
        info = _info(recipe.entry, sha256)
        texts = TextEncoder(built, words, recipe=_text_recipe(recipe, tokenizer))
        return _assemble(built, info, texts, recipe.preprocess, recipe.entry.embed_dim, place, dtype)


def describe(model: str, *, arch: str | None = None, download: bool = False) -> tuple[ModelInfo, int]:
    """What `load` would load, without building it (except where its weights are random), and its weights in bytes.

    Raises:
        ModelError: as `load`.
        UsageError: as `load`.
    """
    recipe = resolve(model, arch=arch, download=download)
    if recipe.weights is None:
        built, sha256 = _weighted(recipe, download=download)
        return _info(recipe.entry, sha256), sum(tensor.nbytes for tensor in built.state_dict().values())
    return _info(recipe.entry, file_sha256(recipe.weights)), recipe.weights.stat().st_size


def _info(entry: ModelEntry, weights_sha256: str) -> ModelInfo:
    return ModelInfo(
        id=entry.id,
        family=entry.family,
        weights_sha256=weights_sha256,
        architecture=entry.architecture,
        pretrained=entry.pretrained,
        input_size=entry.input_size,
    )


def _check_memory(entry: ModelEntry, device: torch.device, dtype: torch.dtype) -> None:
    """Refuse what cannot fit, before the system ends the process; every model is built in float32 on the CPU first."""
    if entry.parameters is None:
        return
    places = [("this machine", 4 * entry.parameters, machine_memory())]
    if device.type == "cuda":
        places.append((f"'{device}'", dtype.itemsize * entry.parameters, device_memory(device)))
    for place, needed, present in places:
        if needed > present:
            raise ModelError(
                f"model {entry.id!r} has {entry.parameters / 1e9:.1f} billion parameters: its weights take "
                f"{needed / 1e9:.1f} GB and {place} has {present / 1e9:.1f} GB; choose a smaller model"
            )


def pull(model_id: str, *, progress: Progress | None = None) -> ModelEntry:
    """Download whatever is missing of a model: weights, configuration, tokenizer.

    Args:
        model_id: as for `load`.
        progress: is told how far each file has come.

    Raises:
        ModelError: there is no such model, it cannot be downloaded, or it needs the `transformers` package.
        UsageError: it is a checkpoint file, which is here already.
    """
    recipe = resolve(model_id, download=True, progress=progress)
    _need_transformers(recipe)
    tokenizer_for(recipe, download=True)
    if catalog.hub_text_tower(recipe.config):
        build(recipe, download=True)  # open_clip gets the configuration of the text encoder from the hub, too
    return recipe.entry


def build(recipe: Recipe, *, download: bool = False, device: str = "cpu") -> nn.Module:
    """Build the model of a recipe with random weights, in evaluation mode, with the activation its weights need.

    Args:
        recipe: what to build.
        download: let `transformers` fetch the configuration of its text encoder.
        device: where the weights are made; "meta" for a skeleton without any.

    Raises:
        ModelError: it needs the `transformers` package, which is missing, or its configuration is wrong.
    """
    if catalog.hub_text_tower(recipe.config):
        _need_transformers(recipe)
    name = recipe.entry.architecture if recipe.folder is None else f"{catalog.LOCAL}{recipe.folder}"
    library = catalog.open_clip()
    try:
        with hushed(), torch.device(device), nullcontext() if download else hub.offline():
            model: nn.Module = library.create_model(
                name, device=device, load_weights=False, pretrained_text=False, force_quick_gelu=recipe.quick_gelu
            )
    except (RuntimeError, TypeError, ValueError, KeyError, OSError, AssertionError) as error:
        raise ModelError(f"model {recipe.entry.id!r} cannot be built: {first_line(error)}") from error
    return model.eval()


def _need_transformers(recipe: Recipe) -> None:
    if recipe.entry.needs_transformers and not catalog.has_transformers():
        raise ModelError(
            f"model {recipe.entry.id!r} needs the package 'transformers' for its texts; pip install transformers"
        )


def tokenizer_for(recipe: Recipe, *, download: bool = False) -> Tokenizer:
    """The tokenizer that goes with a recipe.

    Raises:
        ModelError: its files are not on this machine, or its vocabulary is not the model's.
    """
    text = recipe.config["text_cfg"]
    options = dict(text.get("tokenizer_kwargs") or {})
    context = int(text.get("context_length", 77))
    if text.get("hf_tokenizer_name"):
        _need_transformers(recipe)
        return _hub_tokenizer(recipe, context, download=download)
    try:
        with hushed():
            if recipe.bpe is not None:
                options["bpe_path"] = str(recipe.bpe)
            words = simple_tokenizer()(context_length=context, **options)
    except (OSError, EOFError, UnicodeDecodeError, TypeError) as error:
        raise ModelError(f"the tokenizer of {recipe.entry.id!r} cannot be read: {error}") from error
    size = int(text.get("vocab_size", _OPENAI_VOCABULARY))
    if words.vocab_size != size:
        raise ModelError(
            f"model {recipe.entry.id!r} has {size} text tokens but its tokenizer makes {words.vocab_size}; "
            "put its own merges into the folder as bpe.txt.gz"
        )
    return words  # type: ignore[no-any-return]


def needs_open_clip(model: str) -> bool:
    """Whether loading a model imports open_clip, which takes longer than importing torch; True where it may.

    Raises:
        ModelError: no such embedded model.
    """
    target = catalog.registered_models().get(model, model)
    return not (target.startswith(catalog.EMBEDDED) and _needs_no_library(resolve(target)))


def _needs_no_library(recipe: Recipe) -> bool:
    """Whether the model works without open_clip: the shipped plain CLIPs."""
    return recipe.entry.source == "embedded" and is_plain(recipe.config)


def _tokenizer(recipe: Recipe, *, download: bool) -> Tokenizer:
    """The tokenizer; where nothing else takes time either, not before a text must be embedded."""
    if not _needs_no_library(recipe):
        return tokenizer_for(recipe, download=download)
    made = cache(lambda: quick(tokenizer_for(recipe)))

    def tokenize(texts: list[str]) -> torch.Tensor:
        return made()(texts)

    return tokenize


def _text_recipe(recipe: Recipe | None, tokenizer: Tokenizer | None) -> str:
    """See `Backbone.text_recipe`; no recipe for a module in memory, a tokenizer only where it is the caller's."""
    known: list[object] = []
    if recipe is not None:
        config = {name: value for name, value in recipe.config.items() if name != "vision_cfg"}
        known += [config, recipe.quick_gelu, recipe.bpe and file_sha256(recipe.bpe)]
        if recipe.folder is not None and config["text_cfg"].get("hf_tokenizer_name"):
            files = sorted({path for pattern in _TOKENIZER_FILES for path in recipe.folder.glob(pattern)})
            known += [[path.name, file_sha256(path)] for path in files]
    if tokenizer is not None:
        known.append([tokenizer([text]).tolist() for text in _PROBES])
    return hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()


def _hub_tokenizer(recipe: Recipe, context: int, *, download: bool) -> Tokenizer:
    library = catalog.open_clip()
    name = recipe.entry.architecture if recipe.folder is None else f"{catalog.LOCAL}{recipe.folder}"
    if recipe.repository is not None:
        name = f"{catalog.HUB}{recipe.repository}"
    wanted = recipe.config["text_cfg"]["hf_tokenizer_name"]
    try:
        with hushed():
            if download:
                return library.get_tokenizer(name, context_length=context)  # type: ignore[no-any-return]
            with hub.offline():
                return library.get_tokenizer(name, context_length=context, local_files_only=True)  # type: ignore[no-any-return]
    except (OSError, ValueError, ImportError) as error:
        own = recipe.folder is not None and recipe.repository is None
        remedy = (
            "put its files into the folder"
            if own
            else f"`clipmk models pull {recipe.entry.id}` fetches it (or pass --download)"
        )
        raise ModelError(
            f"the tokenizer {wanted!r} of model {recipe.entry.id!r} is not on this machine; {remedy}"
        ) from error


def _weighted(recipe: Recipe, *, download: bool) -> tuple[nn.Module, str]:
    if recipe.weights is None:
        with torch.random.fork_rng(devices=[]):  # it is built on the CPU: no GPU need wake up for it
            torch.default_generator.manual_seed(0)
            model = build(recipe, download=download)
        return model, module_sha256(model)
    check_weights(recipe.weights)
    if _needs_no_library(recipe):
        return load_plain(recipe.config, recipe.weights), file_sha256(recipe.weights)
    model = build(recipe, download=download)
    fill(model, recipe.weights, architecture=recipe.entry.architecture)
    return model, file_sha256(recipe.weights)


def _from_memory(
    model: nn.Module, device: torch.device, dtype: torch.dtype, tokenizer: Tokenizer | None
) -> OpenClipBackbone:
    needed = ("visual", "encode_image", "encode_text", "logit_scale")
    if missing := [name for name in needed if not hasattr(model, name)]:
        raise ModelError(f"a {type(model).__name__} is no open_clip model: it has no {', '.join(missing)}")
    own: Any = model.eval()
    preprocess = catalog.open_clip().get_model_preprocess_cfg(own)
    size = own.visual.image_size
    sides = list(size) if isinstance(size, list | tuple) else [size]
    if len(set(sides)) != 1:
        raise ModelError(f"the model takes images of {sides[0]}x{sides[1]} px; only square ones can be explained")
    info = ModelInfo(
        id="custom",
        family=_family(own.visual),
        weights_sha256=module_sha256(own),
        architecture="custom",
        pretrained=None,
        input_size=int(sides[0]),
    )
    words = tokenizer or _usual_tokenizer(own)
    copied = own if _dtype_of(own) == dtype else copy.deepcopy(own)
    texts = TextEncoder(copied, words, recipe=_text_recipe(None, tokenizer))
    return _assemble(copied, info, texts, preprocess, _embed_dim(own), device, dtype)


def _usual_tokenizer(model: Any) -> Tokenizer:
    size = getattr(model, "vocab_size", getattr(getattr(model, "text", None), "vocab_size", None))
    if size != _OPENAI_VOCABULARY:
        raise ModelError(f"the model has {size} text tokens, not CLIP's {_OPENAI_VOCABULARY}; pass tokenizer=")
    words: Tokenizer = simple_tokenizer()(context_length=int(model.context_length))
    return words


def _embed_dim(model: Any) -> int:
    with torch.inference_mode():
        place = next(model.parameters()).device
        return int(model.encode_text(torch.zeros(1, model.context_length, dtype=torch.long, device=place)).shape[-1])


def _dtype_of(model: Any) -> torch.dtype:
    """The dtype of the first convolution: some of open_clip's mixed models keep other parameters in float32."""
    parameters = list(model.visual.parameters())
    convolutions = [parameter for parameter in parameters if parameter.ndim == 4]
    return (convolutions or parameters)[0].dtype  # type: ignore[no-any-return]


def _assemble(
    model: nn.Module,
    info: ModelInfo,
    texts: TextEncoder,
    preprocess: Mapping[str, Any],
    embed_dim: int,
    device: torch.device,
    dtype: torch.dtype,
) -> OpenClipBackbone:
    logits = read_logits(model)
    if _dtype_of(model) != dtype:
        cast(model, dtype)
    model.to(device)
    return OpenClipBackbone(
        info=info,
        images=image_encoder(model),
        texts=texts,
        preprocessing=_preprocessing(preprocess),
        embed_dim=embed_dim,
        logits=logits,
        device=device,
        dtype=dtype,
    )


def image_encoder(model: Any) -> ImageEncoder:
    """Choose the encoder class for an open_clip model by what its image tower is made of.

    Raises:
        ModelError: the tower is of no known kind.
    """
    visual = model.visual
    if hasattr(visual, "trunk"):
        from clipmk.backbones.timm import timm_encoder  # noqa: PLC0415

        return timm_encoder(model)
    if hasattr(visual, "attnpool"):
        from clipmk.backbones.resnet import ResNetEncoder  # noqa: PLC0415

        return ResNetEncoder(model)
    if hasattr(visual, "transformer") and hasattr(visual, "class_embedding"):
        from clipmk.backbones.vit import VitEncoder  # noqa: PLC0415

        return VitEncoder(model)
    raise ModelError(f"image tower of class {type(visual).__name__} is unknown")


def _family(visual: Any) -> str:
    if hasattr(visual, "trunk"):
        settings = getattr(visual.trunk, "pretrained_cfg", None) or {}
        name = settings.get("architecture") or type(visual.trunk).__name__.lower()
        return catalog.family_of({"vision_cfg": {"timm_model_name": name}})
    return "resnet" if hasattr(visual, "attnpool") else "vit"


def _preprocessing(settings: Mapping[str, Any]) -> Preprocessing:
    mean, std = settings.get("mean") or _OPENAI_MEAN, settings.get("std") or _OPENAI_STD
    interpolation = str(settings.get("interpolation") or "bicubic")
    return Preprocessing(
        mean=(float(mean[0]), float(mean[1]), float(mean[2])),
        std=(float(std[0]), float(std[1]), float(std[2])),
        interpolation="bilinear" if interpolation == "bilinear" else "bicubic",
        resize="crop" if settings.get("resize_mode", "shortest") == "shortest" else "squash",
    )

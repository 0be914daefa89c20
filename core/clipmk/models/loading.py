"""Loads every model the same way: by name or from memory, onto a device, in a precision."""

import copy
import gzip
import json
import os
import tempfile
import zlib
from collections.abc import Mapping
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from clipmk.backbones import library
from clipmk.backbones.backbone import Backbone, weights_dtype
from clipmk.backbones.base import without_tokens
from clipmk.backbones.devices import choose_device, choose_dtype
from clipmk.backbones.text import Tokenizer, cached
from clipmk.errors import ModelError, UsageError, raised_as
from clipmk.models import catalog, foreign, local
from clipmk.models.checkpoints import file_sha256, fill, module_sha256, read_weights, text_fingerprint
from clipmk.models.download import TransferCallback
from clipmk.models.inventory import family_of, hub_text_tower, read_architecture
from clipmk.models.spec import ModelSpec, resolve
from clipmk.records import ModelEntry, ModelInfo
from clipmk.system.memory import device_memory, machine_memory, memory_named, remedies
from clipmk.system.quiet import quiet
from clipmk.system.text import byte_size, cause, quoted

_OPENAI_VOCABULARY = 49408
_MERGES_LIMIT = 2**24  # most bytes of a tokenizer's merges; OpenAI's are 3 MB


def load(
    model: str | os.PathLike[str] | nn.Module,
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
            config, the path of a model folder or of a checkpoint file (with `arch`), or a model in memory. One of
            open_clip is moved to the device and put into evaluation mode in place, and copied only to cast its weights;
            one of OpenAI's or of `transformers` is converted and stays as it is.
        device: "auto" (the best there is), "cpu", "cuda", "cuda:1" or "mps".
        precision: "fp32", "bf16" or "fp16", of the weights; results are always float32.
        arch: open_clip's architecture name, for a checkpoint file.
        download: download missing weights; without it no network request is made.
        tokenizer: texts -> int64 (texts, context), instead of the model's own.

    Raises:
        ModelError: the model does not exist, is not on this machine, is refused for safety, or its weights do not fit.
        DeviceError: device or precision are not available here, or the device runs out of memory.
        UsageError: an argument is of the wrong type, or `arch` does not belong to this model.
    """
    source = os.fspath(model) if isinstance(model, os.PathLike) else model
    _check_types(source, arch, tokenizer)
    place = choose_device(str(device))
    dtype = choose_dtype(str(precision), place)
    subject = f"model {quoted(source)}" if isinstance(source, str) else "the model"
    with memory_named(place, subject, remedies(place, dtype)):
        if isinstance(source, nn.Module):
            return _from_memory(source, place, dtype, tokenizer)
        spec = resolve(source, arch=arch, download=download)
        _check_memory(spec.entry, place, dtype)
        built, sha256 = _weighted(spec, download=download)
        return Backbone(
            built,
            info=_info(spec.entry, sha256),
            tokenizer=tokenizer or _lazy_tokenizer(spec, download=download),
            text_fingerprint=text_fingerprint(spec, tokenizer),
            preprocessing=spec.preprocess,
            embed_dim=spec.entry.embed_dim,
            device=place,
            dtype=dtype,
        )


def _check_types(model: object, arch: object, tokenizer: object) -> None:
    if not isinstance(model, str | nn.Module):
        raise UsageError(f"model is {model!r:.80}; it must be a name, a path or a CLIP model in memory")
    if arch is not None and not isinstance(arch, str):
        raise UsageError(f"arch is {arch!r:.80}; it must be the name of an architecture")
    if tokenizer is not None and not callable(tokenizer):
        raise UsageError(f"tokenizer is {tokenizer!r:.80}; it must be a function from texts to tokens")


def describe(model: str) -> tuple[ModelInfo, int]:
    """What `load` would load, and the bytes of its weights; builds the model only where they are random."""
    spec = resolve(model)
    if spec.weights is None:
        built, sha256 = _weighted(spec, download=False)
        return _info(spec.entry, sha256), sum(tensor.nbytes for tensor in built.state_dict().values())
    files = local.shards(spec.weights)
    return _info(spec.entry, file_sha256(*files)), sum(file.stat().st_size for file in files)


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
    """Refuse what cannot fit before the system kills the process; every model is built in float32 on the CPU first."""
    if entry.parameters is None:
        return
    places = [("this machine", 4 * entry.parameters, machine_memory())]
    if device.type == "cuda":
        places.append((f"'{device}'", dtype.itemsize * entry.parameters, device_memory(device)))
    for place, needed, present in places:
        if needed > present:
            raise ModelError(
                f"model {entry.id!r} has {entry.parameters / 1e9:.1f} billion parameters: its weights take "
                f"{byte_size(needed)} and {place} has {byte_size(present)}; choose a smaller model"
            )


def pull(model_id: str, *, progress: TransferCallback | None = None) -> ModelEntry:
    """Download what is missing of a model: weights, configuration, tokenizer; `progress` is called as files arrive."""
    spec = resolve(model_id, download=True, progress=progress)
    _need_transformers(spec)
    tokenizer_for(spec, download=True)
    if hub_text_tower(spec.config):
        build(spec, download=True)  # open_clip gets the configuration of the text encoder from the hub, too
    return spec.entry


def build(spec: ModelSpec, *, download: bool = False, device: str = "cpu") -> nn.Module:
    """Build the model of a spec with random weights, in evaluation mode, with the activation its weights need.

    `download` lets `transformers` download the configuration of its text encoder; on device "meta" it has no weights.
    """
    if hub_text_tower(spec.config):
        _need_transformers(spec)
    unbuilt = f"model {spec.entry.id!r} cannot be built"
    malformed = raised_as(ModelError, unbuilt, RuntimeError, AssertionError, *foreign.MALFORMED)
    try:
        with (
            malformed,
            quiet(),
            torch.device(device),
            nullcontext() if download or _is_plain(spec) else local.offline(),
        ):
            return _created(spec, device).eval()
    except OSError as error:
        name = spec.config["text_cfg"].get("hf_model_name")
        remedy = f"the repository {name!r} with the configuration of its text encoder is not on this machine; "
        remedy += f"`clipmk models pull {spec.entry.id}` downloads it (or pass --download)"
        raise ModelError(f"{unbuilt}: {remedy if name else cause(error)}") from error


def _created(spec: ModelSpec, device: str) -> nn.Module:
    if _is_plain(spec):
        return library.clip_class()(**spec.config)  # type: ignore[no-any-return]
    options = {"device": device, "load_weights": False, "pretrained_text": False, "force_quick_gelu": spec.quick_gelu}
    create = library.open_clip().create_model
    if not spec.has_own_config:
        return create(spec.entry.architecture, **options)  # type: ignore[no-any-return]
    with tempfile.TemporaryDirectory() as folder:  # open_clip reads what we have read and checked
        config = {**spec.config}
        if spec.trunk is not None:
            config["vision_cfg"] = {**config["vision_cfg"], "timm_model_name": f"{catalog.LOCAL}{folder}"}
            tower = {"architecture": foreign.TRUNK, "model_args": spec.trunk, "pretrained_cfg": {}}
            Path(folder, foreign.CONFIG_NAME).write_text(json.dumps(tower), encoding="utf-8")
        Path(folder, local.CONFIG_NAME).write_text(json.dumps({"model_cfg": config}), encoding="utf-8")
        return create(f"{catalog.LOCAL}{folder}", **options)  # type: ignore[no-any-return]


def _need_transformers(spec: ModelSpec) -> None:
    if spec.entry.needs_transformers and not library.has_transformers():
        raise ModelError(
            f"model {spec.entry.id!r} needs the package 'transformers' for its texts; pip install transformers"
        )


def tokenizer_for(spec: ModelSpec, *, download: bool = False) -> Tokenizer:
    """The tokenizer of a spec; `ModelError` if its files are not here, or its vocabulary is not of the model's size."""
    text = spec.config["text_cfg"]
    unreadable = f"the tokenizer of {spec.entry.id!r} cannot be read"
    with raised_as(ModelError, unreadable, OSError, EOFError, ValueError, TypeError, zlib.error):
        options, context = dict(text.get("tokenizer_kwargs") or {}), int(text.get("context_length", 77))
        if text.get("hf_tokenizer_name"):
            _need_transformers(spec)
            return _hub_tokenizer(spec, context, download=download)
        with quiet():
            if spec.bpe is not None:
                _check_merges(spec.bpe)
                options["bpe_path"] = str(spec.bpe)
            tokenizer = library.simple_tokenizer_class()(context_length=context, **options)
    size = int(text.get("vocab_size", _OPENAI_VOCABULARY))
    if tokenizer.vocab_size != size:
        raise ModelError(
            f"model {spec.entry.id!r} has {size} text tokens but its tokenizer makes {tokenizer.vocab_size}; "
            "put its own merges into the folder as bpe.txt.gz"
        )
    return tokenizer  # type: ignore[no-any-return]


def _check_merges(path: Path) -> None:
    """Refuse a file of a few bytes that unpacks to gigabytes."""
    with gzip.open(path) as file:
        if len(file.read(_MERGES_LIMIT + 1)) > _MERGES_LIMIT:
            raise ValueError(f"{path.name} is larger than {byte_size(_MERGES_LIMIT)}")


def needs_open_clip(model: str) -> bool:
    """Whether loading a model imports open_clip, which takes longer than importing torch; True where it may."""
    target = catalog.registered_models().get(model, model)
    return not (target.startswith(catalog.EMBEDDED) and _is_plain(resolve(target)))


def _is_plain(spec: ModelSpec) -> bool:
    """Whether it is a shipped model with an image tower of open_clip's own, which needs only a part of open_clip."""
    return spec.entry.source == "embedded" and spec.entry.family in {"vit", "resnet"}


def _lazy_tokenizer(spec: ModelSpec, *, download: bool) -> Tokenizer:
    """The tokenizer; where all else loads fast, it is made only when a text must be embedded."""
    if not _is_plain(spec):
        return tokenizer_for(spec, download=download)
    tokenizer = cache(lambda: cached(tokenizer_for(spec)))
    return lambda texts, **options: tokenizer()(texts, **options)  # noqa: PLW0108 - it is made on the first call


def _hub_tokenizer(spec: ModelSpec, context: int, *, download: bool) -> Tokenizer:
    clip, text = library.open_clip(), spec.config["text_cfg"]
    options = {"context_length": context} | ({} if download else {"local_files_only": True})
    name, here = spec.repository and f"{catalog.HUB}{spec.repository}", spec.folder and f"{catalog.LOCAL}{spec.folder}"
    try:
        with quiet(), nullcontext() if download else local.offline():
            if text["hf_tokenizer_name"] == foreign.OWN_TOKENIZER:
                cleaning = text.get("tokenizer_kwargs") or {}
                return clip.tokenizer.HFTokenizer(spec.repository or str(spec.folder), **cleaning, **options)  # type: ignore[no-any-return]
            return clip.get_tokenizer(name or here or spec.entry.architecture, **options)  # type: ignore[no-any-return]
    except (OSError, ValueError, ImportError) as error:
        if spec.folder is not None and spec.repository is None:
            remedy = "put its files into the folder"
        else:
            remedy = f"`clipmk models pull {spec.entry.id}` downloads it (or pass --download)"
        wanted = text["hf_tokenizer_name"].replace(foreign.OWN_TOKENIZER, str(spec.repository or spec.folder))
        raise ModelError(
            f"the tokenizer {wanted!r} of model {spec.entry.id!r} is not on this machine; {remedy}"
        ) from error


def _weighted(spec: ModelSpec, *, download: bool) -> tuple[nn.Module, str]:
    """The model with its weights, and their SHA-256."""
    state = read_checked(spec)
    with torch.random.fork_rng(devices=[]):  # it is built on the CPU, so no GPU needs to wake up
        torch.default_generator.manual_seed(0)
        model = build(spec, download=download)
    if spec.weights is None:
        return model, module_sha256(model)
    fill(model, state, spec.weights, architecture=spec.entry.architecture)
    return model, file_sha256(*local.shards(spec.weights))


def read_checked(spec: ModelSpec) -> dict[str, torch.Tensor]:
    """The weights of a spec, compared with its configuration before a model of that size is built."""
    if spec.weights is None:
        return {}
    state = read_weights(spec.weights)
    if spec.entry.source == "local" or (spec.has_own_config and spec.entry.source != "embedded"):
        try:
            skeleton = build(spec, device="meta")
        except ModelError:  # it cannot be built without memory, or not at all
            return state
        fill(skeleton, state, spec.weights, architecture=spec.entry.architecture)
    return state


def _from_memory(model: nn.Module, device: torch.device, dtype: torch.dtype, tokenizer: Tokenizer | None) -> Backbone:
    model, own_preprocessing = _as_open_clip(model)
    needed = ("visual", "encode_image", "encode_text", "logit_scale")
    if missing := [name for name in needed if not hasattr(model, name)]:
        raise ModelError(f"a {type(model).__name__} is not an open_clip model: it has no {', '.join(missing)}")
    own: Any = model.eval()
    preprocess = own_preprocessing or library.open_clip().get_model_preprocess_cfg(own)
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
    with torch.inference_mode():
        blank = torch.zeros(1, own.context_length, dtype=torch.long, device=next(own.parameters()).device)
        embed_dim = int(without_tokens(own.encode_text(blank)).shape[-1])
    usable = own if weights_dtype(own) == dtype else copy.deepcopy(own)
    return Backbone(
        usable,
        info=info,
        tokenizer=tokenizer or _openai_tokenizer(own),
        text_fingerprint=text_fingerprint(None, tokenizer),
        preprocessing=preprocess,
        embed_dim=embed_dim,
        device=device,
        dtype=dtype,
    )


def _as_open_clip(model: nn.Module) -> tuple[nn.Module, Mapping[str, Any]]:
    """A model of OpenAI's or of `transformers` as one of open_clip's, and its preprocessing; others as they are.

    The tensors of OpenAI's models have the names of those of open_clip's own towers.
    """
    state: dict[str, Any] = model.state_dict()
    settings: Any = getattr(model, "config", None)
    if foreign.of_transformers(state) and hasattr(settings, "to_dict"):
        content = foreign.convert(settings.to_dict(), "in memory")
        config, trunk = content["model_cfg"], content.get("trunk")
        entry = read_architecture("in memory", config)
        converted = build(ModelSpec(entry=entry, config=config, preprocess={}, trunk=trunk, has_own_config=True))
        fill(converted, state, Path("in memory"), architecture=type(model).__name__)
        return converted, foreign.preprocessing({}, str(settings.model_type))
    openai = {"visual.conv1.weight", "token_embedding.weight", "text_projection"} <= state.keys()
    if openai and not hasattr(getattr(model, "visual", None), "image_size"):
        return _openai_as_open_clip(state), {}
    return model, {}


def _openai_as_open_clip(state: dict[str, Any]) -> nn.Module:
    what = "the model has names like those of OpenAI, but cannot be converted"
    with raised_as(ModelError, what, RuntimeError, LookupError), quiet():
        built = library.open_clip().model.build_model_from_openai_state_dict(state, cast_dtype=torch.float32).float()
        built.load_state_dict(state)  # again, because it was rounded to float16 meanwhile
    return built  # type: ignore[no-any-return]


def _openai_tokenizer(model: Any) -> Tokenizer:
    size = getattr(model, "vocab_size", getattr(getattr(model, "text", None), "vocab_size", None))
    if size != _OPENAI_VOCABULARY:
        raise ModelError(f"the model has {size} text tokens, not CLIP's {_OPENAI_VOCABULARY}; pass tokenizer=")
    tokenizer: Tokenizer = library.simple_tokenizer_class()(context_length=int(model.context_length))
    return tokenizer


def _family(visual: Any) -> str:
    if hasattr(visual, "trunk"):
        settings = getattr(visual.trunk, "pretrained_cfg", None) or {}
        name = settings.get("architecture") or type(visual.trunk).__name__.lower()
        return family_of({"vision_cfg": {"timm_model_name": name}})
    return "resnet" if hasattr(visual, "attnpool") else "vit"

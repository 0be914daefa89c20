"""Weight files: read without running what is in them, under any library's names, and loaded into a model; digests."""

from __future__ import annotations

import argparse
import codecs
import hashlib
import json
import logging
import pathlib
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from clipmk.backbones.library import open_clip
from clipmk.errors import ModelError, UsageError, raised_as
from clipmk.models import foreign
from clipmk.models.local import SUFFIXES, shards
from clipmk.system.files import LFS_HINT, LFS_POINTER
from clipmk.system.quiet import quiet
from clipmk.system.text import cause, counted

if TYPE_CHECKING:
    from clipmk.backbones.text import Tokenizer
    from clipmk.models.spec import ModelSpec

_log = logging.getLogger(__name__)

_SHOWN_KEYS = 3
_WRAPPERS = re.compile(r"(^|\.)(?:(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.)+")
"""What torch.compile and FSDP put into names, at any level."""
_UNREADABLE = (
    *(RuntimeError, OSError, EOFError, ValueError, TypeError, LookupError, SafetensorError, zipfile.BadZipFile),
)
"""What the readers raise for damaged files."""
_STATES = ("state_dict", "model_state_dict", "model", "module", "net")
"""Where training code puts the state_dict in a checkpoint."""

_PROBES = (
    "a photo of a probe",
    "Ünï-cøde, 1999; it's",
    "the quick brown fox jumps over the lazy dog",
    "Café & Bär <b>",
)
"""Texts whose tokens identify a caller's tokenizer."""
_TOKENIZER_FILES = ("*token*.json", "vocab.*", "merges.txt", "*.model")
"""Files in which tokenizers of `transformers` are stored."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a weight file, or of all shards of an index; they are mapped where that is possible.

    Names of wrappers (torch.compile, DistributedDataParallel, Lightning) are removed; those of `transformers` stay.
    Raises `ModelError` for a file that is missing, damaged, a TorchScript archive, a pickle that would run code when
    read, or that does not hold the state_dict of one model.
    """
    state: dict[str, Tensor] = {}
    for shard in shards(path):
        if not shard.name.endswith(SUFFIXES):
            raise ModelError(f"weight file {str(shard)!r} has an unknown ending; known: {', '.join(SUFFIXES)}")
        with raised_as(ModelError, f"weight file {str(shard)!r} cannot be read", *_UNREADABLE):
            with shard.open("rb") as file:
                if file.read(len(LFS_POINTER)) == LFS_POINTER:
                    raise ModelError(f"{str(shard)!r} {LFS_HINT}")
            state |= load_file(shard) if shard.suffix == ".safetensors" else _pickle(shard)
    models = _unwrapped(state)
    if len(models) > 1:
        raise ModelError(
            f"weight file {str(path)!r} holds several models ({', '.join(models)}); save the state_dict of one of them"
        )
    ((prefix, model),) = models.items()
    if left_out := len(state) - len(model):
        _log.warning("%s: %s outside %r left out", path.name, counted(left_out, "tensor"), prefix)
    return model


def _unwrapped(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The models in a state_dict by the prefix of their names: the part before `logit_scale`, which every CLIP has.

    DistributedDataParallel puts `module.` there, Lightning the name of an attribute, such as `model.`. There are
    several where a teacher or an average of the weights is stored, too; without `logit_scale` all tensors are under "".
    """
    plain = {_WRAPPERS.sub(r"\1", name): tensor for name, tensor in state.items()}
    prefixes = [name.removesuffix("logit_scale") for name in plain if re.search(r"(^|\.)logit_scale$", name)]
    return {
        prefix: {name[len(prefix) :]: tensor for name, tensor in plain.items() if name.startswith(prefix)}
        for prefix in ([""] if "" in prefixes else prefixes or [""])
    }


def _pickle(path: Path) -> dict[str, Tensor]:
    try:
        zipped = zipfile.is_zipfile(path)
        if zipped and _is_torchscript(path):
            raise ModelError(
                f"weight file {str(path)!r} is refused: it is a TorchScript archive, which holds a program; "
                "save the model's state_dict instead"
            )
        with quiet(), torch.serialization.safe_globals(_inert()):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped or None)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = f" ({named[1]})" if named else ""
        raise ModelError(
            f"weight file {str(path)!r} is refused: reading it would run code, or it holds more than tensors{what}; "
            "save only the state_dict, best as .safetensors"
        ) from error
    places = [content.get(name) for name in _STATES] if isinstance(content, dict) else []
    for place in (*places, content):
        if isinstance(place, dict) and (state := {k: v for k, v in place.items() if isinstance(v, Tensor)}):
            return state
    raise ModelError(f"weight file {str(path)!r} does not hold a state_dict")


def _is_torchscript(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("constants.pkl") for name in archive.namelist())


def _inert() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """What training code stores beside tensors and does nothing when it is read: numbers of NumPy, arguments, paths."""
    multiarray = np._core.multiarray  # type: ignore[attr-defined] # noqa: SLF001 - where pickles have it
    found: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
        np.dtype,
        np.ndarray,
        *{type(np.dtype(code)) for code in "?bhilqBHILQefdSU"},
        argparse.Namespace,
        pathlib.PosixPath,
        (codecs.encode, "_codecs.encode"),
    ]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        found += [(getattr(multiarray, name), f"{module}.{name}") for name in ("scalar", "_reconstruct")]
    return found


def fill(model: nn.Module, state: Mapping[str, Tensor], path: Path, *, architecture: str) -> None:
    """Load the tensors of a weight file (from `read_weights`) into a model on the CPU, every one of them.

    On device "meta", only names and shapes are compared and no tensor is read. Raises `ModelError` with a few of the
    tensors that do not fit.
    """
    skeleton = next(model.parameters()).is_meta
    tensors = {name: tensor.to("meta") if skeleton else tensor for name, tensor in state.items()}
    shapes, own = ({name: one.shape for name, one in table.items()} for table in (tensors, model.state_dict()))
    try:
        with quiet(ignoring="copying from a non-meta parameter"):  # "is a no-op", as it should be
            adapted, notes = (tensors, []) if shapes == own else _adapted(model, tensors)
            model.load_state_dict(adapted, strict=True)
    except (RuntimeError, LookupError, AttributeError, AssertionError, TypeError, ValueError) as error:
        raise ModelError(f"the weights in {str(path)!r} do not fit {architecture!r}: {_misfits(error)}") from error
    for note in [] if skeleton else notes:
        _log.warning("%s: %s", path.name, note)


def _adapted(model: nn.Module, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """A state_dict for this model, and what was guessed: open_clip's `load_checkpoint` without reading the file."""
    factory, notes = open_clip().factory, []
    if foreign.of_transformers(state):
        state = foreign.renamed(state)
    state = factory.convert_state_dict(model, state)
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = factory.convert_to_custom_text_state_dict(state)
    for name in ("logit_scale", "logit_bias"):  # a number or a vector of one
        own = getattr(model, name, None)
        if own is not None and name in state:
            state[name] = state[name].reshape(own.shape)
        elif own is not None and name == "logit_bias":
            state[name] = torch.zeros_like(own)
            notes.append("there is no logit_bias, so it is 0")
    if (unused := "text.transformer.embeddings.position_ids") not in model.state_dict():
        state.pop(unused, None)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    factory.resize_pos_embed(state, model)
    factory.resize_text_pos_embed(state, model)
    for name, tensor in state.items():
        if tuple(tensor.shape) != shapes[name]:
            notes.append(f"{name} is stretched from {shapes[name][0]} to {len(tensor)} positions")
    return state, notes


def _misfits(error: Exception) -> str:
    parts = []
    for label, place, name in (
        ("missing", r"Missing key\(s\) in state_dict: (.*)", r'"([^"]+)"'),
        ("unexpected", r"Unexpected key.*?: (.*)", r'"([^"]+)"'),
        ("other sizes in", r"(?s)(.*)", r"size mismatch for ([^:]+):"),
    ):
        found = re.search(place, str(error))
        if keys := re.findall(name, found[1]) if found else []:
            more = f" and {len(keys) - _SHOWN_KEYS} more" if len(keys) > _SHOWN_KEYS else ""
            parts.append(f"{label} {', '.join(keys[:_SHOWN_KEYS])}{more}")
    return "; ".join(parts) or cause(error)


def file_sha256(*paths: Path) -> str:
    """Hexadecimal SHA-256 of a file, or of the digests of several."""
    digests = []
    for path in paths:
        with path.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def module_sha256(model: nn.Module) -> str:
    """Hexadecimal SHA-256 over a module's parameters and buffers in the order of its state_dict."""
    digest = hashlib.sha256()
    state: dict[str, Any] = model.state_dict()
    for name, value in state.items():
        if isinstance(value, Tensor):
            tensor = value.detach().cpu().contiguous()
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def text_fingerprint(spec: ModelSpec | None, tokenizer: Tokenizer | None) -> str:
    """See `Backbone.text_fingerprint`: without a spec for a module in memory; with the caller's tokenizer, if any."""
    known: list[object] = []
    if spec is not None:
        config = {name: value for name, value in spec.config.items() if name != "vision_cfg"}
        known += [config, spec.quick_gelu, spec.bpe and file_sha256(spec.bpe)]
        if spec.folder is not None and config["text_cfg"].get("hf_tokenizer_name"):
            files = sorted({path for pattern in _TOKENIZER_FILES for path in spec.folder.glob(pattern)})
            known += [[path.name, file_sha256(path)] for path in files]
    if tokenizer is not None:
        known.append([_tokens(tokenizer, text) for text in _PROBES])
    return hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()


def _tokens(tokenizer: Tokenizer, text: str) -> list[Any]:
    tokens = tokenizer([text])
    if not isinstance(tokens, Tensor) or tokens.ndim != 2:
        raise UsageError(f"tokenizer gives {tokens!r:.80}; it must give an int64 tensor (texts, context)")
    return tokens.tolist()

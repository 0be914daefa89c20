"""Weight files: checked without running what is in them, and loaded into a model."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn

from clipmk.backbones.library import open_clip
from clipmk.errors import ModelError
from clipmk.models.local import SUFFIXES
from clipmk.system.quiet import quiet
from clipmk.system.text import cause

_SHOWN_KEYS = 3


def check_weights(path: Path) -> None:
    """Make sure that a file holds tensors and no code.

    Raises:
        ModelError: it is missing, damaged, a TorchScript archive, or a pickle that would run code when read.
    """
    if not path.is_file():
        raise ModelError(f"weight file {str(path)!r} does not exist")
    if path.suffix not in SUFFIXES:
        raise ModelError(f"weight file {str(path)!r} has an unknown ending; known: {', '.join(SUFFIXES)}")
    if path.suffix == ".safetensors":
        _check_safetensors(path)
    else:
        _check_pickle(path)


def _check_safetensors(path: Path) -> None:
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - only for this kind of file

    try:
        with safe_open(path, framework="pt") as tensors:
            tensors.keys()
    except (SafetensorError, OSError) as error:
        raise ModelError(f"weight file {str(path)!r} cannot be read: {error}") from error


def _check_pickle(path: Path) -> None:
    zipped = zipfile.is_zipfile(path)
    try:
        if zipped and _is_torchscript(path):
            raise ModelError(
                f"weight file {str(path)!r} is refused: it is a TorchScript archive, which holds a program; "
                "save the model's state_dict instead"
            )
        with quiet():
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped or None)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"weight file {str(path)!r} is refused: reading it would run code, or it holds more than tensors; "
            "save only the state_dict, best as .safetensors"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(f"weight file {str(path)!r} cannot be read: {cause(error)}") from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not any(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"weight file {str(path)!r} does not hold a state_dict")


def _is_torchscript(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("constants.pkl") for name in archive.namelist())


def fill(model: nn.Module, path: Path, *, architecture: str) -> None:
    """Load a checked weight file into a model, every tensor of it.

    Args:
        model: on the CPU; on device "meta", only names and shapes are compared and no tensor is read.
        path: the file.
        architecture: for the message.

    Raises:
        ModelError: the file is of another architecture; the message names a few tensors that do not fit.
    """
    skeleton = next(model.parameters()).is_meta
    device = "meta" if skeleton and path.suffix != ".safetensors" else "cpu"  # safetensors are mapped, not read
    try:
        with quiet(ignoring="copying from a non-meta parameter"):  # "is a no-op", as it should be
            open_clip().load_checkpoint(model, str(path), strict=True, weights_only=True, device=device)
    except (RuntimeError, KeyError, AttributeError, AssertionError) as error:
        raise ModelError(f"the weights in {str(path)!r} do not fit {architecture!r}: {_misfits(error)}") from error


def _misfits(error: Exception) -> str:
    text = str(error)
    parts = []
    for label, pattern in (
        ("missing", r"Missing key\(s\) in state_dict: (.*)"),
        ("unexpected", r"Unexpected key.*?: (.*)"),
    ):
        if found := re.search(pattern, text):
            keys = re.findall(r'"([^"]+)"', found.group(1))
            more = f" and {len(keys) - _SHOWN_KEYS} more" if len(keys) > _SHOWN_KEYS else ""
            parts.append(f"{label} {', '.join(keys[:_SHOWN_KEYS])}{more}")
    sizes = re.findall(r"size mismatch for ([^:]+):", text)
    if sizes:
        parts.append(f"other sizes in {', '.join(sizes[:_SHOWN_KEYS])}")
    return "; ".join(parts) or cause(error)

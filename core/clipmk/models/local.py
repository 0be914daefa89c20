"""Model files on this machine: folders, the Hugging Face cache (`download` fills it), the switch that keeps offline.

Folders are read from names and headers alone, without torch.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clipmk.errors import ModelError
from clipmk.system.quiet import SharedPatch

CONFIG_NAME = "open_clip_config.json"
"""open_clip's name for a model's configuration, on the hub and in a folder."""
WEIGHT_NAMES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "model.safetensors",
    "open_clip_pytorch_model.bin",
    "pytorch_model.bin",
)
"""Usual names of weight files, the preferred ones first."""
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
"""Endings of weight files, the safest first."""

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "attn_mask", "position_ids")
"""Endings of the names of tensors that are not parameters."""
_HEADER_LIMIT = 100_000_000
"""The safetensors format's own limit on the bytes of a header."""


def read_folder(folder: Path, model_id: str) -> dict[str, Any]:
    """Read the `open_clip_config.json` of a model folder.

    Raises:
        ModelError: the folder or its configuration is missing or malformed.
    """
    if not folder.is_dir():
        raise ModelError(f"model folder {str(folder)!r} does not exist")
    path = folder / CONFIG_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"model {model_id!r} needs the file {str(path)!r}: {error.strerror}") from error
    except ValueError as error:
        raise ModelError(f"the file {str(path)!r} of model {model_id!r} is not JSON: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("model_cfg"), dict):
        raise ModelError(f"the file {str(path)!r} of model {model_id!r} has no 'model_cfg'")
    return content


def weights_in(folder: Path) -> Path | None:
    """The weight file of a folder: by its usual name, else the first in alphabetical order, the safest kind first."""
    named = [folder / name for name in WEIGHT_NAMES if (folder / name).is_file()]
    others = [path for suffix in SUFFIXES for path in sorted(folder.glob(f"*{suffix}"))]
    return next(iter(named + others), None)


def merges_in(folder: Path, content: Mapping[str, Any], model_id: str) -> Path | None:
    """The merges of a model's own tokenizer: `bpe.txt.gz`, or the file that its configuration names.

    Args:
        folder: the model's.
        content: of its configuration; `"clipmk": {"bpe": FILE}` names another file.
        model_id: for the message.

    Raises:
        ModelError: the configuration names a file that does not exist.
    """
    named = merges_named(content)
    path = folder / (named or "bpe.txt.gz")
    if path.is_file():
        return path
    if named is not None:
        raise ModelError(f"model {model_id!r} needs the file {str(path)!r}, which does not exist")
    return None


def merges_named(content: Mapping[str, Any]) -> str | None:
    """File name of the merges that a configuration asks for; None where it names none."""
    named = (content.get("clipmk") or {}).get("bpe")
    return None if named is None else Path(named).name


def stored_parameters(path: Path | None) -> int | None:
    """Number of parameters in a safetensors file; None for other files and for a header that cannot be read."""
    if path is None or path.suffix != ".safetensors":
        return None
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > _HEADER_LIMIT:
                return None
            header: dict[str, Any] = json.loads(file.read(size))
        kept = [name for name in header if name != "__metadata__" and not name.endswith(_BUFFERS)]
        return sum(int(math.prod(header[name]["shape"])) for name in kept)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def candidates(address: str) -> tuple[str, tuple[str, ...]]:
    """Split open_clip's "org/repo/" or "org/repo/file" into the repository and the file names to try, safest first."""
    repository, _, name = address.rpartition("/")
    if not name:
        return repository, WEIGHT_NAMES
    safe = Path(name).with_suffix(".safetensors").name
    return repository, (safe, name) if safe != name else (name,)


def cache_folder() -> Path:
    """Folder of the hub's files: HF_HUB_CACHE, or `hub` in HF_HOME. It need not exist."""
    return Path(_constants().HF_HUB_CACHE)


def _constants() -> Any:
    import huggingface_hub.constants  # noqa: PLC0415 - light, but embedded models do not need it

    return huggingface_hub.constants


def folder_name(repository: str) -> str:
    """Name of a repository's folder in the cache."""
    return f"models--{repository.replace('/', '--')}"


def cached_file(repository: str, names: Sequence[str]) -> Path | None:
    """The first of `names` in the local cache; makes no network request."""
    if not (cache_folder() / folder_name(repository)).is_dir():
        return None
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - 0.3 s

    for name in names:
        found = try_to_load_from_cache(repository, name)
        if isinstance(found, str):
            return Path(found)
    return None


def cached_repositories() -> list[str]:
    """Repositories in the local cache that have an open_clip configuration."""
    names = sorted(path.name for path in cache_folder().glob("models--*--*") if path.is_dir())
    repositories = [name.removeprefix("models--").replace("--", "/", 1) for name in names]
    return [name for name in repositories if cached_file(name, [CONFIG_NAME]) is not None]


@contextmanager
def offline() -> Iterator[None]:
    """Forbid requests to the hub in this thread: tokenizers of `transformers` ask for news even of local files.

    Other threads may download meanwhile.
    """
    _thread.offline += 1
    try:
        with _offline_patch:
            yield
    finally:
        _thread.offline -= 1


class _Thread(threading.local):
    offline = 0
    """Depth of nested `offline` blocks of this thread."""


class _OfflineSwitch:
    """Stands in for the client's own switch: true in an offline thread, what it was in the others."""

    def __init__(self, original: bool) -> None:
        self.original = original

    def __bool__(self) -> bool:
        return self.original or _thread.offline > 0


_thread = _Thread()
_offline_patch = SharedPatch(_constants, "HF_HUB_OFFLINE", _OfflineSwitch)

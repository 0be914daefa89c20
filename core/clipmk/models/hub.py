"""The Hugging Face cache on this machine (`download` fills it), and the switch that keeps a thread offline."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clipmk.models.folders import CONFIG_NAME, WEIGHT_NAMES
from clipmk.system.quiet import SharedPatch


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

"""Where `clipmk` keeps things: cache, config, socket and shipped assets."""

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipmk.errors import ClipmkError, UsageError, raised_as
from clipmk.system.text import quoted

_CACHED = ("*.safetensors", ".*.tmp", ".tmp*")
"""What `clipmk` itself puts into its text cache (and what a killed process leaves there); nothing else is removed."""

_LOCKS = ("*.lock",)  # empty lock files; removed with the cache, not counted


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """Contents of the cache."""

    path: Path
    files: int
    bytes: int


def cache_dir() -> Path:
    """Folder of everything that can be computed again; `CLIPMK_CACHE_DIR` moves it. It need not exist."""
    if chosen := _chosen("CLIPMK_CACHE_DIR"):
        return chosen
    import platformdirs  # noqa: PLC0415 - only for the platform's default

    return platformdirs.user_cache_path("clipmk", appauthor=False)


def config_path() -> Path:
    """The user's config file; `CLIPMK_CONFIG` moves it. It need not exist."""
    if chosen := _chosen("CLIPMK_CONFIG"):
        return chosen
    import platformdirs  # noqa: PLC0415

    return platformdirs.user_config_path("clipmk", appauthor=False) / "config.toml"


def assets_dir() -> Path:
    """Folder of the shipped models, vocabularies and schema."""
    return Path(__file__).parents[1] / "assets"


@functools.cache
def json_asset(name: str) -> Any:
    """Content of a shipped JSON file; shared, so never change it."""
    import json  # noqa: PLC0415 - not before the app's first frame

    return json.loads((assets_dir() / name).read_bytes())


def texts_dir() -> Path:
    """Folder of embedded vocabularies (see `vocabulary.embeddings`)."""
    return cache_dir() / "texts"


def socket_path() -> Path:
    """Where `clipmk serve` listens, absolute: in `XDG_RUNTIME_DIR`, else in the cache; `CLIPMK_SOCKET` moves it."""
    chosen = _chosen("CLIPMK_SOCKET")
    if chosen is None:
        runtime = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
        ours = runtime.is_absolute() and os.access(runtime, os.W_OK | os.X_OK)  # not that of who called `su`
        folder = runtime / "clipmk" if ours else cache_dir() / "serve"
        chosen = folder / "serve.sock"
    return Path(os.path.abspath(chosen))  # noqa: PTH100 - no link is followed


def cached_texts(*patterns: str) -> list[Path]:
    """Files of `texts_dir` whose names match; none where the folder is missing or somebody else's."""
    folder = texts_dir()
    if not os.access(folder, os.R_OK | os.X_OK):
        return []
    return [path for pattern in patterns for path in sorted(folder.glob(pattern)) if path.is_file()]


def cache_info() -> CacheInfo:
    """Count the cached files and their bytes."""
    sizes = []
    for path in cached_texts(*_CACHED):
        try:
            sizes.append(path.stat().st_size)
        except OSError:  # another process removed it meanwhile, or the folder is somebody else's
            continue
    return CacheInfo(path=texts_dir(), files=len(sizes), bytes=sum(sizes))


def clear_cache() -> CacheInfo:
    """Remove the cached files, and nothing that `clipmk` did not put there; returns what was removed."""
    before = cache_info()
    for path in cached_texts(*_CACHED, *_LOCKS):
        with raised_as(ClipmkError, f"{quoted(path)} cannot be removed", OSError):
            path.unlink(missing_ok=True)
    return before


def _chosen(variable: str) -> Path | None:
    value = os.environ.get(variable)
    if not value:
        return None
    with raised_as(UsageError, f"{variable} is {quoted(value)}", RuntimeError):  # no such user
        return Path(value).expanduser()

"""The Hugging Face cache on this machine, and the only place that downloads anything."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from clipmk.errors import ModelError

CONFIG_NAME = "open_clip_config.json"
"""open_clip's name for a model's configuration, on the hub and in a folder."""
WEIGHT_NAMES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "model.safetensors",
    "open_clip_pytorch_model.bin",
    "pytorch_model.bin",
)
"""Names of weight files, the preferred ones first."""


def candidates(address: str) -> tuple[str, tuple[str, ...]]:
    """Split open_clip's "org/repo/" or "org/repo/file" into the repository and the file names to try, safest first."""
    repository, _, name = address.rpartition("/")
    if not name:
        return repository, WEIGHT_NAMES
    safe = Path(name).with_suffix(".safetensors").name
    return repository, (safe, name) if safe != name else (name,)


def cached_file(repository: str, names: Sequence[str]) -> Path | None:
    """The first of `names` that lies in the local cache; never asks the network."""
    hub = _hub()
    for name in names:
        found = hub.try_to_load_from_cache(repository, name)
        if isinstance(found, str):
            return Path(found)
    return None


def cached_repositories() -> list[str]:
    """Repositories in the local cache that hold an open_clip configuration."""
    hub = _hub()
    folder = Path(hub.constants.HF_HUB_CACHE)
    names = sorted(path.name for path in folder.glob("models--*--*") if path.is_dir())
    repositories = [name.removeprefix("models--").replace("--", "/", 1) for name in names]
    return [name for name in repositories if cached_file(name, [CONFIG_NAME]) is not None]


def fetch(repository: str, names: Sequence[str]) -> Path:
    """Download the first of `names` that the repository has into the cache.

    Raises:
        ModelError: the hub cannot be reached, or has no such file.
    """
    hub = _hub()
    _check_reachable(hub.constants.ENDPOINT, repository)
    reason: Exception | None = None
    for name in names:
        try:
            return Path(hub.hf_hub_download(repository, name))
        except hub.errors.LocalEntryNotFoundError as error:
            raise ModelError(f"{repository!r} could not be downloaded: {_why(error)}") from error
        except (hub.errors.EntryNotFoundError, hub.errors.RepositoryNotFoundError) as error:
            reason = error
        except (hub.errors.HfHubHTTPError, hub.errors.HFValidationError, OSError) as error:
            raise ModelError(f"{repository!r} could not be downloaded: {_why(error)}") from error
    raise ModelError(f"{repository!r} on the hub has none of: {', '.join(names)}") from reason


@contextmanager
def offline() -> Iterator[None]:
    """Forbid every request to the hub while the block runs (tokenizers of `transformers` like to look for news)."""
    constants = _hub().constants
    before, variable = constants.HF_HUB_OFFLINE, os.environ.get("HF_HUB_OFFLINE")
    constants.HF_HUB_OFFLINE = True
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
        if variable is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = variable


def _hub() -> Any:
    import huggingface_hub  # noqa: PLC0415 - 0.2 s
    import huggingface_hub.constants  # noqa: PLC0415
    import huggingface_hub.errors  # noqa: PLC0415

    huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY = True
    return huggingface_hub


def _check_reachable(endpoint: str, repository: str) -> None:
    """Fail at once where the hub's own client would try again for 20 seconds; a proxy resolves names for itself."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return
    host = urlparse(endpoint).hostname or endpoint
    try:
        socket.getaddrinfo(host, 443)
    except OSError as error:
        raise ModelError(
            f"{repository!r} could not be downloaded: this machine cannot reach {host}; is it offline? "
            "Fetch the model elsewhere and name it by local-dir:FOLDER"
        ) from error


def _why(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

"""Downloads single files from the hub into its cache: with progress, resumed after a break, checked by their hash.

The hub's own client discards a partial file when its process ends. Here it stays beside the finished ones as
`blobs/<hash>.clipmk.incomplete`, and the next call resumes it.
"""

import contextlib
import hashlib
import io
import os
import re
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from filelock import Timeout

from clipmk.errors import ModelError
from clipmk.models.local import cache_folder, folder_name
from clipmk.system.files import file_lock
from clipmk.system.text import byte_size, cause

LOCK_SECONDS = 5.0  # longest wait for another process that downloads the same file
_SPARE = 2**20  # bytes of the disk that stay free


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Progress of one file's download."""

    repository: str
    name: str
    """Of the file."""
    done: int
    """Bytes on this machine, including those of earlier attempts."""
    total: int | None
    """Bytes of the file; None where the hub does not say."""


TransferCallback = Callable[[Transfer], None]  # called at the start and after every chunk


@dataclass(frozen=True, slots=True, kw_only=True)
class _Remote:
    repository: str
    name: str
    url: str
    etag: str
    size: int | None


class AbsentFileError(ModelError):
    """A repository on the hub does not have a file."""


def fetch(repository: str, names: Sequence[str], *, progress: TransferCallback | None = None) -> Path:
    """Download into the hub's cache the first of the files `names` that a repository ("org/name") has, or resume that.

    Raises `ModelError`, which says what to do, if the hub cannot be reached, does not have the file or refuses it, the
    disk is too small, or the file arrived damaged.
    """
    hub = _library()
    _check_reachable(hub.constants.ENDPOINT, repository)
    with _readable_errors(repository, hub):
        remote = _find(repository, names, hub)
        _complete(remote, hub, progress)
        return Path(hub.hf_hub_download(repository, remote.name))


def _find(repository: str, names: Sequence[str], hub: Any) -> _Remote:
    reason: Exception | None = None
    for name in names:
        url = hub.hf_hub_url(repository, name)
        try:
            found = hub.get_hf_file_metadata(url)
        except hub.errors.EntryNotFoundError as error:
            reason = error
            continue
        etag = str(found.etag or "")
        if re.fullmatch(r"[\w.-]+", etag) is None:  # it becomes a file name
            raise ModelError(f"{repository!r} could not be downloaded: the hub gives no hash of {name!r}")
        return _Remote(repository=repository, name=name, url=url, etag=etag, size=found.size)
    raise AbsentFileError(f"{repository!r} on the hub has none of: {', '.join(names)}") from reason


def _complete(remote: _Remote, hub: Any, progress: TransferCallback | None) -> None:
    """Download the file into the cache's blobs, where the hub's client finds it and links to it."""
    blob = cache_folder() / folder_name(remote.repository) / "blobs" / remote.etag
    if blob.exists():
        return
    lock = cache_folder() / ".locks" / folder_name(remote.repository) / f"{remote.etag}.clipmk.lock"
    for folder in (blob.parent, lock.parent):
        folder.mkdir(parents=True, exist_ok=True)
    part = blob.with_name(f"{remote.etag}.clipmk.incomplete")
    try:
        with file_lock(lock, seconds=LOCK_SECONDS):
            if not blob.exists():
                _download(remote, part, progress)
                _check_hash(remote, part)
                part.replace(blob)
    except Timeout as error:
        raise ModelError(
            f"another process is downloading {remote.name!r} of {remote.repository!r}; wait for it"
        ) from error


def _download(remote: _Remote, part: Path, progress: TransferCallback | None) -> None:
    from huggingface_hub.file_download import http_get  # noqa: PLC0415 - retries and resumes
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined] # noqa: PLC0415 - the user's token

    with _ReportingFile(part, remote, progress) as file:
        if remote.size is not None and file.done > remote.size:
            file.truncate(0)
        _check_room(remote, part, file.done)
        file.report()
        http_get(
            remote.url,
            file,
            resume_size=file.done,
            headers=build_hf_headers(),
            expected_size=remote.size,
            displayed_filename=remote.name,
        )


class _ReportingFile(io.BufferedWriter):
    """A file open for appending that reports its growth."""

    def __init__(self, part: Path, remote: _Remote, progress: TransferCallback | None) -> None:
        super().__init__(io.FileIO(part, "ab"))
        self.done = self.tell()
        self._remote, self._progress = remote, progress

    def write(self, data: Any) -> int:
        written = super().write(data)
        self.done += written
        self.report()
        return written

    def truncate(self, size: int | None = None) -> int:
        """Called when the server sends everything again."""
        self.done = super().truncate(size)
        self.report()
        return self.done

    def report(self) -> None:
        if self._progress is not None:
            one = self._remote
            self._progress(Transfer(repository=one.repository, name=one.name, done=self.done, total=one.size))


def _check_room(remote: _Remote, part: Path, start: int) -> None:
    free = shutil.disk_usage(part.parent).free
    needed = (remote.size or 0) - start + _SPARE
    if needed > free:
        raise ModelError(
            f"{remote.name!r} of {remote.repository!r} needs {byte_size(needed)} more, but {str(part.parent)!r} has "
            f"{byte_size(free)} free; point HF_HUB_CACHE to a larger disk"
        )


def _check_hash(remote: _Remote, part: Path) -> None:
    """Compare with the hub's hash: SHA-256 of large files, git's SHA-1 of small ones; other tags are not hashes."""
    if re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{40}", remote.etag) is None:
        return
    name, start = ("sha256", b"") if len(remote.etag) == 64 else ("sha1", b"blob %d\0" % part.stat().st_size)
    with part.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.new(name, start, usedforsecurity=False))
    if digest.hexdigest() != remote.etag:
        part.unlink()
        raise ModelError(
            f"{remote.name!r} of {remote.repository!r} arrived damaged and was removed: its {digest.name} is "
            f"{digest.hexdigest()}, the hub says {remote.etag}; pull it again"
        )


@contextlib.contextmanager
def _readable_errors(repository: str, hub: Any) -> Iterator[None]:
    """Turn errors of the hub's client into errors that say what to do."""
    errors = hub.errors
    page = f"{hub.constants.ENDPOINT}/{repository}"
    login = "log in with `hf auth login` or set HF_TOKEN"
    try:
        yield
    except errors.GatedRepoError as error:
        raise ModelError(f"{repository!r} is gated: accept its terms at {page}, then {login}") from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(f"{repository!r} does not exist on the hub, or is private: {login} if it is yours") from error
    except errors.OfflineModeIsEnabled as error:
        raise ModelError(
            f"{repository!r} could not be downloaded: HF_HUB_OFFLINE is set; unset it to download"
        ) from error
    except errors.HfHubHTTPError as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in {401, 403}:
            raise ModelError(f"the hub refuses {repository!r} (HTTP {status}): {login}, and see {page}") from error
        raise ModelError(f"{repository!r} could not be downloaded: {cause(error)}") from error
    except (errors.HFValidationError, OSError, *_transport_errors()) as error:
        raise ModelError(
            f"{repository!r} could not be downloaded: {cause(error)}; what has arrived is kept, pull again to resume"
        ) from error


def _transport_errors() -> tuple[type[Exception], ...]:
    """The base error of the HTTP library that this version of the hub's client uses."""
    loaded = (sys.modules.get(name) for name in ("httpx2", "httpx"))
    return tuple(module.HTTPError for module in loaded if module is not None)


def _library() -> Any:
    import huggingface_hub  # noqa: PLC0415 - 0.3 s
    import huggingface_hub.constants  # noqa: PLC0415
    import huggingface_hub.errors  # noqa: PLC0415

    huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY = True
    return huggingface_hub


def _check_reachable(endpoint: str, repository: str) -> None:
    """Fail at once where the hub's own client would retry for 20 seconds; a proxy resolves names itself."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return
    host = urlparse(endpoint).hostname or endpoint
    try:
        socket.getaddrinfo(host, 443)
    except OSError as error:
        raise ModelError(
            f"{repository!r} could not be downloaded: this machine cannot reach {host}; is it offline? Pull the model "
            f"on another one and copy the folder {folder_name(repository)} of its cache to {str(cache_folder())!r}, "
            "or name a copy of its files with local-dir:FOLDER"
        ) from error

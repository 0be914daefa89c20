"""Reads files that somebody else named, writes files that are never seen half-written, locks files."""

import contextlib
import errno
import itertools
import logging
import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from clipmk.errors import ClipmkError, UsageError, suggest
from clipmk.system.text import byte_size, cause, printable, quoted

_log = logging.getLogger(__name__)

NEARBY_LIMIT = 5000  # most folder entries read to suggest a name

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""How a file begins that Git LFS has left in the place of the real one."""
LFS_HINT = "is a pointer of Git LFS, not the file itself; run `git lfs pull` in its folder"

_WITHOUT_LOCKS: Final = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})
"""What locking fails with where a file system has no locks: some network drives and sandboxes."""

_KINDS = (
    (stat.S_ISDIR, "is a folder"),
    (stat.S_ISFIFO, "is a pipe"),
    (stat.S_ISSOCK, "is a socket"),
    (stat.S_ISCHR, "is a device"),
    (stat.S_ISBLK, "is a device"),
)


def read_regular(
    path: str | Path, *, limit: int, noun: str, error: type[ClipmkError], suffixes: Collection[str] = ()
) -> bytes:
    """Read a regular file whole; pipes, devices, sockets and folders are refused without ever blocking.

    Messages repeat the path as the user gave it (`~` is the home folder), call the file a `noun`, and suggest files
    with the lower-case `suffixes` where it is missing. Raises `error`, also for more than `limit` bytes.
    """
    shown = f"{noun} {quoted(path)}"
    if not str(path):
        raise error(f"{noun} name is empty")
    path = os.path.expanduser(path)  # noqa: PTH111 - never raises
    try:
        refusal = _refusal(Path(path).stat(), limit)  # before opening, because opening a device can have effects
        if refusal is None:
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY), "rb") as handle:
                refusal = _refusal(os.fstat(handle.fileno()), limit)  # again: the name may mean another file by now
                data = b"" if refusal else handle.read(limit + 1)
    except FileNotFoundError as reason:
        if Path(path).is_symlink():
            raise error(f"{shown} is a link to {quoted(Path(path).readlink())}, which does not exist") from reason
        raise error(f"{shown} does not exist{_nearby(Path(path), suffixes)}") from reason
    except (OSError, ValueError) as reason:  # ValueError: a null byte in the name
        raise error(f"{shown} cannot be read: {cause(reason)}") from reason
    if refusal is None and len(data) > limit:  # it has grown meanwhile
        refusal = _too_large(limit)
    if refusal is None and data.startswith(LFS_POINTER):
        refusal = LFS_HINT
    if refusal is not None:
        raise error(f"{shown} {refusal}")
    return data


def decoded(data: bytes | str, label: str, error: type[ClipmkError]) -> str:
    """UTF-8 text, with or without a byte order mark; raises `error` for anything else."""
    try:
        return data if isinstance(data, str) else data.decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        raise error(f"{label} is not UTF-8 text (byte {reason.start})") from reason


@contextlib.contextmanager
def atomic_write(path: str | Path, *, private: bool = True) -> Iterator[BinaryIO]:
    """Yield a binary file that replaces `path` only when the block ends without an error.

    The bytes go to a temporary file in the same folder, are flushed to the disk and renamed over `path` (a link is
    followed); on any failure the temporary file is removed and `path` stays as it was. `private` files are readable by
    their owner only, others follow the umask. Raises `ClipmkError`, which says why it cannot be written.
    """
    import secrets  # noqa: PLC0415 - loads hashlib, which readers do not need

    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    if os.path.exists(target) and not os.path.isfile(target):  # noqa: PTH110, PTH113 - neither raises
        raise unwritable(path, OSError(errno.EINVAL, "it exists and is not a regular file"))
    try:
        mode = 0o600 if private else 0o666
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(target)
    except OSError as reason:
        raise unwritable(path, reason) from reason
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_text(text: str, path: Path) -> None:
    """Write UTF-8 text completely or not at all, by `atomic_write`; what UTF-8 cannot encode is escaped."""
    with atomic_write(path, private=False) as handle:
        handle.write(text.encode("utf-8", "backslashreplace"))


def make_folder(path: Path) -> None:
    """Create a folder and its parents where they are missing; `ClipmkError` says why it cannot be created."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as reason:
        raise unwritable(path, reason) from reason


def unwritable(path: str | Path, reason: OSError) -> ClipmkError:
    """The error for a file or folder that cannot be written; a name that is too long is wrong, not unlucky."""
    kind = UsageError if reason.errno == errno.ENAMETOOLONG else ClipmkError
    return kind(f"{quoted(path)} cannot be written: {cause(reason)}")


@contextlib.contextmanager
def file_lock(path: Path, *, seconds: float) -> Iterator[None]:
    """Hold a lock file while the block runs; where there are no locks, go on without, which is logged.

    Raises filelock.Timeout if another process holds it for `seconds`, and OSError.
    """
    from filelock import FileLock  # noqa: PLC0415 - loads asyncio, which readers of a config do not need

    lock = FileLock(path, timeout=seconds, mode=0o600, fallback_to_soft=False)
    try:
        lock.acquire()
    except OSError as reason:
        if reason.errno not in _WITHOUT_LOCKS:
            raise
        _log.warning("folder %s has no file locks; only one process at a time may write there", quoted(path.parent))
    try:
        yield
    finally:
        lock.release()


def _refusal(status: os.stat_result, limit: int) -> str | None:
    if not stat.S_ISREG(status.st_mode):
        kind = next((text for is_kind, text in _KINDS if is_kind(status.st_mode)), "is special")
        return f"{kind}, not a regular file"
    return _too_large(limit) if status.st_size > limit else None


def _too_large(limit: int) -> str:
    return f"is larger than {byte_size(limit)}"


def _nearby(path: Path, suffixes: Collection[str]) -> str:
    """Files with similar names in the folder of a missing file, as the end of a message."""
    folder = path.parent
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in itertools.islice(entries, NEARBY_LIMIT)]
    except OSError:
        return f"; neither does the folder {quoted(folder)}"
    names = sorted(name for name in names if Path(name).suffix.lower() in suffixes)
    return f"; {printable(suggest(path.name, names))}" if names else ""

"""Lock files, and what happens where the file system has none: some network drives and sandboxes."""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from clipmk.system.quiet import captured_warnings
from clipmk.system.text import quoted

_log = logging.getLogger(__name__)

_WITHOUT_LOCKS: Final = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})


def without_locks(reason: Exception, path: Path) -> bool:
    """Whether an error means that a file system has no locks; that is logged, because the caller goes on without."""
    found = isinstance(reason, NotImplementedError | Warning) or getattr(reason, "errno", None) in _WITHOUT_LOCKS
    if found:
        _log.warning("folder %s has no file locks; only one process at a time may write there", quoted(path.parent))
    return found


@contextlib.contextmanager
def file_lock(path: Path, *, seconds: float) -> Iterator[None]:
    """Hold a lock file while the block runs; where there are no locks, go on without.

    Raises:
        filelock.Timeout: another process held it for `seconds`.
        OSError: the file cannot be created.
    """
    from filelock import FileLock  # noqa: PLC0415 - loads asyncio, which readers of a config do not need

    lock = FileLock(path, timeout=seconds)
    with captured_warnings() as caught:
        try:
            lock.acquire()
        except (OSError, NotImplementedError) as reason:
            if not without_locks(reason, path):
                raise
    for warning in caught[:1]:  # it falls back to a file that merely exists
        without_locks(UserWarning(warning.message), path)
    try:
        yield
    finally:
        lock.release()

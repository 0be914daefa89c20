"""What an answer depends on besides the request: client and server must agree on it, or their answers could differ."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import clipmk
from clipmk.system.config import Config

VARIABLES = (
    "CLIPMK_CACHE_DIR",
    "XDG_CACHE_HOME",
    "HOME",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_ENDPOINT",
    "HF_HUB_OFFLINE",
    "HF_TOKEN",
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
)
"""Environment variables that decide which files are read or downloaded, or how numbers are added."""


def identity(config: Config) -> dict[str, str]:
    """Name -> digest of each thing that must be the same on both sides; weights are compared with every request.

    "code": the files of `clipmk` itself, by name, size and time. "python": interpreter and environment, hence torch
    and open_clip. "models": the names registered in the config. "variables": `VARIABLES`. "machine": processors that
    may be used (they decide how sums are split), and which file system is visible.
    """
    return {
        "code": _digest(_files(Path(clipmk.__file__).parent)),
        "python": _digest([sys.version, sys.prefix]),
        "models": _digest(sorted(config.models.items())),
        "variables": _digest([os.environ.get(name) for name in VARIABLES]),
        "machine": _digest([len(os.sched_getaffinity(0)), _mounts()]),
    }


def differences(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """The names whose digests differ."""
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))


def _files(folder: Path) -> list[tuple[str, int, int]]:
    found = ((str(path), path.stat()) for path in sorted(folder.rglob("*.py")))
    return [(name, status.st_mtime_ns, status.st_size) for name, status in found]


def _mounts() -> int:
    try:
        return os.stat("/proc/self/ns/mnt").st_ino  # noqa: PTH116 - follows the link, as Path.stat would
    except OSError:
        return 0


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode("ascii")).hexdigest()[:16]

"""What works here, what does not, and what to do about it."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from clipmk.errors import ClipmkError
from clipmk.system import locations
from clipmk.system.config import read_config
from clipmk.system.text import byte_size
from clipmk.version import __version__

_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of the answer."""

    name: str
    status: Literal["ok", "warn"]
    detail: str
    hint: str | None = None
    """What to do, if anything."""


def checks(*, full: bool) -> Iterator[Check]:
    """Check everything.

    Args:
        full: also import torch and open_clip (seconds) to ask for devices and list cached weights.
    """
    yield python_version()
    yield from packages()
    yield colours(os.environ, terminal=sys.stderr is not None and sys.stderr.isatty())
    yield encoding(getattr(sys.stdout, "encoding", None))
    yield devices() if full else driver()
    yield embedded()
    yield weights(full=full)
    yield cache()
    yield config()


def python_version() -> Check:
    """Python and the operating system."""
    detail = f"{platform.python_version()} on {platform.system()} {platform.machine()}, clipmk {__version__}"
    if (3, 11) <= sys.version_info[:2] < (3, 14):
        return _ok("python", detail)
    return _warn("python", detail, "use Python 3.11, 3.12 or 3.13")


def packages() -> Iterator[Check]:
    """The packages that clipmk's metadata requires, and their versions; nothing is imported."""
    try:
        required = metadata.requires("clipmk") or []
    except metadata.PackageNotFoundError:
        yield _warn("packages", "clipmk is not installed as a package", "pip install clipmk, or pip install -e . here")
        return
    names = [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in required if "extra ==" not in line]
    found = {name: _version(name) for name in names}
    yield _ok("packages", ", ".join(f"{name} {version}" for name, version in found.items() if version is not None))
    if missing := [name for name, version in found.items() if version is None]:
        yield _warn("packages", f"missing: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    if _version("transformers") is None:
        yield _ok("transformers", "not installed; `clipmk models info` says which models need it")


def colours(environment: Mapping[str, str], *, terminal: bool) -> Check:
    """How many colours the terminal shows."""
    term, depth = environment.get("TERM", ""), environment.get("COLORTERM", "").lower()
    detail = f"TERM={term or '(not set)'} COLORTERM={depth or '(not set)'}"
    if environment.get("NO_COLOR"):
        return _ok("colours", f"switched off by NO_COLOR ({detail})")
    if not terminal:
        return _ok("colours", f"not a terminal: plain output ({detail})")
    if "truecolor" in depth or "24bit" in depth:
        return _ok("colours", f"16 million ({detail})")
    hint = "if your terminal can show 16 million colours: export COLORTERM=truecolor"
    if "SSH_CONNECTION" in environment or "SSH_TTY" in environment:
        hint += " in the shell's profile here (SSH does not pass it on by itself)"
    if "256" in term:
        return _warn("colours", f"256 ({detail})", hint)
    return _warn("colours", f"16 or none ({detail})", f"set TERM=xterm-256color; {hint}")


def encoding(name: str | None) -> Check:
    """Whether bars and half-blocks can be printed."""
    if name is not None and name.lower().replace("-", "").startswith("utf"):
        return _ok("encoding", name)
    return _warn("encoding", name or "unknown", "set a UTF-8 locale, such as LC_ALL=C.UTF-8, or PYTHONUTF8=1")


def driver() -> Check:
    """The GPU, as far as it can be seen without torch."""
    version = _version("torch") or ""
    if not _DRIVER.exists():
        return _ok("gpu", "no NVIDIA driver found; --full asks torch for its devices")
    if version.endswith("+cpu"):
        detail = f"NVIDIA driver found, but torch {version} has no CUDA"
        return _warn("gpu", detail, "install a torch with CUDA and the torchvision of the same release")
    return _ok("gpu", "NVIDIA driver found; --full asks torch whether it can use it")


def devices() -> Check:
    """The devices that torch can use."""
    from clipmk.backbones.devices import available_devices  # noqa: PLC0415 - torch: seconds

    found = available_devices()
    if len(found) == 1 and _DRIVER.exists():
        hint = "torch's CUDA is newer than the driver, or torch was built without CUDA: install another torch"
        return _warn("gpu", "NVIDIA driver found, but torch sees only the CPU", hint)
    return _ok("gpu", ", ".join(found))


def embedded() -> Check:
    """The models that are shipped."""
    from clipmk.models.catalog import embedded_names  # noqa: PLC0415

    names = embedded_names()
    if not names:
        return _warn("embedded models", "none", "reinstall clipmk: its assets are missing")
    return _ok("embedded models", ", ".join(names))


def weights(*, full: bool) -> Check:
    """Downloaded models."""
    import huggingface_hub.constants  # noqa: PLC0415, F401 - its lazy package does not load it by itself

    from clipmk.models import catalog, hub  # noqa: PLC0415

    try:
        if full:
            names = [entry.id for entry in catalog.list_models(["cached"])]
        else:
            names = [catalog.HUB + name for name in hub.cached_repositories()]
    except ClipmkError as error:
        return _warn("cached weights", str(error), "remove the damaged files from the cache")
    if names:
        return _ok("cached weights", ", ".join(names))
    detail = "none" if full else "none with a configuration of their own; --full also looks for open_clip's"
    hint = "for photographs download a model: clipmk models pull ViT-B-32:laion2b_s34b_b79k"
    return Check(name="cached weights", status="ok", detail=detail, hint=hint)


def cache() -> Check:
    """The cache of text embeddings."""
    info = locations.cache_info()
    detail = f"{info.path}, {info.files} files, {byte_size(info.bytes)}"
    existing = next(folder for folder in (info.path, *info.path.absolute().parents) if folder.exists())
    if existing.is_dir() and os.access(existing, os.W_OK):
        return _ok("cache", detail)
    return _warn("cache", detail, f"{existing} is not a writable folder; set CLIPMK_CACHE_DIR to one that is")


def config() -> Check:
    """The config file."""
    path = locations.config_path()
    try:
        read_config()
    except ClipmkError as error:
        return _warn("config", str(error), "correct or remove this line")
    return _ok("config", f"{path} {'is valid' if path.exists() else 'does not exist (it is optional)'}")


def _ok(name: str, detail: str) -> Check:
    return Check(name=name, status="ok", detail=detail)


def _warn(name: str, detail: str, hint: str) -> Check:
    return Check(name=name, status="warn", detail=detail, hint=hint)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None

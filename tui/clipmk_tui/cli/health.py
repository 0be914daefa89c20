"""What `clipmk doctor` looks at: each check reads one thing and says what to do about it."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from clipmk.errors import ClipmkError
from clipmk.system import locations
from clipmk.system.config import read_config
from clipmk.version import __version__

PACKAGES = (
    "torch", "torchvision", "open_clip_torch", "timm", "safetensors", "numpy", "scipy", "scikit-learn",
    "opencv-python-headless", "pillow", "rich", "textual", "typer", "term-image",
)  # fmt: skip
"""Packages that `clipmk` cannot do without, as pip calls them."""

_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of the doctor."""

    name: str
    status: Literal["ok", "warn"]
    detail: str
    hint: str | None = None
    """What to do; None where nothing is to be done."""


def checks(*, full: bool) -> Iterator[Check]:
    """Look at everything.

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
    """Python and the system."""
    detail = f"{platform.python_version()} on {platform.system()} {platform.machine()}, clipmk {__version__}"
    if (3, 11) <= sys.version_info[:2] < (3, 14):
        return Check(name="python", status="ok", detail=detail)
    return Check(name="python", status="warn", detail=detail, hint="use Python 3.11, 3.12 or 3.13")


def packages() -> Iterator[Check]:
    """Versions from the installed metadata; nothing is imported."""
    found = {name: _version(name) for name in PACKAGES}
    missing = [name for name, version in found.items() if version is None]
    detail = ", ".join(f"{name} {version}" for name, version in found.items() if version is not None)
    yield Check(name="packages", status="ok", detail=detail)
    if missing:
        yield Check(
            name="packages",
            status="warn",
            detail=f"missing: {', '.join(missing)}",
            hint=f"pip install {' '.join(missing)}",
        )
    if _version("transformers") is None:
        detail = "transformers is not installed: models whose texts need it are marked in clipmk models info"
        yield Check(name="transformers", status="ok", detail=detail)


def colours(environment: Mapping[str, str], *, terminal: bool) -> Check:
    """How many colours the picture can have."""
    term, depth = environment.get("TERM", ""), environment.get("COLORTERM", "").lower()
    detail = f"TERM={term or '(not set)'} COLORTERM={depth or '(not set)'}"
    if environment.get("NO_COLOR"):
        return Check(name="colours", status="ok", detail=f"switched off by NO_COLOR ({detail})")
    if not terminal:
        return Check(name="colours", status="ok", detail=f"no terminal here: plain output ({detail})")
    if "truecolor" in depth or "24bit" in depth:
        return Check(name="colours", status="ok", detail=f"16 million ({detail})")
    over_ssh = "SSH_CONNECTION" in environment or "SSH_TTY" in environment
    hint = "if your terminal can show 16 million colours: export COLORTERM=truecolor"
    if over_ssh:
        hint += " in the shell's profile here (SSH does not pass it on by itself)"
    if "256" in term:
        return Check(name="colours", status="warn", detail=f"256 ({detail})", hint=hint)
    return Check(
        name="colours", status="warn", detail=f"16 or none ({detail})", hint=f"set TERM=xterm-256color; {hint}"
    )


def encoding(name: str | None) -> Check:
    """Whether bars and half-blocks can be printed."""
    if name is not None and name.lower().replace("-", "").startswith("utf"):
        return Check(name="encoding", status="ok", detail=name)
    hint = "set a UTF-8 locale, such as LC_ALL=C.UTF-8, or PYTHONUTF8=1"
    return Check(name="encoding", status="warn", detail=name or "unknown", hint=hint)


def driver() -> Check:
    """The GPU as far as it can be seen without torch."""
    version = _version("torch") or ""
    if not _DRIVER.exists():
        return Check(name="gpu", status="ok", detail="no NVIDIA driver found; --full asks torch for its devices")
    if version.endswith("+cpu"):
        hint = "install a torch with CUDA and the torchvision of the same release"
        return Check(
            name="gpu", status="warn", detail=f"NVIDIA driver found, but torch {version} has no CUDA", hint=hint
        )
    return Check(name="gpu", status="ok", detail="NVIDIA driver found; --full asks torch whether it can use it")


def devices() -> Check:
    """The devices that torch can use."""
    from clipmk.backbones.devices import available_devices  # noqa: PLC0415 - torch: seconds

    found = available_devices()
    if len(found) == 1 and _DRIVER.exists():
        hint = "torch cannot use it: its CUDA is newer than the driver, or it was built without"
        return Check(name="gpu", status="warn", detail="NVIDIA driver found, but torch sees the CPU only", hint=hint)
    return Check(name="gpu", status="ok", detail=", ".join(found))


def embedded() -> Check:
    """The models that are shipped."""
    from clipmk.models.catalog import embedded_names  # noqa: PLC0415

    names = embedded_names()
    if not names:
        return Check(
            name="embedded models", status="warn", detail="none", hint="reinstall clipmk: its assets are missing"
        )
    return Check(name="embedded models", status="ok", detail=", ".join(names))


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
        return Check(
            name="cached weights", status="warn", detail=str(error), hint="remove what is damaged from the cache"
        )
    if names:
        return Check(name="cached weights", status="ok", detail=", ".join(names))
    detail = "none" if full else "none with a configuration of their own; --full looks for all of open_clip's"
    hint = "for photographs fetch a model: clipmk models pull ViT-B-32:laion2b_s34b_b79k"
    return Check(name="cached weights", status="ok", detail=detail, hint=hint)


def cache() -> Check:
    """Where embedded vocabularies are kept."""
    info = locations.cache_info()
    detail = f"{info.path}, {info.files} files, {info.bytes / 2**20:.1f} MiB"
    existing = next(folder for folder in (info.path, *info.path.absolute().parents) if folder.exists())
    if existing.is_dir() and os.access(existing, os.W_OK):
        return Check(name="cache", status="ok", detail=detail)
    hint = f"{existing} cannot be written to; set CLIPMK_CACHE_DIR to a folder that can"
    return Check(name="cache", status="warn", detail=detail, hint=hint)


def config() -> Check:
    """The config file."""
    path = locations.config_path()
    try:
        read_config()
    except ClipmkError as error:
        return Check(name="config", status="warn", detail=str(error), hint="mend or remove this line")
    there = "is read" if path.exists() else "does not exist, which is fine"
    return Check(name="config", status="ok", detail=f"{path} {there}")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None

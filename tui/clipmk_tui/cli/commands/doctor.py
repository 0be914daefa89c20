"""`clipmk doctor`: what works here, what does not, and what to do about it."""

import os
import platform
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from clipmk.errors import ClipmkError
from clipmk.system import locations
from clipmk.system.config import config_bytes, parse_config, read_config, variable
from clipmk.system.text import byte_size, cause
from clipmk.version import __version__
from clipmk_tui.cli import options as o
from clipmk_tui.cli import tables

_DRIVER = Path("/proc/driver/nvidia/version")

_FULL = "Also import torch and open_clip (seconds) to list devices and cached weights."
Full = Annotated[bool, o.flag(None, "full", _FULL)]


def doctor(full: Full = False, json: o.Json = False, no_color: o.NoColor = False, debug: o.Debug = False) -> int:
    """Check terminal, packages, GPU, weights, cache and config; each line says what to do."""
    from rich.text import Text  # noqa: PLC0415

    with tables.for_people(no_color) as console:
        found = list(checks(full=full))
        if not json:
            rows: list[tuple[object, ...]] = []
            for check in found:
                sign = Text("ok", "green") if check.status == "ok" else Text("warn", "bold yellow")
                rows.append((sign, check.name, check.detail))
                if check.hint is not None:
                    rows.append(("", "", f"-> {check.hint}"))
            console.print(tables.table(("", "", ""), rows))
    if json:
        tables.put_json({"checks": [asdict(check) for check in found]})
    return 0


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the answer."""

    name: str
    status: Literal["ok", "warn"]
    detail: str
    hint: str | None = None  # what to do, if anything


def checks(*, full: bool) -> Iterator[Check]:
    """Check everything; a check that fails is a line like the others. With `full`, torch and open_clip are imported."""
    terminal = sys.stderr is not None and sys.stderr.isatty()
    every: dict[str, Callable[[], Check | Iterator[Check]]] = {
        "python": python_version,
        "packages": packages,
        "colours": lambda: colours(os.environ, terminal=terminal),
        "pictures": lambda: pictures(os.environ),
        "encoding": lambda: encoding(getattr(sys.stdout, "encoding", None)),
        "gpu": devices if full else driver,
        "embedded models": embedded,
        "cached weights": lambda: weights(full=full),
        "cache": cache,
        "config": config,
    }
    for name, check in every.items():
        try:
            found = check()
            yield from [found] if isinstance(found, Check) else found
        except Exception as error:  # noqa: BLE001 - whatever is broken, this command says so
            yield Check(name, "warn", f"cannot be checked: {type(error).__name__}: {cause(error)}")


def python_version() -> Check:
    """Python and the operating system."""
    detail = f"{platform.python_version()} on {platform.system()} {platform.machine()}, clipmk {__version__}"
    if (3, 11) <= sys.version_info[:2] < (3, 14):
        return Check("python", "ok", detail)
    return Check("python", "warn", detail, "use Python 3.11, 3.12 or 3.13")


def packages() -> Iterator[Check]:
    """The packages that clipmk's metadata requires, and their versions; nothing is imported."""
    from importlib import metadata  # noqa: PLC0415 - not for the help

    try:
        required = metadata.requires("clipmk") or []
    except metadata.PackageNotFoundError:
        yield Check(
            "packages", "warn", "clipmk is not installed as a package", "pip install clipmk, or pip install -e . here"
        )
        return
    names = [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in required if "extra ==" not in line]
    found = {name: _version(name) for name in names}
    yield Check(
        "packages", "ok", ", ".join(f"{name} {version}" for name, version in found.items() if version is not None)
    )
    if missing := [name for name, version in found.items() if version is None]:
        yield Check("packages", "warn", f"missing: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    if _version("transformers") is None:
        yield Check("transformers", "ok", "not installed; `clipmk models info` says which models need it")


def colours(environment: Mapping[str, str], *, terminal: bool) -> Check:
    """How many colours the terminal shows."""
    term, depth = environment.get("TERM", ""), environment.get("COLORTERM", "").lower()
    detail = f"TERM={term or '(not set)'} COLORTERM={depth or '(not set)'}"
    if environment.get("NO_COLOR"):
        return Check("colours", "ok", f"switched off by NO_COLOR ({detail})")
    if not terminal:
        return Check("colours", "ok", f"not a terminal: plain output ({detail})")
    if "truecolor" in depth or "24bit" in depth:
        return Check("colours", "ok", f"16 million ({detail})")
    hint = "if your terminal can show 16 million colours: export COLORTERM=truecolor"
    if "SSH_CONNECTION" in environment or "SSH_TTY" in environment:
        hint += " in the shell's profile here (SSH does not pass it on by itself)"
    if "256" in term:
        return Check("colours", "warn", f"256 ({detail})", hint)
    return Check("colours", "warn", f"16 or none ({detail})", f"set TERM=xterm-256color; {hint}")


def pictures(environment: Mapping[str, str]) -> Check:
    """How the app draws them."""
    from clipmk_tui.show.pixels import GRAPHICS, protocol_for  # noqa: PLC0415

    graphics = environment.get(variable("graphics")) or read_config().graphics or "auto"
    protocol = protocol_for(graphics, environment)
    how = "half-blocks" if protocol is None else f"real pixels, {protocol}"
    return Check("pictures", "ok", f"{how} ({variable('graphics')}={graphics}; {', '.join(GRAPHICS)})")


def encoding(name: str | None) -> Check:
    """Whether bars and half-blocks can be printed."""
    if name is not None and name.lower().replace("-", "").startswith("utf"):
        return Check("encoding", "ok", name)
    return Check("encoding", "warn", name or "unknown", "set a UTF-8 locale, such as LC_ALL=C.UTF-8, or PYTHONUTF8=1")


def driver() -> Check:
    """The GPU, as far as it can be seen without torch."""
    version = _version("torch") or ""
    if not _DRIVER.exists():
        return Check("gpu", "ok", "no NVIDIA driver found; --full asks torch for its devices")
    if version.endswith("+cpu"):
        detail = f"NVIDIA driver found, but torch {version} has no CUDA"
        return Check("gpu", "warn", detail, "install a torch with CUDA and the torchvision of the same release")
    return Check("gpu", "ok", "NVIDIA driver found; --full asks torch whether it can use it")


def devices() -> Check:
    """The devices that torch can use."""
    from clipmk.backbones.devices import available_devices  # noqa: PLC0415 - torch: seconds

    found = available_devices()
    if len(found) == 1 and _DRIVER.exists():
        hint = "torch's CUDA is newer than the driver, or torch was built without CUDA: install another torch"
        return Check("gpu", "warn", "NVIDIA driver found, but torch sees only the CPU", hint)
    return Check("gpu", "ok", ", ".join(found))


def embedded() -> Check:
    """The models that are shipped."""
    from clipmk.models.catalog import embedded_names  # noqa: PLC0415

    names = embedded_names()
    if not names:
        return Check("embedded models", "warn", "none", "reinstall clipmk: its assets are missing")
    return Check("embedded models", "ok", ", ".join(names))


def weights(*, full: bool) -> Check:
    """Downloaded models."""
    import huggingface_hub.constants  # noqa: PLC0415, F401 - its lazy package does not load it by itself

    from clipmk.models import catalog, local  # noqa: PLC0415

    folder, ours = local.cache_folder(), "set HF_HOME to a folder of your own"
    if not os.access(_existing(folder), os.R_OK | os.X_OK):
        return Check("cached weights", "warn", f"{folder} cannot be read", ours)
    try:
        if full:
            names = [entry.id for entry in catalog.list_models(["cached"])]
        else:
            names = [catalog.HUB + name for name in local.cached_models()]
    except (ClipmkError, OSError) as error:
        return Check("cached weights", "warn", str(error), f"remove the damaged files from the cache, or {ours}")
    if names:
        return Check("cached weights", "ok", ", ".join(names))
    detail = "none" if full else "none with a configuration of their own; --full also looks for open_clip's"
    hint = "for photographs download a model: clipmk models pull ViT-B-32:laion2b_s34b_b79k"
    return Check("cached weights", "ok", detail, hint)


def cache() -> Check:
    """The cache of text embeddings."""
    info = locations.cache_info()
    detail = f"{info.path}, {info.files} files, {byte_size(info.bytes)}"
    existing = _existing(info.path)
    if os.path.isdir(existing) and os.access(existing, os.W_OK):  # noqa: PTH112 - unlike Path.is_dir, never raises
        return Check("cache", "ok", detail)
    return Check("cache", "warn", detail, f"{existing} is not a writable folder; set CLIPMK_CACHE_DIR to one that is")


def _existing(path: Path) -> Path:
    """A path, or the first of its parents that exists, as far as this user may know."""
    return next(one for one in (path, *path.absolute().parents) if os.path.exists(one))  # noqa: PTH110 - never raises


def config() -> Check:
    """The config file."""
    path = locations.config_path()
    try:
        data = config_bytes(path)
        parse_config(data, path)
    except ClipmkError as error:
        return Check("config", "warn", str(error), "correct the line, or set CLIPMK_CONFIG to another file")
    return Check("config", "ok", f"{path} {'is valid' if data else 'is empty or missing (it is optional)'}")


def _version(package: str) -> str | None:
    from importlib import metadata  # noqa: PLC0415 - not for the help

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None

"""Models under names of the user's own: the `[models]` table of the config file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from clipmk.errors import ModelError, UsageError, suggest
from clipmk.models import aliases, catalog
from clipmk.models.catalog import CHECKPOINT, HUB, LOCAL
from clipmk.models.inventory import hub_text_tower, inventory
from clipmk.system import preferences
from clipmk.system.text import printable, quoted

if TYPE_CHECKING:
    from clipmk.models.spec import ModelSpec


def register(name: str, target: str, *, arch: str | None = None) -> str:
    """Let a name stand for a model, in the config file; everything else in it stays as it is.

    Args:
        name: letters, digits, and ".", "-", "_" between them; none that means another model.
        target: a folder with `open_clip_config.json` and weights, a checkpoint file (with `arch`), or any model id.
        arch: open_clip's architecture, for a checkpoint.

    Returns:
        What the name stands for now: `local-dir:FOLDER`, `checkpoint:ARCHITECTURE:FILE` or the id, paths absolute.

    Raises:
        UsageError: the name is taken or none, `arch` is missing or too much, or the config file is malformed.
        ModelError: the target is no model, or holds what will not be loaded: code, or weights that do not fit.
    """
    _check_name(name)
    meant = _checked_target(target, arch)
    present = catalog.registered_models().get(name)
    if present not in {None, meant}:
        raise UsageError(
            f"{quoted(name)} stands for {quoted(str(present))} already; `clipmk models remove {name}` frees it"
        )
    preferences.save({f"models.{name}": meant})
    return meant


def unregister(name: str) -> str:
    """Forget a registered name; the files it stands for stay.

    Returns:
        What it stood for.

    Raises:
        UsageError: no such name is registered, or the config file is malformed.
    """
    known = catalog.registered_models()
    if name not in known:
        hint = printable(suggest(name, known)) if known else "none is"
        raise UsageError(f"no model is registered as {quoted(name)}; {hint}")
    preferences.save({f"models.{name}": None})
    return known[name]


def _check_name(name: str) -> None:
    if re.fullmatch(r"[A-Za-z0-9]+([._-]+[A-Za-z0-9]+)*", name) is None:
        raise UsageError(f"{quoted(name)} is no name for a model: letters, digits, and . - _ between them are")
    if aliases.canonical(name) != name or aliases.architecture_spelt(name) is not None or catalog.is_checkpoint(name):
        raise UsageError(f"{quoted(name)} means another model or a file already; choose another name")


def _checked_target(target: str, arch: str | None) -> str:
    """The target in the form that is kept, after a look at what it names."""
    path = Path(target.removeprefix(LOCAL)).expanduser()
    if target.startswith(LOCAL) or path.is_dir():
        return _checked(f"{LOCAL}{path.absolute()}", arch)
    if target.startswith(CHECKPOINT):
        architecture, file = catalog.split_checkpoint(target)
        return _checked(f"{CHECKPOINT}{arch or architecture}:{file.absolute()}", None)
    if catalog.is_checkpoint(target):
        return _checked_checkpoint(path, arch)
    if arch is not None:
        raise UsageError(f"an architecture ({arch!r}) goes with a checkpoint file; {target!r} has its own")
    name = aliases.canonical(target)
    if tuple(name.split(":", 1)) in inventory().pairs or target.startswith(HUB) or target in catalog.embedded_names():
        return name
    raise ModelError(f"{quoted(target)} is neither a folder, nor a checkpoint, nor a model that exists")


def _checked_checkpoint(path: Path, arch: str | None) -> str:
    if not path.is_file():
        raise ModelError(f"checkpoint {quoted(path)} does not exist")
    if arch is None:
        raise UsageError(f"checkpoint {quoted(path)} needs its architecture (--arch NAME, such as ViT-B-32)")
    return _checked(f"{CHECKPOINT}{aliases.architecture_spelt(arch) or arch}:{path.absolute()}", None)


def _checked(target: str, arch: str | None) -> str:
    from clipmk.models.checkpoints import check_weights  # noqa: PLC0415
    from clipmk.models.spec import resolve  # noqa: PLC0415 - torch

    spec = resolve(target, arch=arch)
    if spec.weights is not None:
        check_weights(spec.weights)
        _check_fit(spec, spec.weights)
    return target


def _check_fit(spec: ModelSpec, weights: Path) -> None:
    """Refuse weights of another architecture, which is cheap without memory; what is not so is left to the loader."""
    from clipmk.models.checkpoints import check_fit  # noqa: PLC0415
    from clipmk.models.loading import build  # noqa: PLC0415 - torch

    if hub_text_tower(spec.config):
        return
    try:
        skeleton = build(spec, device="meta")
    except ModelError:
        return
    check_fit(skeleton, weights, architecture=spec.entry.architecture)

"""Names for models that the user registers: the `[models]` table of the config file."""

import re
from pathlib import Path

from clipmk.errors import ModelError, UsageError, suggest
from clipmk.models import catalog, local
from clipmk.models.catalog import CHECKPOINT, HUB, LOCAL
from clipmk.models.inventory import architecture_spelt, canonical, inventory
from clipmk.models.spec import resolve
from clipmk.system import preferences
from clipmk.system.text import printable, quoted


def register(name: str, target: str, *, arch: str | None = None) -> str:
    """Register a name for a model in the config file, and return what it now stands for, with absolute paths.

    A name has letters and digits, with ".", "-", "_" between them; `arch` is only for a checkpoint. Raises `UsageError`
    if the name is taken or invalid, or `arch` is missing or superfluous, and `ModelError` if the target is not a model,
    or cannot be loaded: it holds code, or weights that do not fit.
    """
    _check_name(name)
    stored = _checked_target(target, arch)
    present = catalog.registered_models().get(name)
    if present not in {None, stored}:
        raise UsageError(
            f"{quoted(name)} already stands for {quoted(str(present))}; `clipmk models remove {name}` frees it"
        )
    preferences.save({f"models.{name}": stored})
    return stored


def unregister(name: str) -> str:
    """Remove a registered name and return what it stood for; the files stay. `UsageError` if it is not registered."""
    known = catalog.registered_models()
    if name not in known:
        hint = printable(suggest(name, known)) if known else "there are none"
        raise UsageError(f"no model is registered as {quoted(name)}; {hint}")
    preferences.save({f"models.{name}": None})
    return known[name]


def _check_name(name: str) -> None:
    if re.fullmatch(r"[A-Za-z0-9]+([._-]+[A-Za-z0-9]+)*", name) is None:
        raise UsageError(f"{quoted(name)} is not a valid name: use letters and digits, with . - _ between them")
    if canonical(name) != name or architecture_spelt(name) or catalog.checkpoint_of(name):
        raise UsageError(f"{quoted(name)} already means another model or a file; choose another name")


def _checked_target(target: str, arch: str | None) -> str:
    """The target in the form that is stored, after checking the files that it names."""
    is_file = catalog.checkpoint_of(target) is not None
    if is_file or target.startswith(LOCAL) or local.is_folder(local.expanded(target)):
        from clipmk.models.loading import read_checked  # noqa: PLC0415 - torch

        spec = resolve(target, arch=arch)
        read_checked(spec)  # refuses weights that hold code, or are of another architecture
        path = Path(str(spec.entry.weights if is_file else spec.entry.path)).absolute()
        if is_file:
            return str(path) if spec.has_own_config else f"{CHECKPOINT}{spec.entry.architecture}:{path}"
        return f"{LOCAL}{path}"
    if arch is not None:
        raise UsageError(f"architecture {arch!r} is for checkpoint files only; {target!r} has its own")
    name = canonical(target)
    if tuple(name.split(":", 1)) in inventory().pairs or target.startswith(HUB) or target in catalog.embedded_names():
        return name
    raise ModelError(f"{quoted(target)} is not a folder, a checkpoint file or a known model")

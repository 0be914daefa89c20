"""The options of all commands, from `options.csv`: names, help, completion, environment variable.

A row without a command is for every command that takes an option of this name and has no row of its own; a row without
flags is an argument. An option that the command line does not give comes from `CLIPMK_<NAME>` where its row says that
it has a variable, then from the config (`with_config`).
"""

from __future__ import annotations

import csv
import inspect
import os
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer

from clipmk.errors import ClipmkError, UsageError, suggest
from clipmk.system.options import comma_separated, config_options, variable
from clipmk.system.text import quoted
from clipmk_tui.cli.errors import remember
from clipmk_tui.cli.streams import logging_to_stderr


def on_command_line(ctx: typer.Context, name: str) -> bool:
    """Whether the command line gives an option, not the environment or the config."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def output_path(option: str, text: str | None, suffix: str) -> Path | None:
    """The file that an option names.

    Raises:
        UsageError: its name has another ending.
    """
    if text is None:
        return None
    path = Path(text).expanduser()
    if path.suffix.lower() != suffix:
        raise UsageError(f"--{option} {text!r} must end in {suffix}")
    return path


def check_known(what: str, name: str | None, known: Iterable[str]) -> None:
    """Refuse a name that does not exist.

    Raises:
        UsageError: it is not one of the known; the message says which are close.
    """
    if name is not None and name not in (names := tuple(known)):
        raise UsageError(f"{what} {quoted(name)} does not exist; {suggest(name, names)}")


def with_config(command: Any, *, tolerant: bool, quiet: bool) -> None:
    """Let the config give options that neither the command line nor the environment gives.

    Args:
        command: of Typer; its commands where it is a group.
        tolerant: a malformed config counts as empty.
        quiet: do not say that a config in somebody else's home is ignored.

    Raises:
        UsageError: the config is malformed.
    """
    commands, found = [command], []
    while commands:
        one = commands.pop()
        commands += getattr(one, "commands", {}).values()
        if names := {param.name for param in one.params if param.envvar}:
            found.append((one, names))
    if not found:
        return
    from clipmk.system.config import read_config  # noqa: PLC0415 - not for --help

    try:
        with logging_to_stderr(quiet=quiet, verbose=False):
            values = config_options(read_config())
    except UsageError:
        if not tolerant:
            raise
        return
    for one, names in found:
        one.context_settings["default_map"] = {name: value for name, value in values.items() if name in names}


def _starting(known: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in known if name.startswith(incomplete)]


def complete_model(incomplete: str) -> list[str]:
    """Embedded and registered models: those that are known without importing open_clip."""
    from clipmk.models.catalog import embedded_names  # noqa: PLC0415

    return [*_starting(embedded_names(), incomplete), *complete_registered(incomplete)]


def complete_registered(incomplete: str) -> list[str]:
    """Models registered in the config."""
    from clipmk.models.catalog import registered_models  # noqa: PLC0415

    try:
        return _starting(registered_models(), incomplete)
    except ClipmkError:  # a malformed config must not break the shell
        return []


def complete_vocabulary(incomplete: str) -> list[str]:
    """Shipped vocabularies."""
    from clipmk.vocabulary.vocabulary import available  # noqa: PLC0415

    return _starting(available(), incomplete)


def _models(ctx: typer.Context, value: list[str] | None) -> list[str]:
    """`CLIPMK_MODEL` separates models by commas; Typer would split it at blanks."""
    source = ctx.get_parameter_source("model")
    if source is not None and source.name == "ENVIRONMENT":
        return comma_separated(os.environ[variable("model")])
    return list(value or ())


def _remember(ctx: typer.Context, value: bool) -> bool:
    remember(ctx)
    return value


_TYPES: Final = {"text": str, "texts": list[str], "number": int, "switch": bool, "path": Path}
_COMPLETIONS: Final = {"model": complete_model, "registered": complete_registered, "vocabulary": complete_vocabulary}
_CALLBACKS: Final[dict[str, Callable[..., Any]]] = {"model": _models, "debug": _remember}
"""Of options that commands share."""

Command = TypeVar("Command", bound=Callable[..., int])


def takes(command: str, names: str) -> Callable[[Command], Command]:
    """Give a command its options, in the order of its help; it is called with those that it names, or all of `**_`.

    Args:
        command: whose rows of `options.csv` go before those for all.
        names: of the parameters, separated by blanks.
    """

    def with_options(run: Command) -> Command:
        context = [one for name, one in inspect.signature(run, eval_str=True).parameters.items() if name == "ctx"]
        vars(run)["__signature__"] = inspect.Signature([*context, *(_parameter(command, one) for one in names.split())])
        return run

    return with_options


def command(app: typer.Typer, name: str, names: str) -> Callable[[Command], Command]:
    """Add a command to a group, with its options; see `takes`."""
    return lambda run: app.command(name)(takes(name, names)(run))


@cache
def _rows() -> dict[tuple[str, str], dict[str, str]]:
    with Path(__file__).with_suffix(".csv").open(encoding="utf-8", newline="") as file:
        return {(row["command"], row["name"]): row for row in csv.DictReader(file)}


def _parameter(command: str, name: str) -> inspect.Parameter:
    """A parameter as its row declares it."""
    row = _rows().get((command, name)) or _rows()["", name]
    kind, default, shared = _TYPES[row["type"]], row["default"], not row["command"]
    value: Any = bool(default) if kind is bool else None if not default else kind(default)
    about: dict[str, Any] = {
        "help": row["help"],
        "metavar": row["metavar"] or None,
        "rich_help_panel": row["panel"] or None,
        "autocompletion": _COMPLETIONS.get(row["complete"]) or (_choices(row["metavar"]) if row["complete"] else None),
        "show_default": False,
    }
    declared: Any
    if row["flags"]:
        about |= {"envvar": variable(name) if row["variable"] else None, "show_envvar": False}
        about |= {"min": int(row["least"]) if row["least"] else None, "is_eager": name == "debug"}
        declared = typer.Option(*row["flags"].split(), callback=_CALLBACKS.get(name) if shared else None, **about)
    else:
        declared = typer.Argument(**about)
    annotation: Any = Annotated[kind if default or kind is bool else kind | None, declared]
    value = inspect.Parameter.empty if default == "required" else value
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value, annotation=annotation)


def _choices(metavar: str) -> Callable[[str], list[str]]:
    known = [one for one in metavar.split("|") if one.islower()]
    return lambda incomplete: _starting(known, incomplete)

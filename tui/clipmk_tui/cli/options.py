"""The options that commands share, as types: names, help, completion, environment variable.

Where the command line does not give an option, Typer reads its variable, then the config (`with_config`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Annotated, Any, Final

import typer

from clipmk.errors import ClipmkError, UsageError
from clipmk.settings import PRESETS
from clipmk.system.options import comma_separated, config_options, variable
from clipmk_tui.cli.errors import remember

INPUT, SETTINGS, OUTPUT, MESSAGES = "Input", "Settings", "Output", "Messages"
"""Panels of the help."""


def option(name: str, *flags: str, **more: Any) -> Any:
    """Declare an option that `CLIPMK_<NAME>` and, where it has such a key, the config give as well.

    Args:
        name: the parameter's.
        flags: `--name` where none is given.
        more: what `typer.Option` takes.
    """
    return typer.Option(*flags, envvar=variable(name), show_envvar=False, show_default=False, **more)


def on_command_line(ctx: typer.Context, name: str) -> bool:
    """Whether the command line gives an option, not the environment or the config."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def with_config(command: Any, *, tolerant: bool) -> None:
    """Let the config give what neither the command line nor the environment does.

    Args:
        command: of Typer; its commands where it is a group.
        tolerant: a malformed config counts as empty.

    Raises:
        UsageError: the config is malformed.
    """
    for one in getattr(command, "commands", {}).values():
        with_config(one, tolerant=tolerant)
    if not any(param.envvar for param in command.params):
        return
    from clipmk.system.config import read_config  # noqa: PLC0415 - not for --help

    try:
        values = config_options(read_config())
    except UsageError:
        if not tolerant:
            raise
        return
    names = {param.name for param in command.params if param.envvar}
    command.context_settings["default_map"] = {name: value for name, value in values.items() if name in names}


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
    """`CLIPMK_MODEL` holds models between commas; Typer would divide it at blanks."""
    source = ctx.get_parameter_source("model")
    if source is not None and source.name == "ENVIRONMENT":
        return comma_separated(os.environ[variable("model")])
    return list(value or ())


def _remember(ctx: typer.Context, value: bool) -> bool:
    remember(ctx)
    return value


def _one_of(*known: str) -> dict[str, Any]:
    return {"metavar": "|".join(known), "autocompletion": lambda incomplete: _starting(known, incomplete)}


Images = Annotated[
    list[str],
    typer.Argument(metavar="IMAGE", help="Files, folders (not recursive), patterns, or - for standard input."),
]
Models = Annotated[
    list[str] | None,
    option(
        "model",
        "--model",
        "-m",
        metavar="MODEL",
        help="embedded/NAME, NAME:TAG as open_clip prints it, hf-hub:ORG/REPO, local-dir:FOLDER, a checkpoint file "
        "(with --arch), or a name from the config. May be repeated.",
        autocompletion=complete_model,
        callback=_models,
        rich_help_panel=INPUT,
    ),
]
Classes = Annotated[
    str | None,
    option(
        "classes",
        metavar="a,b,c|FILE",
        help="Replace the vocabulary's classes; its descriptors stay.",
        rich_help_panel=INPUT,
    ),
]
Vocabulary = Annotated[
    str | None,
    option(
        "vocab",
        metavar="NAME|FILE",
        help="Vocabulary; embedded models bring their own.",
        autocompletion=complete_vocabulary,
        rich_help_panel=INPUT,
    ),
]
Target = Annotated[
    str | None,
    option("target", metavar="CLASS", help="Explain this class instead of the predicted one.", rich_help_panel=INPUT),
]
_ARCH: Final[dict[str, Any]] = {"metavar": "NAME", "help": "open_clip architecture of a checkpoint file."}
Arch = Annotated[str | None, option("arch", **_ARCH, rich_help_panel=INPUT)]
ArchToKeep = Annotated[str | None, typer.Option("--arch", **_ARCH)]
"""Of `clipmk models add`: a variable that is meant for one run must not end up in the config."""
Download = Annotated[
    bool,
    option("download", "--download", help="Download missing weights (never done otherwise).", rich_help_panel=INPUT),
]
Preset = Annotated[
    str | None,
    option(
        "preset",
        **_one_of(*PRESETS),
        help="Settings preset; 'paper' follows the publication exactly.",
        rich_help_panel=SETTINGS,
    ),
]
Grounding = Annotated[
    str | None,
    option(
        "grounding",
        **_one_of("prompts", "attend"),
        help="How parts are embedded: drawn prompts, or masked attention pooling (faster).",
        rich_help_panel=SETTINGS,
    ),
]
Seed = Annotated[int | None, option("seed", metavar="N", help="Random seed.", rich_help_panel=SETTINGS)]
Device = Annotated[
    str,
    option(
        "device",
        **_one_of("auto", "cpu", "cuda", "mps") | {"metavar": "auto|cpu|cuda|cuda:N|mps"},
        help="Where the model runs.",
        rich_help_panel=SETTINGS,
    ),
]
Precision = Annotated[
    str,
    option("precision", **_one_of("fp32", "bf16", "fp16"), help="Precision of the model.", rich_help_panel=SETTINGS),
]
Serve = Annotated[
    bool,
    option(
        "serve",
        "--serve/--no-serve",
        help="Ask a running `clipmk serve` (the default), or never.",
        rich_help_panel=SETTINGS,
    ),
]
NoCache = Annotated[
    bool,
    option("no_cache", "--no-cache", help="Neither read nor write the text embedding cache.", rich_help_panel=SETTINGS),
]
Json = Annotated[bool, option("json", "--json", help="Print one JSON document.", rich_help_panel=OUTPUT)]
Top = Annotated[
    int | None, option("top", metavar="N", min=1, help="Number of classes to report.", rich_help_panel=OUTPUT)
]
Quiet = Annotated[
    bool, option("quiet", "--quiet", "-q", help="Hide notes, warnings and progress.", rich_help_panel=MESSAGES)
]
Verbose = Annotated[
    bool, option("verbose", "--verbose", "-v", help="List every concept, and log to stderr.", rich_help_panel=MESSAGES)
]
NoColor = Annotated[bool, option("no_color", "--no-color", help="Print without colours.", rich_help_panel=MESSAGES)]
Debug = Annotated[
    bool,
    option(
        "debug",
        "--debug",
        help="Print the traceback of an error.",
        callback=_remember,
        is_eager=True,
        rich_help_panel=MESSAGES,
    ),
]

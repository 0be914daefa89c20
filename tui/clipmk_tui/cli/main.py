"""The Typer application: commands, groups and help; only the module of the chosen command is imported."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Final

import typer

from clipmk.version import __version__
from clipmk_tui.cli.default_commands import with_default_command
from clipmk_tui.cli.errors import has_flag
from clipmk_tui.cli.options import with_config
from clipmk_tui.cli.streams import watched_stdout

EPILOG = (
    "Exit status: 0 ok, 1 run-time, 2 usage, 3 input, 4 model, 5 device, 130 interrupted.  "
    "stdout carries data only; everything else goes to stderr."
)

COMMANDS: Final = {
    "tui": "tui",
    "explain": "explain.command",
    "compare": "compare",
    "study": "study.command",
    "models": "models",
    "vocab": "vocab",
    "cache": "cache",
    "world": "world",
    "evaluate": "evaluate",
    "serve": "serve",
    "doctor": "doctor",
    "schema": "schema",
}
"""Command, in the order of the help -> its module in `commands`, which has an `app` or a function of that name."""


def run(argv: Sequence[str]) -> int:
    """Parse the arguments, run the command and return its exit status; every error is raised."""
    # Typer from 0.29 on parses by pydantic, which looks for plugins in all installed packages: 20 ms; we have none.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    arguments = list(argv) or ["--help"]
    command = typer.main.get_command(build(arguments[0]))
    arguments = with_default_command(arguments, command)
    if arguments[0] in COMMANDS and not has_flag(arguments, "-h", "--help"):
        with_config(command, tolerant=arguments[0] == "doctor", quiet=has_flag(argv, "-q", "--quiet"))
    with watched_stdout():
        status = command(arguments, prog_name="clipmk", standalone_mode=False)
    return status if isinstance(status, int) else 0


def build(first: str = "--help") -> typer.Typer:
    """Make the application with as few commands as the first argument needs."""
    app = typer.Typer(
        name="clipmk",
        epilog=EPILOG,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name in [first] if first in COMMANDS else ["schema"] if first == "--version" else COMMANDS:
        module = import_module(f"clipmk_tui.cli.commands.{COMMANDS[name]}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name)
        else:
            app.command(name, epilog=getattr(module, "EPILOG", None))(getattr(module, name))
    return app


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    """Why did CLIP say that? Explains zero-shot predictions by the concepts both encoders share."""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"clipmk {__version__}")
        raise typer.Exit

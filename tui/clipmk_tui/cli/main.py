"""The Typer application: names, groups and help; the work is in `commands`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated

import typer

from clipmk.version import __version__
from clipmk_tui.cli.errors import has_flag
from clipmk_tui.cli.groups import with_default_command
from clipmk_tui.cli.options import with_config
from clipmk_tui.cli.streams import watched_stdout

EPILOG = (
    "Exit status: 0 ok, 1 run-time, 2 usage, 3 input, 4 model, 5 device, 130 interrupted.  "
    "stdout carries data only; everything else goes to stderr."
)

COMMANDS = (
    "tui",
    "explain",
    "compare",
    "study",
    "models",
    "vocab",
    "cache",
    "world",
    "evaluate",
    "serve",
    "doctor",
    "schema",
)
"""As the help lists them; each is a module of `commands`, or `command` in a package of its name."""

_PACKAGES = {"explain", "compare"}


def run(argv: Sequence[str]) -> int:
    """Parse the arguments and run the command; raises whatever goes wrong.

    Returns:
        Exit status.
    """
    # Typer from 0.29 on parses by pydantic, which looks through all that is installed for plugins: 20 ms; we have none.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    arguments = with_default_command(argv)
    command = typer.main.get_command(build(arguments[0]))
    if arguments[0] in COMMANDS and not has_flag(arguments, "-h", "--help"):
        with_config(command, tolerant=arguments[0] == "doctor")
    with watched_stdout():
        status = command(arguments, prog_name="clipmk", standalone_mode=False)
    return status if isinstance(status, int) else 0


def build(command: str | None = None) -> typer.Typer:
    """Make the application: with one command alone, which takes some 20 ms less, or with all of them.

    Args:
        command: the only one to be had; where there is no such command, all are.
    """
    app = typer.Typer(
        name="clipmk",
        help="Why did CLIP say that? Explains zero-shot predictions by the concepts both encoders share.",
        epilog=EPILOG,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name in (command,) if command in COMMANDS else COMMANDS:
        inside = ".command" if name in _PACKAGES else ""
        module = import_module(f"clipmk_tui.cli.commands.{name}{inside}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name)
        else:
            app.command(name, epilog=getattr(module, "EPILOG", None))(getattr(module, name))
    return app


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_version),
    ] = False,
) -> None:
    """Why did CLIP say that? Explains zero-shot predictions by the concepts both encoders share."""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"clipmk {__version__}")
        raise typer.Exit

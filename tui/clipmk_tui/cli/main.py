"""The Typer application: names, groups and help; the work is in `commands`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated

import typer

from clipmk.version import __version__
from clipmk_tui.cli.groups import with_default_command

EPILOG = (
    "Exit status: 0 ok, 1 run-time, 2 usage, 3 input, 4 model, 5 device, 130 interrupted.  "
    "stdout carries data only; everything else goes to stderr."
)

EXPLAIN_EPILOG = (
    "Each option is also read from the environment (CLIPMK_MODEL, CLIPMK_NO_PICTURE, ...) and most from the config "
    "file; a flag outranks the environment, the environment the config.  Without -m a demonstration model is used "
    "that knows drawn classes only."
)

COMPARE_EPILOG = (
    "AUC is comparable only within one family of models; the highest of a family is marked.  "
    "Each option is also read from the environment (CLIPMK_MODEL=a,b, CLIPMK_VOCAB, ...) and most from the config file."
)

SERVE_EPILOG = (
    "clipmk explain finds the server by itself and prints what it would print without one; it does its own work where "
    "the server is of another version or was started with other settings of the environment, and says so.  The socket "
    "can be used by its owner alone.  Needs Linux."
)

TUI_EPILOG = (
    "clipmk alone opens the app as well.  Keys: ? in the app; other keys in the config file.  "
    "Each option is also read from the environment (CLIPMK_MODEL, CLIPMK_THEME, ...) and most from the config file."
)

_COMMANDS = (
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
"""As the help lists them; each is a module of `commands`: it has an `app` of its own, or a function of its name."""

_EPILOGS = {"tui": TUI_EPILOG, "explain": EXPLAIN_EPILOG, "compare": COMPARE_EPILOG, "serve": SERVE_EPILOG}


def run(argv: Sequence[str]) -> int:
    """Parse the arguments and run the command; raises whatever goes wrong.

    Returns:
        Exit status.
    """
    # Typer from 0.29 on parses by pydantic, which looks through all that is installed for plugins: 20 ms; we have none.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    arguments = with_default_command(argv)
    status = build(arguments[0])(arguments, prog_name="clipmk", standalone_mode=False)
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
    for name in (command,) if command in _COMMANDS else _COMMANDS:
        module = import_module(f"clipmk_tui.cli.commands.{name}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name)
        else:
            app.command(name, epilog=_EPILOGS.get(name))(getattr(module, name))
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

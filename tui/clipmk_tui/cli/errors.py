"""The edge of the program: every error ends here, as one line on stderr and an exit status."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from clipmk.errors import INTERRUPTED, UNEXPECTED, ClipmkError, InputError, UsageError
from clipmk.system.config import comma_separated, config_options, read_config, switch, variable
from clipmk.system.locations import config_path
from clipmk.system.text import cause, printable, quoted
from clipmk_tui.cli.streams import ReaderGone, data_stream, say

if TYPE_CHECKING:
    import typer

_STOPPED: Final = 130  # exit status of an interrupted run

_NOUNS: Final = {
    "model": "model|checkpoint",
    "vocab": "vocabulary",
    "classes": "class list",
    "target": "class",
    "arch": "architecture",
    "out": "folder",
    **{name: name for name in ("preset", "grounding", "device", "precision", "theme")},
}
"""Option -> what errors call its value, if not by the option's name; all options of the app are here."""

_KINDS: Final = {"int": "a whole number", "bool": "true or false"}

_CONTEXT: ContextVar[typer.Context | None] = ContextVar("context", default=None)
"""Typer's context of the running command; None before it is known, and if the app opens without a parser."""


def guarded(run: Callable[[Sequence[str]], int], argv: Sequence[str]) -> int:
    """Run a command line and turn whatever happens into an exit status."""
    _CONTEXT.set(None)
    try:
        status = run(argv)
    except KeyboardInterrupt:
        status = _STOPPED
    except ReaderGone:
        return ClipmkError.exit_status
    except ClipmkError as error:
        _trace(argv)
        return _report(argv, error.code, str(error), error.exit_status, shown=with_origin(str(error)))
    except Exception as error:  # noqa: BLE001 - the one place that may: nothing may end in a traceback
        return _other(argv, error)
    return _report(argv, INTERRUPTED, INTERRUPTED, _STOPPED) if status == _STOPPED else status


def remember(context: typer.Context) -> None:
    """Keep the context of the command that runs, which knows where the value of each option comes from."""
    _CONTEXT.set(context)


def has_flag(argv: Sequence[str], *flags: str) -> bool:
    """Whether one of these flags is given: known even where the arguments cannot be parsed."""
    given = argv[: argv.index("--")] if "--" in argv else argv
    return not set(flags).isdisjoint(given)


def with_origin(message: str) -> str:
    """The message of an error, with the variable or config key that set the wrong value, if one did; only for people.

    A value counts only before the first semicolon (advice follows), and where the message says what it is ("preset
    'foo'"): a file, a class or an image may have the same name.
    """
    fault = message.split(";", 1)[0]
    for option, value, origin in _set_elsewhere():
        noun = _NOUNS.get(option, f"{option}|--{option}")
        shown = quoted(value) if isinstance(value, str) else str(value)
        if re.search(rf"(?<![\w-])(?:{noun}) (?:\(|is )?{re.escape(shown)}(?!\w)", fault):
            return f"{message} ({shown} was set by {origin})"
    return message


def _set_elsewhere() -> Iterator[tuple[str, Any, str]]:
    """(option, value, origin) of what the environment and the config give; the values of a list one by one."""
    context = _CONTEXT.get()
    if context is None:  # `clipmk` alone opens the app
        texts = {name: os.environ.get(variable(name)) for name in _NOUNS}
        environment: dict[str, Any] = {name: text for name, text in texts.items() if text}
        if "model" in environment:
            environment["model"] = comma_separated(environment["model"])
        config = {}
        with contextlib.suppress(ClipmkError):  # a malformed config is an error of its own
            config = config_options(read_config())
    else:
        environment, config = (_given(context, source) for source in ("ENVIRONMENT", "DEFAULT_MAP"))
    origins = {
        name: f"{'vocabulary' if name == 'vocab' else name} in the config {quoted(config_path())}" for name in config
    }
    origins |= {name: variable(name) for name in environment}
    for name, value in (config | environment).items():
        yield from ((name, one, origins[name]) for one in (value if isinstance(value, list) else [value]))


def _given(context: typer.Context, source: str) -> dict[str, Any]:
    """The options of a command that have their value from this source."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name: context.params[name] for name, found in sources.items() if found and found.name == source}


def _other(argv: Sequence[str], error: Exception) -> int:
    """An error of the argument parser, which is loaded only where it parsed something, or a mistake in `clipmk`."""
    if "typer" in sys.modules:
        import typer  # noqa: PLC0415

        if isinstance(error, typer.Abort):
            return _report(argv, INTERRUPTED, INTERRUPTED, _STOPPED)
        if isinstance(error, typer.TyperException):
            if (context := getattr(error, "ctx", None)) is not None:
                remember(context)
            return _report(argv, UsageError.code, _usage_message(error), UsageError.exit_status)
    if isinstance(error, BrokenPipeError):  # stderr: nobody reads it
        return ClipmkError.exit_status
    _trace(argv)
    if isinstance(error, OSError) and isinstance(error.filename, str):  # about a file, and no mistake of ours
        return _report(argv, InputError.code, f"{quoted(error.filename)}: {cause(error)}", InputError.exit_status)
    hint = "" if _asked(argv, "debug") else "; --debug shows where"
    message = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return _report(argv, UNEXPECTED, f"unexpected {message}{hint}", ClipmkError.exit_status)


def _trace(argv: Sequence[str]) -> None:
    if _asked(argv, "debug") and sys.stderr is not None:
        for line in traceback.format_exc().splitlines():
            sys.stderr.write(printable(line) + "\n")


def _asked(argv: Sequence[str], option: str) -> bool:
    """Whether a switch is on, for a command line that may not have been parsed to its end.

    A variable counts only where the command has the option; every one has --debug.
    """
    if has_flag(argv, f"--{option}"):
        return True
    context = _CONTEXT.get()
    known = option == "debug" or (context and any(param.name == option for param in context.command.params))
    with contextlib.suppress(ValueError):
        return bool(known) and switch(os.environ.get(variable(option)) or "no")
    return False


def _report(argv: Sequence[str], code: str, message: str, status: int, *, shown: str | None = None) -> int:
    """Say what went wrong, and in JSON where that is asked for; people read `shown` instead of the message."""
    say("error", shown or message)
    in_one_line = _asked(argv, "jsonl")
    if in_one_line or _asked(argv, "json"):
        from clipmk.output import document  # noqa: PLC0415

        content = document.error_document(code, message)
        with contextlib.suppress(ClipmkError, ReaderGone), data_stream() as stream:
            stream.write(document.dump(content, indent=None if in_one_line else 2) + "\n")
    return status


def _usage_message(error: typer.TyperException) -> str:
    """What is wrong with a value in our words, else Typer's sentence, and where to read more."""
    context, param = getattr(error, "ctx", None), getattr(error, "param", None)
    command = getattr(context, "command_path", "clipmk")
    message = None
    if context is not None and param is not None and getattr(param, "opts", None):
        source = context.get_parameter_source(param.name)
        by_variable = source is not None and source.name == "ENVIRONMENT"
        message = _wrong_value(variable(param.name) if by_variable else max(param.opts, key=len), error)
    return f"{message or error.format_message().rstrip('.')}; see {command} --help"


def _wrong_value(option: str, error: typer.TyperException) -> str | None:
    """Of a number or a switch, as Typer says it, or from 0.29 on pydantic; None for all else."""
    if (errors := getattr(error.__cause__, "errors", None)) is not None:
        detail = errors()[0]
        value, least, kind = str(detail["input"]), detail.get("ctx", {}).get("ge"), detail["type"].partition("_")[0]
    elif found := re.match(
        r"'?(.*?)'? is not (?:in the range x>=(\S+?)\.?$|a valid (int|bool))", str(error), re.DOTALL
    ):
        value, least, kind = found.groups()
    else:
        return None
    if least is not None:
        return f"{option} is {printable(value)}; it must be at least {least}"
    return f"{option} is {quoted(value)}; it must be {_KINDS[kind]}" if kind in _KINDS else None

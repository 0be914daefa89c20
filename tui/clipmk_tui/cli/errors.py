"""The edge of the program: every error ends here, as one line on stderr and an exit status."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from clipmk.errors import ClipmkError
from clipmk.system.text import printable, quoted
from clipmk_tui.cli.streams import ReaderGone, data_stream, say, watched_stdout

if TYPE_CHECKING:
    import typer

OK, RUNTIME, USAGE, INTERRUPTED = 0, 1, 2, 130
"""Exit statuses that no error class carries."""

_INTERRUPTED, _UNEXPECTED = "interrupted", "unexpected"
"""As `clipmk.output.document` has them, which is imported only where JSON is written."""

_OFF = frozenset({"", "0", "false", "no", "off"})


_ARGUMENTS: ContextVar[Sequence[str]] = ContextVar("arguments", default=())
"""Of the command line that runs."""


def guarded(argv: Sequence[str]) -> int:
    """Run the command line and turn whatever happens into an exit status."""
    _ARGUMENTS.set(argv)
    try:
        status = _run(argv)
    except KeyboardInterrupt:
        status = INTERRUPTED
    except ReaderGone:
        return RUNTIME
    except ClipmkError as error:
        _trace(argv)
        return _report(argv, error.code, str(error), error.exit_status, told=with_origin(str(error)))
    except Exception as error:  # noqa: BLE001 - the one place that may: nothing may end in a traceback
        return _other(argv, error)
    return _report(argv, _INTERRUPTED, "interrupted", INTERRUPTED) if status == INTERRUPTED else status


def asked(argv: Sequence[str], flag: str, variable: str) -> bool:
    """Whether a flag is given, by itself or by the environment: known even where the arguments cannot be parsed."""
    given = list(argv[: argv.index("--")] if "--" in argv else argv)
    return flag in given or os.environ.get(variable, "").strip().lower() not in _OFF


def with_origin(message: str) -> str:
    """The message of an error, with the variable or the key of the config that set what is wrong, where one did.

    For people alone: in JSON the same mistake has the same message, wherever it was made.
    """
    from clipmk_tui.cli.origins import with_origin as told  # noqa: PLC0415 - only where something is wrong

    return told(message, _ARGUMENTS.get())


def _run(argv: Sequence[str]) -> int:
    """Open the app or run a command; what they import is loaded here, so that Ctrl-C is handled meanwhile, too."""
    if not argv and "_CLIPMK_COMPLETE" not in os.environ:  # a shell that asks for completions names no argument either
        from clipmk_tui.app.start import run as open_app  # noqa: PLC0415 - without Typer: the first paint waits for this

        return open_app((), {})
    from clipmk_tui.cli.main import run  # noqa: PLC0415

    with watched_stdout():
        return run(argv)


def _other(argv: Sequence[str], error: Exception) -> int:
    """An error of the argument parser, which is loaded only where it parsed something, or a mistake in `clipmk`."""
    if "typer" in sys.modules:
        import typer  # noqa: PLC0415

        if isinstance(error, typer.Abort):
            return _report(argv, _INTERRUPTED, "interrupted", INTERRUPTED)
        if isinstance(error, typer.TyperException):
            return _report(argv, "usage", _usage_message(error), USAGE)
    return _unexpected(argv, error)


def _unexpected(argv: Sequence[str], error: Exception) -> int:
    if isinstance(error, BrokenPipeError):  # stderr: nobody reads it
        return RUNTIME
    _trace(argv)
    hint = "" if _debugging(argv) else "; --debug shows where"
    message = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return _report(argv, _UNEXPECTED, f"unexpected {message}{hint}", RUNTIME)


def _trace(argv: Sequence[str]) -> None:
    if _debugging(argv) and sys.stderr is not None:
        for line in traceback.format_exc().splitlines():
            sys.stderr.write(printable(line) + "\n")


def _debugging(argv: Sequence[str]) -> bool:
    return asked(argv, "--debug", "CLIPMK_DEBUG")


def _report(argv: Sequence[str], code: str, message: str, status: int, *, told: str | None = None) -> int:
    """Say what went wrong, and in JSON where that is asked for; `told` is what people read instead of the message."""
    say("error", told or message)
    in_one_line = asked(argv, "--jsonl", "CLIPMK_JSONL")
    if in_one_line or asked(argv, "--json", "CLIPMK_JSON"):
        from clipmk.output import document  # noqa: PLC0415

        content = document.error_document(code, message)
        with contextlib.suppress(ClipmkError, ReaderGone), data_stream() as stream:
            stream.write(document.dump(content, indent=None if in_one_line else 2) + "\n")
    return status


def _usage_message(error: typer.TyperException) -> str:
    """What is wrong with a value in our words, else Typer's sentence, and where to read more."""
    context = getattr(error, "ctx", None)
    command = getattr(context, "command_path", "clipmk")
    return f"{_wrong_value(error) or error.format_message().rstrip('.')}; see {command} --help"


def _wrong_value(error: typer.TyperException) -> str | None:
    """Of an option's number; None for all else."""
    names = getattr(getattr(error, "param", None), "opts", None)
    if not names:
        return None
    option, details = max(names, key=len), getattr(error.__cause__, "errors", None)
    return _said_by_typer(option, str(error)) if details is None else _said_by_pydantic(option, details()[0])


def _said_by_typer(option: str, said: str) -> str | None:
    """What Typer itself says of a number, as it does before 0.29."""
    if found := re.fullmatch(r"(.+) is not in the range x>=(\S+?)\.?", said):
        return f"{option} is {printable(found[1])}; it must be at least {printable(found[2])}"
    if found := re.fullmatch(r"'(.*)' is not a valid int(?:eger)?\.?", said, re.DOTALL):
        return f"{option} is {quoted(found[1])}; it must be a whole number"
    return None


def _said_by_pydantic(option: str, detail: Mapping[str, Any]) -> str | None:
    """What pydantic says of it, to which Typer leaves it from 0.29 on."""
    kind, value = str(detail["type"]), str(detail["input"])
    if kind == "greater_than_equal":
        return f"{option} is {printable(value)}; it must be at least {detail['ctx']['ge']}"
    if kind.startswith("int_"):
        return f"{option} is {quoted(value)}; it must be a whole number"
    return None

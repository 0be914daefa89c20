"""What happens before the app draws anything: every choice is settled, everything impossible refused."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from clipmk.errors import ImageError, UsageError, suggest
from clipmk.system.config import Config, read_config
from clipmk.system.options import (
    DEFAULT_MODEL,
    comma_separated,
    config_options,
    environment_options,
    positive_number,
    settings_from,
    switch,
    whole_number,
)
from clipmk.system.text import printable, quoted
from clipmk.worker.session import Session

if TYPE_CHECKING:
    from clipmk_tui.app.app import ClipmkApp
    from clipmk_tui.app.engine.base import Engine

PREDICTION_COUNT = 10
"""How many classes the app asks for where nobody says it: "why not B?" needs no model for these."""

DEFAULT_VOCABULARY = "world"
"""The default model's own."""

_READERS: Final[dict[str, Callable[[str], Any]]] = {
    **dict.fromkeys(("vocab", "classes", "arch", "preset", "grounding", "device", "precision", "theme"), str),
    "model": comma_separated,
    "seed": whole_number,
    "top": positive_number,
    "download": switch,
    "serve": switch,
    "no_color": switch,
}
"""The app's options, and what reads the environment's text of each."""

_GRACE = 3.0
"""Seconds that the app may take to end after a signal."""

_RESET = (
    "\x1b[?2004l\x1b[?7h\x1b[?2048l\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[<u\x1b[?1049l\x1b[?25h\x1b[?1004l"
)
"""Undoes what Textual asks of a terminal: paste, wrap, resize, mouse, keyboard, screen, cursor, focus."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Everything that the app begins with."""

    paths: tuple[str, ...] = ()
    """Images, folders and patterns as the user gave them; none: the app looks for some."""
    models: tuple[str, ...]
    """The first is the start model, the others are marked for comparison."""
    session: Session
    theme: str | None = None
    """None: the app's own."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Id of a binding -> its keys, checked (see `keymap`) before the app is made."""
    no_color: bool = False
    serve: bool = True
    """Use a `clipmk serve` where one runs."""


def run(paths: Sequence[str], options: Mapping[str, Any]) -> int:
    """Open the app.

    Args:
        paths: images, folders, patterns.
        options: those of the command line by name; None or missing where one was not given.

    Returns:
        Exit status.

    Raises:
        ClipmkError: as `start_from` and `launch`.
    """
    return launch(start_from(paths, options))


def start_from(paths: Sequence[str], options: Mapping[str, Any]) -> Start:
    """Settle every option: command line, else environment (CLIPMK_*), else config, else default.

    Raises:
        UsageError: the config or an environment variable is malformed, or a vocabulary, preset or setting does not
            exist.
        InputError: an image, a class list or a vocabulary file cannot be used.
    """
    config = read_config()
    given = {name: value for name, value in options.items() if value is not None and value != ()}
    chosen = config_options(config) | environment_options(_READERS) | given
    models = tuple(dict.fromkeys(chosen.get("model") or [DEFAULT_MODEL]))
    session = _session(chosen, config, models[0])
    for path in paths:
        check_path(path)
    return Start(
        paths=tuple(paths),
        models=models,
        session=session,
        theme=chosen.get("theme"),
        keys=dict(config.keys),
        no_color=chosen.get("no_color", False),
        serve=chosen.get("serve", True),
    )


def check_path(path: str) -> None:
    """Refuse what names no image, without listing any folder.

    Raises:
        UsageError: it is "-": standard input is where the keys come from.
        ImageError: nothing of that name exists.
    """
    if path == "-":
        raise UsageError("the app reads its keys from standard input; for an image from there: clipmk explain -")
    import glob  # noqa: PLC0415 - not for the bare command

    if path and "\0" not in path and (os.path.lexists(path) or next(glob.iglob(path, recursive=True), None)):  # noqa: PTH207
        return
    from clipmk.images.paths import is_pattern, unmatched  # noqa: PLC0415 - not for the bare command

    if is_pattern(path):
        raise unmatched(path)
    folder = Path(path).parent
    names: list[str] = []
    with contextlib.suppress(OSError, ValueError):
        names = sorted(os.listdir(folder))  # noqa: PTH208 - text, as the user wrote it
    close = suggest(Path(path).name, names) if names else ""
    raise ImageError(f"{quoted(path)} does not exist{f'; {printable(close)}' if close.startswith('close') else ''}")


def launch(start: Start) -> int:
    """Run the app until the user leaves it.

    Returns:
        Exit status.

    Raises:
        UsageError: there is no terminal to draw on, or a key of the config cannot be used.
        Exception: whatever brought the app down.
    """
    require_terminal(os.environ)
    if start.no_color:
        os.environ["NO_COLOR"] = "1"  # Textual looks at it when the app is made
    with contextlib.suppress(OSError):
        if 0 in os.get_terminal_size(sys.stderr.fileno()):  # as some container shells have it
            os.environ |= {"COLUMNS": "80", "LINES": "24"}
    from clipmk_tui.app.app import ClipmkApp  # noqa: PLC0415 - Textual: a fifth of a second

    if start.keys:
        from clipmk_tui.app.keymap import holders, known_ids, parse_keys, refuse_clashes  # noqa: PLC0415

        start = dataclasses.replace(start, keys=parse_keys(start.keys, known_ids()))
        refuse_clashes(start.keys, holders())
    app = ClipmkApp(start, partial(_worker_engine, start))
    _require_theme(start.theme, app)
    with restored_terminal():
        return run_app(app)


def require_terminal(environment: Mapping[str, str]) -> None:
    """Refuse to draw where nobody could see it or press a key: Textual reads stdin and draws on stderr.

    Raises:
        UsageError: which of both is no terminal, or what is wrong with TERM, and what to do.
    """
    for name, stream in (("standard input", sys.stdin), ("standard error", sys.stderr)):
        if stream is None or stream.closed or not stream.isatty():
            hint = "without one: clipmk explain IMAGE --json; all commands: clipmk --help"
            raise UsageError(f"the app needs a terminal, and {name} is none; {hint}")
    term = environment.get("TERM", "")
    if os.name == "posix" and term in {"", "dumb", "unknown"}:
        said = f"TERM is {quoted(term)}" if term else "TERM is not set"
        raise UsageError(
            f"{said}: no screen can be drawn; if your terminal is more than that: export TERM=xterm-256color; "
            "for output without a screen: clipmk explain IMAGE"
        )


def run_app(app: ClipmkApp) -> int:
    """Run the app in an event loop of its own; the engine is stopped whatever happens.

    A crash is raised instead of printed, so that it ends as one line like every other error.
    """
    import asyncio  # noqa: PLC0415 - Textual has imported it

    from rich.console import Console  # noqa: PLC0415

    told = io.StringIO()
    app.error_console = Console(file=told, markup=False, highlight=False)

    async def main() -> None:
        try:
            with _leaving_on_signals(app):
                await app.run_async()
        finally:
            await app.close_engine()

    asyncio.run(main())
    error = getattr(app, "_exception", None)  # the one place where Textual keeps it
    if error is not None:
        raise error
    sys.stderr.write(told.getvalue())
    return app.return_code or 0


def _worker_engine(start: Start) -> Engine:
    from clipmk.system.locations import socket_path  # noqa: PLC0415 - after the first frame
    from clipmk_tui.app.engine.worker import WorkerEngine  # noqa: PLC0415

    return WorkerEngine(start.session, server=socket_path() if start.serve else None)


def _require_theme(name: str | None, app: ClipmkApp) -> None:
    from clipmk_tui.app.theme import DARK, LIGHT  # noqa: PLC0415

    known = {DARK.name, LIGHT.name, *app.available_themes}
    if name is not None and name not in known:
        raise UsageError(f"theme {quoted(name)} does not exist; {suggest(name, sorted(known), most=5)}")


@contextlib.contextmanager
def _leaving_on_signals(app: ClipmkApp) -> Iterator[None]:
    """End the app in good order when the terminal is closed or the process told to stop; by force where it cannot.

    Plain signal handlers, not the event loop's: with the terminal gone the loop may wait for good to write to it.
    """
    import asyncio  # noqa: PLC0415
    import signal  # noqa: PLC0415

    loop = asyncio.get_running_loop()

    def leave(number: int, _frame: object) -> None:
        _end_soon(128 + number)
        loop.call_soon_threadsafe(partial(app.exit, return_code=128 + number))

    before = {}
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        with contextlib.suppress(OSError, ValueError):  # not the main thread
            if number is not None:
                before[number] = signal.signal(number, leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_soon(status: int) -> None:
    """End the process even if nothing of it can: its worker ends with it."""
    import threading  # noqa: PLC0415

    timer = threading.Timer(_GRACE, os._exit, (status,))
    timer.daemon = True
    timer.start()


@contextlib.contextmanager
def restored_terminal() -> Iterator[None]:
    """Give the terminal back as it was, should the app not have done so."""
    try:
        import termios  # noqa: PLC0415 - POSIX only
    except ImportError:
        yield
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        yield
    finally:
        with contextlib.suppress(termios.error, OSError):
            if termios.tcgetattr(descriptor) != before:
                os.write(sys.stderr.fileno(), _RESET.encode("ascii"))
                termios.tcsetattr(descriptor, termios.TCSANOW, before)


def _session(options: Mapping[str, Any], config: Config, model: str) -> Session:
    return Session(
        vocabulary=_vocabulary(options.get("vocab"), model, options.get("arch")),
        classes=_classes(options.get("classes")),
        settings=settings_from(options, config, prediction_count=PREDICTION_COUNT),
        device=options.get("device", "auto"),
        precision=options.get("precision", "fp32"),
        arch=options.get("arch"),
        download=options.get("download", False),
    )


def _vocabulary(named: str | None, model: str, arch: str | None) -> str:
    """The vocabulary's name, checked by loading it; without one, the start model's own."""
    if named is None and model == DEFAULT_MODEL:  # what most begin with: nothing is imported for it
        return DEFAULT_VOCABULARY
    from clipmk.vocabulary.vocabulary import default_vocabulary, load_vocabulary  # noqa: PLC0415

    if named is None:
        try:
            return default_vocabulary(model)
        except UsageError:
            from clipmk.models.spec import resolve  # noqa: PLC0415 - open_clip: seconds

            resolve(model, arch=arch)  # that a model does not exist, or lacks its tag, is said first
            raise
    load_vocabulary(named)
    return named


def _classes(named: str | None) -> str | None:
    if named is not None:
        from clipmk.vocabulary.classes import parse_classes  # noqa: PLC0415

        parse_classes(named)
    return named

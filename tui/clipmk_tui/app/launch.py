"""Runs the app in a terminal: refuses where it cannot be drawn, ends in good order, gives the terminal back."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from clipmk.errors import UsageError, suggest
from clipmk.system.text import printable, quoted
from clipmk_tui.app.start_options import StartOptions

if TYPE_CHECKING:
    from clipmk_tui.app.app import ClipmkApp
    from clipmk_tui.app.engine.worker import Engine

MIN_COLUMNS = 60  # narrower terminals are refused
_GRACE = 3.0  # seconds that the app has to end after a signal

_RESET = (
    "\x1b[?2004l\x1b[?7h\x1b[?2048l\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[<u\x1b[?1049l\x1b[?25h\x1b[?1004l"
)
"""Undoes what Textual requests of a terminal: paste, wrap, resize, mouse, keyboard, screen, cursor, focus."""


def launch(options: StartOptions) -> int:
    """Run the app until the user leaves it, and return its exit status; what crashes the app is raised.

    Raises `UsageError` where the terminal cannot be used, or a key or theme of the config is wrong.
    """
    require_terminal(os.environ)
    if options.no_color:
        os.environ["NO_COLOR"] = "1"  # Textual looks at it when the app is made
    with contextlib.suppress(OSError):
        require_size(os.get_terminal_size(sys.stderr.fileno()))
    from clipmk_tui.app.app import ClipmkApp  # noqa: PLC0415 - Textual: a fifth of a second

    if options.keys:
        from clipmk_tui.app.bindings import BINDING_IDS, parse_keys, refuse_clashes  # noqa: PLC0415

        options = dataclasses.replace(options, keys=parse_keys(options.keys, BINDING_IDS))
        refuse_clashes(options.keys)
    log: list[str] | None = [] if options.debug else None
    app = ClipmkApp(options, partial(_worker_engine, options, log))
    name, known = options.theme, app.available_themes
    if name is not None and name not in known:
        raise UsageError(f"theme {quoted(name)} does not exist; {suggest(name, sorted(known), most=5)}")
    try:
        with restored_terminal():
            return run_app(app)
    finally:
        sys.stderr.writelines(f"{printable(line)}\n" for line in log or ())


def require_size(size: os.terminal_size) -> None:
    """Refuse a terminal narrower than `MIN_COLUMNS`. One without a size gets the usual one."""
    if 0 in size:  # as in some container shells
        os.environ |= {"COLUMNS": "80", "LINES": "24"}
    elif size.columns < MIN_COLUMNS:
        raise UsageError(f"the app needs at least {MIN_COLUMNS} columns, and this terminal has {size.columns}")


def require_terminal(environment: Mapping[str, str]) -> None:
    """Refuse to draw where nobody could see it or press a key: Textual reads stdin and draws on stderr."""
    for name, stream in (("standard input", sys.stdin), ("standard error", sys.stderr)):
        if stream is None or stream.closed or not stream.isatty():
            hint = "without one: clipmk explain IMAGE --json; all commands: clipmk --help"
            raise UsageError(f"the app needs a terminal, and {name} is not one; {hint}")
    term = environment.get("TERM", "")
    if term in {"", "dumb", "unknown"}:
        found = f"TERM is {quoted(term)}" if term else "TERM is not set"
        raise UsageError(
            f"{found}, so no screen can be drawn; if your terminal can: export TERM=xterm-256color; "
            "for output without a screen: clipmk explain IMAGE"
        )


def run_app(app: ClipmkApp) -> int:
    """Run the app in its own event loop, and always stop the engine. A crash is raised instead of printed."""
    import asyncio  # noqa: PLC0415 - Textual has imported it

    from rich.console import Console  # noqa: PLC0415

    printed = io.StringIO()
    app.error_console = Console(file=printed, markup=False, highlight=False)

    async def main() -> None:
        try:
            with _leaving_on_signals(app):
                await app.run_async()
        finally:
            await app.close_engine()

    asyncio.run(main())
    if app.crash is not None:
        raise app.crash
    sys.stderr.write(printed.getvalue())
    return app.return_code or 0


def _worker_engine(options: StartOptions, log: list[str] | None) -> Engine:
    from clipmk.system.locations import socket_path  # noqa: PLC0415 - after the first frame
    from clipmk_tui.app.engine.worker import Engine  # noqa: PLC0415

    return Engine(options.session, server=socket_path() if options.serve else None, log=log)


@contextlib.contextmanager
def _leaving_on_signals(app: ClipmkApp) -> Iterator[None]:
    """End the app in good order when the terminal closes or the process is asked to stop; by force if it does not end.

    Plain signal handlers, not the event loop's: with the terminal gone the loop may block forever on writing to it.
    """
    import asyncio  # noqa: PLC0415
    import signal  # noqa: PLC0415
    import threading  # noqa: PLC0415

    loop = asyncio.get_running_loop()

    def leave(number: int, _frame: object) -> None:
        timer = threading.Timer(_GRACE, os._exit, (128 + number,))  # even if the app hangs; its worker ends with it
        timer.daemon = True
        timer.start()
        loop.call_soon_threadsafe(partial(app.exit, return_code=128 + number))

    before = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with contextlib.suppress(OSError, ValueError):  # not the main thread
            before[number] = signal.signal(number, leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def restored_terminal() -> Iterator[None]:
    """Restore the terminal if the app has not done so."""
    import termios  # noqa: PLC0415

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        yield
    finally:
        with contextlib.suppress(termios.error, OSError):
            if termios.tcgetattr(descriptor) != before:
                os.write(sys.stderr.fileno(), _RESET.encode("ascii"))
                termios.tcsetattr(descriptor, termios.TCSANOW, before)

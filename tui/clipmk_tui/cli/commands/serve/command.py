"""`clipmk serve`: a process that keeps models loaded for `clipmk explain`."""

from __future__ import annotations

from typing import Annotated

from clipmk.errors import UsageError
from clipmk_tui.cli import options as o

EPILOG = (
    "clipmk explain finds the server by itself and prints what it would print without one. Where the server is of "
    "another version, or was started in another environment, explain does the work itself and says so.  Only its "
    "owner can use the socket.  Needs Linux."
)

_SOCKET = "Where to listen; CLIPMK_SOCKET names it for explain, too (default: a private folder of the session)."
Socket = Annotated[str | None, o.flag(None, "socket", _SOCKET, metavar="PATH")]
_IDLE = "Exit after this time without a request (default: 15m)."
Idle = Annotated[str, o.option(None, "idle", _IDLE, metavar="90s|15m|2h")]
Stop = Annotated[bool, o.flag(None, "stop", "Stop the server.")]
Status = Annotated[bool, o.flag(None, "status", "Print the server's state; exit status 1 if there is none.")]


def serve(  # noqa: PLR0913, PLR0917 - one parameter per option
    socket: Socket = None,
    idle: Idle = "15m",
    stop: Stop = False,
    status: Status = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    no_color: o.NoColor = False,
    debug: o.Debug = False,
) -> int:
    """Keep models loaded behind a private Unix socket, for scripts that call clipmk explain many times."""
    from clipmk_tui.cli.commands.serve import run  # noqa: PLC0415

    path = run.socket_at(socket)
    if stop and status:
        raise UsageError("--stop and --status exclude each other")
    if stop:
        return run.stop(path, quiet=quiet)
    if status:
        return run.status(path, json=json, no_color=no_color)
    return run.serve(path, run.idle_seconds(idle), quiet=quiet, verbose=verbose)

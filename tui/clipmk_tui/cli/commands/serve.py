"""`clipmk serve`: a process that keeps models loaded for `clipmk explain`."""

from __future__ import annotations

from typing import Annotated

import typer

from clipmk_tui.cli import options as o

EPILOG = (
    "clipmk explain finds the server by itself and prints what it would print without one. Where the server is of "
    "another version, or was started in another environment, explain does the work itself and says so.  Only its "
    "owner can use the socket.  Needs Linux."
)

Socket = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="Where to listen; CLIPMK_SOCKET names it for explain, too (default: a private folder of the session).",
    ),
]
Idle = Annotated[
    str | None, o.option("idle", metavar="90s|15m|2h", help="Exit after this time without a request (default: 15m).")
]
Stop = Annotated[bool, typer.Option("--stop", help="Stop the server.")]
Status = Annotated[bool, typer.Option("--status", help="Print the server's state; exit status 1 if there is none.")]


def serve(  # noqa: PLR0913, PLR0917 - one parameter per option
    socket: Socket = None,
    idle: Idle = None,
    stop: Stop = False,
    status: Status = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    no_color: o.NoColor = False,
    debug: o.Debug = False,
) -> int:
    """Keep models loaded behind a private Unix socket, for scripts that call clipmk explain many times."""
    from clipmk_tui.cli import serve_run  # noqa: PLC0415

    path = serve_run.place(socket)
    if stop and status:
        raise serve_run.one_thing_at_a_time()
    if stop:
        return serve_run.stop(path, quiet=quiet)
    if status:
        return serve_run.status(path, json=json, no_color=no_color)
    return serve_run.serve(path, serve_run.idle_seconds(idle), quiet=quiet, verbose=verbose)

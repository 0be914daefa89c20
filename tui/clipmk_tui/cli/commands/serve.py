"""`clipmk serve`: a warm process that `clipmk explain` asks."""

from __future__ import annotations

from typing import Annotated

import typer

from clipmk_tui.cli import options as o

Socket = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="Where to listen (CLIPMK_SOCKET tells explain, too); a private place of the session by default.",
    ),
]
Idle = Annotated[
    str | None, typer.Option(metavar="90s|15m|2h", help="End after so long without a question; 15m by default.")
]
Stop = Annotated[bool, typer.Option("--stop", help="End the server that listens there.")]
Status = Annotated[bool, typer.Option("--status", help="Say how the server there is doing; exit status 1: none.")]


def serve(  # noqa: PLR0913, PLR0917 - one parameter per option
    socket: Socket = None,
    idle: Idle = None,
    stop: Stop = False,
    status: Status = False,
    json: o.Json = None,
    quiet: o.Quiet = None,
    verbose: o.Verbose = None,
    no_color: o.NoColor = None,
    debug: o.Debug = None,
) -> int:
    """Keep models warm behind a private Unix socket, for scripts that call clipmk explain many times."""
    from clipmk_tui.cli import serve_run  # noqa: PLC0415

    path = serve_run.place(socket)
    if stop and status:
        raise serve_run.one_thing_at_a_time()
    if stop:
        return serve_run.stop(path, quiet=quiet)
    if status:
        return serve_run.status(path, json=json, no_color=no_color)
    return serve_run.serve(path, serve_run.idle_seconds(idle), quiet=quiet, verbose=verbose)

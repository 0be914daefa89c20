"""`clipmk serve`: a process that keeps models loaded for `clipmk explain`; prints its state, or stops it."""

import logging
import os
import re
import sys
from pathlib import Path
from typing import Annotated

from clipmk.errors import ClipmkError, UsageError
from clipmk.system.config import read_config
from clipmk.system.locations import socket_path
from clipmk.system.text import quoted
from clipmk_tui.cli import options as o
from clipmk_tui.cli import tables
from clipmk_tui.cli.streams import data_stream, logging_to_stderr, say

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3_600}

EPILOG = (
    "clipmk explain finds the server by itself and prints what it would print without one. Where the server is of "
    "another version, or was started in another environment, explain does the work itself and says so.  Only its "
    "owner can use the socket.  Needs Linux."
)

_SOCKET = "Where to listen; CLIPMK_SOCKET names it for explain, too (default: a private folder of the session)."
_IDLE = "Exit after this time without a request (default: 15m)."
Status = Annotated[bool, o.flag(None, "status", "Print the server's state; exit status 1 if there is none.")]


def serve(  # noqa: PLR0913, PLR0917 - one parameter per option
    socket: Annotated[str | None, o.flag(None, "socket", _SOCKET, metavar="PATH")] = None,
    idle: Annotated[str, o.option(None, "idle", _IDLE, metavar="90s|15m|2h")] = "15m",
    stop: Annotated[bool, o.flag(None, "stop", "Stop the server.")] = False,
    status: Status = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    no_color: o.NoColor = False,
    debug: o.Debug = False,
) -> int:
    """Keep models loaded behind a private Unix socket, for scripts that call clipmk explain many times."""
    path = socket_at(socket)
    if stop and status:
        raise UsageError("--stop and --status exclude each other")
    if stop:
        return _stop(path, quiet=quiet)
    if status:
        return _status(path, json=json, no_color=no_color)
    return _serve(path, idle_seconds(idle), quiet=quiet, verbose=verbose)


def socket_at(named: str | None) -> Path:
    """Absolute path of the socket: as named, else `clipmk.system.locations.socket_path`."""
    from clipmk.worker.unix_socket import require_support  # noqa: PLC0415 - not for the help

    require_support()
    if named is None:
        return socket_path()
    return Path(os.path.abspath(Path(named).expanduser()))  # noqa: PTH100 - no link is followed


def idle_seconds(text: str) -> float:
    """Read a positive duration: "90", "90s", "15m", "1.5h"."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip().lower())
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if seconds <= 0:
        raise UsageError(f"--idle {text!r} is not a positive duration; write it as 90s, 15m or 2h")
    return seconds


def _serve(path: Path, idle_s: float, *, quiet: bool, verbose: bool) -> int:
    """Serve until stopped, or idle for `idle_s` seconds."""
    from clipmk.worker import client  # noqa: PLC0415
    from clipmk.worker.server import Server  # noqa: PLC0415
    from clipmk.worker.service import Service  # noqa: PLC0415

    with data_stream(), logging_to_stderr(quiet=quiet, verbose=verbose, usual=logging.INFO):
        server = Server(Service(), idle_s=idle_s, identity=client.identity(read_config()))
        tidy = server.serve(path)
        if not quiet:
            say("info", "ended")
    if not tidy:  # a thread is still in C code, and would crash without an interpreter
        sys.stderr.flush()
        os._exit(0)
    return 0


def _stop(path: Path, *, quiet: bool) -> int:
    """Stop the server and wait for its end; without a server there is nothing to do."""
    from clipmk.worker import client  # noqa: PLC0415 - not for the help

    pid = client.stop(path)
    if not quiet:
        where = quoted(path)
        say("note", f"no server listens at {where}" if pid is None else f"the server at {where} (process {pid}) ended")
    return 0


def _status(path: Path, *, json: bool, no_color: bool) -> int:
    """Print the state of the server; `ClipmkError` if there is none, or it is of another version."""
    from clipmk.worker import client  # noqa: PLC0415

    with client.connected(path) as found:
        if found is None:
            raise ClipmkError(f"no server listens at {quoted(path)}; `clipmk serve` starts one")
        greeting = client.read_greeting(found.first_line)
    other = client.differences(client.identity(read_config()), greeting.identity)
    facts = {
        "path": str(path),
        "pid": greeting.pid,
        "clipmk": greeting.clipmk,
        "uptime_s": round(greeting.uptime_s, 1),
        "idle_s": greeting.idle_s,
        "requests": greeting.requests,
        "waiting": greeting.waiting,
        "models": list(greeting.models),
        "differs_in": other,
    }
    shown = {**facts, "models": ", ".join(greeting.models) or "none", "differs_in": ", ".join(other) or "nothing"}
    rows = ((name.replace("_", " "), value) for name, value in shown.items())
    return tables.put_facts(facts, rows, json=json, no_color=no_color)

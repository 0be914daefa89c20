"""Time to the first full frame of the app as a multiple of a bare Textual app's: `python tools/bench/first_paint.py`.

Both are started by turns in a pseudo-terminal of 120 x 40 cells: a Textual app with the same four bordered widgets and
nothing in them (a `Static` for the picture, two `OptionList`s, a `Tree`), and `clipmk` without arguments, each by a
launcher like the one that pip writes. The clock runs from the start of the process until the titles of all four panes
are written. Medians; POSIX only.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import pty
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import clipmk
import clipmk_tui

TITLES = ("image", "models", "predictions", "why")
COLUMNS, ROWS = 120, 40

BARE = f"""
from textual.app import App
from textual.containers import Horizontal
from textual.widgets import OptionList, Static, Tree


class Bare(App):
    CSS = "Static, OptionList, Tree {{ border: round white; height: 1fr; width: 1fr; }}"

    def compose(self):
        with Horizontal():
            for title, pane in zip({TITLES!r}, (Static(), OptionList(), OptionList(), Tree("why"))):
                pane.border_title = title
                yield pane


Bare().run()
"""

OURS = """
import sys
from clipmk_tui.__main__ import main
sys.exit(main())
"""

LONGEST = 60.0
"""Seconds until a start counts as failed."""


@contextlib.contextmanager
def started(command: Sequence[str], folder: Path) -> Iterator[tuple[int, float]]:
    """Start a command in a terminal of its own; yields our end of it and the time. The command is ended afterwards."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("CLIPMK_", "COLOR", "NO_"))}
    roots = [str(Path(str(package.__file__)).resolve().parents[1]) for package in (clipmk, clipmk_tui)]
    environment |= {
        "TERM": "xterm-256color",
        "PYTHONPATH": os.pathsep.join(roots),
        "CLIPMK_CONFIG": str(folder / "config.toml"),
    }
    begun = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603 - our own files
        command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=environment, start_new_session=True
    )
    os.close(theirs)
    try:
        yield ours, begun
    finally:
        end(process, ours)
        os.close(ours)


def end(process: subprocess.Popen[bytes], terminal: int) -> None:
    """Ask the command's whole group to stop, and stop it if it does not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        until = time.monotonic() + 2
        while process.poll() is None and time.monotonic() < until:
            read(terminal, seconds=0.05)
    process.wait()


def read(terminal: int, *, seconds: float) -> bytes:
    """What is written within a time; b"" also at the end."""
    try:
        return os.read(terminal, 65536) if select.select([terminal], [], [], seconds)[0] else b""
    except OSError:  # how Linux says that nobody has the other end open
        time.sleep(seconds)
        return b""


def first_paint(command: Sequence[str], folder: Path) -> float:
    """Seconds from the start until every title is on the screen.

    Raises:
        SystemExit: it never was.
    """
    written = b""
    with started(command, folder) as (terminal, begun):
        while time.perf_counter() - begun < LONGEST:
            written += read(terminal, seconds=0.5)
            if all(title.encode() in written.partition(b"\x1b[?1049h")[2] for title in TITLES):
                return time.perf_counter() - begun
    raise SystemExit(f"{command} never painted {TITLES}; it wrote: {written[-2000:]!r}")


def main() -> None:
    """Print both medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    rounds = parser.parse_args().rounds
    times: dict[str, list[float]] = {"bare": [], "clipmk": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for launcher, code in (("bare", BARE), ("clipmk", OURS)):
            (folder / f"{launcher}_launcher.py").write_text(code, encoding="utf-8")
        for number in range(rounds + 1):
            for launcher, found in times.items():
                taken = first_paint([sys.executable, str(folder / f"{launcher}_launcher.py")], folder)
                if number:  # the first round fills the caches of the disk
                    found.append(taken)
    medians = {launcher: statistics.median(found) for launcher, found in times.items()}
    for launcher, found in times.items():
        print(
            f"{launcher:8}{1_000 * medians[launcher]:7.0f} ms  ({1_000 * min(found):.0f} to {1_000 * max(found):.0f})"
        )
    print(f"ratio   {medians['clipmk'] / medians['bare']:7.2f}")


if __name__ == "__main__":
    main()

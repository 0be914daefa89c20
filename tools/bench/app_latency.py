"""How fast the app answers a key, measured from outside: in a pseudo-terminal, with the real engine and model.

    python tools/bench/app_latency.py [--runs 30]

Every figure is a median over many key presses: from writing the key to the last byte of what it makes the app write
(it counts as quiet after `QUIET` seconds without a byte, which are not counted). Bytes are what was written.
The event-loop stall is measured inside the app: the longest gap between two ticks of 5 ms while the worker starts,
loads the model and explains, and in between.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clipmk.settings import preset
from clipmk.worker.session import Session
from clipmk_tui.app.app import ClipmkApp
from clipmk_tui.app.engine.worker import Engine
from clipmk_tui.app.screens.main import MainScreen
from clipmk_tui.app.start_options import StartOptions

ROOT = Path(__file__).resolve().parents[2]
QUIET = 0.15
COLUMNS, ROWS = 120, 40
MODELS = ("embedded/vit-s8", "embedded/rn-s")


@dataclass(frozen=True, slots=True)
class Reply:
    """What a key press led to."""

    seconds: float
    """To the last byte."""
    written: bytes


class Terminal:
    """A process in a pseudo-terminal."""

    def __init__(self, command: list[str], *, cwd: str, environment: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.process = subprocess.Popen(  # noqa: S603 - our own command
            command, stdin=slave, stdout=slave, stderr=slave, cwd=cwd, env=environment, start_new_session=True
        )
        os.close(slave)

    def read(
        self, *, until: Callable[[bytes], bool] | None = None, limit: float = 120.0, quiet: float = QUIET
    ) -> Reply:
        """Read until a condition holds and nothing more comes, or until it is quiet."""
        began = last = time.perf_counter()
        written = b""
        while time.perf_counter() - began < limit:
            ready, _, _ = select.select([self._master], [], [], quiet)
            if ready:
                try:
                    written += os.read(self._master, 1 << 16)
                except OSError:  # the process is gone
                    break
                last = time.perf_counter()
            elif until is None or until(written):
                break
            if quiet < QUIET and until is not None and until(written):
                break
        return Reply(last - began, written)

    def press(self, keys: str, *, until: Callable[[bytes], bool] | None = None) -> Reply:
        """Type, and wait for what it leads to."""
        os.write(self._master, keys.encode())
        return self.read(until=until)

    def wait_for(self, key: str, text: str) -> Reply:
        """Press a key; the time until a text was written."""
        began = time.perf_counter()
        os.write(self._master, key.encode())
        written = b""
        while text not in plain(written) and time.perf_counter() - began < 10:
            written += os.read(self._master, 1 << 16)
        return Reply(time.perf_counter() - began, written)

    def end(self, key: str) -> float:
        """Press a key that ends the process; the seconds it takes to end."""
        os.set_blocking(self._master, False)
        began = time.perf_counter()
        os.write(self._master, key.encode())
        while self.process.poll() is None and time.perf_counter() - began < 10:
            time.sleep(0.002)
            with contextlib.suppress(OSError):  # nothing to read, or nobody left
                os.read(self._master, 1 << 16)
        return time.perf_counter() - began

    def kill(self) -> None:
        """End it, whatever it does."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._master)


def plain(written: bytes) -> str:
    """What was written, without the sequences that steer a terminal."""
    return re.sub(r"\x1b\[[0-9;?<>=]*[a-zA-Z]|\x1b[()][A-Z0-9]", "", written.decode("utf-8", "replace"))


def says(text: str) -> Callable[[bytes], bool]:
    """Whether a text was written."""
    return lambda written: text in plain(written)


def terminal(folder: str) -> Terminal:
    """The app on the sample images with both models marked."""
    environment = {
        **os.environ,
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
        "CLIPMK_CACHE_DIR": f"{folder}/cache",
        "CLIPMK_CONFIG": f"{folder}/config.toml",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "core"), str(ROOT / "tui")]),
    }
    command = [sys.executable, "-m", "clipmk_tui", "tui", str(ROOT / "sample_images")]
    for model in MODELS:
        command += ["-m", model]
    return Terminal(command, cwd=folder, environment=environment)


def keys(runs: int) -> dict[str, list[Reply]]:
    """Press the keys that matter, many times."""
    found: dict[str, list[Reply]] = {}
    with tempfile.TemporaryDirectory() as folder:
        app = terminal(folder)
        try:
            app.read(until=says("recover"))
            app.press(".", until=says("recover"))
            app.press(",")
            app.press("\x1b[B")
            for _ in range(runs):
                for name, key in STEPS:
                    found.setdefault(name, []).append(app.press(key))
            for _ in range(runs):
                found.setdefault("leave a concept out, to the new strength", []).append(app.wait_for("x", "→"))
                app.read()
                app.press("r")
            for number in range(min(runs, 10)):
                app.press("a")
                app.press(f"a striped tail {number}")
                name = f"{'first' if number == 0 else 'more'} words of one's own, to row and map"
                found.setdefault(name, []).append(app.press("\r", until=lambda written: b"map" in written))
            for _ in range(min(runs, 10)):
                found.setdefault("next image, explained", []).append(app.press("n", until=says("recover")))
                found.setdefault("previous image, at hand", []).append(app.press("p"))
            found["nothing, for a while"] = [app.read()]
        finally:
            app.kill()
    return found


STEPS = (
    ("cursor down to another concept", "\x1b[B"),
    ("cursor up again", "\x1b[A"),
    ("leave a concept out, to the classes ranked again", "x"),
    ("restore", "r"),
    ("next model, at hand", "."),
    ("previous model, at hand", ","),
)


def quitting(runs: int) -> list[float]:
    """Seconds from q to the end of the process while a model is being loaded."""
    seconds = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            app = terminal(folder)
            try:
                app.read(until=says("loading"), quiet=0.01)
                seconds.append(app.end("q"))
            finally:
                app.kill()
    return seconds


def explained(app: ClipmkApp) -> bool:
    """Whether what the app shows is explained."""
    screen = app.screen
    with contextlib.suppress(RuntimeError):  # the panes are not there yet
        return isinstance(screen, MainScreen) and screen.state.explanation is not None
    return False


def stall() -> float:
    """The longest time in which the app's event loop did nothing else, from the first frame to the explanation."""
    session = Session(vocabulary="world", settings=preset("default", prediction_count=10))
    options = StartOptions(paths=(str(ROOT / "sample_images"),), models=MODELS, session=session)

    async def run() -> float:
        longest = 0.0
        app = ClipmkApp(options, lambda: Engine(session))
        async with app.run_test(size=(COLUMNS, ROWS)) as pilot:
            for key in ("", "n", "."):
                if key:
                    await pilot.press(key)
                deadline = time.perf_counter() + 60
                while not explained(app) and time.perf_counter() < deadline:
                    before = time.perf_counter()
                    await asyncio.sleep(0.005)
                    longest = max(longest, time.perf_counter() - before - 0.005)
        return longest

    return asyncio.run(run())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=30)
    arguments = parser.parse_args()
    print(f"{'median ms':>10} {'worst ms':>10} {'bytes':>8}  key")
    for name, replies in keys(arguments.runs).items():
        times = [1_000 * reply.seconds for reply in replies]
        written = statistics.median(len(reply.written) for reply in replies)
        print(f"{statistics.median(times):10.1f} {max(times):10.1f} {written:8.0f}  {name}")
    waits = [1_000 * seconds for seconds in quitting(5)]
    print(f"{statistics.median(waits):10.1f} {max(waits):10.1f} {'':8}  quit while a model is loading")
    stalls = [1_000 * stall() for _ in range(3)]
    print(f"{statistics.median(stalls):10.1f} {max(stalls):10.1f} {'':8}  longest stall of the event loop")


if __name__ == "__main__":
    main()

"""What `clipmk explain` costs a process, beyond importing torch and open_clip: `python tools/bench/cold_start.py`.

Whole processes, in turns, so that a busy machine slows all alike; seconds of processor time (user and system, of all
threads) are steadier than those of the clock. Each figure is the median over the rounds, each difference and ratio the
median of those within a round. Texts are embedded once before (and every time in the row without a cache).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import NamedTuple

BASE = "import torch, open_clip"


class Cost(NamedTuple):
    """Seconds that a process took."""

    wall: float
    cpu: float


def cost(command: Sequence[str]) -> Cost:
    """Run a command to its end, its output thrown away.

    Raises:
        SystemExit: it failed.
    """
    # Where no bytecode is kept, each start compiles all modules anew, which it does not once clipmk is installed.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=env)  # noqa: S603
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return Cost(wall, usage.ru_utime + usage.ru_stime)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", default="sample_images/fox-typical-09.png")
    parser.add_argument("--model", default="embedded/vit-s8")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()

    python = [sys.executable, "-c"]
    clipmk = [sys.executable, "-m", "clipmk_tui"]
    explain = [*clipmk, "explain", arguments.image, "-m", arguments.model, "--no-serve", "-q"]
    commands = {
        BASE: [*python, BASE],
        "import torch": [*python, "import torch"],
        "clipmk --help": [*clipmk, "--help"],
        "clipmk explain": [*explain, "--json"],
        "clipmk explain --no-cache": [*explain, "--json", "--no-cache"],
    }
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CLIPMK_CACHE_DIR"] = folder
        for command in commands.values():
            cost(command)
        rounds = [{name: cost(command) for name, command in commands.items()} for _ in range(arguments.rounds)]
    print(f"{arguments.rounds} rounds; seconds, and beyond `{BASE}`")
    print(f"{'':28}{'wall':>8}{'cpu':>8}{'wall +':>9}{'cpu +':>8}{'cpu x':>8}")
    for name in commands:
        wall, cpu = (statistics.median(one[name][i] for one in rounds) for i in (0, 1))
        more = [statistics.median(one[name][i] - one[BASE][i] for one in rounds) for i in (0, 1)]
        ratio = statistics.median(one[name].cpu / one[BASE].cpu for one in rounds)
        print(f"{name:28}{wall:8.2f}{cpu:8.2f}{more[0]:+9.2f}{more[1]:+8.2f}{ratio:8.2f}")


if __name__ == "__main__":
    main()

"""A second `clipmk explain`, asked of a warm server and done alone: `python tools/bench/serve.py`.

Whole processes, in turns; beside them one bare forward of the same image by the same model, in this process. "Beyond"
is what a call takes less what a forward takes in the same round: by the clock, and in processor time of client and
server together, which a busy machine disturbs less. Medians over the rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from cold_start import Cost, cost

import clipmk
from clipmk.images.decoder import read_picture
from clipmk.pipeline.explainer import Explainer
from clipmk.settings import preset
from clipmk.worker.unix_socket import listener_pid

ALONE, SERVED = "alone (--no-serve)", "asked of the server"


def forward(model: str, image: str) -> Callable[[], Cost]:
    """What measures a bare forward, warm: the median of nine."""
    backbone = clipmk.load(model)
    explainer = Explainer(backbone, clipmk.load_vocabulary("world"), preset("default"))
    pixels = backbone.normalise(torch.from_numpy(explainer.square(read_picture(image)))[None])

    def measure() -> Cost:
        times = []
        for _ in range(9):
            wall, cpu = time.perf_counter(), time.process_time()
            backbone.encode_images(pixels)
            times.append(Cost(time.perf_counter() - wall, time.process_time() - cpu))
        return Cost(*(statistics.median(one[i] for one in times) for i in (0, 1)))

    return measure


def processor_seconds(pid: int) -> float:
    """Processor time that another process has taken so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start(socket: Path) -> subprocess.Popen[bytes]:
    """A server that listens."""
    command = [sys.executable, "-m", "clipmk_tui", "serve", "--idle", "1h", "-q"]
    process = subprocess.Popen(command)  # noqa: S603 - our own
    while listener_pid(socket) is None:
        if process.poll() is not None:
            raise SystemExit("the server did not start")
        time.sleep(0.05)
    return process


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", default="sample_images/fox-typical-09.png")
    parser.add_argument("--model", default="embedded/vit-s8")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    torch.set_num_threads(arguments.threads)

    explain = [sys.executable, "-m", "clipmk_tui", "explain", arguments.image, "-m", arguments.model, "--json", "-q"]
    commands = {
        ALONE: [*explain, "--no-serve"],
        SERVED: explain,
        "clipmk --version": [sys.executable, "-m", "clipmk_tui", "--version"],
    }
    rounds: list[tuple[Cost, dict[str, Cost]]] = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CLIPMK_CACHE_DIR"] = folder
        os.environ["CLIPMK_SOCKET"] = str(Path(folder, "serve.sock"))
        server = start(Path(folder, "serve.sock"))
        try:
            for command in commands.values():
                cost(command)
            measure, before = forward(arguments.model, arguments.image), processor_seconds(server.pid)
            for _ in range(arguments.rounds):
                rounds.append((measure(), {name: cost(command) for name, command in commands.items()}))
            working = (processor_seconds(server.pid) - before) / arguments.rounds
        finally:
            server.terminate()
            server.wait()
    print(f"{arguments.model}, {arguments.threads} threads, {arguments.rounds} rounds")
    print_table(rounds, {SERVED: working})


def print_table(rounds: list[tuple[Cost, dict[str, Cost]]], more: dict[str, float]) -> None:
    """Medians in milliseconds; `more`: processor seconds that a call costs another process."""
    bare = [1_000 * statistics.median(one[i] for one, _ in rounds) for i in (0, 1)]
    print(f"bare forward: {bare[0]:.0f} ms, of a processor {bare[1]:.0f} ms")
    print(f"{'':22}{'wall':>7}{'cpu':>7}{'wall beyond':>13}{'cpu beyond':>12}{'cpu, alone = 1':>16}")
    for name in rounds[0][1]:
        extra = Cost(0.0, more.get(name, 0.0))
        wall, cpu = (1_000 * statistics.median(one[name][i] + extra[i] for _, one in rounds) for i in (0, 1))
        beyond = [1_000 * statistics.median(one[name][i] + extra[i] - base[i] for base, one in rounds) for i in (0, 1)]
        share = statistics.median((one[name].cpu + extra.cpu) / one[ALONE].cpu for _, one in rounds)
        print(f"{name:22}{wall:7.0f}{cpu:7.0f}{beyond[0]:13.0f}{beyond[1]:12.0f}{share:16.3f}")


if __name__ == "__main__":
    main()

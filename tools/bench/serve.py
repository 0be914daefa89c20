"""A second `clipmk explain`, asked of a warm server and done alone: `python tools/bench/serve.py`.

Whole processes, in turns; beside them one bare forward of the same image by the same model, in this process. "Beyond"
is the clock's time of a process less that of a forward in the same round. Medians over the rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from cold_start import Cost, cost

import clipmk
from clipmk.explainer import Explainer
from clipmk.images import read_picture
from clipmk.serving.client import listens
from clipmk.settings import preset


def forward_seconds(model: str, image: str) -> float:
    """One bare forward, warm: the median of nine."""
    backbone = clipmk.load(model)
    explainer = Explainer(backbone, clipmk.load_vocabulary("world"), preset("default"))
    pixels = backbone.normalise(torch.from_numpy(explainer.square(read_picture(image)))[None])
    times = []
    for _ in range(9):
        started = time.perf_counter()
        backbone.encode_images(pixels)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def start(socket: Path) -> subprocess.Popen[bytes]:
    """A server that listens."""
    command = [sys.executable, "-m", "clipmk_tui", "serve", "--idle", "1h", "-q"]
    process = subprocess.Popen(command)  # noqa: S603 - our own
    while not listens(socket):
        if process.poll() is not None:
            raise SystemExit("the server did not start")
        time.sleep(0.05)
    return process


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", default="sample_images/cat-chimera-12.png")
    parser.add_argument("--model", default="embedded/vit-s8")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    torch.set_num_threads(arguments.threads)

    explain = [sys.executable, "-m", "clipmk_tui", "explain", arguments.image, "-m", arguments.model, "--json", "-q"]
    commands = {
        "alone (--no-serve)": [*explain, "--no-serve"],
        "asked of the server": explain,
        "clipmk --version": [sys.executable, "-m", "clipmk_tui", "--version"],
    }
    found: list[tuple[float, dict[str, Cost]]] = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CLIPMK_CACHE_DIR"] = folder
        os.environ["CLIPMK_SOCKET"] = str(Path(folder, "serve.sock"))
        server = start(Path(folder, "serve.sock"))
        try:
            for command in commands.values():
                cost(command)
            for _ in range(arguments.rounds):
                bare = forward_seconds(arguments.model, arguments.image)
                found.append((bare, {name: cost(command) for name, command in commands.items()}))
        finally:
            server.terminate()
            server.wait()
    forward = 1_000 * statistics.median(bare for bare, _ in found)
    print(
        f"{arguments.model}, {arguments.threads} threads, {arguments.rounds} rounds; a bare forward: {forward:.0f} ms"
    )
    print(f"{'':22}{'wall ms':>9}{'beyond ms':>11}{'cpu ms':>8}{'wall, alone = 1':>17}")
    alone = next(iter(commands))
    for name in commands:
        wall, cpu = (1_000 * statistics.median(getattr(one[name], field) for _, one in found) for field in Cost._fields)
        beyond = 1_000 * statistics.median(one[name].wall - bare for bare, one in found)
        share = statistics.median(one[name].wall / one[alone].wall for _, one in found)
        print(f"{name:22}{wall:9.0f}{beyond:11.0f}{cpu:8.0f}{share:17.3f}")


if __name__ == "__main__":
    main()

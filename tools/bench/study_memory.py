"""Peak memory of a study against the number of its images: `python tools/bench/study_memory.py 100 1000 10000`.

Each size is a process of its own (rendered scenes, one small model, the `default` preset); what is printed is the peak
resident memory that the system accounts for it, and its time.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    """Run every size and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", type=int, nargs="+", help="numbers of images")
    parser.add_argument("--model", default="embedded/vit-xs8-48")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    print(f"{arguments.model}, {arguments.threads} threads")
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory() as folder:
            peak, seconds = run(size, arguments.model, arguments.threads, Path(folder) / "study")
        print(
            f"{size:8,} images   peak {peak / 2**20:7.0f} MiB   {seconds:8.0f} s   {size / seconds:6.1f} images/s",
            flush=True,
        )


def run(size: int, model: str, threads: int, folder: Path) -> tuple[int, float]:
    """Peak resident bytes and seconds of one study.

    Raises:
        RuntimeError: it failed.
    """
    command = [
        sys.executable, "-m", "clipmk_tui", "study", f"world:test?scenes={size}", "-m", model, "--out", str(folder),
        "--threads", str(threads), "--device", "cpu", "--json", "--quiet",
    ]  # fmt: skip
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 - our own command
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{' '.join(command)} ended with status {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss * 1024, time.perf_counter() - started


if __name__ == "__main__":
    main()

"""What only a GPU can tell, in at most eight minutes: `python tools/gpu_check.py --output gpu.json`.

1. The tests marked `cuda`, on the real device.
2. Milliseconds per explanation, and a stream's throughput as a share of bare `encode_image` (`bench/explain.py`).
3. A study's throughput as a share of bare `encode_image` (`bench/study.py`).
4. Peak memory on the device.

Weights are random: no download is needed. Every step writes the JSON again, so what was measured survives a cut.
`--device cpu --quick` tries the script itself on a machine without a GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools" / "bench"))

import explain as explain_bench  # noqa: E402 - found by the line above

import study as study_bench  # noqa: E402

LIMIT = 8 * 60.0
"""Seconds for everything; a step that would begin later is left out and said to be."""


@dataclasses.dataclass(slots=True)
class Check:
    """What was found so far, and the time that is left."""

    output: Path
    started: float
    found: dict[str, Any]

    def step(self, name: str, work: Callable[[], Any]) -> None:
        """Do one thing unless time is up; a failure is recorded and the rest goes on."""
        if time.perf_counter() - self.started > LIMIT:
            self.found[name] = {"skipped": "out of time"}
        else:
            try:
                self.found[name] = work()
            except Exception as error:  # noqa: BLE001 - one failed step must not cost the others
                self.found[name] = {"error": f"{type(error).__name__}: {error}"}
        self.output.write_text(json.dumps(self.found, indent=2) + "\n", encoding="utf-8")
        print(f"\n## {name}  ({time.perf_counter() - self.started:.0f} s)\n{table(self.found[name])}", flush=True)


def main() -> None:
    """Run all steps and print a table of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--models", nargs="+", default=["ViT-B-16:random", "RN50:random"])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16", "fp16"])
    parser.add_argument("--output", type=Path, default=Path("gpu.json"))
    parser.add_argument("--quick", action="store_true", help="few images and rounds")
    arguments = parser.parse_args()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("no CUDA device is available; --device cpu --quick tries the script itself")
    check = Check(arguments.output, time.perf_counter(), {})
    check.step("machine", lambda: machine(arguments.device))
    check.step("tests", lambda: run_tests(arguments.device))
    for model in arguments.models:
        for precision in arguments.precisions if arguments.device != "cpu" else ["fp32"]:
            check.step(
                f"explain {model} {precision}",
                lambda m=model, p=precision: measure_explanations(m, p, arguments),  # type: ignore[misc]
            )
        check.step(f"study {model}", lambda m=model: measure_study(m, arguments))  # type: ignore[misc]


def machine(device: str) -> dict[str, Any]:
    """Where the numbers come from."""
    name = torch.cuda.get_device_name(device) if device != "cpu" else "CPU"
    return {"device": name, "torch": torch.__version__, "cuda": torch.version.cuda, "threads": torch.get_num_threads()}


def run_tests(device: str) -> dict[str, Any]:
    """The tests marked `cuda`; on the real device where there is one."""
    options = ["--gpu"] if device != "cpu" else []
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-m",
        "cuda",
        "-q",
        "-n0",
        *options,
        str(ROOT / "tests" / "test_cuda.py"),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, cwd=ROOT)  # noqa: S603
    lines = ran.stdout.strip().splitlines()
    failed = [line for line in lines if line.startswith("FAILED")]
    return {"exit_status": ran.returncode, "summary": lines[-1] if lines else ran.stderr[-500:], "failed": failed}


def measure_explanations(model: str, precision: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Single explanations, a batch, and streams of JPEG files, both presets."""
    on_gpu = arguments.device != "cpu"
    options = argparse.Namespace(
        model=model,
        vocab="world" if arguments.quick else "imagenet",
        device=arguments.device,
        precision=precision,
        clock="wall",
        rounds=1 if arguments.quick else 3,
        batch=4 if arguments.quick else 32,
    )
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    bench = explain_bench.make_bench(options)
    rows = [
        {
            "measure": one.name or "the same, inside its own forwards",
            "ratio": one.ratio,
            "against": one.words,
            "ms": None if one.seconds is None else 1_000 * one.seconds,
        }
        for one in explain_bench.measures(bench, ["paper", "default"], images=4 if arguments.quick else 256, loop=False)
    ]
    if on_gpu:
        rows.append({"measure": "peak memory", "MiB": torch.cuda.max_memory_allocated() / 2**20})
    return rows


def measure_study(model: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One shard of JPEG files with the `paper` preset, k-means and PCA."""
    options = argparse.Namespace(
        model=model,
        vocab="world" if arguments.quick else "imagenet",
        device=arguments.device,
        precision="fp32",
        images=4 if arguments.quick else 96,
        batch_size=4 if arguments.quick else 32,
        threads=torch.get_num_threads(),
        rounds=1 if arguments.quick else 2,
        loop_images=0,
    )
    with tempfile.TemporaryDirectory() as folder:
        rates, _ = study_bench.measure_rates(Path(folder), options)
    return dataclasses.asdict(rates)


def table(found: Any) -> str:
    """Rows of names and values."""
    rows = found if isinstance(found, list) else [found]
    return "\n".join(
        "  ".join(f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in row.items())
        for row in rows
    )


if __name__ == "__main__":
    main()

"""What other ways of running the same image encoder would gain: `python tools/bench/model_options.py`.

Each option against float32, contiguous and uncompiled, in turns, medians of the ratios, at the batch sizes given: below
1 is faster. Beside it the largest difference of the embeddings (unit vectors, euclidean). Random weights.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

Encode = Callable[[Tensor], Tensor]

OPTIONS = ("channels_last", "bf16", "no fused attention", "compiled")


def main() -> None:
    """Print a row per model, batch size and option."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["ViT-B-16", "RN50", "convnext_base"])
    parser.add_argument("--options", nargs="+", default=list(OPTIONS), choices=OPTIONS)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = time.process_time if arguments.clock == "cpu" else time.perf_counter
    print(f"{arguments.device}, {arguments.threads} threads, {arguments.clock} clock, {arguments.rounds} rounds")
    for name in arguments.models:
        visual = make(name).to(arguments.device)
        for option in arguments.options:
            other = changed(visual, option)
            for batch in arguments.batches:
                pixels = torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(0))
                compare(f"{name:14}{option:20}{batch:4}", visual, other, pixels.to(arguments.device), clock, arguments)


def make(name: str) -> nn.Module:
    """An image encoder of open_clip with random weights."""
    import open_clip  # noqa: PLC0415 - seconds

    torch.manual_seed(0)
    visual: nn.Module = open_clip.create_model(name).visual
    return visual.eval()


def changed(visual: nn.Module, option: str) -> Encode:
    """The same encoder under one option; float32 in and out."""
    if option == "channels_last":
        spread = copy.deepcopy(visual).to(memory_format=torch.channels_last)
        return lambda pixels: spread(pixels.contiguous(memory_format=torch.channels_last))
    if option == "bf16":
        half = copy.deepcopy(visual).bfloat16()
        return lambda pixels: half(pixels.bfloat16()).float()
    if option == "compiled":
        return torch.compile(copy.deepcopy(visual))

    def unfused(pixels: Tensor) -> Tensor:
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            found: Tensor = visual(pixels)
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
        return found

    return unfused


@torch.inference_mode()
def compare(
    label: str, visual: Encode, other: Encode, pixels: Tensor, clock: Callable[[], float], arguments: argparse.Namespace
) -> None:
    """Print one row; the first call of the option is timed apart."""

    def seconds(encode: Encode) -> float:
        started = clock()
        encode(pixels)
        if pixels.device.type == "cuda":
            torch.cuda.synchronize(pixels.device)
        return clock() - started

    expected = nn.functional.normalize(visual(pixels), dim=-1)
    began = time.perf_counter()
    found = nn.functional.normalize(other(pixels), dim=-1)
    first = time.perf_counter() - began
    pairs = [(seconds(visual), seconds(other)) for _ in range(arguments.rounds)]
    ratio = statistics.median(b / a for a, b in pairs)
    base = 1_000 * statistics.median(a for a, _ in pairs)
    off = float((found - expected).norm(dim=-1).max())
    print(f"{label} {ratio:6.2f} of {base:6.0f} ms, off by {off:.1e}, first call {first:5.1f} s", flush=True)


if __name__ == "__main__":
    main()

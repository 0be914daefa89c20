"""One warm explanation as a multiple of one bare image forward: `python tools/bench/explain_ratio.py`.

ViT-B-32 with random weights (times do not depend on the weights, beyond how many parts they find), the world's
vocabulary, a photograph. Forward and explanations take turns, so that a busy machine slows both; medians of the ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

import clipmk
from clipmk.explainer import Explainer
from clipmk.images import read_picture
from clipmk.settings import preset


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Print a table of ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="ViT-B-32:random")
    parser.add_argument("--image", default="sample_images/photographs/chelsea.png")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    backbone = clipmk.load(arguments.model)
    vocabulary = clipmk.load_vocabulary("world")
    picture = read_picture(arguments.image)
    base = Explainer(backbone, vocabulary, preset("default"))
    ways = {
        "default": base,
        "default, prompts": base.with_settings(preset("default", grounding="prompts")),
        "paper": base.with_settings(preset("paper")),
    }
    pixels = backbone.normalise(torch.from_numpy(base.square(picture))[None])
    parts = {name: len(explainer.explain([picture])[0].parts) for name, explainer in ways.items()}
    ratios: dict[str, list[float]] = {name: [] for name in ways}
    bare = []
    for _ in range(arguments.rounds):
        forward = min(seconds(lambda: backbone.encode_images(pixels)) for _ in range(3))
        bare.append(forward)
        for name, explainer in ways.items():
            ratios[name].append(seconds(lambda e=explainer: e.explain([picture])) / forward)  # type: ignore[misc]
    print(f"{arguments.model}, {arguments.threads} threads, {arguments.rounds} rounds")
    print(f"bare forward: {1_000 * statistics.median(bare):.0f} ms")
    for name, values in ratios.items():
        forwards = 1 if name == "default" else 1 + 3 * parts[name]
        ratio = statistics.median(values)
        share = ratio / forwards
        print(f"{name:18} {ratio:6.2f} bare forwards; {parts[name]} parts; {share:5.2f} of its {forwards} forwards")


if __name__ == "__main__":
    main()

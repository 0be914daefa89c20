"""How well parts match the true ones at any size of picture: `python tools/bench/parts.py --size 512`.

Scenes of the rendered world are drawn at `--size` pixels and explained by the `default` preset; what is found is
compared with the truth in the picture's own pixels. Prints means for each split; `--output` keeps the scores of every
scene, from which two versions can be compared scene by scene: `--against OTHER.json`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

import clipmk
from clipmk.evaluate.truth import ScenePrediction, concept_scores, region_scores
from clipmk.evaluate.variants import VariantRunner, variants
from clipmk.images.decoder import read_picture
from clipmk.world.scene import render_scenes

METRICS = ("part_iou", "foreground", "hit1", "ap", "parts")
Scores = dict[str, dict[str, list[float]]]
"""Split -> metric -> of every scene."""


def main() -> None:
    """Print the means, and the differences from another run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded/vit-s8")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--scenes", type=int, default=150)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--against", type=Path, help="scores of another run, from --output")
    arguments = parser.parse_args()
    found = measure(arguments.model, size=arguments.size, count=arguments.scenes)
    other: Scores | None = json.loads(arguments.against.read_text()) if arguments.against else None
    for split, scores in found.items():
        for name in METRICS:
            line = f"{split:15} {name:11} {np.mean(scores[name]):7.4f}"
            print(line if other is None else f"{line}  {difference(scores[name], other[split][name])}")
    if arguments.output:
        arguments.output.write_text(json.dumps(found))


def measure(model: str, *, size: int, count: int) -> Scores:
    """The scores of every scene that shows a part."""
    runner = VariantRunner(clipmk.load(model), clipmk.load_vocabulary("world"))
    (variant,) = (one for one in variants(["default"], ["attend"]) if one.name == "default, attend")
    found: Scores = {}
    for split in ("test", "counterfactual"):
        found[split] = {name: [] for name in METRICS}
        for scene in render_scenes(split, count=count, size=size):
            if not scene.parts:
                continue
            result = runner.run(read_picture(scene.image), [variant])[variant]
            seen = ScenePrediction.of(result)
            forward = result.image.forward
            assert forward is not None  # noqa: S101 - its own parts are found
            scores = concept_scores(scene, seen, true_parts=False) | region_scores(
                scene, seen.part_pixels, seen.foreground_pixels, grid=forward.grid
            )
            for name in METRICS:
                found[split][name].append(scores[name])
    return found


def difference(ours: list[float], theirs: list[float]) -> str:
    """The mean difference with a 95 % interval over scenes."""
    paired = np.subtract(ours, theirs)
    means = np.random.default_rng(0).choice(paired, (2000, len(paired))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{paired.mean():+.4f} [{low:+.4f}, {high:+.4f}]"


if __name__ == "__main__":
    main()

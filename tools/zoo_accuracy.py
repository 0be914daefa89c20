"""Zero-shot top-1 of the embedded models on rendered scenes: `python tools/zoo_accuracy.py` prints a Markdown table.

Each model is loaded and used as a user would: `clipmk.load`, square and normalised inputs, the class prompts of the
`world` vocabulary. Scenes are rendered once for all models. One to three minutes for the whole zoo.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

import clipmk
from clipmk.concepts.statistics import wilson
from clipmk.images.decoder import Picture, read_picture
from clipmk.models.catalog import EMBEDDED, embedded_names
from clipmk.pipeline.explainer import Explainer
from clipmk.settings import preset
from clipmk.vocabulary.vocabulary import load_vocabulary
from clipmk.world.conditions import SPLITS
from clipmk.world.scene import render_scenes

BATCH: Final = 100


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How many of `count` scenes a model classifies correctly."""

    right: int
    count: int

    def __str__(self) -> str:
        """Share of correct predictions with its 95 % Wilson interval."""
        share = wilson(self.right, self.count)
        return f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]"


def main(arguments: Sequence[str]) -> None:
    """Measure the named models on every named split and print a row per model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "models", nargs="*", default=embedded_names(), help="ids of models; all embedded ones unless named"
    )
    parser.add_argument("--split", dest="splits", nargs="+", choices=SPLITS, default=["hard"])
    parser.add_argument("--scenes", type=int, default=1_000, help="of each split")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    labelled = {split: labelled_pictures(split, chosen.scenes, chosen.seed) for split in chosen.splits}
    print("| model |", " | ".join(chosen.splits), "|")
    print("|---" * (1 + len(chosen.splits)) + "|")
    for name in chosen.models:
        explainer = Explainer(clipmk.load(name, device="cpu"), load_vocabulary("world"), preset("default"))
        cells = [str(measure(explainer, *one)) for one in labelled.values()]
        print(f"| {name.removeprefix(EMBEDDED)} |", " | ".join(cells), "|", flush=True)


def labelled_pictures(split: str, count: int, seed: int) -> tuple[list[Picture], list[str]]:
    """Pictures of the split and the class of each."""
    pairs = [(read_picture(scene.image), scene.class_name) for scene in render_scenes(split, count=count, seed=seed)]
    return [picture for picture, _ in pairs], [class_name for _, class_name in pairs]


def measure(explainer: Explainer, pictures: Sequence[Picture], classes: Sequence[str]) -> Accuracy:
    """For how many pictures the model ranks the true class first."""
    named = name_all(explainer, pictures)
    return Accuracy(sum(guess == true for guess, true in zip(named, classes, strict=True)), len(classes))


@torch.inference_mode()
def name_all(explainer: Explainer, pictures: Sequence[Picture]) -> list[str]:
    """The class ranked first for each picture, many pictures per forward."""
    named = []
    for start in range(0, len(pictures), BATCH):
        squares = np.stack([explainer.square(picture) for picture in pictures[start : start + BATCH]])
        named += [explainer.builder.predict(one)[0].class_name for one in explainer.embed(squares)]
    return named


if __name__ == "__main__":
    main(sys.argv[1:])

"""How often a part's name is right, with and without the mark: `python tools/part_names.py MODEL... [--split val]`.

A found part is named right where its first descriptor is that of the true part with the highest IoU. A name carries a
"?" where its concept is not seen in the part itself (`output.sentences.part_names`).
"""

from __future__ import annotations

import argparse

import numpy as np

import clipmk
from clipmk.evaluate.metrics import interval, pairwise_iou
from clipmk.images.masks import rle_decode
from clipmk.output.sentences import part_names
from clipmk.world.scene import Scene, render_scenes


def main() -> None:
    """Print a row for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--split", default="test")
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    scenes = list(render_scenes(given.split, count=given.scenes, seed=given.seed))
    print("| model | split | right without mark | right with `?` | marked |\n|---|---|---|---|---|")
    for name in given.models:
        model = clipmk.load(name, device="cpu")
        found = [one for scene in scenes for one in named(scene, clipmk.explain(scene.image, model))]
        told = {marked: np.array([right for mark, right in found if mark is marked], float) for marked in (False, True)}
        shares = (interval(told[marked]) for marked in (False, True))
        cells = [f"{one.mean:.3f} [{one.low:.3f}, {one.high:.3f}]" for one in shares]
        share = f"{len(told[True]) / len(found):.2f} of {len(found):,}"
        print(f"| {name.removeprefix('embedded/')} | {given.split} | {' | '.join(cells)} | {share} |", flush=True)


def named(scene: Scene, explanation: clipmk.Explanation) -> list[tuple[bool, bool]]:
    """For each found part whether its name is marked, and whether it is right."""
    if not scene.parts:
        return []
    overlap = pairwise_iou(np.stack([rle_decode(part.mask) for part in explanation.parts]), scene.part_masks)
    names = part_names(explanation)
    rows = []
    for part, row in zip(explanation.parts, overlap, strict=True):
        true = scene.parts[int(row.argmax())].descriptor if row.max() > 0 else None
        rows.append((names[part.id].startswith("?"), part.descriptors[0].text == true))
    return rows


if __name__ == "__main__":
    main()

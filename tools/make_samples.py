"""Render the pictures of `sample_images/` with their truth: `python tools/make_samples.py sample_images`.

Eight ordinary scenes, and nine unusual ones, of which `embedded/rn-parts` gets some right and some wrong (counted in
docs/findings.md). They come from seed 2026, so none of them is a scene that a number in the README was measured on.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2

from clipmk.images.masks import mask_box, rle_encode
from clipmk.system.serialization import plain
from clipmk.world.scene import render_scene

SEED = 2026
SIZE = 512
ORDINARY = (4, 6, 7, 9, 11, 13, 14, 27)
UNUSUAL = (0, 9, 11, 20, 22, 32, 35, 38, 59)


def main() -> None:
    """Write one PNG per scene and `truth.json` into the folder named on the command line."""
    folder = Path(sys.argv[1])
    chosen = [("test", index) for index in ORDINARY] + [("counterfactual", index) for index in UNUSUAL]
    truth = {}
    for split, index in chosen:
        scene = render_scene(split, index, size=SIZE, seed=SEED)
        name = f"{scene.class_name}-{scene.kind}-{index:02d}.png".replace(" ", "-")
        cv2.imwrite(str(folder / name), cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 9])
        truth[name] = {
            "class": scene.class_name,
            "kind": scene.kind,
            "split": split,
            "index": index,
            "seed": SEED,
            "descriptors": list(scene.descriptors),
            "parts": [
                {
                    "descriptor": part.descriptor,
                    "bbox_xyxy": mask_box(part.mask_pixels),
                    "mask": plain(rle_encode(part.mask_pixels)),
                }
                for part in scene.parts
            ],
        }
    (folder / "truth.json").write_text(json.dumps(truth, indent=1) + "\n")


if __name__ == "__main__":
    main()

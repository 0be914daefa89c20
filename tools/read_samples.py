"""Table for the docs of how the sample pictures are explained: `python tools/read_samples.py [MODEL]`.

A name is what a part is called first, each once per picture. It counts as right where the picture was drawn with it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import clipmk
from clipmk.system.config import DEFAULT_MODEL

SAMPLES = Path(__file__).resolve().parents[1] / "sample_images"


def main() -> None:
    """Explain every picture, and print its names beside it."""
    model = clipmk.load(sys.argv[1] if len(sys.argv) > 1 else DEFAULT_MODEL, device="cpu")
    truth = json.loads((SAMPLES / "truth.json").read_text(encoding="utf-8"))
    counts = {True: 0, False: 0}
    print("| picture | drawn | answer | names that are in the picture | names that are not |\n|---|---|---|---|---|")
    for name in sorted(truth):
        facts, found = truth[name], clipmk.explain(str(SAMPLES / name), model)
        told = dict.fromkeys(part.descriptors[0].text for part in found.parts)
        right, wrong = ([text for text in told if (text in facts["descriptors"]) == drawn] for drawn in (True, False))
        counts[True], counts[False] = counts[True] + len(right), counts[False] + len(wrong)
        answer = f"{found.class_name}, {100 * found.predictions[0].probability:.0f} %"
        picture = f'<img src="../sample_images/{name}" width="96" alt="{facts["class"]}">'
        cells = picture, f"{facts['class']}, {facts['kind']}", answer, "; ".join(right), "; ".join(wrong)
        print(f"| {' | '.join(cells)} |")
    print(f"\n{counts[True]} names are right, {counts[False]} are wrong.")


if __name__ == "__main__":
    main()

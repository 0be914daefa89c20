"""Tables for the docs of what `clipmk evaluate --truth --output F.json` wrote: `python tools/truth_markdown.py F.json`.

Several files (of several models) give one line per model for the variants named with `--variant`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CONCEPTS = {
    "ap": "AP of D_v",
    "r_precision": "R-precision",
    "hit1": "hit@1",
    "hit3": "hit@3",
    "noun": "noun",
    "colour": "colour",
    "texture": "texture",
}
REGIONS = {
    "foreground": "foreground IoU",
    "of_ceiling": "the same, relative to the best union of grid cells",
    "outliers": "foreground IoU with three outlier tokens injected",
    "corloc": "CorLoc (boxes, IoU > 0.5)",
    "part_iou": "mean best IoU of the true parts",
    "pixel_iou": "k-means on pixels (k = 12, same foreground) instead",
    "parts": "parts found",
    "mutual_true": "mutual concepts in the image and typical of the class",
    "effect": "drop of the class cosine, a mutual concept blurred",
    "effect_control": "the same shape blurred elsewhere in the object",
    "effect_margin": "difference of the two, paired",
    "stable_seed": "D_v under another seed (Jaccard)",
    "stable_shift": "D_v under a shift of 2 px (Jaccard)",
}
MODELS = {
    "top1": "top-1",
    "ap": "AP",
    "hit1": "hit@1",
    "hit3": "hit@3",
    "foreground": "foreground IoU",
    "part_iou": "part IoU",
}


FOUND = ("default, attend", "default, prompts", "paper, attend", "paper, prompts")
"""Variants that find their own parts."""


def main() -> int:
    """Print the tables of one model, or one table over several.

    Returns:
        Exit status: 1 where the reader of stdout stops before the end (`... | head`).
    """
    try:
        show_tables()
        sys.stdout.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # Python writes what is left at its end, and would fail once more
        os.close(nowhere)
        return 1
    return 0


def show_tables() -> None:
    """As the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--variant", action="append", default=[], help="for several files: which variants")
    arguments = parser.parse_args()
    reports = [report for path in arguments.files for report in reports_of(json.loads(path.read_text()))]
    if len(reports) == 1:
        one_model(reports[0])
    else:
        several(reports, arguments.variant or ["default, attend", "paper, prompts"])


def reports_of(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The truth reports of a document."""
    found = content.get("truth", content)
    return found if isinstance(found, list) else [found]


def one_model(report: dict[str, Any]) -> None:
    """Concepts per split, then regions and behaviour of the found parts."""
    splits = list(dict.fromkeys(row["split"] for row in report["rows"]))
    for split in splits:
        rows = [row for row in report["rows"] if row["split"] == split]
        top1 = next(row["values"]["top1"]["mean"] for row in rows if "top1" in row["values"])
        print(f"\n**{split}**, {report['scenes']} scenes, zero-shot top-1 {top1:.3f}\n")
        body = [[row["name"], *(cell(row["values"].get(name)) for name in CONCEPTS)] for row in rows]
        table(["variant", *CONCEPTS.values()], body)
    columns = [(variant, split) for variant in FOUND if variant != "paper, attend" for split in splits]
    found = {(row["name"], row["split"]): row["values"] for row in report["rows"]}
    print()
    table(
        ["regions and behaviour", *(f"{variant}: {split}" for variant, split in columns)],
        [[words, *(cell(found.get(column, {}).get(name)) for column in columns)] for name, words in REGIONS.items()],
    )
    margins(report, splits)


def margins(report: dict[str, Any], splits: Sequence[str]) -> None:
    """Paired differences of AP between the variants and each baseline."""
    found = {(row["name"], row["split"]): row.get("margins") or {} for row in report["rows"]}
    every = dict.fromkeys(other for held in found.values() for other in held)
    others = [other for other in every if other != "class lookup, true class"]
    rows = [
        [f"{name}: {split}", *(signed(held.get(other)) for other in others)]
        for (name, split), held in found.items()
        if held and split in splits and name in FOUND
    ]
    if rows:
        print()
        table(["AP above (paired)", *others], rows)


def several(reports: Sequence[dict[str, Any]], variants: Sequence[str]) -> None:
    """One line per model, variant and split."""
    body = []
    for report in reports:
        for row in report["rows"]:
            if row["name"] in variants:
                values = [cell(row["values"].get(name)) for name in MODELS]
                over = row.get("margins") or {}
                body.append(
                    [
                        report["model"].removeprefix("embedded/"),
                        row["split"],
                        str(report["scenes"]),
                        row["name"],
                        *values,
                        signed(over.get("class lookup, predicted class")),
                        signed(over.get("nearest to the whole image")),
                    ]
                )
    table(["model", "split", "scenes", "variant", *MODELS.values(), "AP above class lookup", "above nearest"], body)


def cell(value: dict[str, float] | None) -> str:
    """Mean and half the interval."""
    return "" if value is None else f"{value['mean']:.3f} ±{(value['high'] - value['low']) / 2:.3f}"


def signed(value: dict[str, float] | None) -> str:
    """A difference with its interval."""
    return "" if value is None else f"{value['mean']:+.3f} [{value['low']:+.3f}, {value['high']:+.3f}]"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A Markdown table; rows and columns without a number are left out."""
    rows = [row for row in rows if any(row[1:])]
    kept = [place for place in range(len(columns)) if any(row[place] for row in rows)]
    columns, rows = [columns[place] for place in kept], [[row[place] for place in kept] for row in rows]
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    sys.exit(main())

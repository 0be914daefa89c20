"""Tables for the docs of what `clipmk evaluate --path`, `--faithfulness` or `--zero-shot --output F.json` wrote.

Of a path: AP and hit@1 after each step, and which steps change a metric (95 % interval of paired differences apart from
0). Of faithfulness: every variant and control of each model, then the margins of all models. Of the zero-shot gain:
accuracy, gains and controls of every source of descriptors.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

from truth_markdown import table

Row = dict[str, Any]
STEPS = {
    "paper": "paper",
    "+ assignment contrast": "+ contrast",
    "+ descriptors_per_part 6": "+ six a part",
    "+ foreground centred": "+ foreground",
    "+ parts superpixels": "+ superpixels",
    "+ grounding attend": "+ attend",
    "+ importance both": "+ order = default",
}
"""Rows of a path -> columns; the union of candidates is left out."""
CHANGES = {"ap_change": "AP", "hit1_change": "hit@1", "mutual_true_change": "truth of the mutual concepts"}
GAINS = {
    "gain": "gain",
    "random_gain": "gain of random descriptors",
    "words_gain": "of random words",
    "over_random": "above random descriptors",
}

SCORES = {"deletion": "deletion", "insertion": "insertion", "acc_drop": "AccDrop", "acc_inc": "AccInc"}
MARGINS = {"deletion_margin": "deletion, margin", "insertion_margin": "insertion, margin"}
LEFT_OUT = "random descriptors"
"""A control that the docs do not show."""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    content = [json.loads(path.read_text(encoding="utf-8")) for path in parser.parse_args().files]
    paths, faith, gains = (
        list(rows_of(one for each in content for one in each[name] or ()))
        for name in ("path", "faithfulness", "zero_shot")
    )
    if paths:
        table(["model", "split", *STEPS.values()], list(path_rows(paths)))
        print()
        print("\n".join(change_lines(paths)))
    if faith:
        print_faithfulness(faith)
    if gains:
        table(
            ["model", "split", "descriptors from", "before", "after", *GAINS.values()], [gain_row(row) for row in gains]
        )


def rows_of(reports: Iterable[Row]) -> Iterator[Row]:
    """Every row of every report, with the model's name."""
    for report in reports:
        for row in report["rows"]:
            yield {"model": report["model"].removeprefix("embedded/"), **row}


def path_rows(rows: list[Row]) -> Iterator[list[str]]:
    """For each model and split `AP / hit@1` after each step."""
    for model, split in dict.fromkeys((row["model"], row["data"]) for row in rows):
        own = {row["name"]: row["values"] for row in rows if (row["model"], row["data"]) == (model, split)}
        yield [model, split, *(f"{own[step]['ap']['mean']:.2f} / {own[step]['hit1']['mean']:.2f}" for step in STEPS)]


def change_lines(rows: list[Row]) -> Iterator[str]:
    """For each step, metric and split the models whose interval is above or below 0, and the range of the means."""
    for split in dict.fromkeys(row["data"] for row in rows):
        for step in dict.fromkeys(row["name"] for row in rows):
            for metric, words in CHANGES.items():
                found = [row for row in rows if (row["data"], row["name"]) == (split, step) and metric in row["values"]]
                values = {row["model"]: row["values"][metric] for row in found}
                if not values:
                    continue
                means = [value["mean"] for value in values.values()]
                apart = [f"{name} {interval(value)}" for name, value in values.items() if value["low"] > 0]
                below = [f"{name} {interval(value)}" for name, value in values.items() if value["high"] < 0]
                yield f"- {split}, {step}, {words}: {min(means):+.3f} to {max(means):+.3f}"
                yield f"  above 0 in {len(apart)} of {len(values)}: {', '.join(apart)}"
                yield f"  below 0 in {len(below)}: {', '.join(below)}"


def print_faithfulness(rows: list[Row]) -> None:
    """For each model what its variants and controls reach; then the margins that tell models apart."""
    known = {(row["model"], row["data"], row["name"]): row["values"] for row in rows if LEFT_OUT not in row["name"]}
    models, splits = (list(dict.fromkeys(row[key] for row in rows)) for key in ("model", "data"))
    for model in models:
        print(model)
        found = [(split, name, values) for (owner, split, name), values in known.items() if owner == model]
        table(["split", "variant: control", *SCORES.values(), *MARGINS.values()], [faith_row(*one) for one in found])
        print()
    variants = sorted({name for _, _, name in known if ":" not in name and "feature maps" not in name})
    orders = [f"order, {split}: {kind}" for split in splits for kind in ("deletion", "insertion")]
    margins = []
    for model, variant in product(models, variants):
        random = [known[model, split, f"{variant}: random order"] for split in splits]
        regions = known[model, splits[0], f"{variant}: random regions"]["insertion_margin"]
        own = [interval(values[key]) for values in random for key in MARGINS]
        margins.append([model, variant, *own, interval(regions)])
    table(["model", "variant", *orders, f"regions, {splits[0]}: insertion"], margins)


def faith_row(split: str, name: str, values: Row) -> list[str]:
    """One variant or control."""
    scores = [
        f"{values[key]['mean']:.3f}"
        + (f" [{values[key]['low']:.3f}, {values[key]['high']:.3f}]" if key in ("deletion", "insertion") else "")
        for key in SCORES
    ]
    return [split, name, *scores, *(interval(values[key]) if key in values else "" for key in MARGINS)]


def gain_row(row: Row) -> list[str]:
    """One source of descriptors."""
    values = row["values"]
    accuracy = (f"{values[name]['mean']:.3f}" for name in ("before", "after"))
    return [row["model"], row["data"], row["name"], *accuracy, *(interval(values[name]) for name in GAINS)]


def interval(value: dict[str, float]) -> str:
    """A mean with its interval."""
    return f"{value['mean']:+.3f} [{value['low']:+.3f}, {value['high']:+.3f}]"


if __name__ == "__main__":
    main()

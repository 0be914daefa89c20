"""Tables for the docs of what `clipmk evaluate --reasons --output F.json` wrote (one file or more).

Each table has a line per model and split: how rankings of the parts agree with the drops of their removal (Spearman's
rho, with the drop of the cosine and of the margin), and how much greater the drop is for parts of one status.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from truth_markdown import table

VARIANT = "default, attend"
RANKINGS = {
    f"{VARIANT}: by importance": "importance",
    f"{VARIANT}: by mutual importance": "mutual importance",
    f"{VARIANT}: by influence": "**influence**",
    "influence, attend": "influence, true part",
    "area of the part": "area",
    "nearest to the class": "nearest to the class",
    "nearest to the whole image, tied": "nearest to the image, tied",
    "map of the class": "map of the class",
    "part blurred": "blurred",
    "part inpainted": "inpainted",
    "part in mean colour": "mean colour",
    "random order": "random",
}
EFFECTS = {
    f"{VARIANT}: mutual, against vision only": "mutual, against vision only",
    f"{VARIANT}: mutual, against neither": "mutual, against neither",
    f"{VARIANT}: tied but unseen, against neither": "tied but unseen, against neither",
    f"{VARIANT}: vision only, against neither": "vision only, against neither",
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    reports = [one for path in parser.parse_args().files for one in json.loads(path.read_text())["reasons"]]
    for metric, words in (("rho", "drop of the cosine"), ("margin_rho", "drop of the margin")):
        print(f"\nrho with the {words}\n")
        table(["model", "split", *RANKINGS.values()], lines(reports, RANKINGS, metric, interval=False))
    for metric, words in (("effect", "cosine"), ("margin_effect", "margin")):
        print(f"\nhow much greater the drop of the {words} is, all else equal\n")
        table(["model", "split", *EFFECTS.values()], lines(reports, EFFECTS, metric, interval=True))


def lines(reports: Iterable[dict[str, Any]], rows: Iterable[str], metric: str, *, interval: bool) -> list[list[str]]:
    """Model, split, and one metric of each row."""
    found = []
    for report in reports:
        values = {(row["data"], row["name"]): row["values"].get(metric) for row in report["rows"]}
        for split in dict.fromkeys(data for data, _ in values):
            cells = [cell(values.get((split, name)), interval=interval) for name in rows]
            found.append([report["model"].removeprefix("embedded/"), split, *cells])
    return found


def cell(value: dict[str, float] | None, *, interval: bool) -> str:
    """A mean, with its interval where asked for; nothing where it was not measured."""
    if value is None:
        return ""
    ends = f" [{value['low']:+.3f}, {value['high']:+.3f}]" if interval else ""
    return f"{value['mean']:+.3f}{ends}" if interval else f"{value['mean']:.2f}"


if __name__ == "__main__":
    main()

"""Table for the docs of what models see of words of one's own: `python tools/ask_samples.py [MODEL...]`.

`ask_samples.json` lists for every sample picture ten texts that are there and ten that are not, written by looking at
the pictures: about half of them in the words of the vocabulary. They are asked through the command line.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from clipmk.vocabulary.vocabulary import load_vocabulary

TOOLS = Path(__file__).resolve().parent
SAMPLES = TOOLS.parent / "sample_images"
MODELS = ("embedded/rn-parts", "embedded/vit-s8", "embedded/cnx-m")


def main() -> None:
    """Ask each model every text of every picture, and print how many of each kind are seen, and tied."""
    texts: dict[str, dict[str, list[str]]] = json.loads((TOOLS / "ask_samples.json").read_text(encoding="utf-8"))
    known = set(load_vocabulary("world").descriptors)
    print("| model | pictures | words | there: seen | tied | absent: seen | tied |\n|---|---|---|---|---|---|---|")
    for model in sys.argv[1:] or MODELS:
        counts = counted(asked(model, texts), texts, known)
        for pictures, words in [("drawn", "vocabulary"), ("drawn", "free"), ("photographs", "all")]:
            cells = []
            for kind in ("there", "absent"):
                total, seen, tied = (counts[pictures, words, kind, column] for column in ("all", "seen", "tied"))
                cells += [f"{seen} of {total}", str(tied)]
            print(f"| {model.removeprefix('embedded/')} | {pictures} | {words} | {' | '.join(cells)} |")


def asked(model: str, texts: dict[str, dict[str, list[str]]]) -> dict[str, dict[str, Any]]:
    """For each picture the answers by text."""
    every = dict.fromkeys(text for lists in texts.values() for one in lists.values() for text in one)
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write("\n".join(every))
        file.flush()
        options = ["-m", model, "--ask-file", file.name, "--json"]
        command = [sys.executable, "-m", "clipmk_tui", "explain", *texts, *options]
        output = subprocess.run(command, cwd=SAMPLES, check=True, capture_output=True).stdout  # noqa: S603 - our own
    results = json.loads(output)["results"]
    return {name: {one["text"]: one for one in result["asked"]} for name, result in zip(texts, results, strict=True)}


def counted(
    answers: dict[str, dict[str, Any]], texts: dict[str, dict[str, list[str]]], known: set[str]
) -> Counter[tuple[str, str, str, str]]:
    """(pictures, words, there or absent, column) -> how many."""
    counts: Counter[tuple[str, str, str, str]] = Counter()
    for name, lists in texts.items():
        for kind, own in lists.items():
            for text in own:
                answer = answers[name][text]
                photograph = name.startswith("photographs")
                words = "all" if photograph else "vocabulary" if text in known else "free"
                key = "photographs" if photograph else "drawn", words, kind
                counts[*key, "all"] += 1
                counts[*key, "seen"] += answer["presence"]["seen"]
                counts[*key, "tied"] += answer["ties"][0]["in_d_y"]
    return counts


if __name__ == "__main__":
    main()

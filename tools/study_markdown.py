"""Tables for the docs of a study's folder: when predictions are wrong, what beats chance, and which cues mislead."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import pyarrow.compute as pc

from clipmk.study import text_tables
from clipmk.study.cues import misleads
from clipmk.study.manifest import StudyFolder
from clipmk.study.results import Results, read_results
from clipmk.study.schema import images_schema
from clipmk.system.parquet import read_table
from truth_markdown import table


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    results = read_results(StudyFolder(parser.parse_args().folder))
    print("AUROC for a wrong prediction [95 %]\n")
    put(text_tables.auroc_table(results, "auroc"))
    print("\nless that of the probability [95 %]\n")
    put(text_tables.auroc_table(results, "less_probability"))
    print("\nbelow and above a threshold of the probability\n")
    put(text_tables.threshold_table(results))
    print("\nmore than chance?\n")
    heads = ("beats all %: right", "wrong", "random draw p < .05, %: right", "wrong")
    table(["model", *heads], list(shares(results)))
    print("\nwhat misleads\n")
    put(text_tables.model_table("", results, filter(misleads, results.cues()), "cues"))


def put(one: text_tables.TextTable) -> None:
    """Print a table as Markdown."""
    table(list(one.columns), one.rows)


def shares(results: Results) -> Iterator[tuple[str, ...]]:
    """Of the right and of the wrong predictions: how many beat all other classes, and random draws."""
    columns = ["model", "parts", "correct", "class_swap_at_least", "p_value"]
    images = read_table(results.folder.table("images"), images_schema(results.manifest.asks), columns)
    images = images.filter(pc.equal(images["parts"], results.manifest.parts[0]))
    for model, name in results.names.items():
        own = images.filter(pc.equal(images["model"], model))
        right, wrong = (own.filter(pc.equal(own["correct"], kind)) for kind in (True, False))
        hits = [pc.equal(one["class_swap_at_least"], 0) for one in (right, wrong)]
        hits += [pc.less(one["p_value"], 0.05) for one in (right, wrong)]
        yield (name, *(text_tables.percent(pc.mean(one.cast("int8")).as_py(), 0) for one in hits))


if __name__ == "__main__":
    main()

"""How much of a study its tables take: `python tools/bench/study_tables.py`.

Rendered scenes are studied with small models, which explain faster than any that matters, so the shares are upper
bounds. Of the tables, what tells wrong predictions from right ones (`wrong_rows`) and the cues (`cue_table`, and the
counting of concepts that they share with the table `concepts`) are timed apart.
"""

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from clipmk.datasets.opening import open_dataset
from clipmk.settings import preset
from clipmk.study.concepts import ConceptCounts
from clipmk.study.cues import cue_table
from clipmk.study.manifest import StudyFolder, StudyRequest, read_manifest
from clipmk.study.run import run_study
from clipmk.study.tables import write_tables
from clipmk.study.wrong import wrong_rows
from clipmk.vocabulary.vocabulary import load_vocabulary
from study import seconds

TIMED = ("wrong_rows", "cue_table", "ConceptCounts.add")


def main() -> None:
    """Study, write the tables again a few times, print the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["embedded/vit-xs8-48", "embedded/rn-xs"])
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--preset", default="default")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        folder = StudyFolder(Path(root) / "study")
        request = StudyRequest(
            folder=folder,
            dataset=open_dataset(f"world:hard?scenes={arguments.scenes}"),
            models=tuple(arguments.models),
            vocabulary=load_vocabulary("world"),
            settings=preset(arguments.preset),
            threads=arguments.threads,
        )
        whole = seconds(lambda: run_study(request))
        rounds = [time_tables(folder) for _ in range(arguments.rounds)]
    print(f"{arguments.scenes} scenes x {len(arguments.models)} models, {arguments.preset}: {whole:.1f} s")
    for name in ("all tables", *TIMED):
        taken = statistics.median(one[name] for one in rounds)
        print(f"{name:20} {taken:8.3f} s  {100 * taken / whole:6.2f} %")


def time_tables(folder: StudyFolder) -> dict[str, float]:
    """Seconds of writing all tables, and of the functions `TIMED` in it."""
    spent: dict[str, float] = defaultdict(float)

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            started = time.perf_counter()
            result = function(*arguments)
            spent[name] += time.perf_counter() - started
            return result

        return call

    with (
        patch("clipmk.study.tables.wrong_rows", timed("wrong_rows", wrong_rows)),
        patch("clipmk.study.tables.cue_table", timed("cue_table", cue_table)),
        patch.object(ConceptCounts, "add", timed("ConceptCounts.add", ConceptCounts.add)),
    ):
        spent["all tables"] = seconds(lambda: write_tables(folder, read_manifest(folder.manifest)))
    return spent


if __name__ == "__main__":
    main()

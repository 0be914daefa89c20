"""What `clipmk study cues` does: print the concepts that go with wrong predictions, and blur them in some images."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from clipmk.study.cues import FEWEST, misleads
from clipmk.study.manifest import StudyFolder
from clipmk.study.results import Results, read_results
from clipmk.study.schema import TABLES
from clipmk.system.parquet import read_table
from clipmk.system.text import counted, quoted
from clipmk_tui.cli import tables
from clipmk_tui.cli.commands.study.report import warn_unfinished
from clipmk_tui.cli.progress import Stages
from clipmk_tui.cli.streams import data_stream, logging_to_stderr
from clipmk_tui.show.text import shown

SHOWN = 5  # cues of each kind that are printed per model


def run(
    folder: Path, *, check: int | None, models: Sequence[str], device: str, json: bool, quiet: bool, no_color: bool
) -> int:
    """Print the cues of a study, after blurring them in `check` images each; returns the exit status 0."""
    with Stages(shown=not quiet) as progress, logging_to_stderr(quiet=quiet, verbose=False), data_stream():
        results = read_results(StudyFolder(folder.expanduser()))
        wanted = {results.model(name) for name in models} or set(results.names)
        if check is not None:
            from clipmk.study.cue_check import check_cues  # noqa: PLC0415 - torch

            check_cues(results, count=check, models=wanted, device=device, progress=progress)
    chosen = [model for model in results.names if model in wanted]
    cues = [cue for cue in results.cues() if cue["model"] in chosen]
    table = read_table(results.folder.table("cues"), TABLES["cues"], ["model"])
    tests = Counter(table["model"].to_pylist())
    if json:
        tables.put_json({"cues": {"tests": {model: tests[model] for model in chosen}, "found": cues}})
        return 0
    if not quiet:
        warn_unfinished(results)
    with tables.for_people(no_color) as console:
        for model in chosen:
            own = [cue for cue in cues if cue["model"] == model]
            console.print(*_lines(results, model, own, tests[model]), sep="\n", soft_wrap=True)
    return 0


def _lines(results: Results, model: str, cues: Sequence[dict[str, Any]], tests: int) -> Iterator[Text]:
    """What was found with one model."""
    yield Text.assemble(shown(results.names.get(model, model), "bold"), (f"  {counted(tests, 'test')}", "dim"))
    if not tests:
        yield Text(f"  nothing to compare: no class is predicted for {FEWEST} labelled images, right and wrong ones")
    elif not cues:
        yield Text("  no concept is mutual more often where predictions are wrong, nor where they are right")
    several = len(results.manifest.parts) > 1
    for kind in (True, False):
        own = [cue for cue in cues if misleads(cue) is kind]
        for cue in own[:SHOWN]:
            yield shown(f"  {cue['parts']}: {_sentence(cue)}" if several else f"  {_sentence(cue)}")
        if len(own) > SHOWN:
            yield Text(f"  and {len(own) - SHOWN:,} more that {'mislead' if kind else 'support'}", "dim")


def _sentence(cue: dict[str, Any]) -> str:
    """`'a red sail' misleads to 'boat': wrong in 12 of 15 images where it is mutual, in 4 of 90 others; q 0.001`."""
    mutual, others = (
        f"{cue[f'{kind}_wrong']:,} of {cue[f'{kind}_wrong'] + cue[f'{kind}_right']:,}" for kind in ("mutual", "other")
    )
    verb = "misleads to" if misleads(cue) else "supports"
    text = f"{quoted(cue['text'])} {verb} {quoted(cue['class'])}: wrong in {mutual} images where it is mutual, "
    text += f"in {others} others; q {cue['q']:.2g}"
    if cue["blurred"]:
        text += f"; blurred, {cue['flips']} of {cue['blurred']} predictions change, "
        text += f"{cue['control_flips']} with as much blurred elsewhere (p {cue['check_p']:.2g})"
    return text

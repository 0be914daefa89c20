"""What `clipmk study` does: settle the choices, work, say what came out."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from clipmk.errors import UsageError
from clipmk.settings import Fit
from clipmk.system.config import Config, choose, read_config
from clipmk.system.options import settings_from, variable
from clipmk.system.text import counted, encodable, printable, quoted
from clipmk.vocabulary.classes import parse_classes
from clipmk.vocabulary.vocabulary import default_vocabulary, load_vocabulary
from clipmk_tui.cli.logs import logging_to_stderr
from clipmk_tui.cli.streams import say
from clipmk_tui.cli.study_progress import StudyProgress

if TYPE_CHECKING:
    from clipmk.datasets.dataset import Dataset
    from clipmk.study.request import Engine, StudyRequest
    from clipmk.study.run import StudyOutcome
    from clipmk.vocabulary.vocabulary import Vocabulary

ENGINES = ("local", "ray")
FAILURES_NAMED = 3
"""Images that could not be explained, told one by one."""


def run(flags: Mapping[str, Any]) -> int:
    """Study a data set and print the headline table.

    Args:
        flags: the command's parameters by name; None (or empty) where a flag was not given.

    Returns:
        Exit status: 0, or 3 where images could not be explained.
    """
    config = read_config()
    flags = _settled(flags, config)
    quiet = flags["quiet"]
    _check(flags)
    with StudyProgress(shown=not quiet) as progress, logging_to_stderr(quiet=quiet, verbose=False):
        progress("reading the data set", 0, 0)
        request = _request(flags, config)
        from clipmk.study.run import run_study  # noqa: PLC0415 - torch

        try:
            outcome = run_study(request, progress=progress)
        except KeyboardInterrupt:
            if progress.total and not quiet:
                _say_stopped(progress, request.folder.root)
            raise
    _say_end(outcome, request.folder.root, quiet=quiet)
    from clipmk_tui.cli.study_report import headline  # noqa: PLC0415 - rich

    headline(request.folder.root, json=flags["json"], no_color=flags["no_color"])
    return 3 if outcome.failed else 0


def _settled(flags: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """The flags, filled up from the environment and the config where one was not given.

    A model named by a flag outranks a pool of the environment; its number of workers counts for Ray only.
    """
    found = dict(flags)
    for name, default in (("fit", None), ("engine", "local"), ("out", "clipmk-study")):
        found[name] = choose(flags[name], variable(name), None, default)
    if not flags["model"]:
        found["pool"] = choose(flags["pool"], variable("pool"), None, None)
    counts = ("limit", "shard_size", "batch_size", "threads", *(("workers",) if found["engine"] == "ray" else ()))
    for name in counts:
        found[name] = choose(flags[name], variable(name), None, None, parse=_count)
    return found | {
        "json": flags["json"],
        "quiet": choose(flags["quiet"], variable("quiet"), config.quiet, False),
        "no_color": choose(flags["no_color"], variable("no_color"), config.no_color, False),
    }


def _count(text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise ValueError("it must be a whole number of at least 1")
    return int(text)


def _check(flags: Mapping[str, Any]) -> None:
    """Refuse choices that do not exist."""
    for name, known in (("engine", ENGINES), ("fit", get_args(Fit))):
        if flags[name] is not None and flags[name] not in known:
            raise UsageError(f"{name} {flags[name]!r} does not exist; choose one of: {', '.join(known)}")
    if flags["workers"] is not None and flags["engine"] != "ray":
        raise UsageError("--workers goes with --engine ray; the local engine is one process")


def _request(flags: Mapping[str, Any], config: Config) -> StudyRequest:
    from clipmk.datasets.opening import open_dataset  # noqa: PLC0415 - pyarrow
    from clipmk.models.pools import POOLS, pool  # noqa: PLC0415
    from clipmk.study.paths import StudyFolder  # noqa: PLC0415
    from clipmk.study.request import StudyRequest as Made  # noqa: PLC0415

    named: tuple[str, ...] = () if flags["pool"] else tuple(dict.fromkeys(flags["model"]))
    if flags["pool"] and flags["model"]:
        raise UsageError("--pool and -m name models twice; choose one (a pool can be a FILE with a model per line)")
    models = pool(flags["pool"]) if flags["pool"] else named
    if not models:
        raise UsageError(f"no model is named; name models with -m MODEL, or a pool with --pool {'|'.join(POOLS)}|FILE")
    seed = choose(flags["seed"], variable("seed"), config.seed, 0)
    dataset = open_dataset(flags["dataset"], limit=flags["limit"])
    return Made(
        folder=StudyFolder(Path(flags["out"]).expanduser()),
        dataset=dataset,
        models=models,
        extend=choose(flags["extend"], variable("extend"), None, False),
        vocabulary=_vocabulary(flags, config, models, dataset),
        settings=settings_from({**flags, "seed": seed, "top": None}, config),
        fit=flags["fit"],
        engine=cast("Engine", flags["engine"]),
        workers=flags["workers"],
        shard_size=flags["shard_size"],
        batch_size=flags["batch_size"],
        device=choose(flags["device"], variable("device"), config.device, "auto"),
        precision=choose(flags["precision"], variable("precision"), config.precision, "fp32"),
        threads=flags["threads"],
        download=choose(flags["download"], variable("download"), config.download, False),
        command=encodable(shlex.join(["clipmk", *sys.argv[1:]])),
        cache=not choose(flags["no_cache"], variable("no_cache"), None, False),
    )


def _vocabulary(flags: Mapping[str, Any], config: Config, models: tuple[str, ...], dataset: Dataset) -> Vocabulary:
    """The one vocabulary of the study: named, or what all of its models were trained with.

    Raises:
        UsageError: none is named, and some of the models were not trained with one.
    """
    named = choose(flags["vocab"], variable("vocab"), config.vocabulary, None)
    if named is None and not all(model.startswith("embedded/") for model in models):
        from clipmk.datasets.matching import missing_vocabulary  # noqa: PLC0415 - not needed otherwise

        raise UsageError(missing_vocabulary([entry.label for entry in dataset.entries]))
    words = load_vocabulary(named or default_vocabulary(models[0]))
    classes = choose(flags["classes"], variable("classes"), config.classes, None)
    return words if classes is None else words.with_classes(parse_classes(classes))


def _say_stopped(progress: StudyProgress, folder: Path) -> None:
    done, total = progress.done, progress.total
    say("note", f"stopped at {done} of {total} images x models; what is finished is kept in {quoted(folder)}, and the "
        "same command goes on from there")  # fmt: skip


def _say_end(outcome: StudyOutcome, folder: Path, *, quiet: bool) -> None:
    """Tell what came out; quietly, only why the exit status is not 0."""
    if not quiet:
        for warning in outcome.warnings:
            say("warning", warning)
    if outcome.resumed and not quiet:
        total = outcome.manifest.shards * len(outcome.manifest.models)
        say("note", f"{outcome.resumed:,} of {counted(total, 'shard')} had been done already")
    if outcome.failed:
        _say_failures(outcome)
    if not quiet:
        name = printable(str(folder))
        say("note", f"results in {name}; `clipmk study report {shlex.quote(name)}` draws them")


def _say_failures(outcome: StudyOutcome) -> None:
    """Name the first images that could not be explained, each with the reason, and say how many there are."""
    named = outcome.failures[:FAILURES_NAMED]
    for one in named:
        say("error", one.error)
    first = f", the first {len(named)} of which are named here" if len(named) < outcome.failed else ""
    images = counted(outcome.failed, "image")
    say("error", f"{images} could not be explained{first}; the column 'error' of tables/images.parquet says why")

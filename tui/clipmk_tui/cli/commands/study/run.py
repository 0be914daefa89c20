"""What `clipmk study` does: turn options into a request, run the study, print what came of it."""

from __future__ import annotations

import dataclasses
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

from clipmk.errors import UsageError
from clipmk.settings import Fit
from clipmk.study.manifest import Engine, StudyFolder, StudyRequest
from clipmk.system.config import read_config, settings_from
from clipmk.system.text import counted, encodable, printable, quoted
from clipmk.vocabulary.classes import parse_classes, read_texts
from clipmk.vocabulary.vocabulary import Vocabulary, default_vocabulary, load_vocabulary
from clipmk_tui.cli.options import check_known
from clipmk_tui.cli.progress import Stages, on_terminal
from clipmk_tui.cli.streams import logging_to_stderr, say

if TYPE_CHECKING:
    from clipmk.datasets.entries import Dataset
    from clipmk.study.run import StudyOutcome

FAILURES_NAMED: Final = 3  # images that could not be explained and are named on stderr
LINE_SECONDS: Final = 30.0  # between two lines if stderr is not a terminal


class StudyProgress(Stages):
    """The `progress` callback of `clipmk.study.run.run_study`; use it in a `with` block."""

    def __init__(self, *, shown: bool, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(shown=shown)
        self._in_lines = shown and sys.stderr is not None and not on_terminal()
        self._clock = clock
        self._start: tuple[float, int] | None = None
        self._last_line = clock()
        self.done = self.total = 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show a stage, or how far the study is: images times models, and their rate in this run."""
        if stage != "study":
            super().__call__(stage, self.done, self.total)
            return
        if self._start is None:
            self._start = self._clock(), done
        since, before = self._start
        passed = self._clock() - since
        rate = (done - before) / passed if passed > 0 else 0.0
        self.done, self.total = done, total
        self._show(f"images x models, {rate:.1f}/s" if rate else "images x models", done, total)
        if self._in_lines and self._clock() - self._last_line >= LINE_SECONDS:
            self._last_line = self._clock()
            left = f", {counted(round((total - done) / rate / 60), 'minute')} left" if rate else ""
            say("note", f"{done} of {total} images x models, {rate:.1f}/s{left}")


def run(params: Mapping[str, Any]) -> int:
    """Study a dataset and print its main tables; returns 3 if images could not be explained, else 0."""
    _check(params)
    quiet = params["quiet"]
    with StudyProgress(shown=not quiet) as progress, logging_to_stderr(quiet=quiet, verbose=False):
        progress("reading the dataset", 0, 0)
        request = _request(params)
        from clipmk.study.run import run_study  # noqa: PLC0415 - torch

        try:
            outcome = run_study(request, progress=progress)
        except KeyboardInterrupt:
            if progress.total and not quiet:
                say(
                    "note",
                    f"stopped at {progress.done} of {progress.total} images x models; what is finished is kept in "
                    f"{quoted(request.folder.root)}, and the same command resumes it",
                )
            raise
    _say_end(outcome, request, quiet=quiet)
    from clipmk.study.results import read_results  # noqa: PLC0415 - pyarrow
    from clipmk_tui.cli.commands.study.report import put_tables  # noqa: PLC0415 - rich

    put_tables(read_results(request.folder), json=params["json"], no_color=params["no_color"])
    return 3 if outcome.failed else 0


def _check(params: Mapping[str, Any]) -> None:
    """Refuse choices that do not exist or exclude each other."""
    for name, known in (("engine", get_args(Engine)), ("fit", get_args(Fit))):
        check_known(name, params[name], known)
    if params["workers"] is not None and params["engine"] != "ray":
        raise UsageError("--workers needs --engine ray; the local engine is one process")
    if params["pool"] and params["model"]:
        raise UsageError("--pool and -m name models twice; choose one (a pool can be a FILE with a model per line)")


def _request(params: Mapping[str, Any]) -> StudyRequest:
    from clipmk.datasets.opening import open_dataset  # noqa: PLC0415 - pyarrow
    from clipmk.datasets.tables import Columns  # noqa: PLC0415
    from clipmk.models.catalog import POOLS, pool  # noqa: PLC0415

    models = pool(params["pool"]) if params["pool"] else tuple(dict.fromkeys(params["model"]))
    if not models:
        raise UsageError(f"no model is named; name models with -m MODEL, or a pool with --pool {'|'.join(POOLS)}|FILE")
    columns = Columns(params["image_column"], params["label_column"])
    dataset = open_dataset(params["dataset"], limit=params["limit"], columns=columns)
    for warning in dataset.warnings:
        say("warning", warning)
    given = {field.name: params[field.name] for field in dataclasses.fields(StudyRequest) if field.name in params}
    own = {
        "folder": StudyFolder(Path(params["out"]).expanduser()),
        "dataset": dataset,
        "models": models,
        "vocabulary": _vocabulary(params, models, dataset),
        "settings": settings_from(params, read_config()),
        "command": encodable(shlex.join(["clipmk", *sys.argv[1:]])),
        "cache": not params["no_cache"],
        "language_counts": _language_counts(params["language_counts"]),
        "asks": () if params["ask_file"] is None else read_texts(params["ask_file"]),
    }
    return StudyRequest(**given | own)


def _language_counts(text: str | None) -> tuple[int, ...]:
    """Sizes of D_y from `5,10,20`, ascending."""
    words = [] if text is None else text.split(",")
    if not all(word.strip().isdecimal() and int(word) for word in words):
        raise UsageError(f"--language-counts {text!r} must be whole numbers from 1 on, such as 5,10,20,50")
    return tuple(sorted({int(word) for word in words}))


def _vocabulary(params: Mapping[str, Any], models: tuple[str, ...], dataset: Dataset) -> Vocabulary:
    """The one vocabulary of the study: the one that is named, or the one that all of its models were trained with."""
    named, classes = params["vocab"], params["classes"]
    if named is None and not all(model.startswith("embedded/") for model in models):
        from clipmk.datasets.matching import missing_vocabulary  # noqa: PLC0415 - not needed otherwise

        raise UsageError(missing_vocabulary([entry.label for entry in dataset.entries]))
    vocabulary = load_vocabulary(named or default_vocabulary(models[0]))
    return vocabulary if classes is None else parse_classes(classes).within(vocabulary)


def _say_end(outcome: StudyOutcome, request: StudyRequest, *, quiet: bool) -> None:
    """Report further warnings and failures; if quiet, only why the exit status is not 0."""
    if not quiet:
        for warning in outcome.warnings:
            if warning not in request.dataset.warnings:
                say("warning", warning)
        if outcome.resumed:
            total = outcome.manifest.shards * len(outcome.manifest.models)
            say("note", f"{outcome.resumed:,} of {counted(total, 'shard')} had been done already")
    if outcome.failed:
        named = outcome.failures[:FAILURES_NAMED]
        for one in named:
            say("error", one.error)
        first = f", the first {len(named)} of which are named here" if len(named) < outcome.failed else ""
        images = counted(outcome.failed, "image")
        say("error", f"{images} could not be explained{first}; the column 'error' of tables/images.parquet says why")
    if not quiet:
        name = printable(str(request.folder.root))
        say("note", f"results in {name}; `clipmk study report {shlex.quote(name)}` writes a report with pictures")

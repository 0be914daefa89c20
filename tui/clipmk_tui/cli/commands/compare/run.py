"""What `clipmk compare` does: explain the image with every model, lay the answers side by side."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from clipmk.errors import UsageError
from clipmk.explanation import Explanation
from clipmk.output import document
from clipmk.pipeline.comparison import compare
from clipmk.records import Comparison
from clipmk.system.text import quoted
from clipmk.vocabulary.vocabulary import default_vocabulary
from clipmk_tui.cli.commands.explain.options import ExplainOptions, explain_options
from clipmk_tui.cli.commands.explain.results import Result, own_vocabulary, results
from clipmk_tui.cli.commands.explain.writers import FailureLog
from clipmk_tui.cli.inputs import InputImage, input_images
from clipmk_tui.cli.logs import logging_to_stderr
from clipmk_tui.cli.progress import Stages
from clipmk_tui.cli.streams import DataStream, data_stream, locale_encoding, say, text_console

FEWEST, MOST = 2, 13
"""Models that can be compared."""


def comparison_options(params: Mapping[str, Any]) -> ExplainOptions:
    """Read and check every option but the common vocabulary.

    Args:
        params: of the command, by name.

    Raises:
        UsageError: as `explain_options`, or these are not 2 to 13 different models.
    """
    models = params["model"]
    repeated = [model for model, times in Counter(models).items() if times > 1]
    if repeated:
        raise UsageError(f"model {quoted(repeated[0])} is named twice; every model can be compared once")
    if not FEWEST <= len(models) <= MOST:
        named = f": {', '.join(models)}" if models else ""
        raise UsageError(
            f"{FEWEST} to {MOST} models can be compared, {len(models)} named{named}; name each with -m MODEL"
        )
    return explain_options(params)


def run(options: ExplainOptions, argument: str) -> int:
    """Compare models on one image and print the answer.

    Returns:
        Exit status: 0, or the highest of all failures among the models.
    """
    image = _one_image(argument)
    failures = FailureLog(quiet=options.quiet)
    with (
        data_stream(encoding=locale_encoding() if options.form == "text" else "utf-8") as stream,
        logging_to_stderr(quiet=options.quiet, verbose=options.verbose),
        Stages(shown=not options.quiet) as stages,
    ):
        found: list[Result] = []
        for result in results(_with_common_vocabulary(options), [image], stages):
            stages.clear()
            if isinstance(result, Explanation):
                found.append(dataclasses.replace(result, picture=None))
            else:
                failures.add(result)
                found.append(result)
        explained = (one.class_name for one in found if isinstance(one, Explanation))
        # the common class as the vocabulary spells it
        comparison = compare(found, target=options.target and next(explained, options.target))
        _print(comparison, found, options, stream)
        if not options.quiet:
            _warn(comparison)
    return failures.status


def _one_image(argument: str) -> InputImage:
    """The image that the argument names.

    Raises:
        UsageError: it names several.
    """
    images = input_images([argument])
    if len(images) != 1:
        raise UsageError(f"{quoted(argument)} names {len(images)} images; models are compared on exactly one")
    return images[0]


def _with_common_vocabulary(options: ExplainOptions) -> ExplainOptions:
    """The vocabulary that the user named, else the first that a model brings.

    Raises:
        UsageError: there is none.
        ModelError: the first model does not exist.
    """
    if options.vocabulary is not None:
        return options
    for model in options.models:
        try:
            return dataclasses.replace(options, vocabulary=default_vocabulary(model))
        except UsageError:
            continue
    return dataclasses.replace(options, vocabulary=own_vocabulary(options, options.models[0]))


def _warn(comparison: Comparison) -> None:
    """Print every warning once, with the models it holds for."""
    models: dict[str, list[str]] = defaultdict(list)
    for column in comparison.columns:
        for warning in column.warnings:
            models[warning].append(column.id)
    for warning, names in models.items():
        say("warning", f"{', '.join(names)}: {warning}")


def _print(comparison: Comparison, found: Sequence[Result], options: ExplainOptions, stream: DataStream) -> None:
    if options.form == "json":
        stream.write(document.dump(document.comparison_document(comparison, found)) + "\n")
    elif comparison.answered:
        from clipmk_tui.show.comparison import ROWS_SHOWN, report  # noqa: PLC0415 - rich

        console = text_console(stream, no_color=options.no_color)
        console.print(report(comparison, width=console.width, most=None if options.verbose else ROWS_SHOWN))
    stream.flush()

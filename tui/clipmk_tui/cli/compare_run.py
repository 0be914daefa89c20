"""What `clipmk compare` does: settle the choices, explain the image with every model, lay the answers side by side."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from clipmk.errors import UsageError
from clipmk.explanation import Explanation
from clipmk.output import document
from clipmk.pipeline.comparison import compare
from clipmk.records import Comparison
from clipmk.system.config import read_config
from clipmk.system.text import quoted
from clipmk.vocabulary.vocabulary import default_vocabulary
from clipmk_tui.cli.choices import Choices, choices_from, models_named
from clipmk_tui.cli.emit import Teller
from clipmk_tui.cli.explaining import Result, own_vocabulary, results
from clipmk_tui.cli.logs import logging_to_stderr
from clipmk_tui.cli.progress import Stages
from clipmk_tui.cli.sources import Source, sources_of
from clipmk_tui.cli.streams import DataStream, data_stream, locale_encoding, say, text_console

if TYPE_CHECKING:
    from clipmk_tui.cli.choices import Form

FEWEST, MOST = 2, 13
"""Models that can be compared."""


def comparison_choices(flags: Mapping[str, Any]) -> Choices:
    """Settle every choice of `clipmk compare`, all but the common vocabulary.

    Args:
        flags: the command's parameters by name; None (or empty) where a flag was not given.

    Raises:
        UsageError: as in `choices_from`, or it is not 2 to 13 different models.
    """
    models = models_named(flags, read_config())
    repeated = [model for model, times in Counter(models).items() if times > 1]
    if repeated:
        raise UsageError(f"model {quoted(repeated[0])} is named twice; every model can be compared once")
    if not FEWEST <= len(models) <= MOST:
        named = f": {', '.join(models)}" if models else ""
        raise UsageError(
            f"{FEWEST} to {MOST} models can be compared, {len(models)} named{named}; name each with -m MODEL"
        )
    unused = {"serve": False, "jsonl": False, "overlay": None, "html": None, "no_picture": True}
    return choices_from({**flags, **unused})


def run(choices: Choices, argument: str) -> int:
    """Compare models on one image and print the answer.

    Returns:
        Exit status: 0, or that of the gravest failure among the models.
    """
    source = _one_source(argument)
    form: Form = choices.form
    teller = Teller(quiet=choices.quiet)
    with (
        data_stream(encoding=locale_encoding() if form == "text" else "utf-8") as stream,
        logging_to_stderr(quiet=choices.quiet, verbose=choices.verbose),
        Stages(shown=not choices.quiet) as stages,
    ):
        found: list[Result] = []
        for result in results(_with_common_vocabulary(choices), [source], stages):
            stages.clear()
            if isinstance(result, Explanation):
                found.append(dataclasses.replace(result, picture=None))
            else:
                teller.add(result)
                found.append(result)
        made = compare(found, target=_target(choices, found))
        _put(made, found, choices, stream)
        if not choices.quiet:
            _warn(made)
    return teller.status


def _one_source(argument: str) -> Source:
    """The image.

    Raises:
        UsageError: the argument stands for several.
    """
    sources = sources_of([argument])
    if len(sources) != 1:
        raise UsageError(f"{quoted(argument)} stands for {len(sources)} images; models are compared on exactly one")
    return sources[0]


def _with_common_vocabulary(choices: Choices) -> Choices:
    """The vocabulary that the user named, else the first that a model brings.

    Raises:
        UsageError: nobody names one; or there is no such model, which is said first.
    """
    if choices.vocabulary is not None:
        return choices
    for model in choices.models:
        try:
            return dataclasses.replace(choices, vocabulary=default_vocabulary(model))
        except UsageError:
            continue
    return dataclasses.replace(choices, vocabulary=own_vocabulary(choices, choices.models[0]))


def _target(choices: Choices, found: Sequence[Result]) -> str | None:
    """The common class as the vocabulary spells it."""
    if choices.target is None:
        return None
    return next((one.class_name for one in found if isinstance(one, Explanation)), choices.target)


def _warn(made: Comparison) -> None:
    """Say every warning once, with the models it holds for."""
    models: dict[str, list[str]] = defaultdict(list)
    for column in made.columns:
        for warning in column.warnings:
            models[warning].append(column.id)
    for warning, names in models.items():
        say("warning", f"{', '.join(names)}: {warning}")


def _put(made: Comparison, found: Sequence[Result], choices: Choices, stream: DataStream) -> None:
    if choices.form == "json":
        stream.write(document.dump(document.comparison_document(made, found)) + "\n")
    elif made.answered:
        from clipmk_tui.show.comparison import ROWS_SHOWN, report  # noqa: PLC0415 - rich

        console = text_console(stream, no_color=choices.no_color)
        console.print(report(made, width=console.width, most=None if choices.verbose else ROWS_SHOWN))
    stream.flush()

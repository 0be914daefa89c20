"""`clipmk compare`: what several models make of one image, side by side."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipmk.errors import InputError, UsageError
from clipmk.output import document
from clipmk.system.text import quoted
from clipmk_tui.cli import options as o
from clipmk_tui.cli.inputs import InputImage, input_images
from clipmk_tui.cli.progress import Stages
from clipmk_tui.cli.streams import data_stream, locale_encoding, logging_to_stderr, say, text_console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clipmk_tui.cli.commands.explain.options import ExplainOptions
    from clipmk_tui.cli.commands.explain.results import Result
    from clipmk_tui.cli.commands.explain.writers import FailureLog

FEWEST, MOST = 2, 13  # models that can be compared

EPILOG = (
    "AUC is comparable only within one family of models; the highest of a family is marked.  "
    "Each option is also read from the environment (CLIPMK_MODEL=a,b, CLIPMK_VOCAB, ...) and most from the config file."
)

Image = Annotated[str, typer.Argument(metavar="IMAGE", help="One file, or - for standard input.")]


@o.takes(
    "image model classes vocab target arch download preset grounding seed device precision no_cache json top quiet "
    "verbose no_color debug"
)
def compare(ctx: typer.Context, image: Image, **_: Any) -> int:
    """Compare 2 to 13 models on one image: what they predict, and which concepts they share.

    All models use the same vocabulary: that of --vocab, else the first one that a model brings.
    """
    from clipmk_tui.cli.commands.explain.options import explain_options  # noqa: PLC0415 - not for the help

    _check_models(ctx.params["model"])
    return _run(explain_options(ctx.params), image)


def _check_models(models: Sequence[str]) -> None:
    """Refuse models that are not 2 to 13 different ones."""
    repeated = [model for model, times in Counter(models).items() if times > 1]
    if repeated:
        raise UsageError(f"model {quoted(repeated[0])} is named twice; every model can be compared once")
    if not FEWEST <= len(models) <= MOST:
        named = f": {', '.join(models)}" if models else ""
        raise UsageError(
            f"{FEWEST} to {MOST} models can be compared, {len(models)} named{named}; name each with -m MODEL"
        )


def _run(options: ExplainOptions, name: str) -> int:
    """Explain the image with every model, and print the results side by side."""
    from clipmk.explanation import Explanation  # noqa: PLC0415 - not for the help
    from clipmk.pipeline.comparison import compare as side_by_side  # noqa: PLC0415
    from clipmk_tui.cli.commands.explain.results import own_vocabulary  # noqa: PLC0415
    from clipmk_tui.cli.commands.explain.writers import FailureLog  # noqa: PLC0415

    images = input_images([name])
    if len(images) != 1:
        raise UsageError(f"{quoted(name)} names {len(images)} images; models are compared on exactly one")
    failures = FailureLog(quiet=options.quiet, by_model=True)
    if (vocabulary := options.session.vocabulary) is None:
        vocabulary = own_vocabulary(options.session, options.models)
    session = dataclasses.replace(options.session, vocabulary=vocabulary)
    options = dataclasses.replace(options, session=session)
    with data_stream(encoding="utf-8" if options.form == "json" else locale_encoding()) as stream:
        found = _explained(options, images[0], failures)
        spelt = (one.class_name for one in found if isinstance(one, Explanation))  # the target as the vocabulary has it
        comparison = side_by_side(
            found,
            target=options.target and next(spelt, options.target),
            true_class=_true_class(options, images[0].name),
        )
        if options.form == "json":
            stream.write(document.dump(document.comparison_document(comparison, found)) + "\n")
        elif comparison.answered:
            from clipmk_tui.show.comparison import ROWS_SHOWN, report  # noqa: PLC0415 - rich

            console = text_console(stream, no_color=options.no_color)
            console.print(report(comparison, width=console.width, most=None if options.verbose else ROWS_SHOWN))
        stream.flush()
        failures.finish()
    return failures.status


def _true_class(options: ExplainOptions, name: str) -> str | None:
    """The class that a label file beside the image gives it, in the vocabulary's words."""
    from clipmk.datasets.tables import label_beside  # noqa: PLC0415 - not for the help
    from clipmk.vocabulary.classes import ClassIndex, parse_classes  # noqa: PLC0415
    from clipmk.vocabulary.vocabulary import load_vocabulary  # noqa: PLC0415

    try:
        label = label_beside(name)
    except InputError as reason:
        say("warning", f"{reason}; it is ignored")
        return None
    vocabulary, named = options.session.vocabulary, options.session.classes
    if label is None or vocabulary is None:
        return None
    classes = load_vocabulary(vocabulary).classes if named is None else parse_classes(named).names
    return ClassIndex(classes).find(label)


def _explained(options: ExplainOptions, image: InputImage, failures: FailureLog) -> list[Result]:
    """What each model says, without the picture."""
    from clipmk.explanation import Explanation  # noqa: PLC0415 - not for the help
    from clipmk_tui.cli.commands.explain.results import results  # noqa: PLC0415

    found: list[Result] = []
    with logging_to_stderr(quiet=options.quiet, verbose=options.verbose), Stages(shown=not options.quiet) as stages:
        for result in results(options, [image], stages):
            stages.clear()
            failures.add(result)
            found.append(dataclasses.replace(result, picture=None) if isinstance(result, Explanation) else result)
    return found

"""`clipmk explain`: why a model predicts what it predicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipmk_tui.cli import options as o
from clipmk_tui.cli.inputs import input_images
from clipmk_tui.cli.progress import Stages
from clipmk_tui.cli.streams import data_stream, locale_encoding, logging_to_stderr, say

if TYPE_CHECKING:
    from clipmk_tui.cli.commands.explain.options import ExplainOptions

EPILOG = (
    "Each option is also read from the environment (CLIPMK_MODEL, CLIPMK_NO_PICTURE, ...) and most from the config "
    "file; the command line outranks the environment, the environment the config.  Without -m a demonstration model "
    "is used that knows drawn classes only."
)

DEMONSTRATION = (
    "is a demonstration model that knows drawn classes only; for photographs see `clipmk models` and explain with "
    "-m NAME:TAG --download --vocab FILE"
)

_ASK = "Ask for words of your own: seen, where, and tied to the class? May be repeated."
_ADD = "Predict this class, too. May be repeated."
_OVERLAY = "Write the picture with its parts, or the map of a single --ask; several: FILE-<image>[-<model>].png."
Html = Annotated[str | None, o.option(o.OUTPUT, "html", "Write one self-contained page.", metavar="FILE.html")]


@o.takes(
    "images model classes vocab target ask ask_file add_class arch download preset grounding seed device precision "
    "no_cache serve json jsonl overlay html top no_picture quiet verbose no_color debug"
)
def explain(
    ctx: typer.Context,
    images: o.Images,
    ask: Annotated[list[str] | None, o.flag(o.INPUT, "ask", _ASK, metavar="TEXT")] = None,
    add_class: Annotated[list[str] | None, o.flag(o.INPUT, "add_class", _ADD, metavar="NAME")] = None,
    jsonl: Annotated[bool, o.option(o.OUTPUT, "jsonl", "Print one JSON line per result.")] = False,
    overlay: Annotated[str | None, o.option(o.OUTPUT, "overlay", _OVERLAY, metavar="FILE.png")] = None,
    html: Html = None,
    no_picture: Annotated[bool, o.option(o.OUTPUT, "no_picture", "Draw no picture in the terminal.")] = False,
    **_: Any,
) -> int:
    """Explain images: predictions, the concepts behind them, and how strongly both encoders share them."""
    from clipmk_tui.cli.commands.explain.options import explain_options  # noqa: PLC0415

    return run(explain_options(ctx.params), images)


def run(options: ExplainOptions, arguments: Sequence[str]) -> int:
    """Explain images and write every requested output; returns 0, or the highest exit status of all failures."""
    from clipmk.explanation import Explanation  # noqa: PLC0415 - not for the help
    from clipmk_tui.cli.commands.explain.results import answers  # noqa: PLC0415
    from clipmk_tui.cli.commands.explain.writers import FailureLog, Outputs  # noqa: PLC0415

    images = input_images(arguments, quiet=options.quiet)
    encoding = locale_encoding() if options.form == "text" else "utf-8"
    failures = FailureLog(quiet=options.quiet)
    with (
        data_stream(encoding=encoding) as stream,
        logging_to_stderr(quiet=options.quiet, verbose=options.verbose),
        Stages(shown=not options.quiet) as stages,
    ):
        outputs = Outputs(options, [image.name for image in images], stream)
        note_due = options.default_model and not options.quiet
        for result in answers(options, images, stages):
            stages.clear()
            if note_due and isinstance(result, Explanation):
                say("note", f"{options.models[0]} {DEMONSTRATION}")
                note_due = False
            failures.add(result)
            outputs.add(result)
        outputs.finish()
        failures.finish()
    return failures.status

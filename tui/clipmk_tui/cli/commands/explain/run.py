"""What `clipmk explain` does: explain images, and write every output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from clipmk.explanation import Explanation
from clipmk_tui.cli.commands.explain.served import answers
from clipmk_tui.cli.commands.explain.writers import FailureLog, Outputs
from clipmk_tui.cli.inputs import input_images
from clipmk_tui.cli.logs import logging_to_stderr
from clipmk_tui.cli.progress import Stages
from clipmk_tui.cli.streams import data_stream, locale_encoding, say

if TYPE_CHECKING:
    from clipmk_tui.cli.commands.explain.options import ExplainOptions

DEMONSTRATION = (
    "is a demonstration model that knows drawn classes only; for photographs see `clipmk models` and explain with "
    "-m NAME:TAG --download --vocab FILE"
)


def run(options: ExplainOptions, arguments: Sequence[str]) -> int:
    """Explain images and write every requested output.

    Returns:
        Exit status: 0, or the highest of all failures among the images and models.
    """
    images = input_images(arguments)
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

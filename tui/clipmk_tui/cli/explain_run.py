"""What `clipmk explain` does once every choice is settled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from clipmk.explanation import Explanation
from clipmk_tui.cli.emit import Teller, writers
from clipmk_tui.cli.logs import logging_to_stderr
from clipmk_tui.cli.progress import Stages
from clipmk_tui.cli.served import answers
from clipmk_tui.cli.sources import sources_of
from clipmk_tui.cli.streams import data_stream, locale_encoding, say

if TYPE_CHECKING:
    from clipmk_tui.cli.choices import Choices

DEMONSTRATION = (
    "is a demonstration model of drawn classes; for photographs see `clipmk models` and explain with "
    "-m NAME:TAG --download --vocab FILE"
)


def run(choices: Choices, arguments: Sequence[str]) -> int:
    """Explain images and write everything that was asked for.

    Returns:
        Exit status: 0, or that of the gravest failure among the images and models.
    """
    sources = sources_of(arguments)
    encoding = locale_encoding() if choices.form == "text" else "utf-8"
    teller = Teller(quiet=choices.quiet)
    with (
        data_stream(encoding=encoding) as stream,
        logging_to_stderr(quiet=choices.quiet, verbose=choices.verbose),
        Stages(shown=not choices.quiet) as stages,
    ):
        everyone = [teller, *writers(choices, [source.name for source in sources], stream)]
        untold = choices.default_model and not choices.quiet
        for result in answers(choices, sources, stages):
            stages.clear()
            if untold and isinstance(result, Explanation):
                say("note", f"{choices.models[0]} {DEMONSTRATION}")
                untold = False
            for one in everyone:
                one.add(result)
        for one in reversed(everyone):
            one.finish()
    return teller.status

"""How the smaller commands answer: a table for people, or one JSON object."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from clipmk import document
from clipmk.config import Config, choose, read_config
from clipmk.errors import UsageError
from clipmk_tui.output import data_stream, locale_encoding, text_console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def wants_json(flag: bool | None) -> bool:
    """Whether JSON is asked for, by --json or CLIPMK_JSON."""
    return choose(flag, "CLIPMK_JSON", None, False)


def put_json(content: dict[str, Any]) -> None:
    """Print one JSON object after its `format_version`."""
    with data_stream() as stream:
        stream.write(document.dump(document.versioned(content)) + "\n")


@contextlib.contextmanager
def for_people(no_color: bool | None = None, *, config_may_be_broken: bool = False) -> Iterator[Console]:
    """A console on stdout; what libraries print meanwhile goes to stderr.

    Raises:
        UsageError: the config is malformed, unless that may be.
    """
    try:
        config = read_config()
    except UsageError:
        if not config_may_be_broken:
            raise
        config = Config()
    plain = choose(no_color, "CLIPMK_NO_COLOR", config.no_color, False)
    with data_stream(encoding=locale_encoding()) as stream:
        yield text_console(stream, no_color=plain)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[int] = ()) -> Table:
    """A table of texts from anywhere.

    Args:
        columns: headings; empty ones show no heading.
        rows: whatever `str` turns into text; `rich.text.Text` keeps its style.
        right: indices of the columns that are aligned to the right.
    """
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from clipmk_tui.texts import shown  # noqa: PLC0415

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=any(columns))
    for index, name in enumerate(columns):
        made.add_column(shown(name), justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else shown(str(cell)) for cell in row))
    return made


def put_table(console: Console, made: Table) -> None:
    """Print a table; without a terminal each row keeps to one line, however long, for grep and awk."""
    from rich.measure import Measurement  # noqa: PLC0415

    if not console.is_terminal:
        widest = console.options.update(max_width=10_000)
        console.width = max(console.width, Measurement.get(console, widest, made).maximum)
    console.print(made)

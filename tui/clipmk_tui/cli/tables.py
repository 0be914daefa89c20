"""Output of the smaller commands: a table, or one JSON object."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from clipmk.output import document
from clipmk_tui.cli.streams import NARROWEST, data_stream, locale_encoding, say, text_console
from clipmk_tui.show.columns import DROPPED, Step, fit_columns

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def put_json(content: dict[str, Any]) -> None:
    """Print one JSON object after its `format_version`."""
    with data_stream() as stream:
        stream.write(document.dump(document.versioned(content)) + "\n")


@contextlib.contextmanager
def for_people(no_color: bool, *, narrowest: int = NARROWEST) -> Iterator[Console]:
    """A console on stdout; what libraries print meanwhile goes to stderr.

    Args:
        no_color: print without colours.
        narrowest: columns that the console has in narrower terminals.
    """
    with data_stream(encoding=locale_encoding()) as stream:
        yield text_console(stream, no_color=no_color, narrowest=narrowest)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[int] = ()) -> Table:
    """A table of any texts.

    Args:
        columns: headings; without any text no heading is shown.
        rows: converted by `str`; `rich.text.Text` keeps its style.
        right: indices of right-aligned columns.
    """
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from clipmk_tui.show.text import shown  # noqa: PLC0415

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=any(columns))
    for index, name in enumerate(columns):
        made.add_column(shown(name), justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else shown(str(cell)) for cell in row))
    return made


def put_table(console: Console, made: Table) -> None:
    """Print a table; without a terminal each row is one line, however long, for grep and awk."""
    from rich.measure import Measurement  # noqa: PLC0415

    if not console.is_terminal:
        widest = console.options.update(max_width=10_000)
        console.width = max(console.width, Measurement.get(console, widest, made).maximum)
    console.print(made)


def put_listing(
    console: Console,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    steps: Sequence[Step],
    *,
    right: Sequence[int] = (),
) -> None:
    """Print a list whose first column holds names to copy: they are never wrapped; other columns make room for them.

    Args:
        console: without a terminal each row is one line, however long.
        columns: headings, all different.
        rows: as for `table`.
        steps: how columns make room in a terminal; columns that shrink wrap. A note names those that are dropped.
        right: indices of right-aligned columns.
    """
    if not console.is_terminal:
        put_table(console, table(columns, rows, right=right))
        return
    from rich.cells import cell_len  # noqa: PLC0415

    from clipmk_tui.show.text import shown  # noqa: PLC0415

    wanted = {
        name: max([len(name), *(cell_len(shown(str(row[i])).plain) for row in rows)]) for i, name in enumerate(columns)
    }
    widths = fit_columns(wanted, steps, console.width, gap=2, edges=0)
    kept = [i for i, name in enumerate(columns) if widths[name] != DROPPED]
    if kept == [0]:  # a name wider than the terminal continues on the next line, without a blank or a break in it
        for row in rows:
            console.print(shown(str(row[0])), soft_wrap=True)
    else:
        places = [place for place, i in enumerate(kept) if i in right]
        made = table([columns[i] for i in kept], [[row[i] for i in kept] for row in rows], right=places)
        for column, i in zip(made.columns, kept, strict=True):
            column.no_wrap = widths[columns[i]] == wanted[columns[i]]
        console.print(made)
    if dropped := [name or "description" for name in columns if widths[name] == DROPPED]:
        say("note", f"no room for: {', '.join(dropped)}; --json has everything")

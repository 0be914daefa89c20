"""Output of the smaller commands: a table, or one JSON object."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from clipmk.output import document
from clipmk_tui.cli.streams import data_stream, locale_encoding, say, text_console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def put_json(content: dict[str, Any]) -> None:
    """Print one JSON object after its `format_version`."""
    with data_stream() as stream:
        stream.write(document.dump(document.versioned(content)) + "\n")


def put_facts(content: dict[str, Any], facts: Iterable[tuple[str, object]], *, json: bool, no_color: bool) -> int:
    """Print one JSON object or, for people, names and values; returns the exit status 0."""
    if json:
        put_json(content)
    else:
        with for_people(no_color) as console:
            console.print(table(("", ""), facts))
    return 0


@contextlib.contextmanager
def for_people(no_color: bool) -> Iterator[Console]:
    """A console on stdout; what libraries print meanwhile goes to stderr."""
    with data_stream(encoding=locale_encoding()) as stream:
        yield text_console(stream, no_color=no_color)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[int] = (), gap: int = 2
) -> Table:
    """A table of any texts; without any heading none is shown. `right` has the indices of right-aligned columns."""
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from clipmk_tui.show.text import shown  # noqa: PLC0415

    made = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold", show_header=any(columns))
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
    droppable: Sequence[str],
    *,
    right: Sequence[int] = (),
    fewest: int = 16,
) -> None:
    """Print a list whose first column holds names to copy: they are never wrapped; other columns make room for them.

    The cells of the last column wrap, from `fewest` cells on. If a terminal has no room, `droppable` columns leave the
    table, the first ones first, and a note names them. Without a terminal each row is one line, however long.
    """
    from clipmk_tui.show.text import shown  # noqa: PLC0415

    last = len(columns) - 1
    widths = [max(shown(str(text)).cell_len for text in texts) for texts in zip(columns, *rows, strict=True)]
    widths[last] = min(widths[last], fewest)
    kept = list(range(len(columns)))
    for name in droppable if console.is_terminal else ():
        if sum(widths[i] + 2 for i in kept) - 2 > console.width:
            kept.remove(columns.index(name))
    places = [place for place, i in enumerate(kept) if i in right]
    made = table([columns[i] for i in kept], [[row[i] for i in kept] for row in rows], right=places)
    for column, i in zip(made.columns, kept, strict=True):
        column.no_wrap = i != last
    console.width = max(console.width, widths[0])  # the terminal wraps a longer name, without a break in it
    put_table(console, made)
    if dropped := [name or "description" for i, name in enumerate(columns) if i not in kept]:
        say("note", f"no room for: {', '.join(dropped)}; --json has everything")

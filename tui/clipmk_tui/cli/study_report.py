"""What `clipmk study report` does: draw a study into its folder, and tell its headline in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, cast

from clipmk.errors import UsageError
from clipmk.study import text_tables as tables
from clipmk.study.document import results_document
from clipmk.study.names import family_name
from clipmk.study.paper import departures
from clipmk.study.paths import StudyFolder
from clipmk.study.results import Results, read_results
from clipmk.study.text_tables import TextTable
from clipmk.system.config import choose, read_config
from clipmk.system.options import variable
from clipmk.system.text import counted, one_or_many, printable
from clipmk_tui.cli.scatter import Dot, letter, scatter
from clipmk_tui.cli.streams import DataStream, data_stream, locale_encoding, say, text_console
from clipmk_tui.show.bars import bar, sparkline
from clipmk_tui.show.text import shown

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

Against = Literal["paper"]

NOTE: Final = "AUC is comparable within a family only; chance: as many random descriptors of the vocabulary"
_PLOT_LINES: Final = 16
_NAME: Final = 24
"""Most columns of a model's name."""
_NARROW: Final = 10
"""Fewest columns that such a name is folded to."""
_BAR: Final = 20


def run(
    folder: Path, *, against: str | None = None, json: bool | None = None, quiet: bool | None = None,
    no_color: bool | None = None,
) -> int:  # fmt: skip
    """Draw the report of a study and print its headline.

    What is None is as the environment and the config say.

    Args:
        folder: that `clipmk study` wrote.
        against: "paper", or nothing.
        json: print one JSON document instead of tables.
        quiet: say nothing on stderr.
        no_color: print without colours.

    Returns:
        Exit status 0.

    Raises:
        UsageError: there is nothing of that name to hold a study against, or the config or a variable is malformed.
        InputError: the folder is no study, has no results yet, or a file in it is damaged.
        ClipmkError: a file cannot be written.
    """
    config = read_config()
    against = choose(against, variable("against"), None, None)
    json = bool(json)
    no_color = choose(no_color, variable("no_color"), config.no_color, False)
    if against not in {None, "paper"}:
        raise UsageError(f"--against {against!r} does not exist; choose one of: paper")
    wanted = cast("Against | None", against)
    with data_stream(encoding="utf-8" if json else locale_encoding()) as stream:
        results = read_results(StudyFolder(folder.expanduser()))
        from clipmk.study.report import write_report  # noqa: PLC0415 - not needed for a headline

        target = write_report(results, against=wanted)
        _put(results, stream, against=wanted, json=json, no_color=no_color, page=target)
    if not choose(quiet, variable("quiet"), config.quiet, False):
        _warn(results)
        say("note", f"report in {printable(str(target))}, its pictures beside it")
    return 0


def headline(folder: Path, *, json: bool = False, no_color: bool = False) -> None:
    """Print a study's headline without drawing its report.

    Args:
        folder: that `clipmk study` wrote.
        json: print one JSON document instead of tables.
        no_color: print without colours.

    Raises:
        InputError: as in `run`.
    """
    with data_stream(encoding="utf-8" if json else locale_encoding()) as stream:
        results = read_results(StudyFolder(folder.expanduser()))
        _put(results, stream, against=None, json=json, no_color=no_color)


def rendered(results: Results, *, width: int, against: Against | None = None) -> RenderableType:
    """Lay the headline out: tables by family, dynamics, AUC against accuracy, and the paper's numbers if asked.

    Args:
        results: of a study.
        width: columns of the terminal.
        against: "paper" adds the published numbers.
    """
    from rich.console import Group  # noqa: PLC0415 - not needed for JSON
    from rich.text import Text  # noqa: PLC0415

    pieces: list[RenderableType] = [
        Text.assemble(shown(results.manifest.dataset.name, "bold"), shown(f"  {_about(results)}", "dim")),
        Text(),
        _families(results, width),
        Text(),
        _dynamics(results, width),
        *_accuracy(results, width),
    ]
    if against == "paper":
        pieces += [Text(), *_paper(results)]
    return Group(*pieces, Text(), Text(NOTE, "dim"))


def _put(
    results: Results,
    stream: DataStream,
    *,
    against: Against | None,
    json: bool,
    no_color: bool,
    page: Path | None = None,
) -> None:
    if json:
        from clipmk.output import document  # noqa: PLC0415

        found = results_document(results, against=against) | {"report": None if page is None else str(page)}
        stream.write(document.dump(document.versioned({"study": found})) + "\n")
    else:
        console = text_console(stream, no_color=no_color)
        console.print(rendered(results, width=console.width, against=against))
    stream.flush()


def _warn(results: Results) -> None:
    done = results.completeness
    if not done.complete:
        verb = one_or_many(done.done, "is", "are")
        say("warning", f"the study is not finished: {done.done:,} of {counted(done.total, 'shard')} {verb} done")
    failed = max(row["failed"] for row in results.all_rows)
    if failed:
        images = counted(failed, "image")
        say("warning", f"up to {images} per model could not be explained; the report says which and why")


def _about(results: Results) -> str:
    manifest = results.manifest
    return (
        f"{counted(manifest.dataset.images, 'image')}, {counted(len(manifest.models), 'model')}, "
        f"{manifest.settings.get('preset')} preset, parts by {' and '.join(manifest.parts)}"
    )


def _keys(results: Results) -> dict[str, str]:
    """The letter of every model, by id."""
    return {row["model"]: letter(index) for index, row in enumerate(results.models)}


def _families(results: Results, width: int) -> Table:
    """All families in one table, so that their columns stand in line; each model has its letter of the plot."""
    found = tables.family_tables(results)
    letters = iter(_keys(results).values())
    count = _fitting([found[0].columns, *(row for family in found for row in family.rows)], width)
    table = _empty(("", *found[0].columns[:count]))
    for family in found:
        table.add_row("", shown(family.title, "bold"))
        for row in family.rows:
            table.add_row(next(letters), *_cells(row[:count]))
    return table


def _fitting(rows: Sequence[Sequence[str]], width: int) -> int:
    """How many columns, from the left, fit beside a letter; the first, a name, may be folded to `_NARROW`."""
    widths = [1 + max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[0] = min(widths[0], 1 + _NARROW)
    return sum(2 + needed <= width for needed in accumulate(widths))


def _dynamics(results: Results, width: int) -> Table:
    """The mean curve of every model, all to one scale, and AUC as a bar."""
    table = _empty(("", "dynamics", "MI as concepts are left out", "AUC"))
    highest = max(max(row["curve"]) for row in results.models)
    longest = max(row["auc"] for row in results.models)
    cells = max(8, min(_BAR, width - _NAME - len("MI as concepts are left out") - 10))
    for key, row in zip(_keys(results).values(), results.models, strict=True):
        line = sparkline([*row["curve"], highest])[:-1]
        share = row["auc"] / longest if longest > 0 else 0.0
        table.add_row(key, *_cells((results.names[row["model"]], line)), f"{bar(share, cells)} {row['auc']:.2f}")
    table.columns[2].justify = "left"
    return table


def _accuracy(results: Results, width: int) -> Iterator[RenderableType]:
    from rich.text import Text  # noqa: PLC0415

    keys = _keys(results)
    known = [row for row in results.models if row["top1"] is not None]
    if len(known) < 2:  # a single point shows nothing that the table does not
        return
    chance = sum(row["chance_auc"] for row in known) / len(known)
    dots = [Dot(row["auc"], 100 * row["top1"], keys[row["model"]]) for row in known]
    yield Text()
    yield Text.assemble(("top-1 % against AUC", "bold"), (f"  letters as above, ┊ AUC by chance {chance:.2f}", "dim"))
    for line in scatter(dots, width=min(width, 80), height=_PLOT_LINES, vertical=chance, within=(0, 100)):
        yield Text(line, no_wrap=True)
    if results.fits:
        yield Text()
        yield _table(tables.fit_table(results))
        yield Text("intervals: Fisher's z over models; p: share of orders with as large a |rho|", "dim")
        yield Text(_fitted(results), "dim")


def _fitted(results: Results) -> str:
    lacking = [family_name(name) for name in results.families if name not in {one.group for one in results.fits}]
    return f"no line for {', '.join(lacking)}: fewer than four models" if lacking else "a line needs four models"


def _paper(results: Results) -> Iterator[RenderableType]:
    from rich.text import Text  # noqa: PLC0415

    found = tables.paper_tables(results)
    yield Text("against the paper", "bold")
    if not found:
        yield Text("none of the paper's 13 models was studied")
    for table in found:
        yield Text(table.title, "dim")
        yield _table(table)
        yield Text()
    yield Text("what differs from the paper's study", "bold")
    for one in departures(results.manifest):
        yield shown(f"- {one}")


def _table(table: TextTable) -> Table:
    drawn = _empty(table.columns)
    for row in table.rows:
        drawn.add_row(*_cells(row))
    return drawn


def _empty(columns: Sequence[str]) -> Table:
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for index, name in enumerate(columns):
        first = index == 0 or (index == 1 and not columns[0])
        table.add_column(name, justify="left" if first else "right", overflow="fold", no_wrap=not first)
    return table


def _cells(row: Sequence[str]) -> list[RenderableType]:
    return [shown(cell) for cell in row]

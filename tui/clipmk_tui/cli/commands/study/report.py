"""What `clipmk study report` does: write a study's report into its folder, and print its main tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Final, Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from clipmk.errors import UsageError
from clipmk.study import text_tables
from clipmk.study.paper import departures
from clipmk.study.paths import StudyFolder
from clipmk.study.results import Results, family_name, read_results, results_document
from clipmk.study.text_tables import TextTable
from clipmk.system.text import counted, one_or_many, printable
from clipmk_tui.cli.streams import DataStream, data_stream, locale_encoding, say, text_console
from clipmk_tui.show.bars import bar, sparkline
from clipmk_tui.show.text import shown

Against = Literal["paper"]

NOTE: Final = "AUC is comparable within a family only; chance: as many random descriptors of the vocabulary"
_NAME: Final = 24
"""Most columns of a model's name."""
_NARROW: Final = 10
"""Fewest columns that a name is folded to."""
_BAR: Final = 20
_DYNAMICS: Final = "MI as concepts are left out"


def run(folder: Path, *, against: str | None, json: bool, quiet: bool, no_color: bool) -> int:
    """Write the report of a study and print its main tables.

    Args:
        folder: written by `clipmk study`.
        against: "paper", or nothing.
        json: print one JSON document instead of tables.
        quiet: print nothing on stderr.
        no_color: print without colours.

    Returns:
        Exit status 0.

    Raises:
        UsageError: `against` is something else.
        InputError: the folder is not a study, has no results yet, or a file in it is damaged.
        ClipmkError: a file cannot be written.
    """
    wanted: Against | None = "paper" if against == "paper" else None
    if against != wanted:
        raise UsageError(f"--against {against!r} does not exist; choose one of: paper")
    with data_stream(encoding="utf-8" if json else locale_encoding()) as stream:
        results = read_results(StudyFolder(folder.expanduser()))
        from clipmk.study.report import write_report  # noqa: PLC0415 - not needed for the tables

        target = write_report(results, against=wanted)
        _put(results, stream, against=wanted, json=json, no_color=no_color, page=target)
    if not quiet:
        _warn(results)
        say("note", f"report in {printable(str(target))}, its pictures beside it")
    return 0


def print_tables(folder: Path, *, json: bool = False, no_color: bool = False) -> None:
    """Print a study's main tables without writing its report.

    Args:
        folder: written by `clipmk study`.
        json: print one JSON document instead of tables.
        no_color: print without colours.

    Raises:
        InputError: as in `run`.
    """
    with data_stream(encoding="utf-8" if json else locale_encoding()) as stream:
        results = read_results(StudyFolder(folder.expanduser()))
        _put(results, stream, against=None, json=json, no_color=no_color)


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
        console.print(_rendered(results, width=console.width, against=against))
    stream.flush()


def _rendered(results: Results, *, width: int, against: Against | None) -> RenderableType:
    """Tables by family, dynamics, the fits, and the paper's numbers if asked for."""
    manifest = results.manifest
    about = (
        f"  {counted(manifest.dataset.images, 'image')}, {counted(len(manifest.models), 'model')}, "
        f"{manifest.settings.get('preset')} preset, parts by {' and '.join(manifest.parts)}"
    )
    pieces: list[RenderableType] = [
        Text.assemble(shown(manifest.dataset.name, "bold"), shown(about, "dim")),
        Text(),
        _families(results, width),
        Text(),
        _dynamics(results, width),
        *_fits(results),
    ]
    if against == "paper":
        pieces += [Text(), *_paper(results)]
    return Group(*pieces, Text(), Text(NOTE, "dim"))


def _warn(results: Results) -> None:
    done = results.completeness
    if not done.complete:
        verb = one_or_many(done.done, "is", "are")
        say("warning", f"the study is not finished: {done.done:,} of {counted(done.total, 'shard')} {verb} done")
    failed = max(row["failed"] for row in results.all_rows)
    if failed:
        images = counted(failed, "image")
        say("warning", f"up to {images} per model could not be explained; the report lists them with the reasons")


def _families(results: Results, width: int) -> Table:
    """All families in one table, so that their columns are aligned; as many columns as fit."""
    families = text_tables.family_tables(results)
    columns = families[0].columns
    count = _fitting([columns, *(row for family in families for row in family.rows)], width)
    table = _empty(columns[:count])
    for family in families:
        table.add_row(shown(family.title, "bold"))
        for row in family.rows:
            table.add_row(*map(shown, row[:count]))
    return table


def _fitting(rows: Sequence[Sequence[str]], width: int) -> int:
    """How many columns fit, from the left; the first, a name, may be folded to `_NARROW`."""
    widths = [1 + max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[0] = min(widths[0], 1 + _NARROW)
    return sum(needed <= width for needed in accumulate(widths))


def _dynamics(results: Results, width: int) -> Table:
    """The mean curve of every model, all on one scale, and AUC as a bar."""
    table = _empty(("dynamics", _DYNAMICS, "AUC"))
    table.columns[1].justify = "left"
    highest = max(max(row["curve"]) for row in results.models)
    longest = max(row["auc"] for row in results.models)
    cells = max(8, min(_BAR, width - _NAME - len(_DYNAMICS) - 8))
    names = results.names
    for row in results.models:
        line = sparkline([*row["curve"], highest])[:-1]
        share = row["auc"] / longest if longest > 0 else 0.0
        table.add_row(shown(names[row["model"]]), shown(line), f"{bar(share, cells)} {row['auc']:.2f}")
    return table


def _fits(results: Results) -> Iterator[RenderableType]:
    """The lines through the models of each family; nothing for a single model."""
    if sum(row["top1"] is not None for row in results.models) < 2:
        return
    yield Text()
    if results.fits:
        yield Text("top-1 % against AUC", "bold")
        yield _table(text_tables.fit_table(results))
        yield Text("intervals: Fisher's z over models; p: share of orders with as large a |rho|", "dim")
    fitted = {one.group for one in results.fits}
    lacking = [family_name(name) for name in results.families if name not in fitted]
    if lacking:
        yield Text(f"no line for {', '.join(lacking)}: fewer than four models", "dim")


def _paper(results: Results) -> Iterator[RenderableType]:
    tables = text_tables.paper_tables(results)
    yield Text("against the paper", "bold")
    if not tables:
        yield Text("none of the paper's 13 models was studied")
    for table in tables:
        yield Text(table.title, "dim")
        yield _table(table)
        yield Text()
    yield Text("what differs from the paper's study", "bold")
    for one in departures(results.manifest):
        yield shown(f"- {one}")


def _table(table: TextTable) -> Table:
    drawn = _empty(table.columns)
    for row in table.rows:
        drawn.add_row(*map(shown, row))
    return drawn


def _empty(columns: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index else "left", overflow="fold", no_wrap=index > 0)
    return table

"""What `clipmk study report` does: write a study's report into its folder, and print what to do and its main tables."""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Final, Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from clipmk.errors import ClipmkError, InputError, UsageError
from clipmk.study import text_tables
from clipmk.study.advice import advice
from clipmk.study.document import csv_files, csv_lines, results_document
from clipmk.study.manifest import StudyFolder
from clipmk.study.paper import departures
from clipmk.study.results import Results, family_name, read_results
from clipmk.system.files import make_folder, write_text
from clipmk.system.text import counted, one_or_many, printable
from clipmk_tui.cli import tables
from clipmk_tui.cli.options import check_known
from clipmk_tui.cli.streams import data_stream, say
from clipmk_tui.show.text import bar, shown, sparkline

Against = Literal["paper"]

NOTE: Final = (
    "m: seen concepts tied to the prediction; beats all: a larger m than any other class would have; strength: the "
    "paper's MI; AUC is comparable within a family only; chance: as many random descriptors of the vocabulary; u: "
    "concepts tied to each class; unpadded: AUC over the seen concepts alone"
)
_NAME: Final = 24  # most columns of a model's name
_NARROW: Final = 10  # fewest columns that a name is folded to
_BAR: Final = 20
_DYNAMICS: Final = "strength as concepts are left out"


def run(folder: Path, *, against: str | None, json: bool, csv: str | None, quiet: bool, no_color: bool) -> int:
    """Write the report of a study, and print what to do and its main tables, JSON or CSV; returns exit status 0.

    Raises:
        UsageError: `against` is neither "paper" nor None, or JSON and CSV both go to stdout.
        InputError: the folder is not a study, has no results yet, or a file in it is damaged.
        ClipmkError: a file cannot be written.
    """
    check_known("--against", against, ["paper"])
    if json and csv == "-":
        raise UsageError("--json and --csv - both write to stdout; name a folder for the CSV files")
    wanted: Against | None = "paper" if against else None
    with data_stream() as stream:
        results = read_results(StudyFolder(folder.expanduser()))
        from clipmk.study.report import write_report  # noqa: PLC0415 - not needed for the tables

        target, unwritten = None, ""
        try:
            target = write_report(results, against=wanted)
        except ClipmkError as reason:
            if isinstance(reason, InputError) or not (json or csv):
                raise
            unwritten = str(reason)  # the numbers are wanted, the study may be somebody else's
        if csv == "-":
            stream.write(csv_lines(results_document(results, against=wanted)))
        elif csv is not None:
            _write_csv(results, Path(csv).expanduser(), against=wanted)
    if csv != "-":
        put_tables(results, against=wanted, json=json, no_color=no_color, page=target)
    if not quiet:
        warn_unfinished(results)
        said = f"report in {printable(str(target))}, its charts beside it"
        say("warning" if unwritten else "note", f"no page: {unwritten}" if unwritten else said)
    return 0


def _write_csv(results: Results, folder: Path, *, against: Against | None) -> None:
    make_folder(folder)
    for name, text in csv_files(results_document(results, against=against)):
        write_text(text, folder / name)


def put_tables(
    results: Results, *, json: bool, no_color: bool, against: Against | None = None, page: Path | None = None
) -> None:
    """Print a study's main tables, or one JSON document that also names the page of its report."""
    if json:
        found = results_document(results, against=against) | {"report": None if page is None else str(page)}
        tables.put_json({"study": found})
    else:
        with tables.for_people(no_color) as console:
            console.print(_rendered(results, width=console.width, against=against))


def _rendered(results: Results, *, width: int, against: Against | None) -> RenderableType:
    """Tables by family, dynamics, the fits, and the paper's numbers if asked for."""
    manifest = results.manifest
    about = (
        f"  {counted(manifest.dataset.images, 'image')}, {counted(len(manifest.models), 'model')}, "
        f"{manifest.settings.get('preset')} preset, parts by {' and '.join(manifest.parts)}, "
        f"u = {manifest.language_count} of {counted(manifest.vocabulary.descriptors, 'descriptor')}"
    )
    pieces: list[RenderableType] = [
        Text.assemble(shown(manifest.dataset.name, "bold"), shown(about, "dim")),
        Text(),
        tables.table(("", ""), [(f"{place}.", one.text) for place, one in enumerate(advice(results), 1)], gap=1),
        Text(),
        _families(results, width),
        Text(),
        _dynamics(results, width),
        *_fits(results),
        *(_titled(text_tables.size_table(results), "") if manifest.language_counts else ()),
        *(piece for table in text_tables.asked_tables(results) for piece in _titled(table, "asked  ")),
    ]
    if against == "paper":
        pieces += [Text(), *_paper(results)]
    return Group(*pieces, Text(), Text(NOTE, "dim"))


def warn_unfinished(results: Results) -> None:
    """Say on stderr how much is missing or failed."""
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
    rows = [
        row for family in families for row in [(shown(family.title, "bold"),), *(row[:count] for row in family.rows)]
    ]
    return _table(columns[:count], rows)


def _fitting(rows: Sequence[Sequence[str]], width: int) -> int:
    """How many columns fit, from the left; the first, a name, may be folded to `_NARROW`."""
    widths = [1 + max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[0] = min(widths[0], 1 + _NARROW)
    return sum(needed <= width for needed in accumulate(widths))


def _dynamics(results: Results, width: int) -> Table:
    """The mean curve of every model, all on one scale, and AUC as a bar."""
    highest = max(max(row["curve"]) for row in results.models)
    longest = max(row["auc"] for row in results.models)
    cells = max(8, min(_BAR, width - _NAME - len(_DYNAMICS) - 8))
    names, rows = results.names, []
    for row in results.models:
        line = sparkline([*row["curve"], highest])[:-1]
        share = row["auc"] / longest if longest > 0 else 0.0
        rows.append((names[row["model"]], line, f"{bar(share, cells)} {row['auc']:.2f}"))
    table = _table(("dynamics", _DYNAMICS, "AUC"), rows)
    table.columns[1].justify = "left"
    return table


def _fits(results: Results) -> Iterator[RenderableType]:
    """The lines through the models of each family; nothing for a single model."""
    if sum(row["top1"] is not None for row in results.models) < 2:
        return
    yield Text()
    if results.fits:
        yield Text("top-1 % against AUC", "bold")
        fits = text_tables.fit_table(results)
        yield _table(fits.columns, fits.rows)
        for rivals in text_tables.rival_tables(results):
            yield Text(f"\n{rivals.title}", "bold")
            yield _table(rivals.columns, rivals.rows)
        yield Text("intervals: Fisher's z over models; p: share of orders with as large a |rho|", "dim")
    fitted = {one.group for one in results.fits}
    lacking = [family_name(name) for name in results.families if name not in fitted]
    if lacking:
        yield Text(f"no line for {', '.join(lacking)}: fewer than four models", "dim")


def _titled(table: text_tables.TextTable, before: str) -> tuple[RenderableType, ...]:
    """A blank line, the title, the table."""
    return Text(), Text.assemble((before, "bold"), shown(table.title)), _table(table.columns, table.rows)


def _paper(results: Results) -> Iterator[RenderableType]:
    drawn = text_tables.paper_tables(results)
    yield Text("against the paper", "bold")
    if not drawn:
        yield Text("none of the paper's 13 models was studied")
    for table in drawn:
        yield Text(table.title, "dim")
        yield _table(table.columns, table.rows)
        yield Text()
    yield Text("what differs from the paper's study", "bold")
    for one in departures(results.manifest):
        yield shown(f"- {one}")


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    made = tables.table(columns, rows, right=range(1, len(columns)), gap=1)
    for column in made.columns[1:]:
        column.no_wrap = True
    return made

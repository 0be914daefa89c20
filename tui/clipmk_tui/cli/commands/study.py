"""`clipmk study`: a data set x a pool of models, and the report on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipmk_tui.cli import options as o

app = typer.Typer(
    help="A data set x a pool of models: accuracy, mutual information, dynamics, AUC; resumable.",
    epilog="`clipmk study DATASET ...` is short for `clipmk study run DATASET ...`.",
)

_POOL = "Models"
_WORK = "Work"

DatasetSpec = Annotated[
    str,
    typer.Argument(
        metavar="DATASET",
        help="A folder of class folders, a CSV or Parquet manifest, tar shards (train-{000..012}.tar), or world:SPLIT.",
    ),
]
StudyDir = Annotated[Path, typer.Argument(metavar="DIR", help="The folder that `clipmk study` wrote.")]
Pool = Annotated[
    str | None, typer.Option(metavar="zoo|paper13|FILE", help="Models by the dozen.", rich_help_panel=_POOL)
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="DIR",
        help="Results; a study found there is resumed (default: clipmk-study).",
        rich_help_panel=_WORK,
    ),
]
Extend = Annotated[
    bool | None,
    typer.Option("--extend", help="Add these models to the study found there.", rich_help_panel=_WORK),
]
Fit = Annotated[
    str | None,
    typer.Option(
        metavar="image|batch",
        help="Find parts image by image, or for up to 50 images of a class together (paper preset).",
        rich_help_panel=_WORK,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Only N images, spread evenly over the data set.", rich_help_panel=_WORK),
]
Engine = Annotated[
    str | None,
    typer.Option(metavar="local|ray", help="This process, or a Ray cluster (default: local).", rich_help_panel=_WORK),
]
Workers = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Ray workers; one per GPU by default.", rich_help_panel=_WORK)
]
ShardSize = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Images of a shard, the unit of resuming.", rich_help_panel=_WORK),
]
BatchSize = Annotated[int | None, typer.Option(metavar="N", min=1, help="Images per forward.", rich_help_panel=_WORK)]
Threads = Annotated[int | None, typer.Option(metavar="N", min=1, help="CPU threads.", rich_help_panel=_WORK)]
Against = Annotated[
    str | None, typer.Option(metavar="paper", help="Set the published table of 13 models beside the results.")
]


@app.callback()
def _group() -> None:
    """A data set x a pool of models."""


@app.command("run")
def run(  # noqa: PLR0913, PLR0917 - one parameter per option; they are read from the context
    ctx: typer.Context,
    dataset: DatasetSpec,
    model: o.Models = None,
    pool: Pool = None,
    out: Out = None,
    extend: Extend = None,
    vocab: o.Vocabulary = None,
    classes: o.Classes = None,
    preset: o.Preset = None,
    grounding: o.Grounding = None,
    fit: Fit = None,
    limit: Limit = None,
    seed: o.Seed = None,
    engine: Engine = None,
    workers: Workers = None,
    shard_size: ShardSize = None,
    batch_size: BatchSize = None,
    threads: Threads = None,
    device: o.Device = None,
    precision: o.Precision = None,
    download: o.Download = None,
    no_cache: o.NoCache = None,
    json: o.Json = None,
    quiet: o.Quiet = None,
    no_color: o.NoColor = None,
    debug: o.Debug = None,
) -> int:
    """Explain every image of a data set with every model. Stop it at any time: the same command goes on.

    `clipmk study DATASET ...` is short for this. Results are Parquet files; `clipmk study report DIR` draws them.
    """
    from clipmk_tui.cli.study_run import run as work  # noqa: PLC0415

    return work(ctx.params)


@app.command("report")
def report(
    folder: StudyDir,
    against: Against = None,
    json: o.Json = None,
    quiet: o.Quiet = None,
    no_color: o.NoColor = None,
    debug: o.Debug = None,
) -> int:
    """Draw a study: one HTML file and PNG pictures in DIR/report, the headline table here."""
    from clipmk_tui.cli.study_report import run as draw  # noqa: PLC0415

    return draw(folder, against=against, json=json, quiet=quiet, no_color=no_color)

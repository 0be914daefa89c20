"""`clipmk study`: a dataset explained by a pool of models, and the report on it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from clipmk_tui.cli import options as o

app = typer.Typer(
    help="Study a dataset with a pool of models: accuracy, mutual information, dynamics, AUC; resumable.",
    epilog="`clipmk study DATASET ...` is short for `clipmk study run DATASET ...`.",
)

_WORK = "Work"

_OUT = "Folder of the results; a study found there is resumed (default: clipmk-study)."
_SIZES = "Show what other numbers of concepts tied to each class would give, such as 5,10,20,50."
_FIT = "Find parts image by image, or for up to 50 images of a class together (paper preset)."
Engine = Annotated[str, o.option(_WORK, "engine", "This process (default), or a Ray cluster.", metavar="local|ray")]


_QUIET = "Hide notes and progress; what a dataset leaves out is named in any case."


def _count(name: str, text: str) -> Any:
    return o.option(_WORK, name, text, metavar="N", min=1)


_CHECK = "Blur each of the first cues in up to N of its images: does the prediction change?"
_ONLY = "Only this model of the study, by its id or its name in the tables; may be repeated."
_CSV = "Write every number as CSV files into this folder, or as one table to stdout (-)."
_AGAINST = "Show the published table of 13 models beside the results."


@app.command("run")
@o.takes(
    "dataset model pool out extend image_column label_column vocab classes ask_file preset grounding fit limit seed "
    "engine workers shard_size batch_size threads language_counts device precision download no_cache json quiet "
    "no_color debug"
)
def run(  # noqa: PLR0913, PLR0917 - one parameter per option; they are read from the context
    ctx: typer.Context,
    dataset: Annotated[
        list[str],
        typer.Argument(
            metavar="DATASET",
            help="A folder of class folders, a CSV, JSON lines or Parquet table, tar or Parquet shards (several names, "
            "or train-{000..012}.tar), or world:SPLIT.",
        ),
    ],
    pool: Annotated[
        str | None, o.option("Models", "pool", "A named set of models, or a file.", metavar="zoo|paper13|FILE")
    ] = None,
    out: Annotated[Path, o.option(_WORK, "out", _OUT, "-o", metavar="DIR")] = Path("clipmk-study"),
    extend: Annotated[bool, o.option(_WORK, "extend", "Add these models to the study found there.")] = False,
    fit: Annotated[str | None, o.option(_WORK, "fit", _FIT, metavar="image|batch")] = None,
    limit: Annotated[int | None, _count("limit", "Only N images, spread evenly over the dataset.")] = None,
    engine: Engine = "local",
    workers: Annotated[int | None, _count("workers", "Ray workers (default: one per GPU).")] = None,
    shard_size: Annotated[int | None, _count("shard_size", "Images per shard, the unit of resuming.")] = None,
    batch_size: Annotated[int | None, _count("batch_size", "Images per forward pass.")] = None,
    threads: Annotated[int | None, _count("threads", "CPU threads.")] = None,
    language_counts: Annotated[str | None, o.option(_WORK, "language_counts", _SIZES, metavar="N,N...")] = None,
    quiet: Annotated[bool, o.option(o.MESSAGES, "quiet", _QUIET, "-q")] = False,
    **_: Any,
) -> int:
    """Explain every image of a dataset with every model. Stop at any time: the same command resumes.

    `clipmk study DATASET ...` is short for this. Results are Parquet files; `clipmk study report DIR` draws them.
    """
    from clipmk_tui.cli.commands.study.run import run as work  # noqa: PLC0415

    return work(_without_conflicts(ctx))


def _without_conflicts(ctx: typer.Context) -> dict[str, Any]:
    """The options; those of the environment give way to the command line's, and workers to the local engine."""
    params = dict(ctx.params)
    if not o.on_command_line(ctx, "pool") and o.on_command_line(ctx, "model"):
        params["pool"] = None
    elif params["pool"] is not None and not o.on_command_line(ctx, "model"):
        params["model"] = []
    if params["engine"] == "local" and not o.on_command_line(ctx, "workers"):
        params["workers"] = None
    return params


@app.command("cues")
def cues(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder that `clipmk study` wrote.")],
    check: Annotated[int | None, o.flag(_WORK, "check", _CHECK, metavar="N", min=1)] = None,
    model: Annotated[list[str] | None, o.flag(None, "model", _ONLY, "-m", metavar="MODEL")] = None,
    device: o.Device = "auto",
    json: o.Json = False,
    quiet: o.Quiet = False,
    no_color: o.NoColor = False,
    debug: o.Debug = False,
) -> int:
    """List the concepts that mislead: mutual more often where predictions of a class are wrong (Fisher, q < 0.05)."""
    from clipmk_tui.cli.commands.study.cues import run as work  # noqa: PLC0415

    models = model or ()
    return work(folder, check=check, models=models, device=device, json=json, quiet=quiet, no_color=no_color)


@app.command("report")
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder that `clipmk study` wrote.")],
    against: Annotated[str | None, o.option(None, "against", _AGAINST, metavar="paper")] = None,
    json: o.Json = False,
    csv: Annotated[str | None, o.option(None, "csv", _CSV, metavar="FOLDER|-")] = None,
    quiet: o.Quiet = False,
    no_color: o.NoColor = False,
    debug: o.Debug = False,
) -> int:
    """Write the report of a study, HTML and SVG files in DIR/report, and print what to do and its main tables."""
    from clipmk_tui.cli.commands.study.report import run as draw  # noqa: PLC0415

    return draw(folder, against=against, json=json, csv=csv, quiet=quiet, no_color=no_color)

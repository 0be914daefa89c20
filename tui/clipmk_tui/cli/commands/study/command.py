"""`clipmk study`: a dataset explained by a pool of models, and the report on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from clipmk_tui.cli import options as o

app = typer.Typer(
    help="Study a dataset with a pool of models: accuracy, mutual information, dynamics, AUC; resumable.",
    epilog="`clipmk study DATASET ...` is short for `clipmk study run DATASET ...`.",
)


@o.command(
    app,
    "run",
    "dataset model pool out extend image_column label_column vocab classes ask_file preset grounding fit limit seed "
    "engine workers shard_size batch_size threads device precision download no_cache json quiet no_color debug",
)
def run(ctx: typer.Context, **_: Any) -> int:
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


@o.command(app, "report", "folder against json quiet no_color debug")
def report(folder: Path, against: str | None, json: bool, quiet: bool, no_color: bool, **_: Any) -> int:
    """Write the report of a study, HTML and PNG files in DIR/report, and print its main tables."""
    from clipmk_tui.cli.commands.study.report import run as draw  # noqa: PLC0415

    return draw(folder, against=against, json=json, quiet=quiet, no_color=no_color)

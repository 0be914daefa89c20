"""`clipmk world`: scenes of the rendered world as files."""

from pathlib import Path
from typing import Annotated

import typer

from clipmk_tui.cli import options as o
from clipmk_tui.cli.streams import data_stream, locale_encoding, logging_to_stderr

app = typer.Typer(help="The rendered world, whose concepts and parts are known.")

Split = Annotated[str, typer.Option(metavar="NAME", help="train, varied, val, test, counterfactual, hard or cue.")]

app.callback()(lambda: None)  # a group, though it has one command


@app.command("export")
def export(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="New or empty folder.")],
    split: Split = "test",
    count: Annotated[int, typer.Option(metavar="N", help="How many scenes.")] = 100,
    size: Annotated[int, typer.Option(metavar="PX", help="Side of each image in pixels.")] = 64,
    seed: o.Seed = None,
    debug: o.Debug = False,
) -> int:
    """Write scenes as <class>/<index>.png with their truth (classes, descriptors, part masks) in truth.json."""
    from clipmk.world.export import export_scenes as write  # noqa: PLC0415
    from clipmk_tui.show.text import shown  # noqa: PLC0415

    with logging_to_stderr(quiet=False, verbose=False), data_stream(encoding=locale_encoding()) as stream:
        made = write(folder.expanduser(), split=split, count=count, size=size, seed=seed or 0)
        stream.write(f"{shown(str(made))}\n")
    return 0

"""`clipmk explain`: why a model predicts what it predicts."""

from __future__ import annotations

from typing import Annotated

import typer

from clipmk_tui.cli import options as o

EPILOG = (
    "Each option is also read from the environment (CLIPMK_MODEL, CLIPMK_NO_PICTURE, ...) and most from the config "
    "file; the command line outranks the environment, the environment the config.  Without -m a demonstration model "
    "is used that knows drawn classes only."
)

Jsonl = Annotated[bool, o.option("jsonl", "--jsonl", help="Print one JSON line per result.", rich_help_panel=o.OUTPUT)]
Overlay = Annotated[
    str | None,
    o.option(
        "overlay",
        metavar="FILE.png",
        help="Write the picture with its parts; several results: FILE-<image>[-<model>].png.",
        rich_help_panel=o.OUTPUT,
    ),
]
Html = Annotated[
    str | None,
    o.option("html", metavar="FILE.html", help="Write one self-contained page.", rich_help_panel=o.OUTPUT),
]
NoPicture = Annotated[
    bool, o.option("no_picture", "--no-picture", help="Draw no picture in the terminal.", rich_help_panel=o.OUTPUT)
]


def explain(  # noqa: PLR0913, PLR0917 - one parameter per option; they are read from the context
    ctx: typer.Context,
    images: o.Images,
    model: o.Models = None,
    classes: o.Classes = None,
    vocab: o.Vocabulary = None,
    target: o.Target = None,
    arch: o.Arch = None,
    download: o.Download = False,
    preset: o.Preset = None,
    grounding: o.Grounding = None,
    seed: o.Seed = None,
    device: o.Device = "auto",
    precision: o.Precision = "fp32",
    no_cache: o.NoCache = False,
    serve: o.Serve = True,
    json: o.Json = False,
    jsonl: Jsonl = False,
    overlay: Overlay = None,
    html: Html = None,
    top: o.Top = None,
    no_picture: NoPicture = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    no_color: o.NoColor = False,
    debug: o.Debug = False,
) -> int:
    """Explain images: predictions, the concepts behind them, and how strongly both encoders share them."""
    from clipmk_tui.cli.commands.explain.options import explain_options  # noqa: PLC0415

    options = explain_options(ctx.params)  # before anything heavy is imported
    from clipmk_tui.cli.commands.explain.run import run  # noqa: PLC0415

    return run(options, images)

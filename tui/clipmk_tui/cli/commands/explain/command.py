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

Jsonl = Annotated[bool, o.option(o.OUTPUT, "jsonl", "Print one JSON line per result.")]
_OVERLAY = "Write the picture with its parts; several results: FILE-<image>[-<model>].png."
Overlay = Annotated[str | None, o.option(o.OUTPUT, "overlay", _OVERLAY, metavar="FILE.png")]
Html = Annotated[str | None, o.option(o.OUTPUT, "html", "Write one self-contained page.", metavar="FILE.html")]
NoPicture = Annotated[bool, o.option(o.OUTPUT, "no_picture", "Draw no picture in the terminal.")]


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

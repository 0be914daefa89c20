"""`clipmk explain`: why a model says what it says of an image."""

from __future__ import annotations

import typer

from clipmk_tui.cli import options as o


def explain(  # noqa: PLR0913, PLR0917 - one parameter per option; they are read from the context
    ctx: typer.Context,
    images: o.Images,
    model: o.Models = None,
    classes: o.Classes = None,
    vocab: o.Vocabulary = None,
    target: o.Target = None,
    arch: o.Arch = None,
    download: o.Download = None,
    preset: o.Preset = None,
    grounding: o.Grounding = None,
    seed: o.Seed = None,
    device: o.Device = None,
    precision: o.Precision = None,
    no_cache: o.NoCache = None,
    serve: o.Serve = None,
    json: o.Json = None,
    jsonl: o.Jsonl = None,
    overlay: o.Overlay = None,
    html: o.Html = None,
    top: o.Top = None,
    no_picture: o.NoPicture = None,
    quiet: o.Quiet = None,
    verbose: o.Verbose = None,
    no_color: o.NoColor = None,
    debug: o.Debug = None,
) -> int:
    """Explain images: predictions, the concepts behind them, and how strongly both encoders share them."""
    from clipmk_tui.cli.choices import choices_from  # noqa: PLC0415

    choices = choices_from(ctx.params)  # before anything heavy is imported
    from clipmk_tui.cli.explain_run import run  # noqa: PLC0415

    return run(choices, images)

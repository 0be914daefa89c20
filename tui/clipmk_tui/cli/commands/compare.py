"""`clipmk compare`: several models about one image."""

from __future__ import annotations

from typing import Annotated

import typer

from clipmk_tui.cli import options as o

Image = Annotated[str, typer.Argument(metavar="IMAGE", help="One file, or - for standard input.")]


def compare(  # noqa: PLR0913, PLR0917 - one parameter per option; they are read from the context
    ctx: typer.Context,
    image: Image,
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
    json: o.Json = None,
    top: o.Top = None,
    quiet: o.Quiet = None,
    verbose: o.Verbose = None,
    no_color: o.NoColor = None,
    debug: o.Debug = None,
) -> int:
    """Compare 2 to 13 models on one image: what they predict, and which concepts they hold in common.

    All explain with the same vocabulary: that of --vocab, else the first one that a model brings.
    """
    from clipmk_tui.cli.compare_run import comparison_choices, run  # noqa: PLC0415

    return run(comparison_choices(ctx.params), image)

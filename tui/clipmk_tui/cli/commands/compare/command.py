"""`clipmk compare`: what several models make of one image, side by side."""

from __future__ import annotations

from typing import Annotated

import typer

from clipmk_tui.cli import options as o

EPILOG = (
    "AUC is comparable only within one family of models; the highest of a family is marked.  "
    "Each option is also read from the environment (CLIPMK_MODEL=a,b, CLIPMK_VOCAB, ...) and most from the config file."
)

Image = Annotated[str, typer.Argument(metavar="IMAGE", help="One file, or - for standard input.")]


def compare(  # noqa: PLR0913, PLR0917 - one parameter per option; they are read from the context
    ctx: typer.Context,
    image: Image,
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
    json: o.Json = False,
    top: o.Top = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    no_color: o.NoColor = False,
    debug: o.Debug = False,
) -> int:
    """Compare 2 to 13 models on one image: what they predict, and which concepts they share.

    All models use the same vocabulary: that of --vocab, else the first one that a model brings.
    """
    from clipmk_tui.cli.commands.compare.run import comparison_options, run  # noqa: PLC0415

    return run(comparison_options(ctx.params), image)

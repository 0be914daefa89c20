"""`clipmk evaluate`: how correct, how faithful and how useful explanations are."""

from __future__ import annotations

from typing import Annotated

import typer

from clipmk.settings import PRESETS
from clipmk_tui.cli import options as o

_WHAT = "What to measure"

Spec = Annotated[
    str | None,
    typer.Argument(
        metavar="DATASET",
        help="Images instead of rendered scenes: a folder of class folders (as `clipmk world export` writes them), a "
        "flat folder, a table of paths, tar shards.",
    ),
]
Truth = Annotated[
    bool,
    typer.Option(
        "--truth", help="Compare with the known parts and descriptors of rendered scenes.", rich_help_panel=_WHAT
    ),
]
Faithful = Annotated[
    bool,
    typer.Option(
        "--faithfulness",
        help="Deletion and insertion curves and accuracies, entropy with and without transport, CorLoc.",
        rich_help_panel=_WHAT,
    ),
]
Gain = Annotated[
    bool,
    typer.Option(
        "--zero-shot",
        help="Accuracy gained by the descriptors found, against random descriptors and random words.",
        rich_help_panel=_WHAT,
    ),
]
Splits = Annotated[
    list[str] | None,
    typer.Option(
        "--split",
        metavar="NAME",
        help="Split of the rendered world; may be repeated (default: test and counterfactual).",
    ),
]
Scenes = Annotated[int | None, typer.Option(metavar="N", help="Scenes of each split (default: 500).", min=1)]
Limit = Annotated[int | None, typer.Option(metavar="N", help="Only N images of DATASET, spread evenly.", min=1)]
Output = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="FILE.json", help="Write the JSON there as well.", rich_help_panel=o.OUTPUT),
]
Verbose = Annotated[
    bool,
    o.option(
        "verbose",
        "--verbose",
        "-v",
        help="Print every metric, variant and margin of --truth; JSON always has them.",
        rich_help_panel=o.MESSAGES,
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(metavar="|".join(PRESETS), help="Measure only this preset.", rich_help_panel=o.SETTINGS),
]
Grounding = Annotated[
    str | None,
    typer.Option(metavar="prompts|attend", help="Measure only this grounding.", rich_help_panel=o.SETTINGS),
]


def evaluate(  # noqa: PLR0913, PLR0917 - one parameter per option; they are read from the context
    ctx: typer.Context,
    dataset: Spec = None,
    model: o.Models = None,
    truth: Truth = False,
    faithfulness: Faithful = False,
    zero_shot: Gain = False,
    split: Splits = None,
    scenes: Scenes = None,
    limit: Limit = None,
    vocab: o.Vocabulary = None,
    arch: o.Arch = None,
    download: o.Download = False,
    preset: Preset = None,
    grounding: Grounding = None,
    seed: o.Seed = None,
    device: o.Device = "auto",
    precision: o.Precision = "fp32",
    no_cache: o.NoCache = False,
    json: o.Json = False,
    output: Output = None,
    quiet: o.Quiet = False,
    verbose: Verbose = False,
    no_color: o.NoColor = False,
    debug: o.Debug = False,
) -> int:
    """Measure explanations on the same images in every variant: both presets, both groundings, and baselines.

    Numbers are means with 95 % bootstrap intervals over images. --preset and --grounding select variants.

    --truth prints a summary: AP, hits, IoU, top-1 and margins over two baselines. --verbose prints everything.
    """
    from clipmk_tui.cli.measure import evaluation_choices, run  # noqa: PLC0415

    params = dict(ctx.params)
    if dataset is None and not o.on_command_line(ctx, "vocab"):
        params["vocab"] = None  # rendered scenes have a vocabulary of their own, whatever the usual one is
    return run(evaluation_choices(params))

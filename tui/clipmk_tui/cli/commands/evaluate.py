"""`clipmk evaluate`: how true, how faithful and how useful explanations are."""

from __future__ import annotations

from typing import Annotated

import typer

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
    typer.Option("--truth", help="Against the parts and descriptors of rendered scenes.", rich_help_panel=_WHAT),
]
Faithful = Annotated[
    bool,
    typer.Option(
        "--faithfulness",
        help="Deletion, insertion, their accuracies, entropy with and without transport, CorLoc.",
        rich_help_panel=_WHAT,
    ),
]
Gain = Annotated[
    bool,
    typer.Option(
        "--zero-shot",
        help="Accuracy gained by the descriptors found, beside random descriptors and words.",
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
    typer.Option("--output", "-o", metavar="FILE.json", help="Write the JSON there as well.", rich_help_panel="Output"),
]
Verbose = Annotated[
    bool | None,
    typer.Option(
        "--verbose",
        "-v",
        help="Every metric, way and margin of --truth, not a summary; JSON always has them.",
        rich_help_panel="Manners",
    ),
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
    download: o.Download = None,
    preset: o.Preset = None,
    grounding: o.Grounding = None,
    seed: o.Seed = None,
    device: o.Device = None,
    precision: o.Precision = None,
    no_cache: o.NoCache = None,
    json: o.Json = None,
    output: Output = None,
    quiet: o.Quiet = None,
    verbose: Verbose = None,
    no_color: o.NoColor = None,
    debug: o.Debug = None,
) -> int:
    """Measure explanations on the same images in every way: both presets, both groundings, and baselines.

    Numbers are means with 95 % bootstrap intervals over images. --preset and --grounding leave ways out.

    Of --truth a summary is printed: AP, hits, IoU, top-1 and margins over two baselines. --verbose prints everything.
    """
    from clipmk_tui.cli.evaluate_run import evaluation_choices, run  # noqa: PLC0415

    return run(evaluation_choices(ctx.params))

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
_TRUTH = "Compare with the known parts and descriptors of rendered scenes."
Truth = Annotated[bool, o.flag(_WHAT, "truth", _TRUTH)]
_FAITHFULNESS = "Deletion and insertion curves and accuracies, entropy with and without transport, CorLoc."
Faithfulness = Annotated[bool, o.flag(_WHAT, "faithfulness", _FAITHFULNESS)]
_ZERO_SHOT = "Accuracy gained by the descriptors found, against random descriptors and random words."
ZeroShot = Annotated[bool, o.flag(_WHAT, "zero_shot", _ZERO_SHOT)]
_SPLIT = "Split of the rendered world; may be repeated (default: test and counterfactual)."
Splits = Annotated[list[str] | None, o.flag(None, "split", _SPLIT, metavar="NAME")]
Scenes = Annotated[int | None, o.flag(None, "scenes", "Scenes of each split (default: 500).", metavar="N", min=1)]
Limit = Annotated[int | None, o.flag(None, "limit", "Only N images of DATASET, spread evenly.", metavar="N", min=1)]
Output = Annotated[str | None, o.flag(o.OUTPUT, "output", "Write the JSON there as well.", "-o", metavar="FILE.json")]
_VERBOSE = "Print every metric, variant and margin of --truth; JSON always has them."
Verbose = Annotated[bool, o.option(o.MESSAGES, "verbose", _VERBOSE, "-v")]
Preset = Annotated[str | None, o.flag(o.SETTINGS, "preset", "Measure only this preset.", metavar="|".join(PRESETS))]
Grounding = Annotated[
    str | None, o.flag(o.SETTINGS, "grounding", "Measure only this grounding.", metavar="prompts|attend")
]


def evaluate(  # noqa: PLR0913, PLR0917 - one parameter per option; they are read from the context
    ctx: typer.Context,
    dataset: Spec = None,
    model: o.Models = None,
    truth: Truth = False,
    faithfulness: Faithfulness = False,
    zero_shot: ZeroShot = False,
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
    from clipmk_tui.cli.commands.evaluate.run import evaluation_choices, run  # noqa: PLC0415

    params = dict(ctx.params)
    if dataset is None and not o.on_command_line(ctx, "vocab"):
        params["vocab"] = None  # rendered scenes have a vocabulary of their own, whatever the usual one is
    return run(evaluation_choices(params))

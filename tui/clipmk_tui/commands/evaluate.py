"""`clipmk evaluate`: explanations held against the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from clipmk.errors import UsageError
from clipmk_tui import options as o

if TYPE_CHECKING:
    from clipmk.evaluate.truth import TruthReport
    from clipmk_tui.stages import Stages

Truth = Annotated[bool, typer.Option("--truth", help="Against the parts and descriptors of rendered scenes.")]
Scenes = Annotated[int, typer.Option(metavar="N", help="Scenes of each split.", min=1)]


def evaluate(  # noqa: PLR0913, PLR0917 - one parameter per option
    model: o.Models = None,
    truth: Truth = False,
    scenes: Scenes = 500,
    seed: o.Seed = None,
    device: o.Device = None,
    precision: o.Precision = None,
    json: o.Json = None,
    quiet: o.Quiet = None,
    no_color: o.NoColor = None,
    debug: o.Debug = None,
) -> int:
    """Measure how true explanations are. --truth: every way of explaining on the same rendered scenes."""
    from clipmk_tui import present  # noqa: PLC0415
    from clipmk_tui.stages import Stages  # noqa: PLC0415
    from clipmk_tui.texts import shown  # noqa: PLC0415

    if not truth:
        raise UsageError("say what to evaluate against: --truth")
    with present.for_people(no_color) as console, Stages(shown=not quiet) as stages:
        reports = _measure(list(model or ()), stages, scenes=scenes, seed=seed, device=device, precision=precision)
        stages.clear()
        if not present.wants_json(json):
            for report in reports:
                for title, columns, rows in report.table():
                    made = present.table(columns, rows, right=range(1, len(columns)))
                    made.title, made.title_justify = shown(f"{report.model}, {title}"), "left"
                    present.put_table(console, made)
                    console.print()
    if present.wants_json(json):
        present.put_json({"truth": [report.to_dict() for report in reports]})
    return 0


def _measure(
    named: list[str], stages: Stages, *, scenes: int, seed: int | None, device: str | None, precision: str | None
) -> list[TruthReport]:
    from clipmk.backbones import load  # noqa: PLC0415 - torch and open_clip: seconds
    from clipmk.config import choose, read_config  # noqa: PLC0415
    from clipmk.evaluate import truth  # noqa: PLC0415
    from clipmk_tui.choices import DEFAULT_MODEL, models_from  # noqa: PLC0415

    config = read_config()
    reports = []
    for name in models_from({"model": named}, config) or (DEFAULT_MODEL,):
        stages.begin(name, "loading")
        backbone = load(
            name,
            device=choose(device, "CLIPMK_DEVICE", config.device, "auto"),
            precision=choose(precision, "CLIPMK_PRECISION", config.precision, "fp32"),
        )
        chosen = choose(seed, "CLIPMK_SEED", config.seed, 0)
        reports.append(truth.run(backbone, scenes=scenes, seed=chosen, progress=stages))
    return reports

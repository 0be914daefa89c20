"""`clipmk tui`: the app."""

from __future__ import annotations

from typing import Annotated

import typer

from clipmk_tui.cli import options as o

Paths = Annotated[
    list[str] | None,
    typer.Argument(metavar="PATH", help="Images, folders (not recursive) or patterns; none: the sample images."),
]
Theme = Annotated[str | None, typer.Option(metavar="NAME", help="Theme of the app.", rich_help_panel="Manners")]


def tui(  # noqa: PLR0913, PLR0917 - one parameter per option; they are read from the context
    ctx: typer.Context,
    paths: Paths = None,
    model: o.Models = None,
    classes: o.Classes = None,
    vocab: o.Vocabulary = None,
    arch: o.Arch = None,
    download: o.Download = None,
    preset: o.Preset = None,
    grounding: o.Grounding = None,
    seed: o.Seed = None,
    device: o.Device = None,
    precision: o.Precision = None,
    top: o.Top = None,
    theme: Theme = None,
    no_color: o.NoColor = None,
    debug: o.Debug = None,
) -> int:
    """Open the app on images: predictions, concepts and models to walk through; the first model explains at once."""
    from clipmk_tui.app.start import run  # noqa: PLC0415

    return run(paths or (), {name: value for name, value in ctx.params.items() if name != "paths"})

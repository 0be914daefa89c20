"""`clipmk tui`: the app."""

from __future__ import annotations

from typing import Annotated

import typer

from clipmk_tui.cli import options as o

EPILOG = (
    "clipmk without arguments opens the app as well.  Keys: ? in the app; change them in the config file.  "
    "Each option is also read from the environment (CLIPMK_MODEL, CLIPMK_THEME, ...) and most from the config file."
)

Paths = Annotated[
    list[str] | None,
    typer.Argument(metavar="PATH", help="Images, folders (not recursive) or patterns (default: the sample images)."),
]
Theme = Annotated[str | None, o.option(o.MESSAGES, "theme", "Theme of the app.", metavar="NAME")]


def tui(  # noqa: PLR0913, PLR0917 - one parameter per option; they are read from the context
    ctx: typer.Context,
    paths: Paths = None,
    model: o.Models = None,
    classes: o.Classes = None,
    vocab: o.Vocabulary = None,
    arch: o.Arch = None,
    download: o.Download = False,
    preset: o.Preset = None,
    grounding: o.Grounding = None,
    seed: o.Seed = None,
    device: o.Device = "auto",
    precision: o.Precision = "fp32",
    top: o.Top = None,
    serve: o.Serve = True,
    theme: Theme = None,
    no_color: o.NoColor = False,
    debug: o.Debug = False,
) -> int:
    """Open the app on images, and browse predictions, concepts and models; the first model explains at once."""
    from clipmk_tui.app.launch import launch  # noqa: PLC0415
    from clipmk_tui.app.start_options import resolve_start_options  # noqa: PLC0415

    return launch(
        resolve_start_options(paths or (), {name: value for name, value in ctx.params.items() if name != "paths"})
    )

"""`clipmk tui`: the app."""

from typing import Annotated, Any

import typer

from clipmk_tui.cli import options as o

EPILOG = (
    "clipmk without arguments opens the app as well.  Keys: ? in the app; change them in the config file.  "
    "Each option is also read from the environment (CLIPMK_MODEL, CLIPMK_THEME, ...) and most from the config file."
)

Paths = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PATH", help="Images, folders (not recursive), patterns, or a study (default: the sample images)."
    ),
]
Theme = Annotated[str | None, o.option(o.MESSAGES, "theme", "Theme of the app.", metavar="NAME")]


@o.takes(
    "paths model classes vocab arch download preset grounding seed device precision top serve theme no_color debug"
)
def tui(ctx: typer.Context, paths: Paths = None, theme: Theme = None, **_: Any) -> int:
    """Open the app on images, and browse predictions, concepts and models; the first model explains at once."""
    from clipmk_tui.app.launch import launch  # noqa: PLC0415
    from clipmk_tui.app.start_options import resolve_start_options  # noqa: PLC0415

    return launch(
        resolve_start_options(paths or (), {name: value for name, value in ctx.params.items() if name != "paths"})
    )

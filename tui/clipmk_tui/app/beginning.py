"""From the first frame to the first question: panes for their empty frames, the engine's start, images on the desk."""

from __future__ import annotations

import asyncio
import gc
import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from clipmk.errors import ClipmkError
from clipmk.system.text import printable
from clipmk_tui.app.keys import keys_of

if TYPE_CHECKING:
    from clipmk_tui.app.screens.main import MainScreen

_THRESHOLDS = (10_000, 20, 50)
"""Of the garbage collector while the app runs: many small objects come and go with every frame."""


async def begin(screen: MainScreen) -> None:
    """After the first frame: the engine warms up while images and models are listed.

    Args:
        screen: shows the empty frames of its panes so far.
    """
    await _fill(screen)
    await screen.asking.engine.start()
    await screen.asking.here()
    screen.show_models()
    await lay_out(screen, screen.start.paths)


async def lay_out(screen: MainScreen, paths: Sequence[str]) -> None:
    """Lay images on the desk and show the first; where there is none, say so and leave the desk as it is.

    Args:
        screen: whose panes are there.
        paths: files, folders and patterns; without any the sample images.
    """
    from clipmk_tui.app.image_list import open_album  # noqa: PLC0415

    try:
        album = await asyncio.to_thread(open_album, paths)
    except ClipmkError as error:
        screen.image.show_message(f"{error}; {keys_of(screen, 'image.open')} opens another")
        if screen.desk.item is None:
            screen.concepts.show_note(Text(printable(str(error)), "bold"))
        return
    for warning in album.warnings:
        screen.notify(printable(warning), severity="warning", markup=False)
    screen.desk.lay_out(album)
    screen.show()


async def _fill(screen: MainScreen) -> None:
    """Give the screen its panes; what that takes is imported beside the event loop."""
    for name in ("panes", "state", "questions"):
        await asyncio.to_thread(importlib.import_module, f"clipmk_tui.app.{name}")
    from clipmk_tui.app.panes import Panes  # noqa: PLC0415

    await screen.take(Panes())
    gc.freeze()  # a full collection would look at all that is loaded by now, and stall the app meanwhile
    gc.set_threshold(*_THRESHOLDS)

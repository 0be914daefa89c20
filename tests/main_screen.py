"""The app with an engine that answers without a model, driven by keys: for tests of its main screen."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

import fakes
from clipmk.settings import preset
from clipmk.worker.session import Session
from clipmk_tui.app.app import ClipmkApp
from clipmk_tui.app.screens.main import MainScreen
from clipmk_tui.app.start import Start
from stillness import settled

VIT, VIT_XS, RN, CNX = fakes.FAMILIES
THRESHOLDS = gc.get_threshold()
SIZES = ((80, 24), (120, 40))


@asynccontextmanager
async def running(
    engine: fakes.FakeEngine, *paths: Path, size: tuple[int, int] = (120, 40), models: tuple[str, ...] = (VIT,)
) -> AsyncIterator[tuple[Pilot[Any], MainScreen]]:
    """The app on some images, its first explanation made unless the gate is shut."""
    session = Session(vocabulary="world", settings=preset("default"))
    app = ClipmkApp(Start(paths=tuple(map(str, paths)), models=models, session=session), lambda: engine)
    async with app.run_test(size=size, notifications=True) as pilot:
        screen = app.screen
        assert isinstance(screen, MainScreen)
        if engine.gate.is_set():
            await settled(pilot)
        yield pilot, screen
    gc.unfreeze()  # the app freezes what is loaded when it begins; other tests have loaded more
    gc.set_threshold(*THRESHOLDS)


def seen(screen: MainScreen) -> str:
    """The screen as text."""
    return "\n".join("".join(segment.text for segment in strip) for strip in screen._compositor.render_strips())


async def press(pilot: Pilot[Any], *keys: str) -> None:
    """One key after the other, each when all is done that the one before it began."""
    for key in keys:
        await pilot.press(key)
        await settled(pilot)

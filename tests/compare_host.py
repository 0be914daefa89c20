"""An app around one screen that compares or draws explanations, for tests of those screens."""

from __future__ import annotations

from typing import Any

from textual.app import App

from clipmk_tui.app import theme
from clipmk_tui.app.screens.compare import CompareScreen
from fakes import FAMILIES, FakeEngine

MODELS = tuple(FAMILIES)
IMAGE = "pictures/fox_03.png"


class Host(App[None]):
    """Opens one screen and keeps what it was dismissed with."""

    def __init__(self, screen: Any) -> None:
        super().__init__()
        self.opened = screen
        self.answers: list[Any] = []

    def on_mount(self) -> None:
        self.register_theme(theme.DARK)
        self.theme = theme.DARK.name
        self.push_screen(self.opened, self.answers.append)


def seen(app: App[Any]) -> list[str]:
    """The lines on the screen."""
    strips = app.screen._compositor.render_strips()
    return ["".join(segment.text for segment in strip) for strip in strips]


def line(app: App[Any], start: str) -> str:
    (found,) = [one for one in seen(app) if one.strip().startswith(start)]
    return found


def opened(engine: FakeEngine, models: tuple[str, ...] = MODELS, **options: Any) -> Host:
    return Host(CompareScreen(engine, models, IMAGE, **options))

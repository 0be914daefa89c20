"""A tiny app around one screen, for tests of dialogs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.app import App
from textual.screen import Screen
from textual.widgets import Static

from clipmk_tui.app.theme import DARK, LIGHT, own_variables


class Host(App[None]):
    """Opens one screen and keeps what it gives back."""

    def __init__(self, make: Callable[[], Screen[Any]]) -> None:
        super().__init__()
        self._make = make
        self.given: list[Any] = []
        self.told: list[str] = []
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = DARK.name

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return own_variables(dark=self.current_theme.dark)

    async def on_mount(self) -> None:
        await self.push_screen(self._make(), self.given.append)

    def notify(self, message: str, *, markup: bool = True, **options: Any) -> None:
        assert not markup
        self.told.append(message)


def screen_text(app: App[Any]) -> str:
    """What is on the screen, line by line."""
    width, height = app.size
    lines = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip) for strip in lines[:height])[: (width + 1) * height]


def told(app: App[Any]) -> str:
    return str(app.screen.query_one("#told", Static).content)

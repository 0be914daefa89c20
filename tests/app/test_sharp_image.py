"""Real pixels over the half-blocks: when they are written, and when they are taken away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from textual.app import App, ComposeResult
from textual.geometry import Size
from textual.pilot import Pilot
from textual.screen import ModalScreen, Screen

import samples
from app_harness import settled
from clipmk.images.decoder import read_picture
from clipmk_tui.app.widgets.image_pane import ImagePane
from clipmk_tui.app.widgets.sharp_image_pane import SharpImagePane

SHOWN = {"kitty": "a=T,f=100", "sixel": "\x1bP0;1;0q"}


class Covering(Screen[None]):
    """Another screen."""


class Host(App[None]):
    """An app with one pane; remembers what is written to the terminal beside the cells."""

    def __init__(self, protocol: Any) -> None:
        super().__init__()
        self.protocol, self.sent = protocol, list[str]()

    def compose(self) -> ComposeResult:
        host = self

        class Recorded(SharpImagePane):
            def _send(self, sequence: str) -> None:
                host.sent.append(sequence)

            def _cell(self) -> Size:
                return Size(6, 12)

        yield Recorded(self.protocol)

    @property
    def pane(self) -> ImagePane:
        return self.screen_stack[0].query_one(ImagePane)

    def taken(self) -> list[str]:
        """What was written since the last call: "shown" or "deleted"."""
        found = ["shown" if SHOWN[self.protocol] in one else "deleted" for one in self.sent]
        self.sent.clear()
        return found


@asynccontextmanager
async def hosted(protocol: str) -> AsyncIterator[tuple[Host, Pilot[None]]]:
    app = Host(protocol)
    async with app.run_test(size=(40, 24), notifications=True) as pilot:
        app.pane.picture = read_picture(np.asarray(samples.picture()), name="fox_03.png")
        await sharp(pilot)
        yield app, pilot


async def sharp(pilot: Pilot[None]) -> None:
    """Until the pixels are written."""
    for _ in range(3):
        await settled(pilot)
        await pilot.pause()


@pytest.mark.parametrize("protocol", ["kitty", "sixel"])
async def test_every_change_is_drawn_where_the_half_blocks_are(protocol: str) -> None:
    async with hosted(protocol) as (app, pilot):
        assert set(app.taken()) == {"shown"}
        app.pane.explanation = samples.explanation()
        await sharp(pilot)
        assert set(app.taken()) == {"shown"}
        assert any("▀" in app.pane.render_line(y).text for y in range(app.pane.size.height))
        app.pane.lit = frozenset({1})
        await sharp(pilot)
        assert f"\x1b[{app.pane.content_region.y + 1};{app.pane.content_region.x + 1}H" in app.sent[-1]
        assert set(app.taken()) == {"shown"}


@pytest.mark.parametrize("kind", [Covering, ModalScreen])
@pytest.mark.parametrize("protocol", ["kitty", "sixel"])
async def test_nothing_is_painted_over_a_screen_or_a_dialog(protocol: str, kind: type[Screen[None]]) -> None:
    async with hosted(protocol) as (app, pilot):
        app.taken()
        app.push_screen(kind())
        app.pane.take_away()  # as the main screen does when it is covered
        await sharp(pilot)
        assert "shown" not in app.taken()
        app.pane.lit = frozenset({1})
        await sharp(pilot)
        assert app.taken() == []
        app.pop_screen()
        await sharp(pilot)
        assert set(app.taken()) == {"shown"}


@pytest.mark.parametrize("protocol", ["kitty", "sixel"])
async def test_a_toast_is_not_painted_over(protocol: str) -> None:
    async with hosted(protocol) as (app, pilot):
        app.taken()
        app.notify("\n" * 20 + "this is read", timeout=1000)
        await sharp(pilot)
        assert "shown" not in app.taken()
        app.clear_notifications()
        await sharp(pilot)
        assert "shown" in app.taken()


async def test_kitty_forgets_the_picture_when_it_is_hidden_or_the_app_ends() -> None:
    async with hosted("kitty") as (app, pilot):
        app.taken()
        app.pane.display = False
        await sharp(pilot)
        assert app.taken() == ["deleted"]
        app.pane.display = True
        await sharp(pilot)
        assert "shown" in app.taken()
    assert app.taken() == ["deleted"]


async def test_a_sentence_instead_of_a_picture_has_no_pixels() -> None:
    async with hosted("kitty") as (app, pilot):
        app.taken()
        app.pane.picture = "gone"
        await sharp(pilot)
        assert app.taken() == ["deleted"]

"""Wrong predictions first: the order is that of one model's mistakes, and ends with it."""

from __future__ import annotations

from pathlib import Path

import pytest

import samples
from app_harness import RN, VIT, FakeEngine, press, running, seen
from clipmk.worker import protocol
from clipmk_tui.app.screens.main import MainScreen
from clipmk_tui.app.state import State

"""The first two take everything for a fox, the others for a cat."""


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two foxes, a cat and a fox, labelled, in this order."""
    monkeypatch.setenv("CLIPMK_CONFIG", str(tmp_path / "config.toml"))
    folder = tmp_path / "album"
    folder.mkdir()
    for name in "abcd":
        samples.picture().save(folder / f"{name}.png")
    (folder / "labels.csv").write_text("path,label\na.png,fox\nb.png,fox\nc.png,cat\nd.png,fox\n")
    return folder


def order(state: State) -> str:
    """The letters of the images, as they are walked through."""
    return "".join(state.items[index].path[-5] for index in state._order)


def surveyed(engine: FakeEngine) -> list[str]:
    """The models asked about all images."""
    return [request.model for request in engine.asked if isinstance(request, protocol.Survey)]


def status(screen: MainScreen) -> str:
    return seen(screen).splitlines()[0]


async def test_another_model_ends_the_walk_through_the_last_ones_mistakes(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album, models=(VIT, RN)) as (pilot, screen):
        await press(pilot, "n", "e")
        assert order(screen.state) == "cabd"
        await press(pilot, "n", "n")
        assert "b.png  3/4  wrong first" in status(screen)
        await press(pilot, "full_stop")
        assert screen.state.model == RN
        assert order(screen.state) == "abcd"
        assert "b.png  2/4" in status(screen)
        assert "wrong first" not in status(screen)
        await press(pilot, "e")
        assert surveyed(engine) == [VIT, RN]
        assert order(screen.state) == "abdc"
        await press(pilot, "e")
        assert order(screen.state) == "abcd"
        assert surveyed(engine) == [VIT, RN]


async def test_a_model_chosen_in_its_pane_ends_it_too_and_keeps_image_and_class(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album) as (pilot, screen):
        await press(pilot, "e", "n")
        screen.panes.predictions.focus()
        await press(pilot, "down")
        assert screen.state.target == "cat"
        screen.panes.models.list.focus()
        await press(pilot, "down", "down", "enter")
        assert screen.state.model == RN
        assert screen.state.target == "cat"
        assert "a.png  1/4" in status(screen)
        await press(pilot, "e")
        assert surveyed(engine) == [VIT, RN]


async def test_other_settings_end_it_too(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album) as (pilot, screen):
        await press(pilot, "e", "n", "n")
        assert "b.png  3/4" in status(screen)
        await press(pilot, "s", "tab", "enter", "down", "enter", "ctrl+s")
        assert len(engine.sessions) == 1
        assert "b.png  2/4" in status(screen)
        await press(pilot, "e")
        assert surveyed(engine) == [VIT, VIT]
        assert order(screen.state) == "cabd"


def test_an_empty_state_takes_another_model() -> None:
    state = State(VIT)
    assert state.choose_model(RN)
    state.forget()
    assert state.item is None
    assert state.place == (0, 0)

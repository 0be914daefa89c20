"""The comparison from the main screen and back: models, concept and image are carried along."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from app_harness import MODELS, RN, VIT, VIT_XS, FakeEngine, line, lines, press, running, seen, settled
from clipmk.worker import protocol
from clipmk_tui.app.concept_rows import ConceptRow
from clipmk_tui.app.widgets.compare_grid import CompareGrid

SIZES = [(80, 24), (120, 40)]


async def test_with_fewer_than_two_marked_the_embedded_models_are_compared(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album) as (pilot, screen):
        await press(pilot, "c")
        assert pilot.app.screen is not screen
        asked = {model for request in engine.asked if isinstance(request, protocol.Compare) for model in request.models}
        assert asked | {screen.state.model} == {one.id for one in screen.state.entries if one.source == "embedded"}


async def test_without_embedded_models_comparing_needs_two_marked_ones(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        screen.state.entries = tuple(dataclasses.replace(one, source="local") for one in screen.state.entries)
        await press(pilot, "c")
        assert "mark two models" in seen(screen)
        assert pilot.app.screen is screen


async def test_comparing_marked_models_opens_their_columns(album: Path) -> None:
    async with running(FakeEngine(), album, models=(VIT, RN)) as (pilot, screen):
        await press(pilot, "c")
        assert pilot.app.screen is not screen
        await press(pilot, "escape")
        assert pilot.app.screen is screen


async def test_a_concept_chosen_in_the_comparison_is_under_the_cursor_of_the_tree(album: Path) -> None:
    async with running(FakeEngine(), album, size=(80, 24), models=(VIT, RN)) as (pilot, screen):
        await press(pilot, "tab", "tab")
        await press(pilot, "c", "right", *["down"] * 3, "enter")
        assert pilot.app.screen is screen
        assert screen.state.model == RN
        row = screen.panes.concepts.concept_tree.row
        assert isinstance(row, ConceptRow)
        assert row.text == "a bushy tail"
        assert pilot.app.focused is screen.panes.concepts.concept_tree
        assert screen.panes.image.region.area


async def test_m_marks_all_models_that_are_here_and_then_none(album: Path) -> None:
    async with running(FakeEngine(), album, models=(VIT,)) as (pilot, screen):
        await press(pilot, "3", "m")
        assert sorted(screen.state.marked) == sorted(MODELS)
        await press(pilot, "c")
        assert line(pilot.app, "pointed ears").count("∩") == 4
        await press(pilot, "escape", "m")
        assert screen.state.marked == []
        await press(pilot, "slash", *"vit-", "enter", "m")
        assert sorted(screen.state.marked) == sorted((VIT, VIT_XS))


async def test_what_the_comparison_has_asked_the_main_screen_does_not_ask_again(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album, models=(VIT, RN)) as (pilot, screen):
        await press(pilot, "c", "right", *["down"] * 3, "enter")
        explain = [request for request in engine.asked if isinstance(request, protocol.Explain)]
        assert [request.model for request in explain] == [VIT]
        assert screen.state.explanation is not None
        assert screen.state.explanation.model.id == RN


async def test_n_and_p_go_through_the_images_and_the_main_screen_follows(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album, models=(VIT, RN)) as (pilot, screen):
        first = screen.state.title
        await press(pilot, "c", "n")
        assert "2/" in lines(pilot.app)[0]
        asked = [request for request in engine.asked if isinstance(request, protocol.Compare)]
        assert len({request.image for request in asked}) == 2
        await press(pilot, "p", "p")
        assert screen.state.title == first
        await press(pilot, "n", "escape")
        assert pilot.app.screen is screen
        assert screen.state.title != first
        assert screen.panes.image.explanation is screen.state.explanation


async def test_the_cursor_starts_on_the_current_model(album: Path) -> None:
    async with running(FakeEngine(), album, models=(RN, VIT)) as (pilot, screen):
        screen.state.mark((VIT_XS,))
        screen.panes.choose_model(VIT)
        await settled(pilot)
        await press(pilot, "c")
        grid = pilot.app.screen.query_one(CompareGrid)
        assert grid.model_index == 1
        await press(pilot, "enter")
        assert screen.state.model == VIT

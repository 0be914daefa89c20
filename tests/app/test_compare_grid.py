"""The table of the comparison: its cursor, filter and scrolling, by keys and mouse."""

from __future__ import annotations

import dataclasses

import pytest

from app_harness import (
    IMAGE,
    MODELS,
    RN,
    FakeEngine,
    burst,
    compare_host,
    explained,
    line,
    lines,
    press,
    processed,
    settled,
)
from clipmk.records import VisionConcept
from clipmk_tui.app.screens.compare import CompareChoice
from clipmk_tui.app.screens.venn import VennScreen
from clipmk_tui.app.widgets.compare_grid import CompareGrid


def concepts(grid: CompareGrid) -> list[str]:
    """The concepts shown, from top to bottom."""
    return [row.text for row in grid.rows if not row.is_class]


def under(grid: CompareGrid) -> str | None:
    """The class or concept under the cursor."""
    return None if grid.row is None else grid.row.text


async def test_enter_goes_to_the_model_and_concept_under_the_cursor() -> None:
    app = compare_host(FakeEngine())
    async with app.run_test() as pilot:
        await settled(pilot)
        await press(pilot, *["down"] * 3, "right", "right", "enter")
        assert app.answers == [CompareChoice(model="embedded/rn-s", concept="a bushy tail", target=None)]


async def test_cursor_stays_in_the_table() -> None:
    app = compare_host(FakeEngine())
    async with app.run_test() as pilot:
        await settled(pilot)
        await press(pilot, "left", "up", "left", "enter")
        assert app.answers == [CompareChoice(model=MODELS[0], concept=None, target="cat")]


async def test_slash_filters_the_rows_and_escape_drops_the_filter_before_it_leaves() -> None:
    app = compare_host(FakeEngine())
    async with app.run_test() as pilot:
        await settled(pilot)
        await press(pilot, "slash", *"TAIL")
        grid = app.screen.query_one(CompareGrid)
        assert concepts(grid) == ["a bushy tail", "a long tail"]
        await press(pilot, "enter", *["down"] * 3)
        assert under(grid) == "a long tail"
        assert "/ TAIL: 2 of 10" in lines(app)[0]
        await press(pilot, "escape")
        assert len(concepts(grid)) == 10
        assert under(grid) == "a long tail"
        assert app.answers == []
        await press(pilot, "escape")
        assert app.answers == [None]


async def test_filter_that_nothing_passes_leaves_an_empty_table() -> None:
    app = compare_host(FakeEngine())
    async with app.run_test() as pilot:
        await settled(pilot)
        await press(pilot, "slash", *"[b]z", "enter")
        assert "[b]z: 0 of 10" in lines(app)[0]
        await press(pilot, "v")
        assert isinstance(app.screen, VennScreen)
        await press(pilot, "v", "down", "down", "right", "enter")
        assert app.answers == [CompareChoice(model=MODELS[1], concept=None, target="fox")]


async def test_mouse_puts_the_cursor_and_twice_is_enter() -> None:
    app = compare_host(FakeEngine())
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        x, y = line(app, "a bushy tail").index("◐") + 3, lines(app).index(line(app, "a bushy tail"))
        await pilot.click(offset=(x, y))
        grid = app.screen.query_one(CompareGrid)
        assert (under(grid), grid.model_index) == ("a bushy tail", 2)
        await pilot.click(offset=(x, y), times=2)
        await settled(pilot)
        assert app.answers == [CompareChoice(model="embedded/rn-s", concept="a bushy tail", target=None)]


async def test_many_concepts_scroll_while_the_models_stay() -> None:
    made = explained(MODELS[0], IMAGE)
    concepts = tuple(
        VisionConcept(rank=rank, text=f"concept {rank:02}", importance=1 / rank, parts=(1,), mutual=False)
        for rank in range(1, 41)
    )
    known = {MODELS[0]: dataclasses.replace(made, vision_concepts=concepts, language_concepts=())}
    app = compare_host(FakeEngine(), MODELS[:1], known=known)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        assert not any("concept 40" in one for one in lines(app))
        await press(pilot, *["ctrl+d"] * 4)
        await press(pilot, "down")
        assert "◐" in line(app, "concept 40")
        assert any("◐ concept 40: vision only for embedded/vit-s8, importance 0.025" in one for one in lines(app))
        assert "ViT" in line(app, "true class")
        await press(pilot, *["ctrl+u"] * 5)
        assert "◐" in line(app, "concept 01")


@pytest.mark.parametrize("width", [60, 80, 120, 200])
async def test_thirteen_models_stand_side_by_side_families_together(width: int) -> None:
    models = (*MODELS, *(f"ViT-B-32:laion{number}" for number in range(9)))
    app = compare_host(FakeEngine(), models)
    async with app.run_test(size=(width, 24)) as pilot:
        await settled(pilot)
        assert line(app, "pointed ears").count("∩") == 13
        order = ["vit-s8", "vit-xs", *(f"laion{number}" for number in range(9)), "rn-s", "cnx-s"]
        for name in order:
            assert any(f"{name} says" in one for one in lines(app)), name
            await press(pilot, "right")
        await press(pilot, "left", "down", "down", "enter")
        assert app.answers[0].model == RN


async def test_resizing_while_busy_keeps_the_cursor() -> None:
    engine = FakeEngine()
    engine.gate.clear()
    app = compare_host(engine, known={MODELS[0]: explained(MODELS[0], IMAGE)})
    async with app.run_test(size=(120, 40)) as pilot:
        await processed(pilot)
        burst(pilot, *["down"] * 2, "right")
        for size in ((80, 24), (20, 6), (200, 60)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
        grid = app.screen.query_one(CompareGrid)
        assert (under(grid), grid.model_index) == ("a bushy tail", 1)
        engine.gate.set()
        await settled(pilot)
        assert (under(grid), grid.model_index) == ("a bushy tail", 1)

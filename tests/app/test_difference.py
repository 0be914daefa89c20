"""The difference of two models: which two, what tells them apart, and both pictures."""

from __future__ import annotations

from pathlib import Path

from app_harness import (
    IMAGE,
    MODELS,
    RN,
    VIT,
    VIT_XS,
    FakeEngine,
    burst,
    compare_host,
    line,
    lines,
    press,
    processed,
    running,
    seen,
    settled,
    until,
)
from clipmk.errors import ModelError
from clipmk.worker import protocol
from clipmk_tui.app.questions import RANKED
from clipmk_tui.app.screens.choose_class import ChooseClassScreen
from clipmk_tui.app.screens.compare import CompareScreen
from clipmk_tui.app.screens.difference import DifferenceScreen
from clipmk_tui.app.widgets.image_pane import ImagePane


async def test_d_sets_the_model_under_the_cursor_beside_the_next_that_says_something_else() -> None:
    app = compare_host(FakeEngine(), label="cat")
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await press(pilot, "d")
        assert isinstance(app.screen, DifferenceScreen)
        assert "fox_03.png" in lines(app)[0]
        assert (
            "vit-s8 says 'fox' (wrong) and alone sees and ties 'a bushy tail'; rn-s says 'cat' (right)" in lines(app)[1]
        )
        assert line(app, "says fox").split()[:5] == ["says", "fox", "71", "%,", "wrong"]
        assert "says cat 15 %, right" in seen(app)
        assert "strength 3.69 AUC 0.61 u 5" in seen(app)
        assert "cat: rank 2, 14.9 %" in seen(app)
        assert "1 only vit-s8 sees and ties" in seen(app)
        assert "∩ ◐  a bushy tail" in seen(app)
        assert "· ◑  a long tail" in seen(app)
        await press(pilot, "escape")
        assert isinstance(app.screen, CompareScreen)


async def test_a_pair_that_is_not_explained_yet_goes_first_and_fills_by_itself() -> None:
    engine = FakeEngine()
    engine.gate.clear()
    app = compare_host(engine)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(lambda: engine.asked)
        burst(pilot, "d")
        await until(lambda: len(engine.asked) == 2)
        await processed(pilot)
        assert engine.cancelled == [protocol.Compare(models=MODELS, image=IMAGE, ranked=RANKED)]
        assert engine.asked[1] == protocol.Compare(models=MODELS[:2], image=IMAGE, ranked=RANKED)
        assert "waiting for 2 of 2 models · esc cancels · embedding the image 0/4" in lines(app)[0]
        engine.gate.set()
        await settled(pilot)
        assert "waiting" not in lines(app)[0]
        assert line(app, "says fox")
        await press(pilot, "escape")
        asked = engine.asked[2]
        assert isinstance(asked, protocol.Compare)
        assert asked.models == MODELS[2:]


async def test_the_cursor_lights_the_parts_in_both_pictures_and_says_the_numbers() -> None:
    app = compare_host(FakeEngine())
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await press(pilot, "d")
        panes = list(app.screen.query(ImagePane))
        made = panes[0].explanation
        assert made is not None
        parts = {concept.text: frozenset(concept.parts) for concept in made.vision_concepts}
        assert [pane.lit for pane in panes] == [parts["a bushy tail"]] * 2
        detail = "∩ a bushy tail: mutual for embedded/vit-s8, importance 0.550, cosine with 'fox' 0."
        assert any(detail in one and "parts" in one for one in lines(app))
        await press(pilot, "down")
        assert panes[0].lit == frozenset()
        assert any("neither seen by embedded/rn-s nor tied to 'cat'" in one for one in lines(app))


async def test_other_models_come_to_the_right_and_tab_swaps() -> None:
    app = compare_host(FakeEngine())
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await press(pilot, "d", ",")
        assert "vit-s8 says 'fox' and sees and ties nothing" in lines(app)[1]
        assert "vit-xs says 'fox'" in lines(app)[1]
        await press(pilot, ".", ".", "tab")
        assert lines(app)[1].strip().startswith("cnx-s says 'cat'")
        await press(pilot, ".", ".")
        assert "vit-s8 says" not in lines(app)[1]


async def test_images_and_classes_change_for_both(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album, models=(VIT, RN)) as (pilot, screen):
        first = screen.state.title
        await press(pilot, "d", "n", "t", *"cat", "enter")
        assert isinstance(pilot.app.screen, DifferenceScreen)
        assert "all explain 'cat'" in lines(pilot.app)[0]
        assert "2/" in lines(pilot.app)[0]
        asked = [request.models for request in engine.asked if isinstance(request, protocol.Compare)]
        assert asked == [(RN,), (VIT, RN)]
        await press(pilot, "d")
        assert pilot.app.screen is screen
        assert screen.state.title != first


async def test_without_marks_the_current_model_stands_beside_the_next_one(album: Path) -> None:
    async with running(FakeEngine(), album, models=(VIT,)) as (pilot, _):
        await press(pilot, "d")
        assert isinstance(pilot.app.screen, DifferenceScreen)
        assert "vit-s8 says" in lines(pilot.app)[1]
        assert "vit-xs says" in seen(pilot.app)


async def test_a_failed_model_says_why_and_the_other_stays() -> None:
    engine = FakeEngine()
    engine.failures[VIT_XS] = ModelError("gone \x1b[31m[b]")
    app = compare_host(engine, MODELS[:2])
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await press(pilot, "d")
        assert "failed: gone" in seen(app)
        assert r"\x1b[31m[b]" in seen(app)
        assert "says fox 71 %" in seen(app)
        await press(pilot, "down", "g", "g")
        assert isinstance(app.screen, DifferenceScreen)


async def test_bursts_and_resizes_while_models_are_awaited_do_no_harm() -> None:
    engine = FakeEngine()
    engine.gate.clear()
    app = compare_host(engine)
    async with app.run_test(size=(120, 40)) as pilot:
        await processed(pilot)
        burst(pilot, "d", "d", "d", ",", ".", "tab", "down", "n", "t", "x", "enter", "escape", "escape")
        for size in ((80, 24), (20, 6), (200, 60)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
        engine.gate.set()
        await settled(pilot)
        assert app.is_running
        assert app.return_code is None
        assert not isinstance(app.screen, ChooseClassScreen) or app.screen.is_active

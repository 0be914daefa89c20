"""The Venn view: three regions by sign and word, lists that scroll, and no concept lost."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import samples
from app_harness import FakeEngine, Host, burst, lines, press, processed, running, seen, settled, until
from clipmk.explanation import Explanation
from clipmk.output.sentences import beaten
from clipmk.records import VisionConcept
from clipmk.worker import protocol
from clipmk_tui.app.screens.venn import VennPicture, VennScreen, draw, regions


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
async def test_venn_shows_three_regions_by_sign_and_word_with_the_numbers(size: tuple[int, int]) -> None:
    app = Host(lambda: VennScreen(samples.explanation()))
    async with app.run_test(size=size) as pilot:
        await settled(pilot)
        text = "\n".join(lines(app))
        for words in (
            "◐ vision only (2)",
            "∩ mutual (2)",
            "◑ language only (3)",
            "seen by the vision encoder",
            "tied to 'fox' by the language encoder",
            "∩ pointed ears",
            "◐ thin legs",
            "◑ red fur",
            "2/4 tied (u 5), beats all 28 classes · strength 3.69 · AUC 0.61 (1.1 x chance)",
        ):
            assert words in text, words
        drawn = next(one for one in lines(app) if "∩ pointed ears" in one)
        assert drawn.count("│") == 4
        assert drawn.index("◐ ") < drawn.index("∩ ") < drawn.index("◑ ")


async def test_venn_is_closed_by_each_of_its_keys() -> None:
    app = Host(lambda: VennScreen(samples.explanation()))
    async with app.run_test() as pilot:
        for times, key in enumerate(("escape", "v", "q"), 1):
            await settled(pilot)
            await press(pilot, key)
            assert app.answers == [None] * times
            app.open()


def _crowded(count: int) -> Explanation:
    made = samples.explanation()
    concepts = tuple(
        VisionConcept(rank=rank, text=f"concept {rank:02}", importance=0.5, parts=(1,), mutual=False)
        for rank in range(1, count + 1)
    )
    return dataclasses.replace(made, vision_concepts=concepts)


async def test_lists_that_are_too_long_scroll_to_their_end_and_back() -> None:
    app = Host(lambda: VennScreen(_crowded(40)))
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        assert any("more lines" in one for one in lines(app))
        await press(pilot, *["space"] * 4)
        assert any("concept 40" in one for one in lines(app))
        assert not any("more lines" in one for one in lines(app))
        await press(pilot, "up")
        assert any("more lines" in one for one in lines(app))
        app.screen.query_one(VennPicture).scroll_lists(-99)
        await settled(pilot)
        assert any("concept 01" in one for one in lines(app))


async def test_keys_in_one_burst_do_not_scroll_past_the_end() -> None:
    app = Host(lambda: VennScreen(_crowded(40)))
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        burst(pilot, *["down"] * 60)
        await settled(pilot)
        bottom = lines(app)
        assert sum("concept" in one for one in bottom) > 10
        await press(pilot, "up", "down")
        assert lines(app) == bottom
        burst(pilot, *["up"] * 60, *["space"] * 9)
        await settled(pilot)
        assert lines(app) == bottom
        await pilot.resize_terminal(80, 60)
        await settled(pilot)
        assert sum("concept" in one for one in lines(app)) > 20
        await pilot.resize_terminal(80, 24)
        await settled(pilot)
        await press(pilot, "up")
        assert sum("concept" in one for one in lines(app)) > 10


@pytest.mark.parametrize("width", [24, 40, 76, 200])
@pytest.mark.parametrize("height", [7, 18, 50])
def test_every_line_of_the_drawing_is_as_wide_as_asked(width: int, height: int) -> None:
    made = draw(samples.explanation(descriptor="猫の耳" * 20, class_name="x" * 300), {}, width=width, height=height)
    assert len(made.lines) == height
    assert {one.cell_len for one in made.lines} == {width}


def test_no_concept_is_lost_while_scrolling() -> None:
    explanation = _crowded(30)
    first = draw(explanation, {}, width=76, height=16)
    texts = set()
    for offset in range(first.hidden + 1):
        for one in draw(explanation, {}, width=76, height=16, offset=offset).lines:
            texts |= {text for text in regions(explanation)["vision"] if text in one.plain}
    assert texts == set(regions(explanation)["vision"])


def test_regions_are_a_partition_of_all_concepts() -> None:
    explanation = samples.explanation()
    found = regions(explanation)
    assert found["mutual"] == explanation.mutual_concepts
    together = [text for texts in found.values() for text in texts]
    assert sorted(together) == sorted(
        {concept.text for concept in (*explanation.vision_concepts, *explanation.language_concepts)}
    )


async def test_what_is_left_out_is_not_mutual_and_the_numbers_are_those_of_the_rest(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        tree = screen.panes.concepts.concept_tree
        await press(pilot, "x")
        tree.select("thin legs")
        await settled(pilot)
        await press(pilot, "x")
        assert screen.state.left_out == ("pointed ears", "thin legs")
        left = screen.state.view.strength
        assert left is not None
        await press(pilot, "v")
        text = seen(pilot.app)
        assert "a.png  2 left out" in text
        assert "∩ mutual (1)" in text
        assert "◐ vision only (1, 1 left out)" in text
        assert "◑ language only (3, 1 left out)" in text
        assert "○ pointed ears" in text
        assert "○ thin legs" in text
        assert (
            f"1/2 tied (u {left.language_count}), beats {beaten(left)} classes · strength {left.mi_paper:.2f}" in text
        )
        await press(pilot, "escape", "d")
        assert "nothing is left out here" in lines(pilot.app)[0]


def compared(engine: FakeEngine) -> list[str | None]:
    """The classes for which models were compared."""
    return [request.target for request in engine.asked if isinstance(request, protocol.Compare)]


async def test_a_class_still_to_be_explained_is_neither_drawn_nor_written_nor_compared(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album) as (pilot, screen):
        await press(pilot, "2")
        engine.gate.clear()
        screen.panes.choose_class("wolf")
        await processed(pilot)
        assert screen.state.explanation is None
        for key in ("v", "w"):
            burst(pilot, key)
            await processed(pilot)
            assert pilot.app.screen is screen
            await pilot.pause(0.1)
            assert "still explaining" in seen(pilot.app)
            pilot.app.clear_notifications()
        for count, key in enumerate(("d", "c"), start=1):
            burst(pilot, key)
            await until(lambda count=count: compared(engine) == [None] * count)
            assert pilot.app.screen is not screen
            burst(pilot, "escape")
            await processed(pilot)
        assert screen.state.target == "wolf"
        engine.gate.set()
        await settled(pilot)
        await press(pilot, "d")
        assert "all explain 'wolf'" in lines(pilot.app)[0]

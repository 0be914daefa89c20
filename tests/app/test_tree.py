"""The concept tree of the main screen: cursor, parts, filter, what is left out, and what stays for the next image."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from textual.widgets import Input

import samples
from app_harness import SIZES, FakeEngine, burst, press, running, seen, settled
from clipmk.worker import protocol
from clipmk_tui.app.concept_rows import ConceptRow, GroupRow, full_bar
from clipmk_tui.show.bars import bar


async def test_the_tree_keeps_the_focus_while_the_next_image_is_explained(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album) as (pilot, screen):
        assert screen.focused is screen.panes.concepts.concept_tree
        engine.gate.clear()
        await pilot.press("n")
        await pilot.pause()
        assert screen.state.explanation is None
        assert screen.focused is screen.panes.concepts.concept_tree
        engine.gate.set()
        await settled(pilot)
        before = screen.panes.concepts.concept_tree.cursor_line
        await pilot.press("down")
        assert screen.panes.concepts.concept_tree.cursor_line == before + 1


async def test_an_image_gone_before_its_tree_was_drawn_does_no_harm(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        shown = screen.state.view
        assert shown.explanation is not None
        for _ in range(3):
            screen.panes.view = shown
            screen.panes.concepts.concept_tree.select("a bushy tail")
            screen.panes.view = dataclasses.replace(shown, explanation=None)
            await pilot.pause()
        burst(pilot, "n", "n", "n")
        await settled(pilot)
        assert screen.state.place == (4, 4)
        assert 'why "fox"' in seen(screen)


async def test_leaving_out_changes_the_numbers_before_the_engine_answers(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album) as (pilot, screen):
        engine.gate.clear()
        assert screen.panes.concepts.concept_tree.select("a bushy tail")
        await pilot.pause()
        await pilot.press("x")
        await pilot.pause()
        assert "3.69 → 3.00" in seen(screen)
        assert "left out (x)" in seen(screen)
        assert "→" not in str(screen.panes.predictions.get_option_at_index(0).prompt)
        engine.gate.set()
        await settled(pilot)
        assert isinstance(engine.asked[-1], protocol.WhatIf)
        assert engine.asked[-1].left_out == ("a bushy tail",)
        assert "64.1" in str(screen.panes.predictions.get_option_at_index(0).prompt)
        assert "▼" in str(screen.panes.predictions.get_option_at_index(0).prompt)
        await press(pilot, "r")
        text = seen(screen)
        assert "→" not in text
        assert "71.2 %" in text


@pytest.mark.parametrize("size", SIZES)
async def test_the_keys_go_to_the_first_concept_of_the_tree_from_the_start(album: Path, size: tuple[int, int]) -> None:
    async with running(FakeEngine(), album, size=size) as (pilot, screen):
        assert pilot.app.focused is screen.panes.concepts.concept_tree
        await press(pilot, "x")
        assert screen.state.left_out == ("pointed ears",)


async def test_leaving_out_quickly_asks_only_about_the_last_state(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album) as (pilot, screen):
        engine.gate.clear()
        screen.panes.concepts.concept_tree.select("pointed ears")
        await pilot.pause()
        await pilot.press("x", "down", "x")
        await pilot.pause()
        engine.gate.set()
        await settled(pilot)
        answered = [request for request in engine.asked if isinstance(request, protocol.WhatIf)]
        assert [r for r in answered if r not in engine.cancelled] == [answered[-1]]
        assert answered[-1].left_out == ("pointed ears", "a bushy tail")


async def test_what_only_language_knows_cannot_be_left_out(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album) as (pilot, screen):
        screen.panes.concepts.concept_tree.select("whiskers")
        await pilot.pause()
        await press(pilot, "x")
        assert screen.state.left_out == ()
        assert "only what the vision encoder sees" in seen(screen)


async def test_the_tree_opens_to_parts_and_the_cursor_lights_them_up(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        lit: list[frozenset[int]] = []
        screen.watch(screen.panes.image, "lit", lambda parts: lit.append(parts))  # noqa: PLW0108 - Textual counts parameters
        screen.panes.concepts.concept_tree.select("a bushy tail")
        await settled(pilot)
        assert lit[-1] == {1, 2}
        await press(pilot, "right", "right")
        assert lit[-1] == {1}
        assert "part 1 · 8% of image" in seen(screen).replace("8.3", "8")
        await press(pilot, "left", "left")
        assert lit[-1] == {1, 2}


async def test_a_part_selected_in_the_picture_marks_its_concepts_and_stays_lit(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        tree = screen.panes.concepts.concept_tree
        screen.panes.image.focus()
        await press(pilot, "down")
        assert screen.panes.image.lit == {2}
        assert isinstance(tree.row, ConceptRow)
        assert tree.row.text == "a bushy tail"
        marked = [line for line in seen(screen).splitlines() if "▸▌" in line]
        assert marked
        assert all("a bushy tail" in line or "thin legs" in line for line in marked)
        tree.focus()
        await press(pilot, "up")
        assert "▸▌" not in seen(screen)


def test_importances_below_zero_have_no_bar() -> None:
    made = samples.explanation()
    concepts = tuple(dataclasses.replace(concept, importance=-0.01) for concept in made.vision_concepts)
    full = full_bar(dataclasses.replace(made, vision_concepts=concepts))
    assert full > 0
    assert not bar(-0.01 / full, 5).strip()


async def test_the_filter_narrows_the_tree_and_esc_drops_it(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        await press(pilot, "slash", "t", "a", "i", "l")
        tree = screen.panes.concepts.concept_tree
        found = [node.data.text for group in tree.root.children for node in group.children if node.data]  # type: ignore[union-attr]
        assert found == ["a bushy tail"]
        assert "1 of 2" in seen(screen)
        await press(pilot, "enter", "slash", "e", "a", "r", "enter")  # another word in the place of the first
        assert screen.panes.concepts.query_one(Input).value == "ear"
        assert pilot.app.focused is tree
        await press(pilot, "escape")
        assert "mutual (2)" in seen(screen)
        assert pilot.app.focused is tree


@pytest.mark.parametrize(
    ("parts", "shown"),
    [((2, 3, 4), "part 2,3,4"), ((2, 3, 4, 9), "part 2,3…"), ((7, 8, 10), "part 7,8…"), ((10, 11), "part 10,11")],
)
async def test_numbers_of_parts_are_never_cut_in_two(album: Path, parts: tuple[int, ...], shown: str) -> None:
    async with running(FakeEngine(), album) as (_, screen):
        row = ConceptRow(kind="mutual", text="ears", importance=1.0, cosine=None, parts=parts)
        assert screen.panes.concepts.concept_tree._tail(row, 60, left_out=False).plain.endswith(f"  {shown}".ljust(12))


async def test_groups_opened_stay_open_for_the_next_image(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        tree = screen.panes.concepts.concept_tree
        group = next(n for n in tree.root.children if isinstance(n.data, GroupRow) and n.data.kind == "vision")
        group.expand()
        await press(pilot, "n")
        again = next(n for n in tree.root.children if isinstance(n.data, GroupRow) and n.data.kind == "vision")
        assert again.is_expanded
        assert all(isinstance(node.data, ConceptRow) for node in again.children)

"""The concept tree of the main screen: cursor, parts, filter, what is left out, and what stays for the next image."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from textual.widgets import Input

import samples
from app_harness import SIZES, FakeEngine, burst, press, running, seen, settled
from clipmk.worker import protocol
from clipmk_tui.app.concept_rows import ConceptRow, GroupRow, answer, columns, groups, numbers, p_text, part_rows
from clipmk_tui.app.engine.worker import OnPartial
from clipmk_tui.app.screens.main import MainScreen


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


async def test_the_tree_stays_in_its_place_while_only_the_model_changes(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        view, tree = screen.state.view, screen.panes.concepts.concept_tree
        assert view.explanation is not None
        places = [tree.region]
        warned = dataclasses.replace(view.explanation, warnings=(*view.explanation.warnings, "one line more"))
        for shown in (
            dataclasses.replace(view, explanation=warned),
            view,
            dataclasses.replace(view, image="another.png"),
        ):
            screen.panes.view = shown
            await settled(pilot)
            places.append(tree.region)
        assert places[0] == places[3]
        assert places[1] == places[2] == places[0].shrink((1, 0, 0, 0))


async def test_leaving_out_changes_the_numbers_before_the_engine_answers(album: Path) -> None:
    engine = FakeEngine()
    async with running(engine, album) as (pilot, screen):
        engine.gate.clear()
        assert screen.panes.concepts.concept_tree.select("a bushy tail")
        await pilot.pause()
        await pilot.press("x")
        await pilot.pause()
        assert "3.69 → 3.00" in seen(screen)
        assert "1 left out" in seen(screen)
        assert "without \"a bushy tail\": 1 of 3 seen concepts is tied to 'fox';" in flowing(screen)
        assert "before: 2, beats all 28" in flowing(screen)
        assert "→" not in str(screen.panes.predictions.get_option_at_index(0).prompt)
        engine.gate.set()
        await settled(pilot)
        assert isinstance(engine.asked[-1], protocol.WhatIf)
        assert engine.asked[-1].left_out == ("a bushy tail",)
        assert "64.1" in str(screen.panes.predictions.get_option_at_index(0).prompt)
        assert "▾" in str(screen.panes.predictions.get_option_at_index(0).prompt)
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
        await press(pilot, "left", "x")
        assert "choose a concept first" in seen(screen)
        assert screen.state.left_out == ()


async def test_the_key_that_leaves_out_says_in_other_panes_that_a_concept_is_to_be_chosen(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        await press(pilot, "2", "x")
        assert "choose a concept first" in seen(screen)
        assert screen.state.left_out == ()


async def test_the_tree_opens_to_parts_and_the_cursor_lights_them_up(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        lit: list[frozenset[int]] = []
        screen.watch(screen.panes.image, "lit", lambda parts: lit.append(parts))  # noqa: PLW0108 - Textual counts parameters
        screen.panes.concepts.concept_tree.select("a bushy tail")
        await settled(pilot)
        assert lit[-1] == {1, 2}
        await press(pilot, "right", "right")
        assert lit[-1] == {2}  # the concept describes it best
        assert "part 1 · 8 % of image" in seen(screen)
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
        marked = [line for line in seen(screen).splitlines() if re.search("[∩◐]▌", line)]
        assert marked
        assert all("a bushy tail" in line or "thin legs" in line for line in marked)
        tree.focus()
        await press(pilot, "up")
        assert not re.search("[∩◐]▌", seen(screen))


def test_bars_begin_at_the_smallest_importance_of_the_list() -> None:
    made = samples.explanation()
    values = (0.52, 0.51, 0.5, -0.1)
    for lowest in (0.5, -0.1):  # importances below zero change nothing
        concepts = [
            dataclasses.replace(concept, importance=max(value, lowest))
            for concept, value in zip(made.vision_concepts, values, strict=True)
        ]
        widths = columns(dataclasses.replace(made, vision_concepts=tuple(concepts)), 60)
        assert widths.share(0.52) == 1.0
        assert 0 < widths.share(lowest) < 0.05
        assert widths.share(0.51) == pytest.approx((0.51 - lowest) / (0.52 - lowest))
    alike = tuple(dataclasses.replace(concept, importance=0.5) for concept in made.vision_concepts)
    assert columns(dataclasses.replace(made, vision_concepts=alike), 60).share(0.5) == 1.0


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
    ("room", "parts", "shown"),
    [
        (40, (2, 3, 4), "2 3 4"),
        (40, (2, 3, 4, 9), "2 3 4…"),
        (41, (2, 3, 4, 9), "2 3 4 9"),
        (35, (2, 3, 4, 9), "2 3…"),
        (35, (7, 8, 10), "7 8…"),
        (35, (10, 11), "10 11"),
        (100, (2, 3, 4, 7, 8, 9, 10), "2 3 4 7 8 9 10"),
    ],
)
def test_numbers_of_parts_are_cut_only_where_there_is_no_room_and_never_in_two(
    room: int, parts: tuple[int, ...], shown: str
) -> None:
    made = samples.explanation()
    first = dataclasses.replace(made.vision_concepts[0], parts=parts, text="a name of twenty ce.")
    widths = columns(dataclasses.replace(made, vision_concepts=(first, *made.vision_concepts[1:])), room)
    row = ConceptRow(kind="mutual", text=first.text, importance=1.0, cosine=None, parts=parts)
    line = widths.cells(row, "").plain
    assert line.rstrip().endswith(f"  {shown}")
    assert widths.name + len(line) == room


@pytest.mark.parametrize("room", range(20, 110))
def test_every_line_has_its_columns_below_the_headings(room: int) -> None:
    widths = columns(samples.explanation(), room)
    heading = widths.heading().plain
    tied = ConceptRow(kind="language", text="whiskers", importance=None, cosine=0.831, parts=())
    seen_only = ConceptRow(kind="vision", text="a red roof", importance=0.5, cosine=None, parts=(1,))
    for row, cosine, parts in ((tied, ".83", ("not seen", "–")), (seen_only, "–", ("1",))):
        line = " " * widths.name + widths.cells(row, "").plain
        assert len(line) <= max(room, widths.name + 12)
        assert line[heading.index("tied") :].startswith(f"{cosine} ")
        assert not widths.parts or line[heading.index("parts") :].strip() in parts


def test_the_answer_is_a_sentence() -> None:
    made = samples.explanation()
    first, second = "2 of 4 seen concepts are tied to 'fox';", "more than to any of 28 other classes (next: 'cat', 1)"
    assert answer(made, None, (), 99).plain == f"{first} {second}"
    assert answer(made, None, (), 50).plain == f"{first}\n{second}"
    assert answer(made, None, (), 30).plain == f"{first} {second}"
    out = ("pointed ears", "a bushy tail")
    text = answer(made, made.without(out), out, 200).plain
    assert text == (
        'without "pointed ears" and "a bushy tail": none of 2 seen concepts is tied to \'fox\'; '
        "the most to another class: 'wolf', 1 before: 2, beats all 28"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1"), (0.9951, "1"), (0.42, "0.42"), (0.0173, "0.017"), (2.1e-6, "2e-6"), (3e-12, "3e-12")],
)
def test_p_is_short(value: float, text: str) -> None:
    assert p_text(value) == text


@pytest.mark.parametrize("width", range(28, 90))
def test_the_numbers_fit_into_one_line_and_say_where_they_are_explained(width: int) -> None:
    mutual = samples.explanation().mutual
    assert numbers(mutual, None, width, "? words").cell_len <= max(width, 36)
    assert "?" in numbers(mutual, None, width, "? words").plain
    assert (", u 5)" in numbers(mutual, None, width, "? words").plain) is (width >= 39)


async def test_warnings_are_shown_below_the_answer(album: Path) -> None:
    class Doubtful(FakeEngine):
        def _answer(self, request: protocol.Request, tell: OnPartial) -> protocol.Final:
            answered = super()._answer(request, tell)
            if isinstance(answered, protocol.Explained):
                doubtful = dataclasses.replace(answered.explanation, warnings=("it does not look\x07 right",))
                return dataclasses.replace(answered, explanation=doubtful)
            return answered

    async with running(Doubtful(), album, size=(80, 24)) as (_, screen):
        assert "! it does not look" in flowing(screen)
        assert "\x07" not in seen(screen)
        assert "pointed ears" in seen(screen)


async def test_undo_takes_back_the_last_that_was_left_out(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        await press(pilot, "x", "down", "x", "u")
        assert screen.state.left_out == ("pointed ears",)
        await press(pilot, "r", "u")
        assert screen.state.left_out == ("pointed ears",)


async def test_what_is_left_out_keeps_its_columns(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        before = next(line for line in seen(screen).splitlines() if "∩ pointed ears" in line)
        await press(pilot, "x")
        after = next(line for line in seen(screen).splitlines() if "○ pointed ears" in line)
        assert after.partition("ears")[2] == before.partition("ears")[2]
        assert "1 of 3 seen concepts is tied to 'fox'" in flowing(screen)


def flowing(screen: MainScreen) -> str:
    """The text of the concepts pane's sentences, wherever they are wrapped."""
    left = screen.panes.concepts.region.x
    return " ".join(" ".join(line[left:].strip("│ ") for line in seen(screen).splitlines()).split())


async def test_groups_opened_stay_open_for_the_next_image(album: Path) -> None:
    async with running(FakeEngine(), album) as (pilot, screen):
        tree = screen.panes.concepts.concept_tree
        group = next(n for n in tree.root.children if isinstance(n.data, GroupRow) and n.data.kind == "vision")
        group.expand()
        await press(pilot, "n")
        again = next(n for n in tree.root.children if isinstance(n.data, GroupRow) and n.data.kind == "vision")
        assert again.is_expanded
        assert all(isinstance(node.data, ConceptRow) for node in again.children)


def test_parts_are_ordered_by_similarity_in_the_column_and_in_the_list() -> None:
    made = samples.explanation()
    ear, tail = made.parts
    closest = dataclasses.replace(tail.descriptors[0], text="pointed ears", cosine=ear.descriptors[0].cosine + 0.1)
    tail = dataclasses.replace(tail, area=0.001, descriptors=(closest, *tail.descriptors))
    unknown = dataclasses.replace(tail, id=3, descriptors=())
    first = dataclasses.replace(made.vision_concepts[0], parts=(1, 2, 3))
    made = dataclasses.replace(made, parts=(ear, tail, unknown), vision_concepts=(first, *made.vision_concepts[1:]))
    (row,) = groups(made, wanted="pointed ears")[0].rows
    assert row.parts == (2, 1, 3)
    found = part_rows(made, row)
    assert [one.part.id for one in found] == [2, 1, 3]
    assert [one.cosine for one in found] == [closest.cosine, ear.descriptors[0].cosine, None]

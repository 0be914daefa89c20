"""What remains of an escape sequence after a slow link has split it runs no command."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.events import Key

from app_harness import MODELS, VIT, FakeEngine, burst, running, settled
from clipmk_tui.app.ordered_input import SplitKeys

NAMES = {"\x1b": "escape", "[": "left_square_bracket", "\x1bO": "alt+shift+o"}


def kept(*characters: str, pause: float = 0.0) -> list[str]:
    """The keys that are not taken for the rest of a sequence."""
    split, left = SplitKeys(), []
    for index, character in enumerate(characters):
        key = Key(NAMES.get(character, character), character if len(character) == 1 else None)
        key.time += pause * index
        if not split.is_rest(key):
            left.append(character)
    return left


@pytest.mark.parametrize("rest", ["[A", "[1;5A", "[5~", "OA", "[<0;12;3M", "[97u"])
def test_after_a_lone_escape_the_rest_of_a_sequence_is_dropped(rest: str) -> None:
    assert kept("\x1b", *rest, "x", "2") == ["\x1b", "x", "2"]


@pytest.mark.parametrize(("beginning", "rest"), [("[", "1;5A"), ("[", "<0;12;3M"), ("[", "3~"), ("\x1bO", "A")])
def test_after_the_beginning_of_a_sequence_its_rest_is_dropped(beginning: str, rest: str) -> None:
    assert kept(beginning, *rest, "x") == [beginning, "x"]


def test_what_a_person_types_is_kept() -> None:
    assert kept("\x1b", "x", "[", "x", "[", "[", "O", "1") == ["\x1b", "x", "[", "x", "[", "[", "O", "1"]
    assert kept("\x1b", "[", "2", pause=1.1) == ["\x1b", "[", "2"]
    assert kept("\x1b", "\x1b", "[", "enter") == ["\x1b", "\x1b", "enter"]


async def test_a_split_sequence_changes_nothing_and_text_fields_keep_what_is_typed(album: Path) -> None:
    async with running(FakeEngine(), album, models=MODELS[:2]) as (pilot, screen):
        for rest in ("[1;2D", "[3~", "[<0;12;3M", "OP", "[D"):
            burst(pilot, "escape", *rest)
        await settled(pilot)
        assert pilot.app.focused is screen.panes.concepts.concept_tree
        assert (screen.state.model, screen.state.marked) == (VIT, list(MODELS[:2]))
        burst(pilot, "slash", *"a[1]")
        await settled(pilot)
        assert screen.panes.concepts.filter_text == "a[1]"

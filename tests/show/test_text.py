"""Texts, filters and signs that the app and the command line share."""

from __future__ import annotations

import dataclasses
from typing import get_args

import pytest
from rich.cells import cell_len
from rich.style import Style

import samples
from clipmk_tui.show.signs import ANSI, SIGN, WORD, Kind
from clipmk_tui.show.text import matches, shown, why_not


@pytest.mark.parametrize(
    ("query", "matching"),
    [("", True), ("vit", True), ("LAION  vit", True), ("b-32", True), ("vit resnet", False), ("vit-b-16", False)],
)
def test_a_filter_wants_every_word_in_any_order_and_case(query: str, matching: bool) -> None:
    assert matches(query, "ViT-B-32:laion2b") is matching


def test_text_from_outside_is_neither_markup_nor_control() -> None:
    assert shown("[red]x[/red]\x1b[2J", "bold").plain == r"[red]x[/red]\x1b[2J"


def test_every_kind_of_concept_has_a_sign_of_its_own_a_word_and_a_colour() -> None:
    kinds = set(get_args(Kind))
    for table in (SIGN, WORD, ANSI):
        assert set(table) == kinds
        assert len(set(table.values())) == len(kinds)
    assert {cell_len(sign) for sign in SIGN.values()} == {1}
    assert all(Style.parse(colour).color is not None for colour in ANSI.values())


def test_why_not_names_the_parts_for_either_class_most_influential_first() -> None:
    made = samples.explanation(descriptor="ears\x1b[2J")
    (cat,) = made.alternatives
    assert why_not(made, cat) == r"for 'fox' part 1 (ears\x1b[2J) +0.031; for 'cat' part 2 (a bushy tail) -0.012"
    parts = tuple(dataclasses.replace(made.parts[1], id=number) for number in (1, 2, 3))
    made = dataclasses.replace(made, parts=parts)
    against = dataclasses.replace(cat, part_margins=(0.01, 0.03, 0.02))
    assert why_not(made, against) == (
        "for 'fox' part 2 (a bushy tail) +0.030, part 3 (? a bushy tail) +0.020; for 'cat' no part"
    )
    against = dataclasses.replace(cat, part_margins=(-0.01, -0.03, 0.0))
    assert why_not(made, against) == (
        "for 'fox' no part; for 'cat' part 2 (a bushy tail) -0.030, part 1 (a bushy tail) -0.010"
    )

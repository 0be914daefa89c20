"""Texts, filters and signs that the app and the command line share."""

from __future__ import annotations

from typing import get_args

import pytest
from rich.cells import cell_len
from rich.style import Style

from clipmk_tui.show.signs import ANSI, SIGN, WORD, Kind
from clipmk_tui.show.text import matches, shown


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

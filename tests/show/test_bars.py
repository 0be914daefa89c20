"""Bars and sparklines."""

from __future__ import annotations

from clipmk_tui.show.text import bar, sparkline


def test_bar_is_as_long_as_its_share_and_shows_the_smallest() -> None:
    assert bar(0.5, 4) == "██  "
    assert bar(1.0, 4) == "████"
    assert bar(7.0, 4) == "████"
    assert bar(0.0, 4) == "    "
    assert bar(1e-9, 4) == "▏   "
    assert bar(-1.0, 4) == "    "
    assert bar(0.53125, 4) == "██▏ "


def test_sparkline_is_relative_to_its_largest_value() -> None:
    assert sparkline((8.0, 4.0, 0.0)) == "█▅▁"
    assert sparkline((0.0, 0.0)) == "▁▁"
    assert sparkline(()) == ""

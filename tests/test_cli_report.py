from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from rich.cells import cell_len
from rich.console import Console

import samples
from clipmk.palette import colour_of
from clipmk.records import Explanation
from clipmk_tui.bars import bar, sparkline
from clipmk_tui.picture import explained_picture, fitted, half_blocks
from clipmk_tui.report import report


def _printed(explanation: Explanation, *, width: int, everything: bool = False, colour: bool = False) -> str:
    stream = io.StringIO()
    console = Console(
        file=stream,
        width=width,
        force_terminal=colour,
        color_system="truecolor" if colour else None,
        markup=False,
        emoji=False,
        highlight=False,
    )
    lines = explained_picture(explanation, columns=30, rows=20) if explanation.picture else []
    console.print(report(explanation, width=width, everything=everything, picture=lines))
    return stream.getvalue()


def test_report_stays_as_it_was(golden: Callable[[str, str], None]) -> None:
    golden("explain_80.txt", _trimmed(_printed(samples.explanation(), width=80)))


def test_report_of_everything_stays_as_it_was(golden: Callable[[str, str], None]) -> None:
    text = _printed(samples.explanation(independent=0.4), width=100, everything=True)
    golden("explain_100_verbose.txt", _trimmed(text))


def _trimmed(text: str) -> str:
    return "".join(line.rstrip() + "\n" for line in text.splitlines())


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
@pytest.mark.parametrize("with_picture", [False, True])
def test_no_line_is_wider_than_the_terminal(width: int, with_picture: bool) -> None:
    explanation = samples.explanation(
        path="a/very/long/folder/name/" * 6 + "猫.png", descriptor="描述 " * 30, with_picture=with_picture
    )
    assert max(cell_len(line) for line in _printed(explanation, width=width).splitlines()) <= width


def test_text_from_outside_is_neither_markup_nor_control() -> None:
    name = "[red]x[/red].png"
    evil = "[bold]\x1b[31m\u202e[/bold]\r"
    text = _printed(samples.explanation(path=name, class_name=evil, descriptor=evil), width=100)
    assert name in text
    assert text.count(r"[bold]\x1b[31m\u202e[/bold]\x0d") >= 5
    assert not set(text) & set("\x1b\u202e\r")


def test_colour_is_not_the_only_carrier() -> None:
    """Without colour the three kinds of concepts have signs, parts have numbers, and no escape is printed."""
    text = _printed(samples.explanation(with_picture=True), width=100)
    assert "\x1b" not in text
    lines = text.splitlines()
    assert any("● pointed ears" in line and "part 1" in line for line in lines)
    assert any("◐ round eyes" in line for line in lines)
    assert any("◑ a white chest" in line for line in lines)
    assert any("■ 2 a bushy tail" in line and "16.0 %" in line for line in lines)


def test_explained_class_that_is_not_the_predicted_one_is_named() -> None:
    assert "why 'cat'" in _printed(samples.explanation(class_name="cat"), width=80)


def test_half_blocks_put_two_pixels_into_a_cell() -> None:
    image = Image.fromarray(np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [0, 255, 0]]], dtype=np.uint8))
    (line,) = half_blocks(image, columns=2, rows=1)
    styles = [line.get_style_at_offset(Console(), i) for i in range(2)]
    assert line.plain == "▀ "
    assert styles[0].color.triplet == (255, 0, 0)
    assert styles[0].bgcolor.triplet == (0, 0, 255)
    assert styles[1].bgcolor.triplet == (0, 255, 0)


@pytest.mark.parametrize(("width", "height"), [(60, 40), (1, 500), (500, 1), (64, 64), (3000, 100)])
def test_picture_keeps_its_shape_and_fits(width: int, height: int) -> None:
    columns, rows = fitted(width, height, columns=40, rows=20)
    assert 1 <= columns <= 40
    assert 1 <= rows <= 20
    if 1 < columns < 40 or 1 < rows < 20:
        assert columns / (2 * rows) == pytest.approx(width / height, rel=0.2)


def test_picture_has_part_numbers_on_their_colour_where_the_parts_are() -> None:
    lines = explained_picture(samples.explanation(with_picture=True), columns=30, rows=20)
    assert {line.cell_len for line in lines} == {30}
    places = {
        character: (row, column)
        for row, line in enumerate(lines)
        for column, character in enumerate(line.plain)
        if character in "12"
    }
    assert set(places) == {"1", "2"}
    for character, mask in zip("12", samples.MASKS, strict=True):
        row, column = places[character]
        assert mask[row * 40 // len(lines), column * 2]
        style = lines[row].get_style_at_offset(Console(), column)
        assert style.bgcolor.triplet == colour_of(int(character))


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

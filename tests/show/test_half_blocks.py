"""Pictures in half-blocks, and the little parser that reads them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from rich.console import Console
from rich.segment import Segment
from rich.text import Text

import samples
from clipmk.output.palette import colour_of
from clipmk_tui.show import half_blocks as picture
from clipmk_tui.show.half_blocks import explained_picture, fitted, half_block_rows, half_blocks, ink_on, parsed, shrunk

CELLS = st.tuples(st.integers(1, 4), st.integers(1, 9)).flatmap(
    lambda size: arrays(np.uint8, (2 * size[0], size[1], 3), elements=st.sampled_from([0, 7, 128, 255]))
)
Seen = list[tuple[str, object, object]]


def seen(segments: list[Segment]) -> Seen:
    """(character, ink, paper) of every cell; a blank has no ink."""
    cells: Seen = []
    for text, style, _ in segments:
        for character in text:
            ink = style.color.triplet if style and style.color and character != " " else None
            cells.append((character, ink, style.bgcolor.triplet if style and style.bgcolor else None))
    return cells


@settings(max_examples=80)
@given(CELLS)
def test_the_parser_reads_what_rich_reads(cells: npt.NDArray[np.uint8]) -> None:
    rows, columns = cells.shape[0] // 2, cells.shape[1]
    console = Console(width=200)
    drawn = picture._block_image()(Image.fromarray(cells))
    drawn.set_size(width=columns, height=rows)
    for line in str(drawn).split("\n"):
        theirs = [segment for segment in Text.from_ansi(line).render(console) if segment.text]
        assert seen(list(parsed(line))) == seen(theirs)


@settings(max_examples=80)
@given(CELLS)
def test_every_pixel_is_where_it_belongs(cells: npt.NDArray[np.uint8]) -> None:
    rows = half_block_rows(cells)
    assert len(rows) == cells.shape[0] // 2
    for y, row in enumerate(rows):
        drawn = seen(row)
        assert len(drawn) == cells.shape[1]
        for x, (character, ink, paper) in enumerate(drawn):
            upper, lower = tuple(cells[2 * y, x]), tuple(cells[2 * y + 1, x])
            assert paper == lower
            assert (character, ink) == ((" ", None) if upper == lower else ("▀", upper))


def test_neighbours_of_one_colour_share_a_segment() -> None:
    (row,) = half_block_rows(np.full((2, 50, 3), 90, dtype=np.uint8))
    assert [segment.text for segment in row if segment.text] == [" " * 50]


def test_a_sequence_that_is_not_a_colour_is_refused() -> None:
    with pytest.raises(ValueError, match="is not a colour of a picture"):
        list(parsed("\x1b[2Jmoved"))


def test_text_before_the_first_sequence_is_kept() -> None:
    assert [segment.text for segment in parsed("ab\x1b[38;2;1;2;3mc\x1b[md")] == ["ab", "c", "d"]


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "RGB"])
def test_images_of_any_mode_are_shrunk_to_rgb(mode: str) -> None:
    cells = shrunk(Image.new(mode, (300, 200)), width=10, height=8)
    assert cells.shape == (8, 10, 3)
    assert cells.dtype == np.uint8


@pytest.mark.parametrize("colour", [colour_of(part) for part in range(1, 13)])
def test_numbers_are_readable_on_every_colour(colour: tuple[int, int, int]) -> None:
    def luminance(rgb: tuple[int, int, int]) -> float:
        linear = [(c / 255 / 12.92) if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, bright = sorted((luminance(colour), luminance(ink_on(colour))))
    assert (bright + 0.05) / (dark + 0.05) > 4.5


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

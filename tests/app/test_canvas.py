"""What is painted over a picture, where picture and legend lie, and what the legend says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import samples
from clipmk.images.decoder import Picture, read_picture
from clipmk.images.masks import rle_encode
from clipmk.output.palette import colour_of
from clipmk.records import Part, PartDescriptor
from clipmk_tui.app.canvas import Canvas, Frame, Shapes, painted
from clipmk_tui.app.legend import laid_out, legend_lines


def picture(seed: int | None = None) -> Picture:
    if seed is None:
        return read_picture(np.asarray(samples.picture()), name="fox.png")
    noise = np.random.default_rng(seed).integers(0, 256, (samples.HEIGHT, samples.WIDTH, 3), dtype=np.uint8)
    return read_picture(noise, name="fox.png")


# Painting.


def made(columns: int = 30, rows: int = 10, parts: tuple[Part, ...] | None = None) -> tuple[Canvas, Shapes]:
    ready = Canvas(picture(), width=columns, height=2 * rows)
    chosen = samples.explanation().parts if parts is None else parts
    return ready, Shapes(chosen, width=columns, height=2 * rows)


def part_of(mask: np.ndarray, number: int = 1, *texts: str) -> Part:
    ys, xs = np.nonzero(mask)
    return Part(
        id=number,
        area=float(mask.mean()),
        bbox_xyxy=(int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1),
        mask=rle_encode(mask),
        descriptors=tuple(PartDescriptor(text=text, cosine=0.2, share=0.5) for text in texts),
    )


def plain(canvas: Canvas, shapes: Shapes) -> Frame:
    return painted(canvas, shapes, "plain", lit=(), blurred=())


def changed_cells(one: Frame, other: Frame) -> np.ndarray:
    return (one.cells != other.cells).any(axis=2)


def brightness(cells: np.ndarray) -> np.ndarray:
    return cells.astype(float) @ [0.299, 0.587, 0.114]


def test_parts_are_tinted_where_their_masks_are() -> None:
    canvas, shapes = made()
    frame = painted(canvas, shapes, "parts", lit=(), blurred=())
    expected = np.zeros((20, 30), dtype=bool)
    for mask in samples.MASKS:
        expected |= mask[1::2, 1::2]
    np.testing.assert_array_equal(changed_cells(frame, plain(canvas, shapes)), expected)
    ground, colour = canvas.plain[3, 6], np.array(colour_of(1), dtype=float)
    shaded = (colour + 0.8 * (brightness(ground) - brightness(colour))).clip(0, 255)
    assert np.abs(frame.cells[3, 6].astype(float) - (0.55 * ground + 0.45 * shaded)).max() < 5


def test_what_the_picture_shows_is_still_seen_under_the_tint() -> None:
    noise, (_, shapes) = Canvas(picture(seed=5), width=30, height=20), made()
    for depth, kept in (("true", 0.9), ("256", 0.9), ("16", 0.7)):
        frame = painted(noise, shapes, "parts", lit=(), blurred=(), depth=depth)
        for mask in shapes.masks.values():
            pair = brightness(plain(noise, shapes).cells[mask]), brightness(frame.cells[mask])
            assert np.corrcoef(*pair)[0, 1] > kept


def test_sixteen_colours_keep_the_picture_around_a_lit_part() -> None:
    canvas, shapes = made()
    frame = painted(canvas, shapes, "parts", lit=(1,), blurred=(), depth="16")
    np.testing.assert_array_equal(changed_cells(frame, plain(canvas, shapes)), shapes.masks[1])


def test_numbers_stand_inside_their_parts_where_these_are_deepest() -> None:
    _, shapes = made()
    for part, (row, column) in shapes.places.items():
        ys, xs = np.nonzero(samples.MASKS[part - 1])
        assert abs((row + 0.5) * 4 - ys.mean()) <= 4
        assert abs((column + 0.5) * 2 - xs.mean()) <= 4


def test_the_number_of_a_crooked_part_stands_where_the_part_is_wide() -> None:
    mask = np.zeros((40, 60), dtype=bool)
    mask[2:6, 0:56] = True  # a long handle
    mask[2:38, 44:60] = True
    _, shapes = made(parts=(part_of(mask),))
    ((row, column),) = shapes.places.values()
    assert 3 <= row <= 7
    assert 24 <= column <= 28


def test_two_numbers_never_share_a_cell() -> None:
    mask = np.zeros((40, 60), dtype=bool)
    mask[10:30, 10:50] = True
    _, shapes = made(parts=tuple(part_of(mask, number) for number in range(1, 13)))
    taken = [(row, column + digit) for part, (row, column) in shapes.places.items() for digit in range(len(str(part)))]
    assert len(taken) == len(set(taken)) == 15


def test_a_part_smaller_than_a_cell_still_shows() -> None:
    mask = np.zeros((40, 60), dtype=bool)
    mask[39, 59] = True
    canvas, shapes = made(columns=6, rows=2, parts=(part_of(mask),))
    frame = painted(canvas, shapes, "parts", lit=(), blurred=())
    assert changed_cells(frame, plain(canvas, shapes)).sum() == 1
    assert frame.numbers == {}  # it would hide the part
    assert painted(canvas, shapes, "parts", lit=[1], blurred=()).numbers == {(1, 5): (1, colour_of(1))}


def test_concept_mode_dims_all_but_the_lit_part() -> None:
    canvas, shapes = made()
    frame = painted(canvas, shapes, "concept", lit=[1], blurred=())
    mask = shapes.masks[1]
    before = plain(canvas, shapes).cells
    assert (frame.cells[~mask].astype(int).sum(axis=1) < 0.5 * before[~mask].astype(int).sum(axis=1)).all()
    assert [part for part, _ in frame.numbers.values()] == [1]


def test_a_lit_part_is_bright_and_the_rest_dim_and_greyish() -> None:
    noise, (_, shapes) = Canvas(picture(seed=5), width=30, height=20), made()
    usual = painted(noise, shapes, "parts", lit=(), blurred=())
    lit = painted(noise, shapes, "parts", lit=[1], blurred=())
    mask = shapes.masks[1]
    assert brightness(lit.cells[mask]).mean() > brightness(usual.cells[mask]).mean()
    assert brightness(lit.cells[~mask]).mean() < 0.6 * brightness(usual.cells[~mask]).mean()
    assert np.corrcoef(brightness(noise.plain[~mask]), brightness(lit.cells[~mask]))[0, 1] > 0.8
    assert np.ptp(lit.cells[~mask], axis=1).mean() < 0.4 * np.ptp(usual.cells[~mask], axis=1).mean()
    assert {part: colour == colour_of(part) for part, colour in lit.numbers.values()} == {1: True, 2: False}


def test_for_256_colours_a_pixel_is_one_of_them_and_dark_greyish_ones_stay_so() -> None:
    pixels = Picture(np.full((8, 8, 3), (52, 44, 38), dtype=np.uint8), picture().info)
    frame = painted(
        Canvas(pixels, width=4, height=4), Shapes((), width=4, height=4), "plain", lit=(), blurred=(), depth="256"
    )
    assert {tuple(pixel) for row in frame.cells.tolist() for pixel in row} == {(48, 48, 48)}


def test_plain_is_plain_whatever_is_lit() -> None:
    canvas, shapes = made()
    frame = painted(canvas, shapes, "plain", lit=[1, 2], blurred=())
    assert np.abs(frame.cells - canvas.plain).max() < 4
    assert frame.numbers == {}


def test_a_left_out_part_shows_the_blur_and_no_tint() -> None:
    noise, (_, shapes) = Canvas(picture(seed=5), width=30, height=20), made()
    for lit in ([], [2]):
        frame, mask = painted(noise, shapes, "parts", lit=lit, blurred=[2]), shapes.masks[2]
        assert np.abs(frame.cells[mask] - noise.blurred[mask]).max() < 4


def test_the_part_of_a_cell_is_the_one_whose_number_is_there_else_the_smallest() -> None:
    large, small = np.zeros((40, 60), dtype=bool), np.zeros((40, 60), dtype=bool)
    large[:36], small[20:30, 30:50] = True, True
    _, shapes = made(parts=(part_of(large, 1), part_of(small, 2)))
    row, column = shapes.places[1]
    assert shapes.part_at(row, column) == 1
    assert shapes.part_at(6, 20) == 2
    assert shapes.part_at(1, 1) == 1
    assert shapes.part_at(9, 1) is None


def test_blurred_regions_lose_their_detail_and_nothing_else_changes() -> None:
    noise = Canvas(picture(seed=5), width=30, height=20)
    _, shapes = made()
    before, after = plain(noise, shapes), painted(noise, shapes, "plain", lit=(), blurred=[2])
    mask = shapes.masks[2]
    assert not changed_cells(before, after)[~mask].any()
    assert after.cells[mask].std() < 0.5 * before.cells[mask].std()
    assert abs(after.cells[mask].mean() - before.cells[mask].mean()) < 15


def test_changes_are_the_cells_that_differ() -> None:
    cells_before = np.zeros((8, 5, 3), dtype=np.uint8)
    cells_after = cells_before.copy()
    cells_after[5, 2, 1] = cells_after[4, 4, 0] = 8
    one, two, three, long = ((number, (0, 0, 0)) for number in (1, 2, 3, 12))
    before, after = Frame(cells_before, {(0, 0): one, (3, 1): two}), Frame(cells_after, {(0, 0): one, (3, 2): two})
    assert after.changes(before) == {2: (2, 5), 3: (1, 3)}
    assert after.changes(after) == {}
    assert after.changes(None) == dict.fromkeys(range(4), (0, 5))
    assert Frame(cells_after, {(0, 0): three}).changes(Frame(cells_after, {})) == {0: (0, 1)}
    assert Frame(cells_after, {}).changes(Frame(cells_after, {(1, 2): long})) == {1: (2, 4)}
    assert Frame(cells_after, {(1, 2): three}).changes(Frame(cells_after, {(1, 2): long})) == {1: (2, 4)}
    assert Frame(cells_after, {(0, 0): one}).changes(Frame(cells_after, {(0, 0): (1, (9, 9, 9))})) == {0: (0, 1)}


# Layout and legend.


@given(st.integers(1, 200), st.integers(1, 80), st.integers(1, 3000), st.integers(1, 3000))
def test_picture_and_legend_fit_and_do_not_overlap(width: int, height: int, across: int, down: int) -> None:
    layout = laid_out(width, height, (across, down))
    for box in (layout.picture, layout.legend):
        assert 0 <= box.x <= box.x + box.width <= width
        assert 0 <= box.y <= box.y + box.height <= height
    beside = layout.legend.x >= layout.picture.x + layout.picture.width
    assert beside or layout.legend.y >= layout.picture.y + layout.picture.height


@given(st.integers(4, 120), st.integers(4, 60))
def test_the_picture_keeps_its_share_of_the_height(width: int, height: int) -> None:
    layout = laid_out(width, height, (100, 2000))
    assert layout.picture.height >= 0.6 * height - 1


def _parts(*names: tuple[str, ...]) -> tuple[Part, ...]:
    mask = np.ones((4, 4), dtype=bool)
    return tuple(part_of(mask, number, *texts) for number, texts in enumerate(names, 1))


def lines_of(parts: tuple[Part, ...], width: int, height: int, lit: tuple[int, ...] = ()) -> list[str]:
    return [line.plain for _, line in legend_lines(parts, named(parts), width=width, height=height, lit=lit, out=())]


def named(parts: tuple[Part, ...]) -> dict[int, str]:
    return {part.id: part.descriptors[0].text for part in parts}


def test_a_line_says_the_share_of_the_picture_and_lit_parts_come_first() -> None:
    parts = (*_parts(("ears",), ("a tail",)), part_of(np.eye(12, dtype=bool), 3, "legs"))
    lines = [" 1 ears   100 %", " 2 a tail 100 %", "▌3 legs     8 %"]
    assert lines_of(parts, 80, 9, lit=(3,)) == [lines[2], *lines[:2]]
    tiny = dataclasses.replace(parts[2], area=0.002)
    assert lines_of((tiny,), 80, 9) == [" 3 legs  <1 %"]


@pytest.mark.parametrize("height", [1, 2, 3, 5, 12])
@pytest.mark.parametrize("width", [20, 34, 60])
def test_the_legend_keeps_to_its_room_and_says_how_many_parts_are_missing(width: int, height: int) -> None:
    parts = _parts(*((f"descriptor number {number} 猫",) for number in range(1, 13)))
    lines = legend_lines(parts, named(parts), width=width, height=height, lit=[7], out=[3])
    assert len(lines) == height
    assert all(line.cell_len <= width for _, line in lines)
    if height < 12:
        assert lines[-1][0] is None
        assert lines[-1][1].plain.strip() == f"{13 - height} more"
    if height > 3:
        assert [part for part, _ in lines[:4]] == [7, 1, 2, 3]
        assert [line.plain[:3] for _, line in lines[:4]] == ["▌ 7", "  1", "  2", "○ 3"]

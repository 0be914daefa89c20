"""What is painted over a picture, where picture and legend lie, and what the legend says."""

from __future__ import annotations

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
    ready = Canvas(picture(), columns=columns, rows=rows)
    chosen = samples.explanation().parts if parts is None else parts
    return ready, Shapes(chosen, columns=columns, rows=rows)


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


def test_parts_are_coloured_where_their_masks_are() -> None:
    canvas, shapes = made()
    frame = painted(canvas, shapes, "parts", lit=(), blurred=())
    expected = np.zeros((20, 30), dtype=bool)
    for mask in samples.MASKS:
        expected |= mask[1::2, 1::2]
    np.testing.assert_array_equal(changed_cells(frame, plain(canvas, shapes)), expected)
    ground = canvas.plain[3, 6]
    blended = 0.45 * ground + 0.55 * np.array(colour_of(1))
    assert np.abs(frame.cells[3, 6].astype(float) - blended).max() < 5


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
    assert frame.numbers == {(1, 5): 1}


def test_concept_mode_dims_all_but_the_lit_part() -> None:
    canvas, shapes = made()
    frame = painted(canvas, shapes, "concept", lit=[1], blurred=())
    mask = shapes.masks[1]
    before = plain(canvas, shapes).cells
    assert (frame.cells[~mask].astype(int).sum(axis=1) < 0.5 * before[~mask].astype(int).sum(axis=1)).all()
    assert list(frame.numbers.values()) == [1]


def test_a_lit_part_is_stronger_and_has_a_ring_around_it() -> None:
    canvas, shapes = made()
    usual = painted(canvas, shapes, "parts", lit=(), blurred=())
    lit = painted(canvas, shapes, "parts", lit=[1], blurred=())
    mask, colour = shapes.masks[1], np.array(colour_of(1))

    def distance(frame: Frame) -> float:
        return float(np.abs(frame.cells[mask].astype(int) - colour).mean())

    assert distance(lit) < 0.6 * distance(usual)
    assert (lit.cells[1, 5:15] == 0).all()  # black above the orange part
    assert not changed_cells(lit, usual)[shapes.masks[2]].any()


def test_blurred_regions_lose_their_detail_and_nothing_else_changes() -> None:
    noise = Canvas(picture(seed=5), columns=30, rows=10)
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
    before, after = Frame(cells_before, {(0, 0): 1, (3, 1): 2}), Frame(cells_after, {(0, 0): 1, (3, 2): 2})
    assert after.changes(before) == {2: (2, 5), 3: (1, 3)}
    assert after.changes(after) == {}
    assert after.changes(None) == dict.fromkeys(range(4), (0, 5))
    assert Frame(cells_after, {(0, 0): 3}).changes(Frame(cells_after, {})) == {0: (0, 1)}
    assert Frame(cells_after, {}).changes(Frame(cells_after, {(1, 2): 12})) == {1: (2, 4)}
    assert Frame(cells_after, {(1, 2): 3}).changes(Frame(cells_after, {(1, 2): 12})) == {1: (2, 4)}


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


def lines_of(parts: tuple[Part, ...], width: int, height: int) -> list[str]:
    return [line.plain for line in legend_lines(parts, width=width, height=height, lit=(), blurred=())]


def test_every_part_has_a_descriptor_of_its_own_where_there_is_one() -> None:
    parts = _parts(("ears", "fur"), ("ears", "tail"), ("ears", "tail"), ())
    assert lines_of(parts, 20, 4) == ["■1 ears", "■2 tail", "■3 ears", "■4 ?"]


@pytest.mark.parametrize("height", [1, 2, 3, 5, 12])
@pytest.mark.parametrize("width", [20, 34, 60])
def test_the_legend_keeps_to_its_room_and_names_all_parts_it_can(width: int, height: int) -> None:
    parts = _parts(*((f"descriptor number {number} 猫",) for number in range(1, 13)))
    lines = legend_lines(parts, width=width, height=height, lit=[2], blurred=[3])
    assert len(lines) <= height
    assert all(line.cell_len <= width for line in lines)
    if width * height >= 12 * 6:
        text = " ".join(line.plain for line in lines)
        assert "○3" in text
        assert all(f"■{part.id}" in text for part in parts if part.id != 3)

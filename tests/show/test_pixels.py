"""Real pixels: which protocol, and the bytes, read back as a terminal would."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from clipmk_tui.show.pixels import kitty_deleted, kitty_picture, placed, protocol_for, sixel_picture, sixel_tiles


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"TERM": "xterm-kitty", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-ghostty"}, "kitty"),
        ({"TERM": "foot"}, "sixel"),
        ({"TERM": "foot-extra"}, "sixel"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "sixel"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "sixel"),
        ({"TERM": "xterm-256color", "KONSOLE_VERSION": "230804"}, "sixel"),
        ({"TERM": "xterm-256color", "KONSOLE_VERSION": "211203"}, None),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, None),  # another terminal started from kitty
        ({"TERM": "xterm-kitty", "TMUX": "1"}, None),
        ({"TERM": "tmux-256color", "TERM_PROGRAM": "WezTerm"}, None),
        ({"TERM": "xterm-kitty", "NO_COLOR": "1"}, None),
        ({"TERM": "xterm", "XTERM_VERSION": "XTerm(379)"}, None),
        ({}, None),
    ],
)
def test_pixels_are_drawn_only_where_the_terminal_certainly_can(
    environment: dict[str, str], expected: str | None
) -> None:
    assert protocol_for("auto", environment) == expected


def test_what_the_user_asks_for_is_done() -> None:
    inside = {"TERM": "tmux-256color", "TMUX": "x"}
    assert [protocol_for(wanted, inside) for wanted in ("kitty", "sixel", "half-blocks")] == ["kitty", "sixel", None]
    assert protocol_for("half-blocks", {"TERM": "xterm-kitty"}) is None


PALETTE = np.array([[0, 0, 0], [255, 255, 255], [255, 0, 0], [51, 102, 204]], dtype=np.uint8)


def test_a_kitty_picture_is_transmitted_in_chunks_and_shown_over_its_cells() -> None:
    pixels = PALETTE[np.random.default_rng(5).integers(0, 4, (170, 190))]
    commands = re.findall(r"\x1b_G([^;\x1b]*);?([^\x1b]*)\x1b\\", kitty_picture(pixels, columns=9, rows=4, image=7))
    (deleted, _), *sent = commands
    assert f"\x1b_G{deleted}\x1b\\" == kitty_deleted(7)
    first = dict(pair.split("=") for pair in sent[0][0].split(","))
    expected = "a=T,f=100,i=7,p=1,c=9,r=4,z=1,C=1,q=2,m=1"
    assert first == dict(pair.split("=") for pair in expected.split(","))
    assert [keys for keys, _ in sent[1:]] == ["m=1"] * (len(sent) - 2) + ["m=0"]
    assert max(len(data) for _, data in sent) <= 4096
    picture = Image.open(io.BytesIO(base64.b64decode("".join(data for _, data in sent))))
    np.testing.assert_allclose(np.asarray(picture.convert("RGB")).astype(int), pixels, atol=2)


def decoded(sequence: str) -> np.ndarray:
    """The pixels that a terminal draws for a sixel sequence."""
    found = re.fullmatch(r'\x1bP0;1;0q"1;1;(\d+);(\d+)(.*)\x1b\\', sequence)
    assert found
    width, height = int(found[1]), int(found[2])
    pixels, palette, x, top, colour = np.full((height + 5, width, 3), -1), {}, 0, 0, 0
    for piece in re.findall(r"#\d+;2;\d+;\d+;\d+|#\d+|!\d+.|.", found[3]):
        if piece[0] == "#":
            colour, *values = map(int, piece[1:].replace(";2;", ";", 1).split(";"))
            palette.update({colour: values} if values else {})
        elif piece in "$-":
            x, top = 0, top + 6 * (piece == "-")
        else:
            count, bits = (int(piece[1:-1]), ord(piece[-1]) - 63) if piece[0] == "!" else (1, ord(piece) - 63)
            for row in range(6):
                if bits >> row & 1:
                    pixels[top + row, x : x + count] = palette[colour]
            x += count
    return pixels


@pytest.mark.parametrize("size", [(13, 40), (6, 1), (1, 7), (24, 33)])
def test_a_sixel_picture_is_drawn_pixel_for_pixel(size: tuple[int, int]) -> None:
    pixels = PALETTE[np.random.default_rng(3).integers(0, 4, size)]
    drawn = decoded(sixel_picture(pixels))
    np.testing.assert_allclose(drawn[: size[0]], pixels / 2.55, atol=1)
    assert (drawn[size[0] :] == -1).all()  # nothing below the picture


def test_a_large_sixel_picture_is_drawn_in_tiles_of_whole_cells() -> None:
    pixels = PALETTE[np.random.default_rng(3).integers(0, 4, (4, 5))].repeat(300, axis=0).repeat(300, axis=1)
    drawn = np.zeros(pixels.shape)
    for row, column, sequence in sixel_tiles(pixels, cell=(12, 25)):
        tile = decoded(sequence)[:-5]
        assert max(tile.shape) <= 1000
        drawn[25 * row :, 12 * column :][: tile.shape[0], : tile.shape[1]] = tile
    np.testing.assert_allclose(drawn, pixels / 2.55, atol=1)


def test_a_flat_sixel_picture_is_short() -> None:
    assert len(sixel_picture(np.zeros((300, 400, 3), dtype=np.uint8))) < 800


def test_a_placed_sequence_leaves_the_cursor_where_it_was() -> None:
    assert placed([(0, 0, "X"), (1, 9, "Y")], row=2, column=4) == (
        "\x1b[?2026h\x1b7\x1b[3;5HX\x1b[4;14HY\x1b8\x1b[?2026l"
    )

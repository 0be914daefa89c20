"""Pictures in half-blocks, drawn by term-image, which nothing else imports."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from clipmk.output.palette import colour_of
from clipmk.system.quiet import captured_warnings

if TYPE_CHECKING:
    from jaxtyping import UInt8
    from numpy import ndarray
    from PIL import Image

    from clipmk.explanation import Explanation

_ALPHA = 0.55  # stronger than in files: a cell has room for colour, but not for contours
_MIDDLE = 0.179  # relative luminance on which black and white have the same contrast, 4.6 (WCAG 2)

_ESCAPE = "\x1b["
_INK, _PAPER = "38;2;", "48;2;"


def half_blocks(image: Image.Image, *, columns: int, rows: int) -> list[Text]:
    """Draw an image, stretched to fit, with two pixels in every character cell, in true colour: a text for each row."""
    drawn = half_block_rows(shrunk(image, width=columns, height=2 * rows))
    return [Text.assemble(*((one.text, one.style or "") for one in row), no_wrap=True) for row in drawn]


def half_block_rows(cells: UInt8[ndarray, "pixel_rows columns 3"]) -> list[list[Segment]]:
    """Draw uint8 RGB pixels (2 * rows, columns, 3), two in every character cell: for each row its segments.

    They are in true colour, which the console reduces to what the terminal has; neighbours of one colour share a
    segment.
    """
    from PIL import Image  # noqa: PLC0415 - not until there is a picture

    drawn = _block_image()(Image.fromarray(cells, mode="RGB"))
    drawn.set_size(width=cells.shape[1], height=cells.shape[0] // 2)
    return [list(parsed(line)) for line in str(drawn).split("\n")]


def shrunk(image: Image.Image, *, width: int, height: int) -> UInt8[ndarray, "height width 3"]:
    """An image at another size, uint8 RGB (height, width, 3); it is stretched to fit."""
    import numpy as np  # noqa: PLC0415
    from PIL import Image  # noqa: PLC0415

    return np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BOX, reducing_gap=4.0))


def parsed(line: str) -> Iterator[Segment]:
    """Read one line of text coloured by SGR sequences (true colour and reset, nothing else) as segments."""
    plain, *pieces = line.split(_ESCAPE)
    if plain:
        yield Segment(plain, Style.null())
    ink = paper = ""
    for piece in pieces:
        code, _, text = piece.partition("m")
        if code.startswith(_PAPER):
            paper = code[len(_PAPER) :]
        elif code.startswith(_INK):
            ink = code[len(_INK) :]
        elif code in {"", "0"}:
            ink = paper = ""
        else:
            raise ValueError(f"{code!r} is not a colour of a picture")
        if text:
            yield Segment(text, _style("" if text.isspace() else ink, paper))


def ink_on(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white (sRGB), whichever is more legible on a colour."""
    linear = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]  # IEC 61966-2-1
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if luminance > _MIDDLE else (255, 255, 255)


def number_style(colour: tuple[int, int, int]) -> Style:
    """The style of a part's number on the part's own colour."""
    ink = ink_on(colour)
    text, paper = ("#{:02x}{:02x}{:02x}".format(*rgb) for rgb in (ink, colour))
    return Style(color=text, bgcolor=paper, bold=ink != (0, 0, 0))  # of sixteen colours, bold black is grey


def explained_picture(explanation: Explanation, *, columns: int, rows: int) -> list[Text]:
    """The picture of an explanation with coloured and numbered parts, at most `columns` x `rows` cells."""
    from clipmk.images.masks import rle_decode  # noqa: PLC0415
    from clipmk.output.overlay import anchor, overlay  # noqa: PLC0415 - OpenCV, never in the app's own process

    across, down = fitted(explanation.image.width, explanation.image.height, columns=columns, rows=rows)
    lines = half_blocks(overlay(explanation, alpha=_ALPHA, marks=False), columns=across, rows=down)
    for part in explanation.parts:
        mask = rle_decode(part.mask)
        if mask.any():
            x, y = anchor(mask)
            row = y * down // mask.shape[0]
            line, number = lines[row], Text(str(part.id), number_style(colour_of(part.id)))
            start = max(0, min(x * across // mask.shape[1], len(line) - len(number)))
            lines[row] = line[:start] + number + line[start + len(number) :]
    return lines


def fitted(width: int, height: int, *, columns: int, rows: int) -> tuple[int, int]:
    """(columns, rows) of the largest area within the given one that keeps the picture's shape; cells are 1:2."""
    scale = min(columns / width, 2 * rows / height)
    return max(1, min(columns, round(width * scale))), max(1, min(rows, round(height * scale / 2)))


@lru_cache(maxsize=1)
def _block_image() -> type:
    """term-image's class, with its queries to the terminal disabled: they swallow key presses."""
    with captured_warnings():  # "not running within a terminal"; images may be decoded in other threads meanwhile
        import term_image  # noqa: PLC0415 - looks for a terminal when it is imported
        from term_image.image import BlockImage  # noqa: PLC0415

    term_image.disable_queries()
    kind: type = BlockImage
    return kind


@lru_cache(maxsize=8192)
def _style(ink: str, paper: str) -> Style:
    return Style.from_color(_colour(ink), _colour(paper))


@lru_cache(maxsize=8192)
def _colour(code: str) -> Color | None:
    """A colour of an SGR sequence, "r;g;b"; None if the code is empty."""
    return Color.from_rgb(*map(int, code.split(";"))) if code else None

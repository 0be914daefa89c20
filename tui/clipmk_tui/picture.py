"""A picture in half-blocks: the one place that knows how (term-image today)."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from PIL import Image
from rich.style import Style
from rich.text import Text

from clipmk.overlay import anchor, overlay
from clipmk.palette import colour_of
from clipmk.rle import rle_decode

if TYPE_CHECKING:
    from clipmk.records import Explanation

_ALPHA = 0.55
"""Stronger than on paper: a cell has room for colour, but not for contours."""


def half_blocks(image: Image.Image, *, columns: int, rows: int) -> list[Text]:
    """Draw an image with two pixels in every character cell.

    Args:
        image: any mode; its shape is changed to fit.
        columns: characters across.
        rows: lines.

    Returns:
        `rows` lines of `columns` cells in true colour; the console lowers it to what the terminal has.
    """
    small = image.convert("RGB").resize((columns, 2 * rows), Image.Resampling.BOX)
    return [_line(text, columns) for text in _rendered(small, columns, rows).split("\n")]


def explained_picture(explanation: Explanation, *, columns: int, rows: int) -> list[Text]:
    """The picture of an explanation with its parts in colour and their numbers, at most `columns` x `rows` cells.

    Raises:
        ImageError: the picture is not at hand.
    """
    across, down = fitted(explanation.image.width, explanation.image.height, columns=columns, rows=rows)
    lines = half_blocks(overlay(explanation, alpha=_ALPHA, marks=False), columns=across, rows=down)
    for part in explanation.parts:
        mask = rle_decode(part.mask)
        if mask.any():
            x, y = anchor(mask)
            column, row = x * across // mask.shape[1], y * down // mask.shape[0]
            _write(lines, column, row, str(part.id), colour_of(part.id))
    return lines


def fitted(width: int, height: int, *, columns: int, rows: int) -> tuple[int, int]:
    """(columns, rows) of the largest area within the given one that keeps the picture's shape; cells are 1:2."""
    scale = min(columns / width, 2 * rows / height)
    return max(1, min(columns, round(width * scale))), max(1, min(rows, round(height * scale / 2)))


def _rendered(small: Image.Image, columns: int, rows: int) -> str:
    """Term-image's string. Only after its questions to the terminal are switched off: they swallow key presses."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "not running within a terminal"
        import term_image  # noqa: PLC0415 - looks for a terminal when it is imported
        from term_image.image import BlockImage  # noqa: PLC0415

    term_image.disable_queries()
    drawn = BlockImage(small)
    drawn.set_size(width=columns, height=rows)
    return str(drawn)


def _line(text: str, columns: int) -> Text:
    line = Text.from_ansi(text, no_wrap=True)
    line.truncate(columns, pad=True)
    return line


def _write(lines: list[Text], column: int, row: int, text: str, colour: tuple[int, int, int]) -> None:
    """Replace cells by a part's number on its own colour."""
    line = lines[row]
    start = max(0, min(column, len(line) - len(text)))
    ink = "black" if 299 * colour[0] + 587 * colour[1] + 114 * colour[2] > 128_000 else "white"
    style = Style(color=ink, bgcolor="#{:02x}{:02x}{:02x}".format(*colour), bold=True)
    lines[row] = line[:start] + Text(text, style) + line[start + len(text) :]

"""Pictures in real pixels: kitty's graphics protocol and sixel. Which one, and the bytes; asks no terminal."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from jaxtyping import UInt8
    from numpy import ndarray
    from PIL import Image

Protocol = Literal["kitty", "sixel"]

Tile = tuple[int, int, str]  # (rows down, columns right, sequence): one that is written with the cursor there
GRAPHICS: Final = ("auto", "half-blocks", "kitty", "sixel")  # what a user may ask for

_KITTY_TERMS: Final = ("xterm-kitty", "xterm-ghostty")
_SIXEL_PROGRAMS: Final = ("WezTerm", "iTerm.app")
_KONSOLE: Final = 220400  # the first version of Konsole that knows sixel
_CHUNK = 4096  # bytes of a kitty escape sequence at most

_SIXEL_SIDE = 1000

_COLOURS = 128  # of a sixel picture

_SAVE, _RESTORE = "\x1b7", "\x1b8"
_BEGIN_UPDATE, _END_UPDATE = "\x1b[?2026h", "\x1b[?2026l"


def protocol_for(graphics: str, environment: Mapping[str, str]) -> Protocol | None:
    """The protocol to draw with; None: half-blocks, also where it is not certain what the terminal can.

    TERM decides where it can: other variables are inherited by a terminal that is started from another one.
    """
    if graphics in {"kitty", "sixel"}:
        return "kitty" if graphics == "kitty" else "sixel"
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    inside = "TMUX" in environment or "STY" in environment or term.startswith(("tmux", "screen"))
    if graphics == "half-blocks" or inside or environment.get("NO_COLOR"):
        return None
    if term in _KITTY_TERMS:
        return "kitty"
    konsole = environment.get("KONSOLE_VERSION", "")
    if term.startswith("foot") or program in _SIXEL_PROGRAMS or (konsole.isdecimal() and int(konsole) >= _KONSOLE):
        return "sixel"
    return None


def placed(tiles: Iterable[Tile], *, row: int, column: int) -> str:
    """Tiles from a 0-based cell on, written all at once; the cursor is where it was afterwards."""
    moved = "".join(f"\x1b[{row + down + 1};{column + right + 1}H{sequence}" for down, right, sequence in tiles)
    return f"{_BEGIN_UPDATE}{_SAVE}{moved}{_RESTORE}{_END_UPDATE}"


def kitty_picture(pixels: UInt8[ndarray, "height width 3"], *, columns: int, rows: int, image: int) -> str:
    """Transmit uint8 RGB pixels, and show them over that many cells from the cursor on, above their text.

    As a PNG of 256 colours: a sixth of what the pixels themselves would take. Another picture of that number is
    replaced; answers of the terminal are off.
    """
    from PIL import Image  # noqa: PLC0415

    encoded = io.BytesIO()
    _quantized(pixels, 256, Image.Dither.FLOYDSTEINBERG).save(encoded, "PNG", compress_level=2)
    data = base64.b64encode(encoded.getvalue()).decode("ascii")
    chunks = [data[at : at + _CHUNK] for at in range(0, len(data), _CHUNK)]
    head = f"a=T,f=100,i={image},p=1,c={columns},r={rows},z=1,C=1,q=2,"
    return kitty_deleted(image) + "".join(
        f"\x1b_G{'' if number else head}m={int(number < len(chunks) - 1)};{chunk}\x1b\\"
        for number, chunk in enumerate(chunks)
    )


def kitty_deleted(image: int) -> str:
    """Delete a picture and what the terminal keeps of it."""
    return f"\x1b_Ga=d,d=I,i={image},q=2\x1b\\"


def sixel_tiles(pixels: UInt8[ndarray, "height width 3"], *, cell: tuple[int, int]) -> list[Tile]:
    """Whole cells of (across, down) uint8 RGB pixels as tiles: xterm draws none of more than 1000 pixels a side."""
    across, down = (_SIXEL_SIDE // side for side in cell)
    return [
        (row, column, sixel_picture(pixels[row * cell[1] :, column * cell[0] :][: down * cell[1], : across * cell[0]]))
        for row in range(0, pixels.shape[0] // cell[1], down)
        for column in range(0, pixels.shape[1] // cell[0], across)
    ]


def sixel_picture(pixels: UInt8[ndarray, "height width 3"]) -> str:
    """A picture of as many pixels from the cursor on, uint8 RGB."""
    import numpy as np  # noqa: PLC0415
    from PIL import Image  # noqa: PLC0415

    quantized = _quantized(pixels, _COLOURS, Image.Dither.NONE)
    indices = np.asarray(quantized)
    palette = np.array(quantized.getpalette(), dtype=np.int64).reshape(-1, 3)[: indices.max() + 1] * 100 // 255
    colours = "".join(f"#{number};2;{red};{green};{blue}" for number, (red, green, blue) in enumerate(palette))
    bands = "-".join(_bands(indices))
    return f'\x1bP0;1;0q"1;1;{pixels.shape[1]};{pixels.shape[0]}{colours}{bands}\x1b\\'


def _quantized(pixels: UInt8[ndarray, "height width 3"], colours: int, dither: Image.Dither) -> Image.Image:
    """An image with a palette; by an octree, which is much faster than Pillow's default."""
    from PIL import Image  # noqa: PLC0415

    return Image.fromarray(pixels, mode="RGB").quantize(colours, method=Image.Quantize.FASTOCTREE, dither=dither)


def _bands(indices: UInt8[ndarray, "height width"]) -> Iterator[str]:
    """Six rows at a time, colour by colour: bit k of a character is set where row k has the colour."""
    import numpy as np  # noqa: PLC0415

    for top in range(0, len(indices), 6):
        band = indices[top : top + 6]
        colours = np.unique(band)
        bits = np.packbits(band == colours[:, None, None], axis=1, bitorder="little")[:, 0] + 63
        lines = (line.tobytes().decode("ascii").rstrip("?") for line in bits)  # nothing at the end where nothing is set
        packed = (re.sub(r"(.)\1{3,}", lambda run: f"!{len(run[0])}{run[1]}", line) for line in lines)
        yield "$".join(f"#{colour}{line}" for colour, line in zip(colours, packed, strict=True))

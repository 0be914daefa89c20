"""The image pane in a terminal that draws pictures: real pixels over the half-blocks, whenever nothing else is there.

The half-blocks are always written as well. They are what is seen until the pixels are ready, under a dialog, and in a
terminal that does not keep its promise.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from textual import work
from textual.geometry import Region, Size
from textual.strip import Strip

from clipmk_tui.app.widgets.image_pane import ImagePane, Job, Spans
from clipmk_tui.show.pixels import Protocol, Tile, kitty_deleted, kitty_picture, placed, sixel_tiles

if TYPE_CHECKING:
    from clipmk_tui.app.canvas import Canvas, Frame, Shapes

_USUAL_CELL = Size(8, 16)  # pixels of a cell where the terminal does not say; kitty scales
_KITTY_PIXELS = 400_000  # of a picture at most: the terminal enlarges it, and less is sent


_Drawn = tuple[Job, "Frame"]  # what the pane shows, to be drawn in pixels


class SharpImagePane(ImagePane):
    """The pane with real pixels, by a protocol that the terminal understands."""

    def __init__(self, protocol: Protocol) -> None:
        super().__init__(id="image", classes="pane")
        self._protocol = protocol
        self._image = os.getpid() % 1_000_000 + 1  # number of the picture in the terminal
        self._drawn: _Drawn | None = None
        self._encoded: tuple[_Drawn | None, Size, list[Tile]] = (None, Size(0, 0), [])
        """What is encoded, for which size of a cell, and how it is written."""
        self._fine: tuple[Canvas, Shapes] | None = None
        self._on_terminal: tuple[_Drawn, Region] | None = None  # what the terminal shows, and where
        self._due = self._encoding = False

    def on_mount(self) -> None:
        """After a stop the terminal has lost the picture."""
        self.app.app_resume_signal.subscribe(self, lambda _: self.take_away())

    def take_away(self) -> None:
        """Show the half-blocks again, also where something else takes the place of the picture."""
        if self._on_terminal is not None:
            self._on_terminal = None
            if self._protocol == "kitty":
                self._send(kitty_deleted(self._image))
            self.refresh()  # cells that are written again cover a sixel picture

    on_hide = on_unmount = take_away

    def render_lines(self, crop: Region) -> list[Strip]:
        """Lines of the pane; the pixels follow, because cells of the picture that are written again cover them."""
        if self._layout is not None and crop.overlaps(self._layout.picture.translate(self.gutter.top_left)):
            self._sharpen_soon()
        return super().render_lines(crop)

    def _take(self, job: Job, frame: Frame, spans: Spans, rows: Mapping[int, Strip]) -> None:
        if self._layout != job.layout:
            self.take_away()
        super()._take(job, frame, spans, rows)
        self._drawn = job, frame
        self._sharpen_soon()

    def _take_note(self) -> None:
        self._drawn = None
        self.take_away()
        super()._take_note()

    def _sharpen_soon(self) -> None:
        if not self._due:
            self._due = True
            self.call_after_refresh(self._sharpen)

    def _sharpen(self) -> None:
        """Write the pixels if they are ready and nothing else is in their place, else have them drawn."""
        self._due = False
        box, cell = self._box(), self._cell()
        if self._drawn is None or box is None or cell is None:
            self.take_away()
        elif self._encoded[:2] == (self._drawn, cell):
            shown = (self._drawn, box)
            if self._protocol == "sixel" or self._on_terminal != shown:
                self._send(placed(self._encoded[2], row=box.y, column=box.x))
            self._on_terminal = shown
        elif not self._encoding:
            self._encoding = True
            self._encode()

    @work(group="sharpen")
    async def _encode(self) -> None:
        """Draw in a thread, again if the state has changed meanwhile."""
        try:
            while (drawn := self._drawn) is not None and (cell := self._cell()) is not None:
                if self._encoded[:2] == (drawn, cell):
                    break
                self._encoded = (drawn, cell, await asyncio.to_thread(self._tiles, drawn, cell))
        finally:
            self._encoding = False
        self._sharpen()

    def _tiles(self, drawn: _Drawn, cell: Size) -> list[Tile]:
        """What is written for a picture; on any thread, one at a time."""
        from clipmk_tui.app.canvas import Canvas, Shapes, numbered, painted_pixels  # noqa: PLC0415
        from clipmk_tui.app.heat import Heat  # noqa: PLC0415

        job, frame = drawn
        box = job.layout.picture
        if self._protocol == "kitty":  # the terminal enlarges it
            scale = min(1.0, (_KITTY_PIXELS / (box.area * cell.area)) ** 0.5)
            cell = Size(max(2, int(cell.width * scale)), max(4, int(cell.height * scale)))
        width, height = box.width * cell.width, box.height * cell.height
        canvas, shapes = self._fine or (None, None)
        if canvas is None or canvas.picture is not job.canvas.picture or canvas.size != (width, height):
            canvas = Canvas(job.canvas.picture, width=width, height=height)
        if shapes is None or shapes.parts != job.shapes.parts or shapes.size != canvas.size:
            shapes = Shapes(job.shapes.parts, width=width, height=height)
        self._fine = canvas, shapes
        if job.heat is not None:
            pixels = Heat(job.heat.asked, job.heat.relevance, canvas).pixels()
        else:
            pixels = painted_pixels(canvas, shapes, job.mode, lit=job.lit, blurred=job.blurred)
        pixels = numbered(pixels, frame.numbers, cell=(cell.width, cell.height))
        if self._protocol == "sixel":
            return sixel_tiles(pixels, cell=(cell.width, cell.height))
        return [(0, 0, kitty_picture(pixels, columns=box.width, rows=box.height, image=self._image))]

    def _box(self) -> Region | None:
        """Where the picture is on the terminal; None where it is not seen, or something is above it."""
        if not self.is_attached or self.app.screen is not self.screen or self._layout is None or not self.display:
            return None
        box = self._layout.picture.translate(self.content_region.offset)
        above = any(toast.region.overlaps(box) for toast in self.screen.query("Toast"))
        return box if not above and self.screen.region.contains_region(box) else None

    def _cell(self) -> Size | None:
        """Pixels of a cell, as the kernel knows them from the terminal; nothing is asked of the terminal itself."""
        import fcntl  # noqa: PLC0415 - POSIX
        import struct  # noqa: PLC0415
        import termios  # noqa: PLC0415

        usual = _USUAL_CELL if self._protocol == "kitty" else None
        try:
            answer = fcntl.ioctl(sys.__stderr__ or 2, termios.TIOCGWINSZ, bytes(8))
        except (OSError, ValueError):
            return usual
        rows, columns, width, height = struct.unpack("HHHH", answer)
        return Size(width // columns, height // rows) if 0 not in {rows, columns, width, height} else usual

    def _send(self, sequence: str) -> None:
        """Write to the terminal, in order with what Textual writes; it offers no public way."""
        driver = self.app._driver  # noqa: SLF001
        if driver is not None:
            driver.write(sequence)

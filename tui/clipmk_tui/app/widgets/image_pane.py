"""The image pane: the picture in half-blocks, the model's parts or a map over it, and their legend."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, zip_longest
from typing import TYPE_CHECKING, ClassVar

from rich.segment import Segment
from rich.text import Text
from textual import events, work
from textual.geometry import Region
from textual.reactive import var
from textual.strip import Strip
from textual.widget import Widget

from clipmk.output.sentences import part_names
from clipmk.system.text import encodable
from clipmk_tui.app.bindings import KEY_BINDINGS
from clipmk_tui.app.legend import Layout, laid_out, legend_lines
from clipmk_tui.app.messages import SelectPart
from clipmk_tui.show.text import shown

if TYPE_CHECKING:
    from clipmk.explanation import Explanation
    from clipmk.images.decoder import Picture
    from clipmk.records import Asked, Part
    from clipmk_tui.app.canvas import Canvas, Depth, Frame, Mode, Shapes
    from clipmk_tui.app.heat import Heat

Spans = Mapping[int, tuple[int, int]]  # row -> (first, past the last) column that is written again

MODES: dict[Mode, str] = {"parts": "", "concept": "concept under the cursor", "plain": "plain"}
"""The modes in the order in which they are cycled -> the pane's subtitle."""

_DEPTHS: dict[str, Depth] = {"standard": "16", "windows": "16", "256": "256"}
"""What Rich calls a terminal's colours -> how the picture is painted."""

_AT_ONCE = 1600  # cells that are drawn without a thread: fewer than 10 ms, which is quicker than to wait for one


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """What is to be drawn; everything a thread needs for it."""

    layout: Layout
    canvas: Canvas
    shapes: Shapes
    mode: Mode
    lit: frozenset[int]
    blurred: frozenset[int]
    heat: Heat | None  # a map in place of the parts
    depth: Depth
    before: Frame | None  # what the pane shows in the same place now


class ImagePane(Widget, can_focus=True):
    """Shows one picture. Picture and explanation may arrive in any order; it draws what belongs together."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {"image-pane--note"}
    BINDINGS = KEY_BINDINGS["ImagePane"]

    picture: var[Picture | str] = var("no image yet", init=False)
    """The picture, or a sentence instead: why there is none."""
    explanation: var[Explanation | None] = var(None, init=False)
    """Whose parts are drawn, on the picture of its path only; None: nothing is known of the picture."""
    lit: var[frozenset[int]] = var(frozenset(), init=False)
    """Ids of the highlighted parts; the plain picture shows none."""
    asked: var[Asked | None] = var(None, init=False)  # what was asked for: its map is drawn in place of all parts
    blurred: var[frozenset[int]] = var(frozenset(), init=False)
    """Ids of the parts whose regions are blurred: they are left out."""
    mode: var[Mode] = var("parts", init=False)

    def __init__(self, *, legend: bool = True, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, classes=classes)
        self._with_legend = legend
        self._canvas: Canvas | None = None
        self._shapes: Shapes | None = None
        self._stale = self._busy = False  # what the pane shows is out of date; a thread is drawing
        self._layout: Layout | None = None  # of what the pane shows; None: the note
        self._frame: Frame | None = None
        self._rows: list[Strip] = []
        self._legend: list[tuple[int | None, Text]] = []  # part, and its line
        self._names: dict[int, str] = {}  # of the parts that are drawn

    def cycle_overlay(self) -> None:
        """Show the parts in the next way."""
        modes = list(MODES)
        self.mode = modes[(modes.index(self.mode) + 1) % len(modes)]

    def watch_mode(self) -> None:
        """Name the mode below the picture."""
        self.border_subtitle = "map" if self.mapped is not None else MODES[self.mode]
        self._redraw()

    watch_asked = watch_mode

    @property
    def mapped(self) -> Asked | None:
        """What was asked for, where its map is drawn in place of all parts."""
        asked = self.asked
        return asked if self.mode == "parts" and asked is not None and asked.map is not None else None

    def take_away(self) -> None:
        """Take away what the pane has drawn beside its cells, before another screen is in its place."""

    # Parts.

    def action_part(self, by: int) -> None:
        """Select the next part, or the one before."""
        parts = () if self._shapes is None else tuple(part.id for part in self._shapes.parts)
        if parts:
            here = next((place for place, part in enumerate(parts) if self.lit == {part}), -1 if by > 0 else 0)
            self.post_message(SelectPart(parts[(here + by) % len(parts)]))

    def on_click(self, event: events.Click) -> None:
        """Select the part under the mouse, in the picture or in the legend."""
        offset, part = event.get_content_offset(self), None
        if offset is None or self._layout is None or self._shapes is None:
            return
        picture, legend = self._layout.picture, self._layout.legend
        if picture.contains_point(offset):
            part = self._shapes.part_at(offset.y - picture.y, offset.x - picture.x)
        elif legend.contains_point(offset) and offset.y - legend.y < len(self._legend):
            part, _ = self._legend[offset.y - legend.y]
        if part is not None:
            self.post_message(SelectPart(part))

    # Drawing.

    def _redraw(self) -> None:
        """Draw what changed: at once if it is little and nothing has to be prepared, else off the event loop."""
        if not self.is_attached or not self.size:
            return
        self._stale = True
        if self._busy:
            return  # the thread at work is asked again when it comes back
        if isinstance(self.picture, str):
            self._take_note()
            return
        job = self._job(self.picture)
        if "blurred" in vars(job.canvas) and "places" in vars(job.shapes):  # all that is computed once
            frame, spans = _paint(job)
            if len(spans) * job.layout.picture.width <= _AT_ONCE:
                self._take(job, frame, spans, _strips(frame, list(spans)))
                return
        self._busy = True
        self._draw()

    watch_picture = watch_explanation = watch_lit = watch_blurred = on_resize = _redraw

    @work(group="paint")
    async def _draw(self) -> None:
        """Draw in a thread, again if the state has changed meanwhile."""
        try:
            while self._stale and not isinstance(self.picture, str) and self.size:
                self._stale = False
                job = self._job(self.picture)
                frame, spans = await asyncio.to_thread(_paint, job)
                rows = await asyncio.to_thread(_strips, frame, list(spans))
                if not self._stale:
                    self._take(job, frame, spans, rows)
        finally:
            self._busy = False
        if self._stale and isinstance(self.picture, str):
            self._take_note()

    def _job(self, picture: Picture) -> Job:
        from clipmk_tui.app.canvas import Canvas, Shapes  # noqa: PLC0415 - numpy, not before there is a picture
        from clipmk_tui.app.heat import Heat  # noqa: PLC0415

        parts, size = self._parts(picture), (picture.info.width, picture.info.height)
        layout = laid_out(self.size.width, self.size.height, size, legend=self._with_legend)
        columns, rows = layout.picture.width, layout.picture.height
        canvas, shapes = self._canvas, self._shapes
        if canvas is None or canvas.picture is not picture or canvas.size != (columns, 2 * rows):
            canvas = self._canvas = Canvas(picture, width=columns, height=2 * rows)
        if shapes is None or shapes.parts != parts or shapes.size != canvas.size:
            shapes = self._shapes = Shapes(parts, width=columns, height=2 * rows)
        before = self._frame if self._layout == layout else None
        depth = _DEPTHS.get(self.app.console.color_system or "", "true")
        mapped = self.mapped
        heat = None if mapped is None or mapped.map is None else Heat(mapped, mapped.map, canvas)
        return Job(layout, canvas, shapes, self.mode, self.lit, self.blurred, heat, depth, before)

    def _parts(self, picture: Picture) -> tuple[Part, ...]:
        """The parts that belong to a picture; while those of another one wait for it, the old ones stay."""
        if self.explanation is None:
            return ()
        paths = (self.explanation.image.path, picture.info.path)
        if None in paths or len({encodable(str(path)) for path in paths}) == 1:
            self._names = part_names(self.explanation)
            return self.explanation.parts
        same = self._canvas is not None and self._canvas.picture is picture
        return self._shapes.parts if same and self._shapes is not None else ()

    def _take_note(self) -> None:
        """Put the note into the pane."""
        self._stale = False
        self._layout, self._frame, self._rows, self._legend = None, None, [], []
        self.refresh()

    def _take(self, job: Job, frame: Frame, spans: Spans, rows: Mapping[int, Strip]) -> None:
        """Put what was drawn into the pane; only rows that differ are written to the terminal."""
        width, height, before = job.layout.legend.width, job.layout.legend.height, self._legend
        of_parts = partial(legend_lines, job.shapes.parts, self._names, lit=job.lit, out=job.blurred)
        self._legend = (of_parts if job.heat is None else job.heat.legend)(width=width, height=height)
        self._stale, self._frame = False, frame
        if self._layout != job.layout:
            self._layout = job.layout
            self._rows = [rows[row] for row in range(job.layout.picture.height)]
            self.refresh()
            return
        for row, strip in rows.items():
            self._rows[row] = strip
        self._write(job.layout.picture, spans)
        pairs = enumerate(zip_longest(before, self._legend))
        self._write(job.layout.legend, {line: (0, width) for line, (old, new) in pairs if old != new})

    def _write(self, box: Region, spans: Spans) -> None:
        """Write some cells of a box again: a region for each run of neighbouring rows."""
        for _, run in groupby(enumerate(spans), key=lambda pair: pair[1] - pair[0]):
            rows = [row for _, row in run]
            left, right = min(spans[row][0] for row in rows), max(spans[row][1] for row in rows)
            self.refresh(Region(box.x + left, box.y + rows[0], right - left, len(rows)))

    def render_line(self, y: int) -> Strip:
        """One line of the pane."""
        if self._layout is None:
            return self._note_line(y)
        style, pieces, at = self.rich_style, [], 0
        picture, legend = self._layout.picture, self._layout.legend
        if 0 <= (row := y - picture.y) < len(self._rows):
            pieces += [Strip.blank(picture.x, style), self._rows[row]]
            at = picture.x + picture.width
        if 0 <= (line := y - legend.y) < len(self._legend):
            text = Strip(self._legend[line][1].render(self.app.console)).apply_style(style)
            pieces += [Strip.blank(legend.x - at, style), text]
        return Strip.join(pieces).adjust_cell_length(self.size.width, style)

    def _note_line(self, y: int) -> Strip:
        """A line of the note, in the middle of the pane."""
        width, height = self.size
        style = self.get_component_rich_style("image-pane--note")
        lines = shown(str(self.picture)).wrap(self.app.console, max(1, width - 2))[:height]
        line = y - (height - len(lines)) // 2
        if not 0 <= line < len(lines):
            return Strip.blank(width, self.rich_style)
        text = Text(lines[line].plain.strip())
        text.align("center", width)
        return Strip([Segment(text.plain, style)]).adjust_cell_length(width, self.rich_style)


def _paint(job: Job) -> tuple[Frame, Spans]:
    """The frame, and what differs from the one before; on any thread."""
    from clipmk_tui.app.canvas import painted  # noqa: PLC0415

    if job.heat is not None:
        frame = job.heat.frame(job.depth)
    else:
        frame = painted(job.canvas, job.shapes, job.mode, lit=job.lit, blurred=job.blurred, depth=job.depth)
    return frame, frame.changes(job.before)


def _strips(frame: Frame, rows: Sequence[int]) -> dict[int, Strip]:
    """Some rows of a frame as they are written, with the numbers of the parts."""
    from clipmk_tui.show.half_blocks import half_block_rows, number_style  # noqa: PLC0415

    if not rows:
        return {}
    height, columns, channels = frame.cells.shape
    cells = frame.cells.reshape(height // 2, 2, columns, channels)[list(rows)].reshape(-1, columns, channels)
    drawn = dict(zip(rows, (Strip(row, columns) for row in half_block_rows(cells)), strict=True))
    for (row, column), (part, colour) in frame.numbers.items():
        if row in drawn:
            number, strip = str(part), drawn[row]
            middle = Strip([Segment(number, number_style(colour))], len(number))
            pieces = [strip.crop(0, column), middle, strip.crop(column + len(number), columns)]
            drawn[row] = Strip.join(pieces).crop(0, columns)
    return drawn

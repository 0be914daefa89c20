"""The table of images: of a study, or of the images that are open.

`tab` goes through images, models, classes, concepts and charts, each about the images that the filter leaves; `enter`
goes down, `esc` up again, to the same row.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.screen import Screen
from textual.widgets import Input, Static

from clipmk.browse.filters import FilterError, parse_filter, quote
from clipmk.errors import ClipmkError, InputError
from clipmk.system.text import counted, printable
from clipmk_tui.app import image_rows
from clipmk_tui.app.bindings import KEY_BINDINGS, keys_of
from clipmk_tui.app.browsing import TableSource
from clipmk_tui.app.theme import for_rich
from clipmk_tui.app.widgets.lines import AskLine, KeyBar
from clipmk_tui.app.widgets.row_table import Column, RowTable
from clipmk_tui.show.comparison_table import short_names
from clipmk_tui.show.signs import FAILED

if TYPE_CHECKING:
    from clipmk.browse.image_table import ImageRow, ImageTable, Places
    from clipmk_tui.app.panes import Panes

_DIFFERENT = ("a != b", "only a", "only b", "")  # filters that the difference goes through
_REFRESH = 0.4  # seconds between drawings of a table that is being filled
_ADVICE = 4  # warnings and sentences of advice at most, a line each
_VIEWS = {
    "images": "",
    "models": "enter: its classes   d: images on which it differs from the first model (a)",
    "classes": "enter: the concepts on images of this class",
    "concepts": "enter: the images where this concept is mutual",
    "charts": "a letter: how often a model is right; a curve: the strength that is left as concepts are left out",
}
"""View -> what is said below it."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the user is."""

    model: str
    other: str | None
    view: str = "images"
    filter: str = ""
    sort: str = "image"
    descending: bool = False
    cursors: dict[str, int] = field(default_factory=dict)
    """View -> the row under the cursor; of images its place in the table."""


class ImagesScreen(Screen[None]):
    """Stays when it is left, so that one returns to the same row; `panes` show the images of the table."""

    CSS_PATH = Path(__file__).with_name("images.tcss")
    BINDINGS = KEY_BINDINGS["ImagesScreen"]
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (22, "-tall")]  # noqa: RUF012 - Textual's annotation

    def __init__(self, source: TableSource, panes: Panes) -> None:
        super().__init__(id="images")
        self.source, self._panes = source, panes
        self.table: ImageTable | None = None  # once it is drawn
        self.opened: str | None = None  # path of the image that was opened from here
        self._trail = [_Place("", None)]  # where the user has been; the present place is the last
        self._listed: Any = ()  # places of images; or models, classes or concepts
        self._progress = ""
        self._wanted: dict[str, Any] = {}  # where to go when the table is there
        self.rows = RowTable()
        self._title, self._advice, self._charts, self._detail = (
            Static(id=name, markup=False) for name in ("title", "advice", "charts", "detail")
        )
        self._charts.can_focus = True
        self._filter_line, self._note_line = AskLine("filter"), AskLine("note-line")

    def compose(self) -> ComposeResult:
        """Title, advice, table, the row under the cursor in words, keys."""
        yield from (self._title, self._advice, self.rows, self._charts, self._detail, KeyBar())
        yield from (self._filter_line, self._note_line)

    def on_mount(self) -> None:
        """Open the table."""
        self.rows.focus()
        self.app.theme_changed_signal.subscribe(self, lambda _: self.redraw())
        self.set_interval(_REFRESH, lambda: self.redraw(always=False))
        self.action_again()

    def on_unmount(self) -> None:
        """Close the table."""
        self.source.close()

    @work(group="read", exclusive=True)
    async def action_again(self) -> None:
        """Read the table; a study again, as far as a run has written it by now."""
        if self.table is not None and self.source.study is None:
            return
        self._detail.update("reading the table")
        try:
            table = await self.source.open(self.redraw)
            table.choose()
        except ClipmkError as error:
            self._detail.update(printable(str(error)))
            return
        warnings = [f"{FAILED} {one}" for one in (*table.warnings, table.notes.warning) if one]
        self._advice.update("\n".join(map(printable, [*warnings, *self.source.advice][:_ADVICE])))
        self._advice.set_classes("-warned" if warnings else "-known" if self.source.advice else "")
        self._trail = [_Place(table.a, table.b)] if self.table is None else self._trail
        self.table = table
        self.redraw()
        self.go_to(**self._wanted)

    # Drawing.

    @property
    def _here(self) -> _Place:
        return self._trail[-1]

    @property
    def _names(self) -> tuple[str, ...]:
        """Short names of the first model and the second."""
        return short_names([model for model in (self._here.model, self._here.other) if model])

    def redraw(self, *, always: bool = True) -> None:
        """Draw what is known now, the cursor on the same row; unless `always`, only if more is known."""
        more = always or self.source.progress != self._progress
        if more and self.table is not None and self.is_attached:
            self._keep_cursor()
            self._draw(self.table)

    def on_resize(self) -> None:
        """Charts are as large as the screen."""
        if self._here.view == "charts":
            self.call_after_refresh(self.redraw)

    def _draw(self, table: ImageTable) -> None:
        """Choose the images, and draw the table of this place."""
        here = self._here
        table.use(here.model, here.other)
        sort = here.sort if here.view == "images" else "image"
        places = table.choose(here.filter, sort, descending=here.descending)
        self._progress = self.source.progress
        drawn, hidden = (self._charts, self.rows) if here.view == "charts" else (self.rows, self._charts)
        drawn.display = True
        if self.focused is hidden:
            drawn.focus()
        hidden.display = False
        if drawn is self._charts:
            self._draw_charts()
        else:
            columns, row = self._rows(table, places)
            cursor = here.cursors.get(here.view, 0)
            if here.view == "images":
                cursor = int((places == cursor).argmax()) if len(places) else 0
            sign = "▼" if here.descending else "▲"
            columns = [
                one._replace(heading=f"{sign}{one.heading}") if one.key == here.sort != "image" else one
                for one in columns
            ]
            self.rows.show(columns, len(self._listed), row, cursor)
        self._draw_title(table, places)
        self._describe()

    def _rows(self, table: ImageTable, places: Places) -> tuple[list[Column], Any]:
        """The columns of this view, and what gives the row of each; keeps what is listed."""
        here, names, results = self._here, self._names, self.source.results
        if here.view == "images":
            self._listed = places
            return image_rows.image_columns(table, names), lambda at: table.row(int(places[at]))
        if here.view == "models" and results is not None:
            self._listed, columns = results.models, image_rows.model_columns(results, here.model, here.other)
        elif here.view == "classes":
            self._listed, columns = table.class_counts(places), image_rows.class_columns(names)
        else:
            self._listed = table.concept_counts(places)
            columns = image_rows.concept_columns(names, table.explained(places), table.wrong(places))
        if here.sort != "image":
            self._listed = sorted(self._listed, key=lambda one: getattr(one, here.sort) or 0, reverse=here.descending)
        return columns, self._listed.__getitem__

    def _draw_title(self, table: ImageTable, places: Places) -> None:
        here, wrong, every = self._here, table.wrong(places), counted(len(table), "image")
        of = f" of {known:,}" if (known := table.explained(places)[0]) < len(places) else ""
        facts = [
            f"{len(places):,} of {every}" if here.filter else every,
            "" if wrong is None else f"{wrong:,}{of} wrong in {self._names[0]}",
            f"filter: {here.filter}" if here.filter else "",
            f"explained {self._progress} · {keys_of(self, 'images.pause')} pauses or goes on" if self._progress else "",
        ]
        view = here.view if here.view in {"images", "models"} else f"{here.view} of {' and '.join(self._names)}"
        self._title.update(Text.assemble((view, "bold"), "  ", printable(" · ".join(filter(None, facts)))))

    def _draw_charts(self) -> None:
        if self.source.results is not None:
            from clipmk_tui.app.charts import COLOURS, charts  # noqa: PLC0415 - when shown

            colours = {name: for_rich(self.app.theme_variables[name]) for name in COLOURS}
            shown = [model for model in (self._here.model, self._here.other) if model]
            width, height = self.size.width - 2, self.size.height - 5 - self._advice.size.height
            self._charts.update(charts(self.source.results, shown, colours, width=width, height=height))

    @on(RowTable.Moved)
    @on(Input.Blurred, "#filter")
    def _describe(self) -> None:
        """The row under the cursor in words."""
        row, here = self._row, self._here
        if self.table is None or self._filter_line.is_open:
            return
        lines = [_VIEWS[here.view]] if row is None else image_rows.row_words(row, self._names)
        if not self.rows.count and here.view != "charts":
            hint = parse_filter(here.filter).hint or f"{keys_of(self, 'images.filter')} changes the filter"
            lines = [f"no image matches; {hint}"] if here.filter else ["nothing is known yet"]
        self._detail.update("\n".join(map(printable, lines)))

    @property
    def _row(self) -> ImageRow | None:
        """The image under the cursor."""
        if self.table is None or self._here.view != "images" or not self.rows.count:
            return None
        return self.table.row(int(self._listed[self.rows.cursor]))

    # Where one is.

    def _keep_cursor(self) -> None:
        at, here = self.rows.cursor, self._here
        if self.rows.count and here.view != "charts":
            here.cursors[here.view] = int(self._listed[at]) if here.view == "images" else at

    def go_to(self, **wanted: Any) -> None:
        """Go to images, at the latest when the table is there."""
        self._wanted = wanted if self.table is None else {}
        if wanted:
            self._go(view="images", **wanted)

    def _go(self, *, deeper: bool = False, **changes: Any) -> None:
        """Go somewhere else, `deeper` so that `esc` comes back; not where a filter cannot be answered."""
        table, before = self.table, self._trail
        if table is None:
            return
        self._keep_cursor()
        changes = {"sort": "image", "descending": False} | changes if "view" in changes else changes
        there = replace(self._here, cursors={} if deeper else self._here.cursors, **changes)
        self._trail = [*before, there] if deeper else [*before[:-1], there]
        try:
            self._draw(table)
        except InputError as error:  # the filter, or a damaged file
            self._say(getattr(error, "reason", str(error)), severity="warning")
            self._trail = before
            self._draw(table)

    @on(RowTable.Chosen)
    def _enter(self) -> None:
        """Open the image, or go down to what is behind a model, a class or a concept."""
        if not self.rows.count:
            return
        here, table, one = self._here, self.table, self._listed[self.rows.cursor]
        if here.view == "images":
            self.open_image()
        elif here.view == "models":
            other = None if here.other == one["model"] else here.other
            self._go(deeper=True, view="classes", model=one["model"], other=other)
        elif here.view == "classes":
            kind = "class" if table is not None and table.has_labels else "predicted"
            self._go(deeper=True, view="concepts", filter=f"{here.filter} {kind}:{quote(one.name)}".strip())
        else:
            self._go(deeper=True, view="images", filter=f"{here.filter} concept:{quote(one.text)}".strip())

    def action_back(self) -> None:
        """Where one came from; from the first place to the panes."""
        if len(self._trail) > 1:
            self._trail.pop()
            self.rows.count = 0  # its cursor is another place's
            self.redraw()
        elif self._panes.state.item is None:
            self._say(f"enter opens an image, {keys_of(self.app, 'app.quit')} quits")
        elif self.is_active:
            self.app.pop_screen()

    def action_view(self) -> None:
        """Images, models, classes, concepts, charts."""
        views = [view for view in _VIEWS if self.source.results is not None or view not in {"models", "charts"}]
        self._go(view=views[(views.index(self._here.view) + 1) % len(views)])

    def action_sort(self) -> None:
        """By the next column, one way and the other; after the last in the order of the data."""
        keys = list(dict.fromkeys(["image", *(column.key for column in self.rows.columns if column.key)]))
        here = self._here
        if here.sort != "image" and not here.descending:
            self._go(descending=True)
        else:
            self._go(sort=keys[(keys.index(here.sort) + 1) % len(keys)], descending=False)

    @on(RowTable.HeadingChosen)
    def _sort_by(self, message: RowTable.HeadingChosen) -> None:
        if message.key:
            self._go(sort=message.key, descending=message.key == self._here.sort and not self._here.descending)

    def action_neighbour(self, by: int) -> None:
        """Another first model; the second one changes places with it."""
        here, models = self._here, () if self.table is None else self.table.models
        if len(models) > 1:
            model = models[(models.index(here.model) + by) % len(models)]
            self._go(model=model, other=here.model if model == here.other else here.other)

    def action_difference(self) -> None:
        """Set a model against the first; elsewhere: images on which the two differ, only one is right, all."""
        here = self._here
        if here.view == "models":
            if (model := self._listed[self.rows.cursor]["model"]) != here.model:
                self._go(deeper=True, view="images", other=model, filter=_DIFFERENT[0])
        elif here.other is None and self.table is not None:
            self._say("there is one model; mark another to compare")
        else:
            now = next(one for one in _DIFFERENT if here.filter.endswith(one))
            after = _DIFFERENT[(_DIFFERENT.index(now) + 1) % len(_DIFFERENT)]
            self._go(filter=f"{here.filter.removesuffix(now).strip()} {after}".strip())

    # Filter, marks, notes.

    def action_filter(self) -> None:
        """Open the line for a filter."""
        example = 'wrong  a != b  p < .05  concept:"a red sail"  class:boat   enter applies'
        self._filter_line.open(example, self._here.filter)

    @on(Input.Changed, "#filter")
    @on(Input.Submitted, "#filter")
    def _check_filter(self, event: Input.Changed | Input.Submitted) -> None:
        """While it is typed, say what is wrong, and where; then apply it."""
        table = self.table
        if not self._filter_line.is_open or table is None:
            return
        try:
            parsed = parse_filter(event.value)
            if isinstance(event, Input.Submitted):
                table.choose(parsed)
        except FilterError as error:
            at = min(error.position, max(0, self.size.width - 8))
            down = "\n" * max(1, self._detail.size.height - 1)
            self._detail.update(f"{printable(error.reason)}{down}{' ' * at}▾")
            return
        self._detail.update("")
        if isinstance(event, Input.Submitted):
            self._filter_line.remember(event.value)
            self._filter_line.action_close()
            self._go(filter=event.value.strip())

    def action_mark(self) -> None:
        """Mark the image, or remove its mark."""
        if self._row is not None and self.table is not None:
            self.table.notes.mark(self._row.key, marked=not self._row.marked)
            self._show_note()

    def action_note(self) -> None:
        """Open the line for a note."""
        if self._row is not None:
            self._note_line.open("a note on this image   enter keeps it", self._row.note)

    @on(Input.Submitted, "#note-line")
    def _write_note(self, event: Input.Submitted) -> None:
        self._note_line.action_close()
        if self._row is not None and self.table is not None:
            self.table.notes.write(self._row.key, event.value)
            self._show_note()

    def _show_note(self) -> None:
        self.rows.refresh()
        self._describe()
        if self.table is not None and self.table.notes.warning:
            self._say(self.table.notes.warning, severity="warning")

    # Opening, writing.

    def step(self, by: int) -> None:
        """Open the image below or above; this screen may be covered."""
        if self._here.view == "images":
            self.rows.move_to(self.rows.cursor + by)
            self.open_image()

    @work(group="open", exclusive=True)
    async def open_image(self) -> None:
        """Show the image under the cursor in the panes, explained by the first model."""
        row = self._row
        if row is not None:
            try:
                self.opened = await self.source.show(row.place, self._here.model)
            except ClipmkError as error:
                self._say(str(error), severity="warning")
            else:
                if self.is_active:
                    self.app.pop_screen()

    def action_pause(self) -> None:
        """Stop filling the table, or go on."""
        self.source.pause(self.redraw)
        self.redraw()

    @work(group="report", exclusive=True)
    async def action_report(self) -> None:
        """Write the study's page."""
        if self.source.results is None:
            self._say("only studies have a page, once their tables are written")
            return
        from clipmk.study.report import write_report  # noqa: PLC0415

        self._say("writing the page")
        try:
            self._say(f"wrote {await asyncio.to_thread(write_report, self.source.results)}")
        except ClipmkError as error:
            self._say(str(error), severity="error")

    def _say(self, message: str, *, severity: Any = "information") -> None:
        self.notify(printable(message), severity=severity, markup=False)

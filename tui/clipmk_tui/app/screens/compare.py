"""The comparison screen: several models about one image, their columns filled as the engine answers."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Input, Static

from clipmk.errors import UNEXPECTED, ClipmkError, UsageError
from clipmk.explanation import Explanation
from clipmk.output import document
from clipmk.records import ComparedConcept, Comparison
from clipmk.system.text import printable, quoted
from clipmk.worker import protocol
from clipmk_tui.app.comparison_state import Gathered, View
from clipmk_tui.app.engine.base import AskError, Engine
from clipmk_tui.app.keys import keys_of
from clipmk_tui.app.screens.venn import VennScreen
from clipmk_tui.app.widgets.compare_grid import CompareGrid
from clipmk_tui.app.widgets.key_bar import KeyBar
from clipmk_tui.show.comparison import BEST_WORDS, headline, legend, plain_text
from clipmk_tui.show.files import slug, write_text
from clipmk_tui.show.signs import SIGN, WORD
from clipmk_tui.show.text import STAGE_WORDS, matches

if TYPE_CHECKING:
    from textual.worker import WorkType

_NOTHING: Final = View(comparison=None, places=())


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareChoice:
    """Where the user wants to go on: this model, this concept, this class."""

    model: str
    concept: str | None
    target: str | None
    """The common class; None: the model's own prediction."""


class CompareScreen(Screen[CompareChoice | None]):
    """Dismisses with the chosen model and concept, or with None.

    Args:
        engine: asked for what is not at hand; leaving the screen cancels the request.
        models: two or more, in the order of the columns.
        image: path.
        target: the class that all explain at first; None: each its own prediction.
        known: explanations at hand, by model.
        common: the class that `t` offers where `target` is None; None: the one the model under the cursor predicts.
    """

    DEFAULT_CSS = """
    CompareScreen #title { height: 1; background: $panel; padding: 0 1; }
    CompareScreen #filter { display: none; background: $panel; }
    CompareScreen #filter.open { display: block; }
    CompareScreen #detail { height: 2; background: $surface; padding: 0 1; }
    CompareScreen #legend { height: 1; color: $text-muted; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "target", "own/common class", id="compare.target"),
        Binding("v", "venn", "Venn", id="compare.venn"),
        Binding("slash", "filter", "filter", id="compare.filter"),
        Binding("w", "write", "write", id="compare.write"),
        Binding("y", "copy", "copy", id="compare.copy"),
        Binding("escape,q,c", "back", "back", id="compare.back", key_display="esc"),
    ]

    def __init__(
        self,
        engine: Engine,
        models: Sequence[str],
        image: str,
        target: str | None = None,
        known: Mapping[str, Explanation] | None = None,
        *,
        common: str | None = None,
    ) -> None:
        super().__init__()
        self._engine = engine
        self._image = image
        self._gathered = Gathered(models, image, known or {})
        self._common = common if target is None else target
        self._target = target
        self._view = _NOTHING
        self._wanted = ""
        self._notes: dict[int, str] = {}

    def compose(self) -> ComposeResult:
        """Title, table, filter, the cell under the cursor in words, legend, keys."""
        yield Static(id="title", markup=False)
        yield CompareGrid()
        yield Input(placeholder="concepts that hold ...", id="filter", compact=True)
        yield Static(id="detail", markup=False)
        yield Static(id="legend", markup=False)
        yield KeyBar()

    def on_mount(self) -> None:
        """Show what is at hand and ask for the rest."""
        self.query_one("#legend", Static).update(Text(f"{legend()}  {BEST_WORDS}", no_wrap=True, overflow="ellipsis"))
        self.app.theme_changed_signal.subscribe(self, lambda _: self._draw())
        self.query_one(CompareGrid).focus()
        self.call_after_refresh(self._begin)

    def on_resize(self, _: events.Resize) -> None:
        """Columns are as wide as there is room."""
        self.call_after_refresh(self._draw)

    def _begin(self) -> None:
        """Draw, and ask for what is missing; a request for another class is given up."""
        self._notes.clear()
        self._draw()
        work: WorkType[None] = partial(self._ask, self._target)
        self.run_worker(work, group="compare", exclusive=True, exit_on_error=True)

    async def _ask(self, target: str | None) -> None:
        missing = self._gathered.missing(target)
        if not missing:
            return
        request = protocol.Compare(models=missing, image=self._image, target=target)
        try:
            await self._engine.ask(request, lambda partial: self._heard(partial, target))
        except AskError as error:
            self._fail_missing(target, code=error.reason, message=str(error))
        else:
            self._fail_missing(target, code=UNEXPECTED, message="the engine gave no answer for this model")

    def _fail_missing(self, target: str | None, *, code: str, message: str) -> None:
        missing = self._gathered.missing(target)
        for model in missing:
            self._gathered.fail(model, target, code=code, message=message)
        if missing:
            self._draw()

    def _heard(self, partial: protocol.Partial, target: str | None) -> None:
        """One more column, or how far the next one is."""
        if isinstance(partial, protocol.ColumnReady):
            if partial.explanation is not None:
                self._gathered.add(partial.model, partial.explanation)
            else:
                self._gathered.fail(
                    partial.model,
                    target,
                    code=partial.code or UNEXPECTED,
                    message=partial.message or "it gave no reason",
                )
            self._notes.clear()
            self._draw()
        elif isinstance(partial, protocol.Progress) and target == self._target:
            awaited = [index for index, place in enumerate(self._view.places) if place is None]
            count = f" {partial.done}/{partial.total}" if partial.total > 1 else ""
            self._notes = {awaited[0]: f"{STAGE_WORDS.get(partial.stage, partial.stage)}{count}"} if awaited else {}
            if self.is_attached and awaited:
                self.query_one(CompareGrid).relabel(self._gathered.models, self._view, self._notes)

    def _draw(self) -> None:
        if not self.is_attached or not self.query(CompareGrid):
            return
        try:
            self._view = self._gathered.view(self._target)
        except UsageError as error:
            self._tell(str(error), severity="error")
            return
        self.query_one(CompareGrid).show(self._gathered.models, self._view, self._rows(), self._notes)
        self._draw_title()

    def _rows(self) -> list[ComparedConcept]:
        made = self._view.comparison
        return [row for row in made.rows if matches(self._wanted, row.text)] if made is not None else []

    def _draw_title(self) -> None:
        made = self._view.comparison
        waiting = sum(place is None for place in self._view.places)
        parts: list[str | tuple[str, str]] = [
            ("compare  ", "bold"),
            printable(Path(self._image).name),
            f"  {headline(self._target)}",
        ]
        if waiting:
            parts.append(f"  {waiting} of {len(self._view.places)} awaited · {keys_of(self, 'compare.back')} gives up")
        if self._wanted:
            parts.append(f"  / {printable(self._wanted)}: {len(self._rows())} of {len(made.rows) if made else 0}")
        self.query_one("#title", Static).update(Text.assemble(*parts, no_wrap=True, overflow="ellipsis"))

    @on(CompareGrid.Moved)
    def _draw_detail(self) -> None:
        """The cell under the cursor in words, nothing shortened that fits into two lines."""
        self.query_one("#detail", Static).update(Text(printable(self._detail()), overflow="ellipsis"))

    def _detail(self) -> str:
        grid, made = self.query_one(CompareGrid), self._view.comparison
        if grid.model_index >= len(self._view.places):
            return ""
        model, place = self._gathered.models[grid.model_index], self._view.places[grid.model_index]
        if made is None or place is None:
            return f"{model}: awaited"
        column = made.columns[place]
        if column.error is not None:
            return f"{model}: {column.error.message}"
        row = next((row for row in made.rows if row.text == grid.concept), None)
        cell = None if row is None else row.cells[place]
        if row is None or cell is None:
            return f"{model} explains {quoted(column.class_name or '')}"
        if cell.status == "none":
            return f"{row.text}: neither seen by {model} nor tied to {quoted(column.class_name or '')}"
        numbers = [f"importance {cell.importance:.3f}"] if cell.importance is not None else []
        numbers += (
            [f"cosine with {quoted(column.class_name or '')} {cell.cosine:.3f}"] if cell.cosine is not None else []
        )
        return f"{SIGN[cell.status]} {row.text}: {WORD[cell.status]} for {model}, {', '.join(numbers)}"

    @on(CompareGrid.Chosen)
    def action_choose(self) -> None:
        """Go on in the main screen with the model and the concept under the cursor."""
        grid, made = self.query_one(CompareGrid), self._view.comparison
        index = grid.model_index
        place = self._view.places[index] if index < len(self._view.places) else None
        if made is not None and place is not None and made.columns[place].error is not None:
            self._tell(f"{made.columns[place].id} has no explanation to go to", severity="warning")
            return
        model = self._gathered.models[index]
        self.dismiss(CompareChoice(model=model, concept=grid.concept, target=self._target))

    def action_target(self) -> None:
        """Own prediction of each model, or one class for all."""
        if self._target is None:
            common = self._common or self._predicted()
            if common is None:
                self._tell("no model has answered yet: there is no class that all could explain", severity="warning")
                return
            self._target = common
        else:
            self._common, self._target = self._target, None
        self._begin()

    def _predicted(self) -> str | None:
        """The class that the model under the cursor predicts, else the one that most predict."""
        made = self._view.comparison
        if made is None:
            return None
        place = self._view.places[self.query_one(CompareGrid).model_index]
        predictions = made.columns[place].predictions if place is not None else ()
        return predictions[0].class_name if predictions else made.agreed_class

    def action_venn(self) -> None:
        """The shared knowledge of the model under the cursor as a picture."""
        model = self._gathered.models[self.query_one(CompareGrid).model_index]
        explanation = self._gathered.explanation(model, self._target)
        if explanation is None:
            self._tell(f"{model} has no explanation to show", severity="warning")
        else:
            self.app.push_screen(VennScreen(explanation))

    def action_filter(self) -> None:
        """Ask for a text that concepts must hold."""
        field = self.query_one("#filter", Input)
        field.add_class("open")
        field.focus()

    @on(Input.Changed, "#filter")
    def _filter(self, event: Input.Changed) -> None:
        self._wanted = event.value
        self._draw()

    @on(Input.Submitted, "#filter")
    def _keep_filter(self) -> None:
        self._close_filter()

    def _close_filter(self) -> None:
        self.query_one("#filter", Input).remove_class("open")
        self.query_one(CompareGrid).focus()

    def action_back(self) -> None:
        """Close the filter, where it is open or set; else leave."""
        field = self.query_one("#filter", Input)
        if field.has_class("open") or field.value:
            field.value = ""
            self._close_filter()
        else:
            self.dismiss(None)

    def action_copy(self) -> None:
        """The whole table as text, to the clipboard."""
        if self._view.comparison is None:
            self._tell("there is nothing to copy yet", severity="warning")
            return
        self.run_worker(self._copy(self._view.comparison), group="copy", exclusive=True, exit_on_error=True)

    async def _copy(self, made: Comparison) -> None:
        self.app.copy_to_clipboard(await asyncio.to_thread(plain_text, made))
        self._tell("the table is on the clipboard")

    def action_write(self) -> None:
        """The comparison as JSON, beside whatever was written before."""
        made = self._view.comparison
        if made is None:
            self._tell("there is nothing to write yet", severity="warning")
            return
        results = [result for result in self._gathered.results(self._target) if result is not None]
        text = document.dump(document.comparison_document(made, results)) + "\n"
        self.run_worker(self._write(text, len(results)), group="write", exit_on_error=True)

    async def _write(self, text: str, count: int) -> None:
        try:
            name = await asyncio.to_thread(_write_beside, text, self._image)
        except ClipmkError as error:
            self._tell(str(error), severity="error")
        except OSError as error:
            self._tell(f"the comparison cannot be written: {error.strerror or error}", severity="error")
        else:
            awaited = len(self._gathered.models) - count
            self._tell(f"wrote {name}" + (f" without the {awaited} models still awaited" if awaited else ""))

    def _tell(self, message: str, *, severity: str = "information") -> None:
        self.notify(printable(message), severity=severity, markup=False)  # type: ignore[arg-type]


def _write_beside(text: str, image: str) -> str:
    """Write a comparison about an image into the working folder; the name of the file.

    Raises:
        ClipmkError: it cannot be written, or there is no working folder any more.
        OSError: the folder cannot be looked at.
    """
    try:
        folder = Path.cwd()
    except FileNotFoundError as reason:
        raise ClipmkError("the comparison cannot be written: the working folder does not exist any more") from reason
    path = _free_path(folder, f"clipmk-compare-{slug(Path(image).stem)}")
    write_text(text, path)
    return path.name


def _free_path(folder: Path, stem: str) -> Path:
    """STEM.json, else STEM-2.json, ...: nothing is replaced."""
    names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
    return next(path for name in names if not (path := folder / f"{name}.json").exists())

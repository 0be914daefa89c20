"""The comparison screen: several models about one image, their columns filled as the engine answers."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.reactive import var
from textual.widgets import Static

from clipmk.errors import UNEXPECTED, ClipmkError, UsageError
from clipmk.explanation import Explanation
from clipmk.output import document
from clipmk.pipeline.comparison import compare
from clipmk.records import Comparison, Failure
from clipmk.system.text import printable, quoted, slug
from clipmk.worker import protocol
from clipmk.worker.protocol import RequestError
from clipmk_tui.app.key_hints import keys_of
from clipmk_tui.app.screens.dialog import ClosedOnce
from clipmk_tui.app.screens.venn import VennScreen
from clipmk_tui.app.widgets.compare_grid import CompareGrid, ComparisonView
from clipmk_tui.app.widgets.filtered_pane import FilteredPane
from clipmk_tui.app.widgets.key_bar import KeyBar
from clipmk_tui.app.widgets.status import stage_text
from clipmk_tui.show.comparison import BEST_WORDS, headline, legend, plain_text
from clipmk_tui.show.files import write_text
from clipmk_tui.show.signs import SIGN, WORD
from clipmk_tui.show.text import matches

if TYPE_CHECKING:
    from clipmk_tui.app.engine.worker import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareChoice:
    """What to show in the main screen: this model, this concept, this class."""

    model: str
    concept: str | None
    target: str | None
    """The common class; None: the model's own prediction."""


class CompareScreen(ClosedOnce[CompareChoice | None]):
    """Closes with the chosen model and concept, or with None.

    Args:
        engine: asked for what is missing; leaving the screen cancels the request.
        models: two or more, in the order of the columns.
        image: path.
        target: the class that all explain at first; None: each its own prediction.
        known: explanations already made, by model.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "target", "own/common class", id="compare.target"),
        Binding("v", "venn", "Venn", id="compare.venn"),
        Binding("slash", "filter", "filter", id="compare.filter"),
        Binding("w", "write", "write", id="compare.write"),
        Binding("y", "copy", "copy", id="compare.copy"),
        Binding("escape,q,c", "dismiss", "back", id="compare.back", key_display="esc"),
    ]

    view: var[ComparisonView] = var(ComparisonView(), init=False)

    def __init__(
        self,
        engine: Engine,
        models: Sequence[str],
        image: str,
        target: str | None = None,
        known: Mapping[str, Explanation] | None = None,
    ) -> None:
        super().__init__(id="comparison")
        self._engine = engine
        self._models, self._image = tuple(models), image
        self._target = self._common = target
        """The class that all explain (None: each its own prediction), and the one to turn back to."""
        known = {} if known is None else known
        self._held = {model: {known[model].class_name: known[model]} if model in known else {} for model in models}
        """Model -> class -> explanation."""
        self._failed: dict[tuple[str, str | None], Failure] = {}
        """(model, class asked for) -> why there is no explanation."""
        self._title = Static(id="title", markup=False)
        self._detail_line = Static(id="detail", markup=False)
        self._grid = CompareGrid(models)
        self._pane = FilteredPane(self._grid, "concepts that contain ...")

    def compose(self) -> ComposeResult:
        """Title, table with its filter, the cell under the cursor in words, legend, keys."""
        yield self._title
        yield self._pane
        yield self._detail_line
        yield Static(Text(f"{legend()}  {BEST_WORDS}", no_wrap=True, overflow="ellipsis"), id="legend", markup=False)
        yield KeyBar()

    def on_mount(self) -> None:
        """Show what is there and ask for the rest."""
        self.app.theme_changed_signal.subscribe(self, lambda _: self._grid.refresh())
        self._grid.focus()
        self._begin()

    def _begin(self) -> None:
        """Draw, and ask for what is missing; a request for another class is cancelled."""
        self._refresh_view()
        self._ask(self._target)

    @work(group="compare", exclusive=True)
    async def _ask(self, target: str | None) -> None:
        missing = self._missing(target)
        if not missing:
            return
        request = protocol.Compare(models=missing, image=self._image, target=target)
        code, message = UNEXPECTED, "the engine gave no answer for this model"
        try:
            await self._engine.ask(request, lambda partial: self._take(partial, target))
        except RequestError as error:
            code, message = error.reason, str(error)
        for model in self._missing(target):
            self._fail(model, target, code, message)
        self._refresh_view()

    def _take(self, partial: protocol.Partial, target: str | None) -> None:
        """One more column, or how far the next one is."""
        if isinstance(partial, protocol.ColumnReady):
            if partial.explanation is not None:
                self._held[partial.model][partial.explanation.class_name] = partial.explanation
            else:
                code, message = partial.code or UNEXPECTED, partial.message or "it gave no reason"
                self._fail(partial.model, target, code, message)
            self._refresh_view()
        elif isinstance(partial, protocol.Progress) and target == self._target and self.is_attached:
            self._grid.note = stage_text(partial.stage, partial.done, partial.total)

    def _fail(self, model: str, target: str | None, code: str, message: str) -> None:
        paths = (one.image.path for held in self._held.values() for one in held.values())  # as the explanations name it
        path = next((path for path in paths if path is not None), self._image)
        failure = Failure(path=path, model=model, code=code, message=message, exit_status=1)
        self._failed[model, target] = failure

    def _result(self, model: str, target: str | None) -> Explanation | Failure | None:
        """What a model answered for a class (None: the one it predicts), or would answer; None: still awaited."""
        for held in self._held[model].values():
            wanted = held.predictions[0].class_name if target is None else target
            if wanted in held.classes:
                return held.for_class(wanted)
        return self._failed.get((model, target))

    def _missing(self, target: str | None) -> tuple[str, ...]:
        """The models that have neither answered nor failed."""
        return tuple(model for model in self._models if self._result(model, target) is None)

    def _results(self) -> list[Explanation | Failure]:
        """Those there are, in the order of the models."""
        results = (self._result(model, self._target) for model in self._models)
        return [result for result in results if result is not None]

    def _refresh_view(self) -> None:
        """Compare the answers so far."""
        results, missing, numbers = self._results(), self._missing(self._target), itertools.count()
        try:
            comparison = compare(results, target=self._target) if results else None
        except UsageError as error:
            self._say(str(error), severity="error")
            return
        places = tuple(None if model in missing else next(numbers) for model in self._models)
        self.view = ComparisonView(comparison=comparison, places=places)

    @on(FilteredPane.Changed)
    def watch_view(self) -> None:
        """Draw the table as the filter leaves it, and the title."""
        view = self.view
        if not self.is_attached:
            return
        wanted = self._pane.filter_text
        rows = [row for row in view.rows if matches(wanted, row.text)]
        self._grid.show(view, rows)
        parts: list[str | tuple[str, str]] = [("compare  ", "bold"), printable(Path(self._image).name)]
        if view.awaited:
            waiting = f"waiting for {len(view.awaited)} of {len(view.places)} models"
            parts.append(f"  {waiting} · {keys_of(self, 'compare.back')} cancels")
        parts.append(f"  {headline(self._target)}")
        if wanted:
            parts.append(f"  / {printable(wanted)}: {len(rows)} of {len(view.rows)}")
        self._title.update(Text.assemble(*parts, no_wrap=True, overflow="ellipsis"))

    @on(CompareGrid.Moved)
    def _show_detail(self) -> None:
        """The cell under the cursor in words, nothing shortened that fits into two lines."""
        self._detail_line.update(Text(printable(self._detail()), overflow="ellipsis"))

    def _detail(self) -> str:
        view, model = self.view, self._models[self._grid.model_index]
        column = view.column(self._grid.model_index)
        if column is None:
            return f"{model}: waiting for its answer"
        if column.error is not None:
            return f"{model}: {column.error.message}"
        class_name = quoted(column.class_name or "")
        row = next((row for row in view.rows if row.text == self._grid.concept), None)
        cell = None if row is None else row.cells[view.places[self._grid.model_index] or 0]
        if row is None or cell is None:
            return f"{model} explains {class_name}"
        if cell.status == "none":
            return f"{row.text}: neither seen by {model} nor tied to {class_name}"
        numbers = [f"importance {cell.importance:.3f}"] if cell.importance is not None else []
        numbers += [f"cosine with {class_name} {cell.cosine:.3f}"] if cell.cosine is not None else []
        return f"{SIGN[cell.status]} {row.text}: {WORD[cell.status]} for {model}, {', '.join(numbers)}"

    @on(CompareGrid.Chosen)
    def _choose(self) -> None:
        """Go on in the main screen with the model and the concept under the cursor."""
        column = self.view.column(self._grid.model_index)
        if column is not None and column.error is not None:
            self._say(f"{column.id} has no explanation to go to", severity="warning")
            return
        model = self._models[self._grid.model_index]
        self.dismiss(CompareChoice(model=model, concept=self._grid.concept, target=self._target))

    def action_target(self) -> None:
        """Own prediction of each model, or one class for all."""
        if self._target is not None:
            self._common, self._target = self._target, None
        else:
            self._target = self._common or self._predicted()
            if self._target is None:
                self._say("no model has answered yet, so no class can be common to all", severity="warning")
                return
        self._begin()

    def _predicted(self) -> str | None:
        """The class that the model under the cursor predicts, else the one that most predict."""
        column = self.view.column(self._grid.model_index)
        if column is not None and column.predictions:
            return column.predictions[0].class_name
        return None if self.view.comparison is None else self.view.comparison.agreed_class

    def action_venn(self) -> None:
        """The shared knowledge of the model under the cursor as a picture."""
        model = self._models[self._grid.model_index]
        explanation = self._result(model, self._target)
        if not isinstance(explanation, Explanation):
            self._say(f"{model} has no explanation to show", severity="warning")
        elif self.is_active:
            self.app.push_screen(VennScreen(explanation))

    def action_filter(self) -> None:
        """Ask for a text that concepts must contain."""
        self._pane.action_filter()

    def action_copy(self) -> None:
        """The whole table as text, to the clipboard."""
        if self.view.comparison is None:
            self._say("there is nothing to copy yet", severity="warning")
        else:
            self._copy(self.view.comparison)

    @work(group="copy", exclusive=True)
    async def _copy(self, comparison: Comparison) -> None:
        self.app.copy_to_clipboard(await asyncio.to_thread(plain_text, comparison))
        self._say("the table is on the clipboard")

    def action_write(self) -> None:
        """The comparison as JSON; no file is replaced."""
        if self.view.comparison is None:
            self._say("there is nothing to write yet", severity="warning")
            return
        text = document.dump(document.comparison_document(self.view.comparison, self._results())) + "\n"
        self._write(text, len(self.view.awaited))

    @work(group="write")
    async def _write(self, text: str, awaited: int) -> None:
        try:
            name = await asyncio.to_thread(_write_beside, text, self._image)
        except ClipmkError as error:
            self._say(str(error), severity="error")
        except OSError as error:
            self._say(f"the comparison cannot be written: {error.strerror or error}", severity="error")
        else:
            self._say(f"wrote {name}" + (f" without the {awaited} models that have not answered" if awaited else ""))

    def _say(self, message: str, *, severity: Any = "information") -> None:
        self.notify(printable(message), severity=severity, markup=False)


def _write_beside(text: str, image: str) -> str:
    """Write a comparison about an image into the working folder; the name of the file.

    Raises:
        ClipmkError: it cannot be written, or the working folder does not exist any more.
        OSError: the folder cannot be listed.
    """
    try:
        folder = Path.cwd()
    except FileNotFoundError as reason:
        raise ClipmkError("the comparison cannot be written: the working folder does not exist any more") from reason
    stem = f"clipmk-compare-{slug(Path(image).stem)}"
    names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))  # nothing is replaced
    path = next(path for name in names if not (path := folder / f"{name}.json").exists())
    write_text(text, path)
    return path.name

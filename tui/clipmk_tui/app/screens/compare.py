"""The comparison screen: several models about one image, their columns filled as the engine answers."""

import asyncio
import itertools
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult

from clipmk.comparison import ComparedModel, Comparison
from clipmk.errors import ClipmkError
from clipmk.explanation import Explanation
from clipmk.output import document
from clipmk.system.files import write_text
from clipmk.system.text import printable, quoted, slug
from clipmk_tui.app.answers import Answers
from clipmk_tui.app.bindings import KEY_BINDINGS
from clipmk_tui.app.concept_rows import asked_words
from clipmk_tui.app.questions import Questions
from clipmk_tui.app.screens.comparing import ComparingScreen
from clipmk_tui.app.screens.difference import DifferenceScreen
from clipmk_tui.app.screens.venn import VennScreen
from clipmk_tui.app.widgets.compare_grid import CompareGrid
from clipmk_tui.app.widgets.filtered_pane import FilteredPane
from clipmk_tui.show import comparison as words
from clipmk_tui.show.comparison_table import Row, short_names


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareChoice:
    """What to show in the main screen: this model, this concept, this class."""

    model: str
    concept: str | None
    target: str | None  # the class to explain; None: the model's own prediction


class CompareScreen(ComparingScreen[CompareChoice | None]):
    """Compares two models or more, in the order of the columns; closes with what was chosen there, or with None."""

    BINDINGS = KEY_BINDINGS["CompareScreen"]

    VERTICAL_BREAKPOINTS = [(0, "-flat"), (20, "-tall")]  # noqa: RUF012 - Textual's annotation
    topic = "compare"
    signs = f"{words.legend()}  {words.BEST_WORDS}"

    def __init__(self, questions: Questions, models: tuple[str, ...], target: str | None) -> None:
        super().__init__(Answers(questions, target), models, id="comparison")
        self._grid = CompareGrid(models.index(model) if (model := questions.state.model) in models else 0)
        self._pane = FilteredPane(self._grid, "concepts that contain ...")

    def compose_middle(self) -> ComposeResult:
        """The table with its filter."""
        yield self._pane

    def on_mount(self) -> None:
        """Show what is there and ask for the rest."""
        self.app.theme_changed_signal.subscribe(self, lambda _: self._grid.refresh())
        self._grid.focus()
        self.begin()

    @on(FilteredPane.Changed)
    def watch_view(self) -> None:
        """Draw the table as the filter leaves it, and what is above it."""
        made = self.view.comparison
        self._grid.show(self.view, self.view.rows(self._pane.filter_text))
        found = [] if made is None else [words.answer_sentence(made), words.separating(made)]
        self._legend.update(f"{words.legend(made)}  {words.BEST_WORDS}")
        sentences = "\n".join(printable(words.sentence(one)) for one in found if one)
        self._sentences.update(Text(sentences, overflow="ellipsis"))
        self.show_title()

    def show_title(self, more: str = "") -> None:
        """Also say how many concepts the filter leaves."""
        wanted, made = self._pane.filter_text, self.view.comparison
        left, of = sum(not row.is_class for row in self._grid.rows), 0 if made is None else len(made.rows)
        found = f"  / {printable(wanted)}: {left} of {of}" if wanted else ""
        super().show_title(found + more)

    @on(CompareGrid.Moved)
    def _show_detail(self) -> None:
        """The cell under the cursor in words, the numbers of its model, and which models see what it sees."""
        text = Text("\n".join(map(printable, self._details())), overflow="ellipsis")
        column = self.view.column(self._grid.model_index)
        self._detail.set_class(column is not None and column.error is not None, "-failed")
        self._detail.update(text)

    def _details(self) -> list[str]:
        view, index = self.view, self._grid.model_index
        model, column, made = self._model, view.column(index), view.comparison
        if made is None or column is None:
            return [f"{model}: waiting for its answer"]
        if column.error is not None:
            return [f"{model} failed: {column.error.message}"]
        row, place, names = self._grid.row, view.places[index] or 0, short_names([one.id for one in made.columns])
        pairs = zip(made.similarity.vision[place], names, strict=True)
        near = sorted(((value, name) for at, (value, name) in enumerate(pairs) if at != place and value), reverse=True)
        alikes = "  ".join(f"{name} {100 * value:.0f} %" for value, name in near)
        asked = None if row is None or row.is_class else self._answers.asked(model, row.text)
        said = "" if row is None else _row_words(row, column, made, place)
        return [
            said if asked is None else f"{asked.text}: {'; '.join(asked_words(asked))}",
            _strength_words(column, names[place]),
            f"concepts in common with  {alikes or 'no other model'}",
        ]

    @property
    def _model(self) -> str:
        """The model under the cursor."""
        return self._models[self._grid.model_index]

    @on(CompareGrid.Chosen)
    def _choose(self) -> None:
        """Go on in the main screen with the model and the concept or class under the cursor."""
        column = self.view.column(self._grid.model_index)
        if column is not None and column.error is not None:
            self.say(f"{column.id} has no explanation to go to", severity="warning")
            return
        row, target, concept = self._grid.row, self._answers.target, None
        if row is not None and row.is_class:
            target = row.text
        elif row is not None:
            concept = row.text
        self.dismiss(CompareChoice(model=self._model, concept=concept, target=target))

    def action_difference(self) -> None:
        """The model under the cursor beside the next one that says something else."""
        index, count = self._grid.model_index, len(self._models)
        if not self.is_active or count < 2:
            return
        columns = map(self.view.column, range(count))
        answers = [column and column.predictions and column.predictions[0].class_name for column in columns]
        others = [(index + step) % count for step in range(1, count)]
        other = next((one for one in others if answers[one] and answers[one] != answers[index]), others[0])
        self.workers.cancel_group(self, "answers")  # the pair goes first; the others are asked again afterwards
        self.app.push_screen(DifferenceScreen(self._answers, self._models, (index, other)), lambda _: self.begin())

    def action_venn(self) -> None:
        """The shared knowledge of the model under the cursor as a picture."""
        explanation = self._answers.result(self._model)
        if not isinstance(explanation, Explanation):
            self.say(f"{self._model} has no explanation to show", severity="warning")
        elif self.is_active:
            self.app.push_screen(VennScreen(explanation))

    def action_filter(self) -> None:
        """Ask for a text that concepts must contain."""
        self._pane.action_filter()

    def action_copy(self) -> None:
        """The whole table as text, to the clipboard."""
        if self.view.comparison is None:
            self.say("there is nothing to copy yet", severity="warning")
        else:
            self._copy(self.view.comparison)

    @work(group="copy", exclusive=True)
    async def _copy(self, comparison: Comparison) -> None:
        self.app.copy_to_clipboard(await asyncio.to_thread(words.plain_text, comparison))
        self.say("the table is on the clipboard")

    def action_write(self) -> None:
        """The comparison as JSON; no file is replaced."""
        if self.view.comparison is None:
            self.say("there is nothing to write yet", severity="warning")
            return
        results = [result for result in map(self._answers.result, self._models) if result is not None]
        text = document.dump(document.comparison_document(self.view.comparison, results)) + "\n"
        self._write(text, self._answers.image, len(self.view.awaited))

    @work(group="write")
    async def _write(self, text: str, image: str, awaited: int) -> None:
        try:
            name = await asyncio.to_thread(_write_beside, text, image)
        except ClipmkError as error:
            self.say(str(error), severity="error")
        except OSError as error:
            self.say(f"the comparison cannot be written: {error.strerror or error}", severity="error")
        else:
            self.say(f"wrote {name}" + (f" without the {awaited} models that have not answered" if awaited else ""))


def _strength_words(column: ComparedModel, name: str) -> str:
    """What a model answers, and how strong its shared knowledge is."""
    says, share, *_, curve = words.model_facts(column)
    if column.mutual is None:
        return f"{name} failed"
    best = f" {words.BEST}" if column.best_in_family else ""
    other = "" if column.class_name == column.predictions[0].class_name else f"for {quoted(str(column.class_name))} "
    return f"{name} says {says} {share} · {other}{words.strength_line(column.mutual)}{best}  {curve}"


def _row_words(row: Row, column: ComparedModel, made: Comparison, place: int) -> str:
    """What a model says of the class or concept of a row."""
    if row.is_class:
        found = next((one for one in column.predictions if one.class_name == row.text), None)
        if found is None:
            return f"{row.text}: not among the {len(column.predictions)} first classes of {column.id}"
        share = f"{100 * found.probability:.1f} %, cosine {found.cosine:.3f}"
        return f"{row.text}: rank {found.rank} for {column.id}, {share}"
    cell = next((one.cells[place] for one in made.rows if one.text == row.text), None)
    return "" if cell is None else words.cell_words(row.text, cell, column)


def _write_beside(text: str, image: str) -> str:
    """Write a comparison about an image into the working folder, and return the name of the file."""
    try:
        folder = Path.cwd()
    except FileNotFoundError as reason:
        raise ClipmkError("the comparison cannot be written: the working folder does not exist any more") from reason
    stem = f"clipmk-compare-{slug(Path(image).stem)}"
    names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))  # nothing is replaced
    path = next(path for name in names if not (path := folder / f"{name}.json").exists())
    write_text(text, path)
    return path.name

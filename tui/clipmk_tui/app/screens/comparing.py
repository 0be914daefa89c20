"""What the screens that compare models have in common: image, class and what is asked, and the lines around it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.reactive import var
from textual.widgets import Static

from clipmk.errors import UsageError
from clipmk.system.text import printable
from clipmk.worker import protocol
from clipmk_tui.app.answers import Answers
from clipmk_tui.app.bindings import keys_of
from clipmk_tui.app.screens.choose_class import OWN, ChooseClassScreen
from clipmk_tui.app.screens.dialog import ClosedOnce
from clipmk_tui.app.widgets.compare_grid import ComparisonView
from clipmk_tui.app.widgets.lines import KeyBar, stage_text
from clipmk_tui.show.comparison import headline, legend

ResultT = TypeVar("ResultT")


class ComparingScreen(ClosedOnce[ResultT]):
    """Shows what models answer about one image; another image or class, or leaving it, cancels what is asked.

    Its help has the name of its id.
    """

    CSS_PATH = Path(__file__).with_name("comparing.tcss")

    view: var[ComparisonView] = var(ComparisonView(), init=False, always_update=True)  # what is drawn

    topic: ClassVar[str]  # first word of the title, and of the ids of the bindings
    signs: ClassVar[str] = legend()  # what the line at the bottom explains

    def __init__(self, answers: Answers, models: tuple[str, ...], *, id: str) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._answers, self._models = answers, models
        self._work = ""  # how far the next answer is
        self._title = Static(id="title", markup=False)
        self._sentences = Static(id="sentences", markup=False)
        self._legend = Static(self.signs, id="legend", markup=False)
        self._detail = Static(id="detail", markup=False)

    def compose(self) -> ComposeResult:
        """Title, the answer in sentences, what is between, what the cursor is on in words, legend, keys."""
        yield self._title
        yield self._sentences
        yield from self.compose_middle()
        yield self._detail
        yield self._legend
        yield KeyBar()

    def compose_middle(self) -> ComposeResult:
        """What the screen is about."""
        raise NotImplementedError

    @property
    def shown(self) -> Sequence[str]:
        """Ids of the models that are shown."""
        return self._models

    def begin(self) -> None:
        """Draw, and ask for what is missing."""
        self._work = ""
        self.compare()
        self._ask()

    def compare(self) -> None:
        """Draw the answers so far."""
        try:
            self.view = self._answers.view(self.shown)
        except UsageError as error:
            self.say(str(error), severity="error")

    def show_title(self, more: str = "") -> None:
        """Say what is compared, what is awaited, which class is explained, and what `more` there is to say."""
        view = self.view
        waiting = f"  waiting for {len(view.awaited)} of {len(view.places)} models"
        cancels = f" · {keys_of(self, f'{self.topic}.back')} cancels{f' · {self._work}' if self._work else ''}"
        whole = "  nothing is left out here" if self._answers.state.left_out else ""
        parts = (printable(self._answers.state.title), f"{waiting}{cancels}" if view.awaited else "", more, whole)
        ending = f"  {headline(self._answers.target)}"
        self._title.update(
            Text.assemble((f"{self.topic}  ", "bold"), *parts, ending, no_wrap=True, overflow="ellipsis")
        )

    def say(self, message: str, *, severity: Any = "information") -> None:
        """Show a message."""
        self.notify(printable(message), severity=severity, markup=False)

    @work(group="answers", exclusive=True)
    async def _ask(self) -> None:
        await self._answers.ask(self.shown, self._report)

    def _report(self, progress: protocol.Progress | None) -> None:
        """One more answer, or how far the next one is."""
        self._work = "" if progress is None else stage_text(progress.stage, progress.done, progress.total)
        if not self.is_attached:
            return
        if progress is None:
            self.compare()
        else:
            self.show_title()

    def action_step(self, by: int) -> None:
        """Another image."""
        if self._answers.state.step(by):
            self._answers.target = None
            self.begin()

    def action_target(self) -> None:
        """Choose the class that all explain, or each its own prediction."""
        if self.is_active:
            own, current = "each model's own prediction", self._answers.target
            classes = self._answers.state.classes
            self.app.push_screen(ChooseClassScreen(classes, current=current, own=own), self._turn_to)

    def _turn_to(self, class_name: str | None) -> None:
        if class_name is not None:
            self._answers.target = None if class_name == OWN else class_name
            self.begin()

"""The main screen: the first frame, the keys, and the screens and dialogs that open above it."""

from __future__ import annotations

import asyncio
import gc
import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.reactive import Reactive
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input, Static

from clipmk.errors import ClipmkError
from clipmk.system.text import printable
from clipmk_tui.app.bindings import KEY_BINDINGS, keys_of
from clipmk_tui.app.widgets.lines import AskLine, KeyBar, StatusLine, stage_text

if TYPE_CHECKING:
    from clipmk.worker.session import Session
    from clipmk_tui.app.engine.worker import Engine
    from clipmk_tui.app.messages import WorkProgress
    from clipmk_tui.app.panes import Panes
    from clipmk_tui.app.screens.compare import CompareChoice
    from clipmk_tui.app.screens.images import ImagesScreen
    from clipmk_tui.app.start_options import StartOptions
    from clipmk_tui.app.state import State

_WIDE = 100  # columns from which all four panes have places of their own

_TOO_SMALL = "clipmk needs at least 60 columns and 16 rows"

_THRESHOLDS = (10_000, 20, 50)
"""Of the garbage collector while the app runs: many small objects come and go with every frame."""


class MainScreen(Screen[None]):
    """Everything about one image and one model; `engine` is called after the first frame."""

    HORIZONTAL_BREAKPOINTS = [(0, "-small"), (60, "-narrow"), (_WIDE, "-wide"), (160, "-huge")]  # noqa: RUF012 - Textual's annotation
    VERTICAL_BREAKPOINTS = [(0, "-low"), (16, "-flat"), (22, "-tall")]  # noqa: RUF012
    BINDINGS = KEY_BINDINGS["MainScreen"]
    focused: Reactive[Widget | None] = Reactive(None, repaint=False)  # Textual's redraws the whole screen

    def __init__(self, options: StartOptions, engine: Callable[[], Engine]) -> None:
        super().__init__()
        self._options = options
        self._engine = engine
        self._panes: Panes | None = None  # once it has replaced the empty frames
        self._before_zoom: Widget | None = None
        self._images: ImagesScreen | None = None  # the table of images, once it was opened
        self.status = StatusLine()
        self.ask_line = AskLine()

    # Beginning.

    def compose(self) -> ComposeResult:
        """Status line, the frames of the panes, keys: what it takes for a first frame."""
        self.set_class(self.app.size.width < _WIDE, "-narrow")  # the breakpoints come only after it
        yield self.status
        with Container(id="panes", classes="empty"):  # as in `Panes`
            yield _frame("image", "image")
            with Vertical(id="middle"):
                yield _frame("predictions", "predictions")
                yield _frame("models", "models")
            yield _frame("concepts", "why")
        yield KeyBar()
        yield self.ask_line

    def on_mount(self) -> None:
        """Begin once the first frame is painted."""
        self.call_after_refresh(self._begin)

    @work(group="begin")
    async def _begin(self) -> None:
        """Replace the frames by panes, imported beside the event loop; start the engine; open the images."""
        await asyncio.to_thread(importlib.import_module, "clipmk_tui.app.panes")
        from clipmk_tui.app.panes import Panes  # noqa: PLC0415

        options = self._options
        panes = Panes(options.models, self._engine(), options.session, options.graphics, options.default)
        with self.app.batch_update():
            await self.query_one("#panes").remove()
            await self.mount(panes, Static(_TOO_SMALL, id="too-small", markup=False), after=self.status)
            self._panes = panes
            self.watch(panes, "view", self.status.show)
            self._place_panes()
            self.set_focus(panes.concepts.concept_tree)
        self.refresh_bindings()
        gc.freeze()  # a full collection would look at all that is loaded by now, and stall the app meanwhile
        gc.set_threshold(*_THRESHOLDS)
        await panes.start()
        if options.study is None:
            panes.open(options.paths)
        else:
            await self.action_images()
        if options.note:
            self.notify(printable(options.note), severity="warning", timeout=10, markup=False)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """No key of the panes does anything before they are there."""
        return self._panes is not None or not hasattr(self, f"action_{action}")

    @property
    def panes(self) -> Panes:
        """The panes and what they show; RuntimeError before they are there."""
        if self._panes is None:
            raise RuntimeError("the panes are not there yet")
        return self._panes

    @property
    def state(self) -> State:
        """What is shown."""
        return self.panes.state

    def on_screen_suspend(self) -> None:
        """Real pixels would cover what comes."""
        if self._panes is not None:
            self._panes.image.take_away()

    def on_resize(self) -> None:
        """In a narrow terminal predictions and models share a place."""
        self.call_after_refresh(self._place_panes)

    def on_work_progress(self, message: WorkProgress) -> None:
        """Say what the engine works on."""
        self.status.work = stage_text(message.stage, message.done, message.total)

    def _place_panes(self) -> None:
        if self._panes is not None:
            self._panes.adapt(narrow=self.has_class("-narrow"), zoomed=self.has_class("-zoomed"))

    # Keys.

    def action_next_pane(self) -> None:
        """Go to the next pane; where predictions and models share a place, to the one not shown."""
        self.action_pane(self.panes.pane_after(self.focused) + 1)

    def action_pane(self, place: int) -> None:
        """Go to a pane by its number, from 1."""
        pane = self.panes.show_pane(place - 1)
        self.remove_class("-zoomed")
        self._place_panes()
        self.set_focus(pane)

    def action_step(self, by: int) -> None:
        """Another image; of those in the table, if this one was opened there."""
        if self._images is not None and self._is_from_table:
            self._images.step(by)
        elif self.state.step(by):
            self.panes.show()

    def action_neighbour(self, by: int) -> None:
        """Another model; everything else stays."""
        self.panes.choose_model(self.state.neighbour(by))

    async def action_cancel(self) -> None:
        """Leave the zoom, or cancel what is being worked on; from an image of the table back to it."""
        if self.has_class("-zoomed"):
            self.action_zoom()
            return
        self.panes.cancel_work()
        if self._is_from_table:
            await self.action_images()

    def action_again(self) -> None:
        """Read the image and ask again."""
        self.panes.read_again()

    def action_overlay(self) -> None:
        """Plain, parts, or the concept under the cursor."""
        self.panes.image.cycle_overlay()

    def action_zoom(self) -> None:
        """The picture over the whole screen, and back."""
        if not self.has_class("-zoomed"):
            self._before_zoom = self.focused
        self.toggle_class("-zoomed")
        self._place_panes()
        tree = self.panes.concepts.concept_tree
        self.set_focus(self.panes.image if self.has_class("-zoomed") else self._before_zoom or tree)

    async def action_wrong_first(self) -> None:
        """The images that are predicted wrong, the most certain first."""
        if not any(item.label for item in self.state.items):
            self.notify("no labels here: they come from class folders, a truth.json or a labels.csv", markup=False)
        else:
            await self.action_images()
            if self._images is not None:
                self._images.go_to(filter="wrong", sort="prob", descending=True)

    def action_copy(self) -> None:
        """Copy what the cursor of the focused pane is on."""
        from clipmk_tui.app.clipboard import text_of  # noqa: PLC0415

        text = text_of(self.panes, self.focused)
        if text:
            self.app.copy_to_clipboard(text)
            self.notify(f"copied: {printable(text.splitlines()[0])[:60]}", markup=False, timeout=3)

    # The user's own words.

    def action_ask(self) -> None:
        """Open the line for words to ask for."""
        self.ask_line.open("words, for example: a wet nose   enter asks for them")
        self.panes.prepare_answers()

    @on(Input.Blurred, "#ask")
    def _end_preparation(self) -> None:
        """Nothing was asked for."""
        if not self.ask_line.is_open and not self.state.asks:
            self.panes.workers.cancel_group(self.panes, "preparation")

    @on(Input.Submitted, "#ask")
    def _ask(self, event: Input.Submitted) -> None:
        """Ask for what was typed; what cannot be asked stays in the line."""
        from clipmk.vocabulary.reader import ask_texts  # noqa: PLC0415

        try:
            for text in ask_texts([event.value] if event.value.strip() else []):
                self.panes.ask(text)
                self.ask_line.remember(text)
        except ClipmkError as error:
            self.notify(printable(str(error).removeprefix("text 1 ")), severity="warning", markup=False)
        else:
            self.ask_line.action_close()

    # Screens and dialogs above this one.

    def _push(self, screen: Screen[Any], answer: Callable[[Any], None] | None = None) -> None:
        """Open a screen, unless a key of the same burst has opened one already."""
        if self.is_active:
            self.app.push_screen(screen, answer)

    def action_open(self) -> None:
        """Pick an image from the list, or another file or folder."""
        from clipmk_tui.app.screens.picker import PickerScreen  # noqa: PLC0415

        self._push(PickerScreen(self.state.items, current=self.state.index), self._picked)

    def _picked(self, choice: int | str | None) -> None:
        if isinstance(choice, int):
            self.panes.choose_image(choice)
        elif choice is not None:
            self.panes.open((choice,))

    async def action_images(self) -> None:
        """The table of images: of the study, else of what is open; where it was left, unless that has changed."""
        from clipmk_tui.app.browsing import TableSource  # noqa: PLC0415
        from clipmk_tui.app.screens.images import ImagesScreen  # noqa: PLC0415

        if not self.is_active:
            return
        if self._images is None or not self._images.source.is_current:
            if self._images is not None:
                self.app.uninstall_screen(self._images)
                await self._images.remove()
            self._images = ImagesScreen(TableSource(self.panes, self._options.study), self.panes)
            self.app.install_screen(self._images, f"images-{id(self._images)}")
        self.app.push_screen(self._images)

    @property
    def _is_from_table(self) -> bool:
        """Whether the image that is shown was opened in the table."""
        item = self.state.item
        return self._images is not None and item is not None and self._images.opened == item.path

    def action_compare(self) -> None:
        """A column per marked model; with fewer than two marked, per embedded one."""
        from clipmk_tui.app.screens.compare import CompareScreen  # noqa: PLC0415

        state = self.state
        models = state.marked if len(state.marked) > 1 else [e.id for e in state.entries if e.source == "embedded"]
        if state.item is None or len(models) < 2:
            mark = keys_of(self.panes.models.list, "models.mark")
            self.notify(f"mark two models or more: {mark} in the models pane", markup=False)
            return
        self._push(CompareScreen(self.panes.questions, tuple(models), state.explained_class), self._go_on_with)

    def action_difference(self) -> None:
        """The current model beside another marked one, or the next of those that are here."""
        from clipmk_tui.app.answers import Answers  # noqa: PLC0415
        from clipmk_tui.app.screens.difference import DifferenceScreen  # noqa: PLC0415

        state = self.state
        others = [model for model in state.marked if model != state.model] or [state.neighbour(1) or state.model]
        if state.item is None or others == [state.model]:
            self.notify("there is no second model here", markup=False)
            return
        asked = Answers(self.panes.questions, state.explained_class)
        self._push(DifferenceScreen(asked, (state.model, *others), (0, 1)), self._go_on_with)

    def _go_on_with(self, choice: CompareChoice | None) -> None:
        """Show the image of the comparison, and the model, class and concept that were chosen there."""
        if choice is None:
            self.panes.show()
            return
        self.state.choose_model(choice.model)
        self.state.choose_class(choice.target)
        self.panes.show()
        if choice.concept is not None:
            self.panes.select_concept(choice.concept)
            self._place_panes()
            self.set_focus(self.panes.concepts.concept_tree)

    def action_venn(self) -> None:
        """Both sides of the knowledge as a picture."""
        from clipmk_tui.app.screens.venn import VennScreen  # noqa: PLC0415

        explanation = self.state.with_what_if
        if explanation is None:
            self._say_unexplained()
        else:
            self._push(VennScreen(explanation))

    def action_write(self) -> None:
        """Write JSON, PNG or HTML."""
        from clipmk_tui.app.screens.write import WriteScreen  # noqa: PLC0415

        explanation = self.state.with_what_if
        if explanation is None or self.state.item is None:
            self._say_unexplained()
        else:
            mapped = self.panes.image.mapped
            asked = None if mapped is None else mapped.text
            self._push(WriteScreen(explanation, image=self.state.item.path, asked=asked))

    def _say_unexplained(self) -> None:
        """Why there is nothing to draw or to write."""
        waiting = self.state.item is not None and not self.state.failure
        self.notify("still explaining" if waiting else "there is no explanation", markup=False, timeout=3)

    def action_leave_out(self) -> None:
        """The tree's key where no concept is under a cursor."""
        self.notify("choose a concept first", markup=False, timeout=3)

    def action_classes(self, adding: bool = False) -> None:
        """Choose the vocabulary and edit the classes, or add one, for this folder."""
        from clipmk_tui.app.screens.classes import ClassesScreen  # noqa: PLC0415

        session, folder = self.panes.questions.session, self.panes.folder
        self._push(ClassesScreen(session, folder=folder, adding=adding), self._change_classes)

    def _change_classes(self, session: Session | None) -> None:
        """Use other classes; explain the one that was added."""
        if session is not None and len(session.added_classes) > len(self.panes.questions.session.added_classes):
            self.state.choose_class(session.added_classes[-1])
        self.panes.change_session(session)

    def action_target(self) -> None:
        """Choose the class to explain."""
        from clipmk_tui.app.screens.choose_class import ChooseClassScreen  # noqa: PLC0415

        state = self.state
        self._push(ChooseClassScreen(state.classes, current=state.target, own="the predicted class"), self._explain)

    def _explain(self, class_name: str | None) -> None:
        if class_name is not None:
            self.state.choose_class(class_name or None)
            self.panes.show()

    def action_settings(self) -> None:
        """Theme, preset, grounding, seed."""
        from clipmk_tui.app.screens.settings import SettingsScreen  # noqa: PLC0415

        here = [entry.id for entry in self.state.entries if entry.source != "remote"]
        self._push(SettingsScreen(self.panes.questions.session, models=here), self._change_settings)

    def _change_settings(self, session: Session | None) -> None:
        """Another vocabulary from the settings is the default from now on: it is written into the config file."""
        if session is not None and session.vocabulary not in {None, self.panes.questions.session.vocabulary}:
            self.panes.default = replace(self.panes.default, vocabulary=session.vocabulary or "")
        self.panes.change_session(session)


def _frame(name: str, title: str) -> Static:
    """The empty frame of a pane: what the first frame of the app shows, before anything else is imported."""
    frame = Static(id=name, classes="pane")
    frame.border_title = title
    return frame

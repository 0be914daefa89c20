"""The main screen: image, models, predictions, concept tree; what the user does, and what is asked of the engine."""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Static

from clipmk_tui.app.widgets.frames import Frames
from clipmk_tui.app.widgets.key_bar import KeyBar
from clipmk_tui.app.widgets.status import StatusLine

if TYPE_CHECKING:
    from textual.worker import WorkType

    from clipmk.explanation import Explanation
    from clipmk_tui.app.app import ClipmkApp
    from clipmk_tui.app.dialogs import Dialogs
    from clipmk_tui.app.messages import ChooseClass, ChooseModel, LeaveOut, LightUp, MarkModel, Restore
    from clipmk_tui.app.panes import Panes
    from clipmk_tui.app.questions import Asking
    from clipmk_tui.app.start import Start
    from clipmk_tui.app.state import Desk
    from clipmk_tui.app.widgets.concepts import ConceptsPane
    from clipmk_tui.app.widgets.image_pane import ImagePane
    from clipmk_tui.app.widgets.models_pane import ModelsPane
    from clipmk_tui.app.widgets.predictions import PredictionsPane

_WIDE = 100
"""Columns from which all four panes have places of their own."""

_TINY = "clipmk needs at least 60 x 16 characters;\nmake the terminal larger, or its letters smaller"

_MODE_NAMES = {"parts": "", "concept": "concept under the cursor", "plain": "plain"}
"""Way of the overlay -> what stands under the picture."""


class MainScreen(Screen[None]):
    """Everything about one image and one model.

    Args:
        start: what to begin with.
    """

    HORIZONTAL_BREAKPOINTS = [(0, "-small"), (60, "-narrow"), (_WIDE, "-wide"), (160, "-huge")]  # noqa: RUF012 - Textual's annotation
    VERTICAL_BREAKPOINTS = [(0, "-low"), (16, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "next_pane", "pane", id="main.next_pane"),
        Binding("n", "step(1)", "next", id="image.next"),
        Binding("p", "step(-1)", "previous", id="image.previous"),
        Binding("o", "open", "open", id="image.open"),
        Binding("left_square_bracket", "neighbour(-1)", "model", id="models.previous"),
        Binding("right_square_bracket", "neighbour(1)", "next model", show=False, id="models.next"),
        Binding("c", "compare", "compare", id="main.compare"),
        Binding("v", "venn", "Venn", id="main.venn"),
        Binding("e", "errors_first", "wrong first", id="main.wrong_first"),
        Binding("w", "write", "write", id="main.write"),
        Binding("y", "copy", "copy", id="main.copy"),
        Binding("comma", "settings", "settings", key_display=",", id="main.settings"),
        Binding("g", "overlay", "overlay", id="image.overlay"),
        Binding("z", "zoom", "zoom", id="image.zoom"),
        Binding("escape", "cancel", "cancel", show=False, id="main.cancel"),
        Binding("ctrl+r", "again", "again", show=False, id="main.again"),
    ]

    def __init__(self, start: Start) -> None:
        super().__init__()
        self.start = start
        self._panes: Panes | None = None
        """Once they have taken the place of their empty frames."""
        self._before_zoom: Widget | None = None

    # Layout.

    def compose(self) -> ComposeResult:
        """Status line, the frames of the panes, keys: what it takes for a first frame."""
        self.set_class(self.app.size.width < _WIDE, "-narrow")  # the breakpoints speak up only after it
        yield StatusLine()
        yield Frames()
        yield KeyBar()

    def on_mount(self) -> None:
        """Begin once the first frame is painted."""
        self.call_after_refresh(self.run_worker, self._begin, group="begin")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """No key of the panes does anything before they are there."""
        return self._panes is not None or not hasattr(self, f"action_{action}")

    def on_resize(self, event: events.Resize) -> None:
        """Image and models share a place where there is little."""
        self.call_after_refresh(self._place_panes)

    def _place_panes(self) -> None:
        if self._panes is not None:
            self._panes.adapt(narrow=self.has_class("-narrow"), zoomed=self.has_class("-zoomed"))

    @cached_property
    def desk(self) -> Desk:
        """What is looked at."""
        from clipmk_tui.app.state import Desk  # noqa: PLC0415 - the records, after the first frame

        models = self.start.models
        return Desk(models[0], marked=models if len(models) > 1 else ())

    @cached_property
    def asking(self) -> Asking:
        """What is asked of the engine."""
        from clipmk_tui.app.questions import Asking  # noqa: PLC0415 - the protocol, after the first frame

        app: ClipmkApp = self.app  # type: ignore[assignment]
        return Asking(self, app.engine, self.start.session)

    @cached_property
    def dialogs(self) -> Dialogs:
        """What opens above this screen."""
        from clipmk_tui.app.dialogs import Dialogs  # noqa: PLC0415 - with the first of them

        return Dialogs(self)

    @property
    def explained(self) -> bool:
        """Whether what lies on the desk is explained."""
        return self._panes is not None and self.desk.explanation is not None

    @property
    def panes(self) -> Panes:
        """The four panes.

        Raises:
            RuntimeError: they are not there yet.
        """
        if self._panes is None:
            raise RuntimeError("the panes are not there yet")
        return self._panes

    @property
    def image(self) -> ImagePane:
        """The picture."""
        return self.panes.image

    @property
    def models(self) -> ModelsPane:
        """The models."""
        return self.panes.models

    @property
    def predictions(self) -> PredictionsPane:
        """The classes."""
        return self.panes.predictions

    @property
    def concepts(self) -> ConceptsPane:
        """The tree."""
        return self.panes.concepts

    @property
    def status(self) -> StatusLine:
        """The line at the top."""
        return self.query_one(StatusLine)

    # Showing.

    def show(self) -> None:
        """Bring every pane up to date with the desk; ask for what is not at hand."""
        self.show_status()
        self.show_models()
        explanation = self.desk.explanation
        if self.desk.item is None:
            return
        self.asking.picture(self.desk.item.path)
        if explanation is None:
            self.asking.clear_parts(self.desk.item.path)
            self.predictions.show_nothing()
            self.concepts.show_note(Text("explaining ...", "dim"))
            self.asking.explanation()
        else:
            self._show_explanation(explanation)

    def show_predictions(self) -> None:
        """The classes, ranked anew where concepts are left out."""
        explanation = self.desk.explanation
        if explanation is None:
            return
        self.predictions.show(explanation, after=self.desk.reranked, label=self.asking.label())

    def show_models(self) -> None:
        """The models, the current one and the marked ones."""
        self.models.show(self.desk.entries, self.desk.model, self.desk.marked)

    def show_failure(self, message: str) -> None:
        """Say in the tree's place why there is no explanation."""
        self.concepts.show_failure(message)
        self.predictions.show_nothing()

    def _show_explanation(self, explanation: Explanation) -> None:
        self.image.show_explanation(explanation)
        self.concepts.show(explanation)
        self.concepts.concept_tree.leave_out(frozenset(self.desk.left_out))
        self.concepts.show_strength(self.desk.strength)
        self._show_consequences()

    def _show_left_out(self) -> None:
        """The new numbers first; picture and classes in the next frame."""
        self.concepts.concept_tree.leave_out(frozenset(self.desk.left_out))
        self.concepts.show_strength(self.desk.strength)
        self.call_after_refresh(self._show_consequences)

    def _show_consequences(self) -> None:
        self.image.blur_parts(self.desk.blurred)
        self.show_predictions()

    def show_status(self) -> None:
        """Say what is looked at, and who computes it where."""
        loaded = self.asking.loaded.get(self.desk.model)
        where = [loaded.device] if loaded else []
        where += ["server"] if self.asking.engine.uses_server else []
        self.status.show(place=self.desk.title, where=self.desk.model, device=" · ".join(where))

    # What the panes say.

    def on_choose_class(self, message: ChooseClass) -> None:
        """Why not this class?"""
        self.desk.target = message.class_name
        self.desk.restore()
        explanation = self.desk.explanation
        if explanation is None:
            self.asking.explanation()
        else:
            self._show_explanation(explanation)

    def on_choose_model(self, message: ChooseModel) -> None:
        """Look at the same image with another model."""
        if self.desk.choose_model(message.model):
            self.show()

    def on_mark_model(self, message: MarkModel) -> None:
        """Into the comparison, or out of it."""
        if not self.desk.mark(message.model):
            self.notify("no more models can be compared at once", severity="warning", markup=False)
        self.show_models()

    def on_light_up(self, message: LightUp) -> None:
        """Show where the concept was seen."""
        self.image.light_up(message.parts)

    def on_leave_out(self, message: LeaveOut) -> None:
        """New numbers at once; new classes when the engine has looked again."""
        self.desk.leave_out(message.text)
        self._show_left_out()
        self.asking.reranking()

    def on_restore(self, message: Restore) -> None:
        """As it was."""
        self.desk.restore()
        self._show_left_out()
        self.asking.reranking()

    def on_image_pane_mode_changed(self, message: ImagePane.ModeChanged) -> None:
        """Name what is drawn over the picture, unless it is all parts."""
        self.image.border_subtitle = _MODE_NAMES[message.mode]

    def on_image_pane_zoom_toggled(self, message: ImagePane.ZoomToggled) -> None:
        """The image pane asks for the whole screen."""
        self.action_zoom()

    # Keys.

    def action_next_pane(self) -> None:
        """Go to the next pane; where image and models share a place, to the one not shown."""
        following = self.panes.following(self.focused)
        self.remove_class("-zoomed")
        self._place_panes()
        self.set_focus(following)

    def action_step(self, by: int) -> None:
        """Another image."""
        if self.desk.step(by):
            self.show()

    def action_neighbour(self, by: int) -> None:
        """Another model; everything else stays."""
        model = self.desk.neighbour(by)
        if model is not None and self.desk.choose_model(model):
            self.show()

    def action_cancel(self) -> None:
        """Give up what is being worked on, or leave the zoom."""
        if self.has_class("-zoomed"):
            self.action_zoom()
        elif self.asking.cancel() and self.desk.explanation is None:
            self.show_failure("cancelled")

    def action_again(self) -> None:
        """Read the image and ask again: after a failure, or because the file has changed."""
        if self.desk.item is not None:
            self.desk.drop(self.desk.item.path)
            self.asking.forget(self.desk.item.path)
            self.show()

    def action_overlay(self) -> None:
        """Plain, parts, or the concept under the cursor."""
        self.image.action_cycle_overlay()

    def action_zoom(self) -> None:
        """The picture over the whole screen, and back."""
        if not self.has_class("-zoomed"):
            self._before_zoom = self.focused
        self.toggle_class("-zoomed")
        self._place_panes()
        self.set_focus(self.image if self.has_class("-zoomed") else self._before_zoom or self.concepts.concept_tree)

    def action_open(self) -> None:
        """Pick an image."""
        self.dialogs.pick_image()

    def action_compare(self) -> None:
        """A column per marked model."""
        self.dialogs.compare()

    def action_venn(self) -> None:
        """Both sides of the knowledge as a picture."""
        self.dialogs.venn()

    def action_errors_first(self) -> None:
        """Walk through wrongly predicted images first; once more: in the folder's order."""
        self.asking.survey()

    def action_write(self) -> None:
        """Write JSON, PNG or HTML."""
        self.dialogs.write()

    def action_copy(self) -> None:
        """Copy what the focused pane's cursor stands on."""
        self.dialogs.copy()

    def action_settings(self) -> None:
        """Theme, preset, grounding, seed."""
        self.asking.settings()

    # What dialogs and palette ask for.

    def go_to(self, index: int) -> None:
        """Look at one of the desk's images."""
        self.desk.go_to(index)
        self.show()

    def open(self, path: str) -> None:
        """Look at another image or folder."""
        from clipmk_tui.app.beginning import lay_out  # noqa: PLC0415 - after the first frame

        work: WorkType[None] = partial(lay_out, self, (path,))
        self.run_worker(work, group="begin", exclusive=True)

    def go_to_the_tree(self) -> None:
        """Give the tree the focus, and the picture its place."""
        self.panes.show_image()
        self._place_panes()
        self.set_focus(self.concepts.concept_tree)

    # Beginning.

    async def _begin(self) -> None:
        from clipmk_tui.app.beginning import begin  # noqa: PLC0415 - after the first frame

        await begin(self)

    async def take(self, panes: Panes) -> None:
        """Put the panes into the place of their empty frames."""
        with self.app.batch_update():
            await self.query_one("#panes").remove()
            await self.mount(panes, Static(_TINY, id="tiny", markup=False), after=self.status)
            self._panes = panes
            self._place_panes()
            self.set_focus(self.concepts.concept_tree)
        self.refresh_bindings()

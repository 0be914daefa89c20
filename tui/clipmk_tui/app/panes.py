"""The four panes of the main screen around one state: what they ask for changes it, what the engine answers is shown.

In: messages of the panes and the palette, and the engine's answers. Out: questions, and a `View` that all panes draw.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from textual import on, work
from textual.widgets import OptionList

from clipmk.errors import OUT_OF_MEMORY, ClipmkError, ModelError
from clipmk.system.text import counted, printable
from clipmk.worker import protocol
from clipmk.worker.protocol import RequestError
from clipmk.worker.session import Session
from clipmk_tui.app import messages
from clipmk_tui.app.bindings import keys_of
from clipmk_tui.app.folder_choices import FolderChoice, folder_of, kept_choice
from clipmk_tui.app.image_list import open_images
from clipmk_tui.app.pane_layout import PaneLayout
from clipmk_tui.app.questions import Questions
from clipmk_tui.app.start_options import DEFAULT_VOCABULARY
from clipmk_tui.app.state import COMPARED, State, View

if TYPE_CHECKING:
    from textual.notifications import SeverityLevel

    from clipmk.records import ModelEntry
    from clipmk_tui.app.engine.worker import Engine

_CANCELLABLE = ("explanation", "preparation", "reranking", "download")  # groups of workers that `esc` cancels


class Panes(PaneLayout):
    """The panes, the state they show, and the questions that fill it.

    The first of `models` explains, all of several are marked for comparison; `default` explains folders for which
    nothing is kept (None: the same as the session).
    """

    def __init__(
        self,
        models: Sequence[str],
        engine: Engine,
        session: Session,
        graphics: str = "half-blocks",
        default: FolderChoice | None = None,
    ) -> None:
        super().__init__(graphics, self.choose_class)
        self.state = State(models[0], marked=models if len(models) > 1 else ())
        self.questions = Questions(engine, self.state, self.post_message, session)
        engine.on_restart = self._engine_restarted
        self.default = default or FolderChoice(session.vocabulary or DEFAULT_VOCABULARY, session.classes)
        self._picture_wanted = self._picture_shown = ""
        self._concept_wanted: str | None = None  # selected as soon as there is a tree
        self._all_models_asked = False
        self.folder = ""  # of the images, as the user named it; empty: none is open

    # Showing.

    @on(messages.ModelLoaded)
    def refresh_view(self) -> None:
        """Draw the state as it is."""
        self.state.uses_server = self.questions.engine.uses_server
        if self.is_attached:  # an answer may come while the app closes
            session, count = self.questions.session, len(self.state.classes)
            own = session.classes is not None or session.added_classes
            self.heading = f"{counted(count, 'class', 'classes')} (yours)" if own and count else "predictions"
            self.view = self.state.view

    @on(messages.Changed)
    def show(self) -> None:
        """Draw the state, and ask for what is missing."""
        self.refresh_view()
        item = self.state.item
        if item is None:
            return
        if item.path != self._picture_wanted:
            self._picture_wanted = item.path
            self._read_picture(item.path)
        if not self.state.is_complete(self.state.explanation):
            self._explain(item.path, self.state.model, self.state.target)

    def watch_view(self, before: View, view: View) -> None:
        """Draw the parts; where only the left-out ones changed, in the next frame: the tree goes first."""
        if view.explanation is not None:
            self.image.explanation = view.explanation
        elif self._picture_shown == view.image:  # else the picture is replaced: one drawing, not two
            self.image.explanation = None
        if before.explanation is view.explanation:
            self.call_after_refresh(self._blur_left_out)
        else:
            self._blur_left_out()

    def _blur_left_out(self) -> None:
        self.image.blurred = self.view.blurred

    @work(group="open", exclusive=True)
    async def open(self, paths: Sequence[str]) -> None:
        """Show the images of files, folders and patterns, without any the sample images; if there are none, say so."""
        try:
            images = await asyncio.to_thread(open_images, paths)
        except ClipmkError as error:
            self.image.picture = f"{error}; {keys_of(self, 'image.open')} opens another"
            if self.state.item is None:
                self.state.failure = str(error)
                self.refresh_view()
            return
        if images.warnings:
            more = f" (and {len(images.warnings) - 1} more)" if len(images.warnings) > 1 else ""
            self.warn(images.warnings[0] + more)
        self.state.open(images)
        folder = await asyncio.to_thread(folder_of, paths)
        if self.folder and self.folder != folder:
            await self._use_choice_of(folder)
        self.folder = folder
        self.show()

    async def _use_choice_of(self, folder: str) -> None:
        """Go on with what the user keeps for another folder, else with the default."""
        kept = None
        try:
            kept = await asyncio.to_thread(kept_choice, folder)
        except ClipmkError as error:
            self.warn(str(error))
        choice, before = kept or self.default, self.questions.session
        session = replace(before, vocabulary=choice.vocabulary, classes=choice.classes, added_classes=())
        if session != before:
            self._reconfigure(session)

    def _reconfigure(self, session: Session) -> None:
        """Go on under another session; what is asked under the old one is cancelled."""
        self._cancel_questions()
        self.workers.cancel_group(self, "table")
        self.questions.reconfigure(session)

    def _cancel_questions(self) -> None:
        for group in _CANCELLABLE:
            self.workers.cancel_group(self, group)

    def cancel_work(self) -> None:
        """Cancel what the engine is working on."""
        busy = self.questions.busy
        self._cancel_questions()
        if busy and self.state.item is not None and not self.state.is_complete(self.state.explanation):
            self._give_up("cancelled")
            self.refresh_view()

    def _give_up(self, why: str) -> None:
        """Say why there is no explanation; one that only lacks answers stays, and is asked for them no more."""
        if self.state.explanation is None:
            self.state.failure = why
        else:
            answered = [one.text for one in self.state.explanation.asked]
            self.state.asks = tuple(text for text in self.state.asks if text in answered)
            self.warn(f"not answered: {why}")

    async def start(self) -> None:
        """Start the engine and list the models that are known without it."""
        from clipmk.models.catalog import list_models  # noqa: PLC0415

        await self.questions.engine.start()
        try:
            self._keep_models(await asyncio.to_thread(list_models, ("embedded", "local")))
        except ClipmkError as error:
            self.warn(str(error))

    def read_again(self) -> None:
        """Read the image and ask again: after a failure, or because the file has changed."""
        if self.state.item is not None:
            self._picture_wanted = ""
            self.questions.forget_pictures()
            self.state.drop(self.state.item.path)
            self.show()

    def change_session(self, session: Session | None) -> None:
        """Ask everything again under another session."""
        if session is not None and session != self.questions.session:
            self._reconfigure(session)
            self.show()

    def select_concept(self, text: str) -> None:
        """Put the tree's cursor on a concept as soon as there is a tree; from the next `adapt` on, show the classes."""
        self._concept_wanted, self.models_shown = text, False
        self._select_wanted_concept()

    def _select_wanted_concept(self) -> None:
        if self._concept_wanted is not None and self.state.explanation is not None:
            self.concepts.concept_tree.select(self._concept_wanted)
            self._concept_wanted = None

    def warn(self, message: str, severity: SeverityLevel = "warning") -> None:
        """Show a message."""
        self.notify(printable(message), severity=severity, markup=False)

    # Questions: each replaces the last one of its group.

    @work(group="picture", exclusive=True)
    async def _read_picture(self, path: str) -> None:
        picture = await self.questions.picture(path)
        self._picture_shown = path
        self.image.picture = picture

    @work(group="explanation", exclusive=True)
    async def _explain(self, image: str, model: str, target: str | None) -> None:
        try:
            explanation = await self.questions.explanation(image, model, target)
        except RequestError as error:
            if self.state.is_asked(image, model, target):
                self._give_up(self._reason(model, str(error)))
            if error.reason in {ModelError.code, OUT_OF_MEMORY}:
                self.state.failed[model] = str(error)
        else:
            self.state.keep(explanation, image, model, target)
            if not self._all_models_asked:
                self._all_models_asked = True
                self._list_all_models()
        if self.state.is_asked(image, model, target):
            self.refresh_view()
            self._select_wanted_concept()

    def _reason(self, model: str, error: str) -> str:
        """Why there is no explanation; of a model that is not here, how to get it."""
        if any(entry.id == model and entry.source == "remote" for entry in self.state.entries):
            key = keys_of(self.models.list, "models.download")
            return f"{model} is not on this machine; {key} in the models pane downloads it"
        return error

    @work(group="reranking", exclusive=True)
    async def _rerank(self, request: protocol.WhatIf) -> None:
        state = self.state
        try:
            predictions = await self.questions.reranking(request)
        except RequestError as error:
            self.warn(str(error))
            return
        asked = (request.image, request.model, request.left_out)
        if state.item and (state.item.path, state.model, state.left_out) == asked:
            state.reranked = predictions
            self.refresh_view()

    @work(group="models", exclusive=True)
    async def _list_all_models(self) -> None:
        try:
            self._keep_models((await self.questions.engine.ask(protocol.ListModels())).models)
        except RequestError as error:
            self.warn(str(error))

    def _keep_models(self, entries: Iterable[ModelEntry]) -> None:
        self.state.entries = tuple(entries)
        self.refresh_view()

    @on(messages.DownloadModel)
    @work(group="download", exclusive=True)
    async def _download(self, message: messages.DownloadModel) -> None:
        model = message.model
        try:
            await self.questions.download(model)
        except RequestError as error:
            self.warn(str(error), "error")
            return
        self.state.failed.pop(model, None)
        self.notify(f"{printable(model)} is on this machine now", markup=False)
        self._list_all_models()
        if self.state.model == model and self.state.explanation is None:
            self.state.failure = ""
            self.show()

    def _engine_restarted(self, reason: str) -> None:
        self.notify(printable(reason), severity="warning", timeout=10, markup=False)
        self.refresh_view()

    # What panes and palette ask for.

    def choose_class(self, class_name: str) -> None:
        """Ask about a class at once, and draw that of several in a row only once."""
        self.state.choose_class(class_name)
        self.post_message(messages.Changed())

    @on(OptionList.OptionSelected, "#predictions")
    def _go_to_tree(self) -> None:
        self.concepts.concept_tree.focus()

    def choose_model(self, model: str | None) -> None:
        """Explain with another model."""
        if model is not None and self.state.choose_model(model):
            self.show()

    def choose_image(self, index: int) -> None:
        """Show one of the images."""
        self.state.go_to(index)  # at once: the next key may step on from it
        self.show()

    @on(messages.MarkModels)
    def _mark_models(self, message: messages.MarkModels) -> None:
        if not self.state.mark(message.models):
            self.warn(f"{COMPARED} models are marked, no more can be compared at once")
        self.refresh_view()

    @work(group="preparation", exclusive=True)
    async def prepare_answers(self) -> None:
        """While texts are typed, compute what all of them need of the image, unless others were asked for."""
        if self.state.explanation is not None and self.state.item is not None and not self.state.asks:
            with contextlib.suppress(RequestError):  # the question meets it again
                await self.questions.explanation(self.state.item.path, self.state.model, self.state.target, maps=True)

    def ask(self, text: str) -> None:
        """Ask for a text of the user's own, and go to its row."""
        self.state.ask(text)
        self.show()
        self._concept_wanted = text
        self._select_wanted_concept()

    @on(messages.LightUp)
    def _light_up(self, message: messages.LightUp) -> None:
        self.image.asked, self.image.lit = message.asked, message.parts
        self.concepts.concept_tree.mark_part(None)

    @on(messages.SelectPart)
    def _select_part(self, message: messages.SelectPart) -> None:
        self.image.asked, self.image.lit = None, frozenset({message.part})
        self.concepts.concept_tree.select_part(message.part)

    @on(messages.ChangeState)
    def _change_state(self, message: messages.ChangeState) -> None:
        """New numbers at once; new predictions when the engine has answered."""
        message.change(self.state)
        self.show()
        self.workers.cancel_group(self, "reranking")
        item, explanation, left_out = self.state.item, self.state.explanation, self.state.left_out
        if item is not None and explanation is not None and left_out:
            target = explanation.class_name
            self._rerank(protocol.WhatIf(model=self.state.model, image=item.path, target=target, left_out=left_out))

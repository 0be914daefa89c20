"""What the main screen asks of the engine: one question of a kind at a time, and only what is still wanted."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from clipmk.errors import ClipmkError
from clipmk.system.text import printable
from clipmk.worker import protocol
from clipmk.worker.protocol import Loaded, Partial, Predicted, Progress
from clipmk.worker.session import Session
from clipmk_tui.app.engine.base import AskError, Engine
from clipmk_tui.app.keys import keys_of

if TYPE_CHECKING:
    from textual.notifications import SeverityLevel as Severity
    from textual.worker import WorkType

    from clipmk.images.decoder import Picture
    from clipmk_tui.app.image_list import Item
    from clipmk_tui.app.screens.main import MainScreen

_PICTURES = 4
"""Decoded pictures kept, for walking back and forth."""

_WORK = ("explanation", "reranking", "survey")
"""What `esc` gives up."""


class Asking:
    """The questions of one main screen, each in a worker of its own group: a new one takes the place of the last.

    Args:
        screen: shows the answers.
        engine: gives them.
        session: what all questions share.
    """

    def __init__(self, screen: MainScreen, engine: Engine, session: Session) -> None:
        self.engine = engine
        self.session = session
        self.loaded: dict[str, Loaded] = {}
        """What the engine said of the models it loaded."""
        self._screen = screen
        self._pictures: OrderedDict[str, Picture] = OrderedDict()
        self._shown = self._in_pane = ""
        self._wanted: str | None = None
        self._working: set[object] = set()
        self._listed = False

    # Questions.

    def picture(self, path: str) -> None:
        """Decode and show an image, unless it is shown already."""
        if path != self._shown:
            self._shown = path
            self._run("picture", partial(self._picture, path))

    def forget(self, path: str) -> None:
        """Read an image again when it is wanted next: its file may have changed."""
        self._pictures.pop(path, None)
        self._shown = ""

    def clear_parts(self, path: str) -> None:
        """Take the parts off the picture, unless another picture is about to take its place: one drawing, not two."""
        if self._in_pane == path:
            self._screen.image.show_explanation(None)

    def explanation(self) -> None:
        """Explain what lies on the desk."""
        self._run("explanation", self._explanation)

    def reranking(self) -> None:
        """Rank the classes without what is left out."""
        self._screen.workers.cancel_group(self._screen, "reranking")
        if self._screen.desk.left_out:
            self._run("reranking", self._reranking)

    def survey(self) -> None:
        """Walk through wrongly predicted images first; when that is so already, in the folder's order again."""
        desk = self._screen.desk
        if not any(item.label for item in desk.items):
            self._say("no labels here: wrong-first needs class folders, a truth.json or a labels.csv")
        elif desk.sorted_by_truth:
            desk.walk(range(len(desk.items)))
            self._screen.show()
        else:
            self._run("survey", self._survey)

    def settings(self) -> None:
        """Let the user change the settings; ask everything anew under others."""
        self._run("settings", self._settings)

    def cancel(self) -> bool:
        """Give up what is being worked on; whether there was anything."""
        busy = bool(self._working)
        for group in _WORK:
            self._screen.workers.cancel_group(self._screen, group)
        return busy

    def select_when_shown(self, concept: str) -> None:
        """Put the tree's cursor on a concept as soon as there is a tree."""
        self._wanted = concept
        self._select()

    def label(self) -> str | None:
        """The true class of the image looked at, in the vocabulary's words; None where it is not known."""
        from clipmk.vocabulary.classes import ClassIndex  # noqa: PLC0415

        item, loaded = self._screen.desk.item, self.loaded.get(self._screen.desk.model)
        if item is None or loaded is None or item.label is None:
            return None
        return ClassIndex(loaded.classes).find(item.label)

    async def here(self) -> None:
        """List the models that are known without the engine."""
        from clipmk.models.catalog import list_models  # noqa: PLC0415

        try:
            entries = await asyncio.to_thread(list_models, ("embedded", "local"))
        except ClipmkError as error:
            self._say(str(error), severity="warning")
            return
        self._screen.desk.entries = tuple(entries)

    # Answers.

    async def _picture(self, path: str) -> None:
        from clipmk.images.decoder import read_picture  # noqa: PLC0415

        picture = self._pictures.get(path)
        if picture is None:
            try:
                picture = await asyncio.to_thread(read_picture, path)
            except ClipmkError as error:
                self._screen.image.show_message(str(error))
                return
            self._pictures[path] = picture
            while len(self._pictures) > _PICTURES:
                self._pictures.popitem(last=False)
        self._in_pane = path
        self._screen.image.show_picture(picture, name=path.rpartition("/")[2])

    async def _explanation(self) -> None:
        desk = self._screen.desk
        item, model, target = desk.item, desk.model, desk.target
        if item is None:
            return
        with self._working_on():
            try:
                if model not in self.loaded:
                    self.loaded[model] = await self.engine.ask(protocol.Load(model=model), self._progress)
                asked = protocol.Explain(model=model, image=item.path, target=target)
                answer = await self.engine.ask(asked, self._progress)
            except AskError as error:
                if (desk.item, desk.model, desk.target) == (item, model, target):  # else nobody asks any more
                    self._screen.show_failure(str(error))
                return
        desk.keep(answer.explanation, item.path, model, target)
        if (desk.item, desk.model, desk.target) == (item, model, target):
            self._screen.show()
            self._select()
        if not self._listed:
            self._listed = True
            self._run("models", self._models)

    async def _reranking(self) -> None:
        desk = self._screen.desk
        explanation = desk.explanation
        if desk.item is None or explanation is None:
            return
        asked = protocol.WhatIf(
            model=desk.model, image=desk.item.path, target=explanation.class_name, left_out=desk.left_out
        )
        with self._working_on():
            try:
                answer = await self.engine.ask(asked, self._progress)
            except AskError as error:
                self._say(str(error), severity="warning")
                return
        if answer.left_out == desk.left_out:
            desk.reranked = answer.predictions
            self._screen.show_predictions()

    async def _survey(self) -> None:
        from clipmk_tui.app.image_list import wrong_first  # noqa: PLC0415

        desk = self._screen.desk
        items, model = desk.items, desk.model
        seen: dict[str, tuple[str, float]] = {}

        def sighted(partial: Partial) -> None:
            if isinstance(partial, Predicted):
                if partial.class_name is not None:
                    seen[partial.image] = (partial.class_name, partial.probability or 0.0)
                self._screen.status.busy("survey", len(seen), len(items))
            elif isinstance(partial, Progress) and partial.stage in {"loading", "texts"}:
                self._progress(partial)

        with self._working_on():
            try:
                if model not in self.loaded:
                    self.loaded[model] = await self.engine.ask(protocol.Load(model=model), self._progress)
                await self.engine.ask(protocol.Survey(model=model, images=tuple(item.path for item in items)), sighted)
            except AskError as error:
                self._say(str(error), severity="error")
                return
        classes = self.loaded[model].classes
        order = await asyncio.to_thread(wrong_first, items, seen, classes)  # there may be ten thousand
        verdicts = await asyncio.to_thread(_verdicts, items, seen, classes)
        if model != desk.model or items is not desk.items:
            return
        desk.sighted = seen
        desk.walk(order, by_truth=True)
        walks_on = f"{keys_of(self._screen, 'image.next')} walks on"
        known = sum(verdict is not None for verdict in verdicts)
        self._say(f"{verdicts.count(False)} of {known} labelled images are predicted wrong; {walks_on}")
        self._screen.show()

    async def _models(self) -> None:
        try:
            answer = await self.engine.ask(protocol.ListModels())
        except AskError as error:
            self._say(str(error), severity="warning")
            return
        self._screen.desk.entries = answer.models
        self._screen.show_models()

    async def _settings(self) -> None:
        from clipmk_tui.app.screens.settings import SettingsScreen  # noqa: PLC0415

        here = [entry.id for entry in self._screen.desk.entries if entry.source != "remote"]
        changed = await self._screen.app.push_screen_wait(SettingsScreen(self.session, models=here))
        if changed is None or changed == self.session:
            return
        self.session = changed
        self.loaded.clear()
        self._screen.desk.forget()
        await self.engine.reconfigure(self.session)
        await self.engine.start()
        self._screen.show()

    # Small change.

    def _select(self) -> None:
        if self._wanted is not None and self._screen.desk.explanation is not None:
            self._screen.concepts.concept_tree.select(self._wanted)
            self._wanted = None

    def _progress(self, partial: Partial) -> None:
        if isinstance(partial, Progress) and self._working:
            self._screen.status.busy(partial.stage, partial.done, partial.total)

    def _run(self, group: str, work: WorkType[None]) -> None:
        self._screen.run_worker(work, group=group, exclusive=True)

    def _say(self, message: str, *, severity: Severity = "information") -> None:
        self._screen.app.notify(printable(message), severity=severity, markup=False)

    @contextlib.contextmanager
    def _working_on(self) -> Iterator[None]:
        """The status line is busy meanwhile. Each work has a token: the next begins before the last has ended."""
        token = object()
        self._working.add(token)
        if not self._screen.status.working:
            self._screen.status.busy("asked")
        try:
            yield
        finally:
            self._working.discard(token)
            if not self._working and self._screen.is_attached:
                self._screen.status.idle()


def _verdicts(
    items: Sequence[Item], seen: Mapping[str, tuple[str, float]], classes: Sequence[str]
) -> list[bool | None]:
    """For each image whether its prediction is its label; None where one of them is not known."""
    from clipmk.vocabulary.classes import ClassIndex  # noqa: PLC0415
    from clipmk_tui.app.image_list import is_right  # noqa: PLC0415

    index = ClassIndex(classes)
    return [is_right(index.find(item.label), seen.get(item.path, (None,))[0]) for item in items]

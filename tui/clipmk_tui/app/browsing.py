"""Where the table of images comes from: a study's files, or the images that are open, explained while one looks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from clipmk.browse.growing_table import GrowingTable
from clipmk.browse.study_table import StudyTable
from clipmk.errors import ClipmkError, InputError
from clipmk.study.advice import advice
from clipmk.system.text import quoted
from clipmk.vocabulary.classes import ClassIndex
from clipmk.worker.protocol import RequestError
from clipmk_tui.app.image_list import ImageList, Item

if TYPE_CHECKING:
    from clipmk.explanation import Explanation
    from clipmk.study.results import Results
    from clipmk_tui.app.panes import Panes


class TableSource:
    """A study where one is named and no other images are open since, else the images that are open.

    `panes` show what is opened; their model, and those that are marked, explain images that are open.
    """

    def __init__(self, panes: Panes, study: Path | None) -> None:
        self._panes, self._items, self._session = panes, panes.state.items, panes.questions.session
        self._models = tuple(dict.fromkeys([panes.state.model, *panes.state.marked]))
        self.study = study if study is not None and panes.folder in {"", str(study)} else None
        self.table: GrowingTable | StudyTable | None = None
        self.results: Results | None = None  # of a study, as far as there are any
        self.advice: list[str] = []  # what to do about a study
        self._paused = False

    @property
    def is_current(self) -> bool:
        """Until other images, models or settings are chosen."""
        state, panes = self._panes.state, self._panes
        if self.study is not None:
            return panes.folder in {"", str(self.study)}
        same = self._items is state.items and self._session == panes.questions.session
        return same and {state.model, *state.marked} <= {*self._models}

    async def open(self, changed: Callable[[], object]) -> GrowingTable | StudyTable:
        """Open the table, or say in a `ClipmkError` why there is none; `changed` is called when more is known."""
        if self.study is None:
            index = ClassIndex((await self._panes.questions.load(self._models[0])).classes)
            images = [(item.path, index.find(item.label)) for item in self._items]
            self.table = await asyncio.to_thread(GrowingTable, self._panes.folder, images, self._models)
            self._fill(self.table, changed)
            return self.table
        table = await asyncio.to_thread(StudyTable, self.study)
        try:
            self.results = await asyncio.to_thread(table.tables)
            self.advice = [one.text for one in await asyncio.to_thread(advice, self.results)]
            if table.warnings:  # its tables are up to date now
                table = await asyncio.to_thread(StudyTable, self.study)
        except ClipmkError as error:
            table.warnings.append(f"{'no' if self.results is None else 'older'} models, charts and advice: {error}")
        if self.table is not None:
            table.closing = self.table.closing  # copies of images, one of which may be shown
        self.table = table
        return table

    def _fill(self, table: GrowingTable, changed: Callable[[], object]) -> None:
        self._panes.run_worker(self._explain(table, changed), group="table", exclusive=True)

    async def _explain(self, table: GrowingTable, changed: Callable[[], object]) -> None:
        """Explain with one model after the other what is missing."""
        for model in self._models:

            def keep(path: str, found: Explanation | str, model: str = model) -> None:
                if isinstance(found, str):
                    table.fail(path, model, found)
                else:
                    table.add(found, path, model)

            try:
                await self._panes.questions.explain_all(model, table.missing(model), keep)
            except RequestError as error:
                self._panes.warn(str(error))
            changed()

    @property
    def progress(self) -> str:
        """``120/600``: how many explanations are there; empty: all."""
        table = self.table
        left = sum(len(table.missing(model)) for model in self._models) if isinstance(table, GrowingTable) else 0
        count = len(self._items) * len(self._models)
        return f"{count - left:,}/{count:,}{' paused' if self._paused else ''}" if left else ""

    def pause(self, changed: Callable[[], object]) -> None:
        """Stop filling the table, or go on."""
        self._paused = not self._paused
        if self._paused:
            self._panes.workers.cancel_group(self._panes, "table")
        elif isinstance(self.table, GrowingTable):
            self._fill(self.table, changed)

    def close(self) -> None:
        """It is not looked at any more."""
        if isinstance(self.table, StudyTable):
            self.table.closing.close()
        else:
            self._panes.workers.cancel_group(self._panes, "table")

    async def show(self, place: int, model: str) -> str:
        """Show an image in the panes, explained by a model; its path, or a `ClipmkError` where it is not there."""
        state, table = self._panes.state, self.table
        path = await asyncio.to_thread(table.image, place) if isinstance(table, StudyTable) else self._items[place].path
        if not os.path.lexists(path):
            raise InputError(f"image {quoted(path)} does not exist any more")
        state.choose_model(model)
        if isinstance(table, StudyTable):
            state.open(ImageList((Item(path, table.row(place).label),)))
            self._panes.folder = str(self.study)
        else:
            state.go_to(place)
        self._panes.show()
        return path

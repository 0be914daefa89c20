"""The progress of a study: a bar with rate and time left on a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from clipmk.system.text import counted, printable
from clipmk_tui.cli.progress import display, on_terminal
from clipmk_tui.cli.streams import say
from clipmk_tui.show.text import STAGE_WORDS

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LINE_SECONDS: Final = 30.0
"""Between two lines if stderr is not a terminal."""


class StudyProgress:
    """The `progress` callback of `clipmk.study.run.run_study`; use it in a `with` block.

    Args:
        shown: False shows nothing at all.
        clock: seconds.
    """

    def __init__(self, *, shown: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._shown = shown and sys.stderr is not None
        self._clock = clock
        self._display: Progress | None = None
        self._task: TaskID | None = None
        self._start: tuple[float, int] | None = None
        self._last_line = clock()
        self.done = 0
        self.total = 0

    def __enter__(self) -> Self:
        if self._shown and on_terminal():
            from rich.progress import MofNCompleteColumn, TextColumn, TimeRemainingColumn  # noqa: PLC0415

            columns = (MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn(compact=True))
            self._display = display(*columns)
            self._task = self._display.add_task("starting", total=None, rate="")
            self._display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._display is not None:
            self._display.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show a stage, or how far the study is."""
        if stage != "study":
            self._show(STAGE_WORDS.get(stage, stage), None)
            return
        if self._start is None:
            self._start = self._clock(), done
        since, before = self._start
        passed = self._clock() - since
        self.done, self.total = done, total
        self._show("images x models", (done - before) / passed if passed > 0 else 0.0)

    def _show(self, text: str, rate: float | None) -> None:
        """Show a text and, of the study itself, images times models per second in this run; 0 while unknown."""
        if self._display is not None and self._task is not None:
            shown = f"{rate:.1f}/s" if rate else ""
            self._display.update(
                self._task, description=printable(text), completed=self.done, total=self.total or None, rate=shown
            )
        elif self._shown and rate is not None and self._clock() - self._last_line >= LINE_SECONDS:
            self._last_line = self._clock()
            left = f", {counted(round((self.total - self.done) / rate / 60), 'minute')} left" if rate else ""
            say("note", f"{self.done} of {self.total} images x models, {rate:.1f}/s{left}")

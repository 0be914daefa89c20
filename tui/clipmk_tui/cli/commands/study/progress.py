"""The progress of a study: a bar with rate and time left on a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final

from clipmk.system.text import counted
from clipmk_tui.cli.progress import Stages, on_terminal
from clipmk_tui.cli.streams import say

LINE_SECONDS: Final = 30.0
"""Between two lines if stderr is not a terminal."""


class StudyProgress(Stages):
    """The `progress` callback of `clipmk.study.run.run_study`; use it in a `with` block.

    Args:
        shown: False shows nothing at all.
        clock: seconds.
    """

    def __init__(self, *, shown: bool, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(shown=shown)
        self._in_lines = shown and sys.stderr is not None and not on_terminal()
        self._clock = clock
        self._start: tuple[float, int] | None = None
        self._last_line = clock()
        self.done = self.total = 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show a stage, or how far the study is: images times models, and their rate in this run."""
        if stage != "study":
            super().__call__(stage, self.done, self.total)
            return
        if self._start is None:
            self._start = self._clock(), done
        since, before = self._start
        passed = self._clock() - since
        rate = (done - before) / passed if passed > 0 else 0.0
        self.done, self.total = done, total
        self._show(f"images x models, {rate:.1f}/s" if rate else "images x models", done, total)
        if self._in_lines and self._clock() - self._last_line >= LINE_SECONDS:
            self._last_line = self._clock()
            left = f", {counted(round((total - done) / rate / 60), 'minute')} left" if rate else ""
            say("note", f"{done} of {total} images x models, {rate:.1f}/s{left}")

"""What is going on, in one line on stderr that disappears again; silent where stderr is no terminal."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from clipmk.system.text import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

NAMES = {
    "waiting": "waiting for the server",
    "texts": "embedding the vocabulary",
    "image": "looking at the image",
    "parts": "finding parts",
    "prompts": "looking at each part",
}
"""Stage of `Explainer` -> what it is called here."""


class Stages:
    """A progress display that is also the `progress` callback of `Explainer`.

    Args:
        shown: whether to show anything; nothing is shown without a terminal either way.
    """

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown and sys.stderr is not None and sys.stderr.isatty()
        self._subject = ""
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show a stage of the current subject."""
        self._show(NAMES.get(stage, stage), done, total or None)

    def begin(self, subject: str, doing: str = "") -> None:
        """What follows is about this image or model."""
        self._subject = printable(subject)
        self._show(doing, 0, None)

    def clear(self) -> None:
        """Take the line away, so that something can be printed."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = self._task = None

    def _show(self, doing: str, done: int, total: int | None) -> None:
        if not self._shown:
            return
        if self._progress is None or self._task is None:
            self._progress = _display()
            self._task = self._progress.add_task("", total=None)
            self._progress.start()
        words = f"{self._subject}  {doing}" if doing else self._subject
        self._progress.update(self._task, description=words, completed=done, total=total)


def _display() -> Progress:
    from rich.console import Console  # noqa: PLC0415 - not needed without a terminal
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn  # noqa: PLC0415

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TextColumn("ctrl+c stops", style="dim"),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )

"""Progress on stderr: a line that disappears again on a terminal; elsewhere notes, or nothing."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Self

from clipmk.system.text import byte_size, printable
from clipmk_tui.cli.streams import say

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID

    from clipmk.models.download import Transfer


def on_terminal() -> bool:
    """Whether stderr can show a line that changes."""
    return sys.stderr is not None and sys.stderr.isatty()


def display(*columns: ProgressColumn, hint: str = "ctrl+c stops") -> Progress:
    """Make a progress display: description, bar, the given columns, and what stops it."""
    from rich.console import Console  # noqa: PLC0415 - not needed without a terminal
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn  # noqa: PLC0415

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        *columns,
        TextColumn(hint, style="dim"),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


class Stages:
    """A line with what is being done, as the `progress` callback of `Explainer`; nothing without a terminal."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown and on_terminal()
        self._subject = ""
        self._progress: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show a stage of the current subject."""
        if self._shown:
            from clipmk_tui.show.text import STAGE_WORDS  # noqa: PLC0415 - rich

            self._show(STAGE_WORDS.get(stage, stage), done, total or None)

    def begin(self, subject: str, doing: str = "") -> None:
        """Name the image or model that the next stages are about."""
        self._subject = printable(subject)
        self._show(doing, 0, None)

    def clear(self) -> None:
        """Take the line away, so that something can be printed."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _show(self, doing: str, done: int, total: int | None) -> None:
        if not self._shown:
            return
        if self._progress is None:
            from rich.progress import MofNCompleteColumn, TimeRemainingColumn  # noqa: PLC0415

            self._progress = display(MofNCompleteColumn(), TimeRemainingColumn(compact=True))
            self._progress.add_task("", total=None)
            self._progress.start()
        text = "  ".join(filter(None, (self._subject, doing)))
        self._progress.update(self._progress.task_ids[0], description=text, completed=done, total=total)


@contextlib.contextmanager
def download_progress(*, quiet: bool) -> Iterator[Callable[[Transfer], None]]:
    """The `progress` callback of `clipmk.models.loading.pull`: a bar per file on a terminal, else a line per file."""
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]  # noqa: PLC0415

    disable_progress_bars()
    if quiet:
        yield lambda _: None
    elif on_terminal():
        from rich.progress import DownloadColumn, TimeRemainingColumn, TransferSpeedColumn  # noqa: PLC0415

        columns = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        with display(*columns, hint="ctrl+c stops; run pull again to resume") as bars:
            tasks: dict[str, TaskID] = {}

            def draw(transfer: Transfer) -> None:
                if transfer.name not in tasks:
                    tasks[transfer.name] = bars.add_task(transfer.name, total=None)
                bars.update(tasks[transfer.name], completed=transfer.done, total=transfer.total)

            yield draw
    else:
        printed: set[str] = set()

        def put_line(transfer: Transfer) -> None:
            if transfer.name not in printed:
                printed.add(transfer.name)
                size = "unknown size" if transfer.total is None else byte_size(transfer.total)
                resumed = f", resumed after {byte_size(transfer.done)}" if transfer.done else ""
                say("note", f"downloading {transfer.repository}/{transfer.name}: {size}{resumed}")

        yield put_line

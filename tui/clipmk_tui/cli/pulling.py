"""How a download is shown: a bar with bytes, speed and what is left; a line a file where no terminal is."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from clipmk_tui.cli.streams import say

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from clipmk.models.download import Transfer


@contextlib.contextmanager
def pulling(*, quiet: bool) -> Iterator[PullProgress]:
    """Show downloads on stderr while the block runs; the hub's own bars are switched off."""
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]  # noqa: PLC0415

    disable_progress_bars()
    shown = PullProgress(quiet=quiet, terminal=sys.stderr is not None and sys.stderr.isatty())
    try:
        yield shown
    finally:
        shown.close()


class PullProgress:
    """Takes what `clipmk.models.loading.pull` tells.

    Args:
        quiet: show nothing.
        terminal: draw a bar rather than write a line per file.
    """

    def __init__(self, *, quiet: bool, terminal: bool) -> None:
        self._quiet, self._terminal = quiet, terminal
        self._display: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._said: set[str] = set()

    def __call__(self, transfer: Transfer) -> None:
        """Show how far a file has come."""
        if self._quiet:
            return
        if self._terminal:
            self._draw(transfer)
        elif transfer.name not in self._said:
            self._said.add(transfer.name)
            size = "an unknown size" if transfer.total is None else file_size(transfer.total)
            resumed = f", going on after {file_size(transfer.done)}" if transfer.done else ""
            say("note", f"downloading {transfer.repository}/{transfer.name}: {size}{resumed}")

    def close(self) -> None:
        """Take the bar away."""
        if self._display is not None:
            self._display.stop()

    def _draw(self, transfer: Transfer) -> None:
        if self._display is None:
            self._display = _display()
            self._display.start()
        if transfer.name not in self._tasks:
            self._tasks[transfer.name] = self._display.add_task(transfer.name, total=None)
        self._display.update(self._tasks[transfer.name], completed=transfer.done, total=transfer.total)


def file_size(count: int) -> str:
    """Bytes for people: "351 MB", "1.7 GB"."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}" if count < 1000 * size else f"{count / size:.0f} {unit}"
    return f"{count} bytes"


def _display() -> Progress:
    from rich.console import Console  # noqa: PLC0415 - not needed without a terminal
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("ctrl+c stops, pull again goes on", style="dim"),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )

"""The picker: find an image by some letters of its name, with a preview."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Input, Static

from clipmk.errors import ClipmkError
from clipmk.system.text import quoted
from clipmk_tui.app.bindings import KEY_BINDINGS, keys_of
from clipmk_tui.app.image_list import Item, open_images
from clipmk_tui.app.screens.search import Matches, SearchDialog
from clipmk_tui.app.widgets.image_pane import ImagePane
from clipmk_tui.show.text import shown

if TYPE_CHECKING:
    from clipmk.images.decoder import Picture

_LEAST_SIDE = 512  # pixels decoded of the longer side for a preview
_PAUSE = 0.06  # seconds that the cursor rests before an image is decoded


class PickerScreen(SearchDialog["int | str | None"]):
    """Closes with the index of an item, with the path of a file or folder that was typed, or with None."""

    BINDINGS = KEY_BINDINGS["PickerScreen"]

    def __init__(self, items: Sequence[Item], *, current: int = 0) -> None:
        paths = [item.path for item in items]
        names = _names(paths)
        super().__init__(names, current, lambda place: shown(items[place].label or ""))
        self._items = items
        common = paths[0].removesuffix(names[0]) if names else ""
        self._folders = ("", common, *(os.path.dirname(path) for path in paths[current : current + 1]))  # noqa: PTH120
        """Where a typed path may begin: the working folder, those of the images."""

    def compose(self) -> ComposeResult:
        """Search, matches, preview."""
        with self.box("open an image"):
            yield Input(placeholder="some letters of its name, or a path")
            with Horizontal():
                yield self.matches
                with Vertical(id="preview"):
                    pane = ImagePane(legend=False)
                    pane.can_focus = False
                    yield pane
                    yield Static(id="caption", markup=False)
            yield Static(id="message", markup=False)

    def on_mount(self) -> None:
        """Begin with the current image."""
        self.query_one(Input).focus()
        self._look()

    @on(Input.Submitted)
    @on(Matches.Chosen)
    def _take(self) -> None:
        """Choose the typed path, or else the image under the cursor."""
        typed = self._typed(self.query_one(Input).value)
        if typed is not None:
            same = Path(typed).absolute()
            places = (place for place, item in enumerate(self._items) if Path(item.path).absolute() == same)
            place = next(places, None)
            if place is None:
                self.close_with(partial(_checked, typed), "opening ...")
            else:
                self.dismiss(place)
        elif self.matches.place is not None:
            self.dismiss(self.matches.place)

    def _typed(self, value: str) -> str | None:
        """The file or folder that was typed: where no name matches, or where it cannot be meant as some letters."""
        path = os.path.expanduser(value.strip())  # noqa: PTH111 - shown and handed on as it was typed
        meant = not self.matches.count or os.sep in path
        if not path or not meant:
            return None
        paths = (os.path.join(folder, path) for folder in self._folders)  # noqa: PTH118 - as it was typed
        return next((one for one in paths if os.path.exists(one)), None)  # noqa: PTH110 - never raises

    @on(Matches.Moved)
    def _look(self) -> None:
        """Describe the image under the cursor, and show it a moment later."""
        self.query_one("#message", Static).update(self._hint())
        place = self.matches.place
        label = None if place is None else self._items[place].label
        self.query_one("#caption", Static).update(shown(f"label {label}" if label else ""))
        self._preview(None if place is None else self._items[place].path)

    def _hint(self) -> Text:
        value = self.query_one(Input).value
        typed = self._typed(value)
        if typed is not None:
            kind = "folder" if os.path.isdir(typed) else "file"  # noqa: PTH112
            return shown(f"enter opens the {kind} {typed}")
        if not self.matches.count and os.sep in value:
            return shown(f"{quoted(value.strip())} does not exist")
        if not self.matches.count:
            return Text("nothing matches; a path of a file or folder works too")
        keys = f"{keys_of(self, 'picker.up', 'picker.down')} move  enter open  {keys_of(self, 'picker.cancel')} cancel"
        return Text(f"{self.matches.count} of {len(self._items)}  {keys}")

    @work(group="preview", exclusive=True)
    async def _preview(self, path: str | None) -> None:
        """Decode and show an image, once the cursor rests on it."""
        await asyncio.sleep(_PAUSE)
        from clipmk.images.decoder import read_picture  # noqa: PLC0415 - numpy and Pillow

        picture: Picture | str = ""
        if path is not None:
            try:
                picture = await asyncio.to_thread(read_picture, path, least_side=_LEAST_SIDE)
            except ClipmkError as error:
                picture = str(error)
        for pane in self.query(ImagePane):  # none: closed meanwhile
            pane.picture = picture


def _checked(path: str) -> str:
    """The path of a file or folder, if it is an image or holds some; else raises `ClipmkError`."""
    from clipmk.images.decoder import read_picture  # noqa: PLC0415 - numpy and Pillow

    if os.path.isdir(path):  # noqa: PTH112 - never raises
        open_images((path,))
    else:
        read_picture(path, least_side=_LEAST_SIDE)
    return path


def _names(paths: Sequence[str]) -> list[str]:
    """Paths without the folder they share."""
    start = os.path.commonprefix([path[: path.rfind("/") + 1] for path in paths]).rfind("/") + 1  # noqa: RUF071 - cut at a slash
    return [path[start:] for path in paths]

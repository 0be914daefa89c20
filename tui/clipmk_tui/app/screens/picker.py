"""The picker: find an image by some letters of its name, with a preview."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input, Static

from clipmk.errors import ClipmkError
from clipmk.system.text import printable, quoted
from clipmk_tui.app.bindings import KEY_BINDINGS, keys_of
from clipmk_tui.app.fuzzy import folded, matching, offsets, ranked
from clipmk_tui.app.image_list import Item, Predictions, is_right, open_images
from clipmk_tui.app.messages import Latest
from clipmk_tui.app.screens.dialog import Dialog
from clipmk_tui.app.widgets.image_pane import ImagePane
from clipmk_tui.show.text import shown

if TYPE_CHECKING:
    from clipmk.images.decoder import Picture

_LEAST_SIDE = 512
"""Pixels decoded of the longer side for a preview."""

_PAUSE = 0.06
"""Seconds that the cursor rests before an image is decoded."""


class Matches(Widget):
    """The images that match; only visible lines are made, so that there may be 10,000."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {"matches--cursor", "matches--note", "matches--found", "matches--wrong"}

    class Moved(Latest):
        """The cursor is on another image, or on none."""

    def __init__(self, items: Sequence[Item], names: Sequence[str], predictions: Predictions, current: int) -> None:
        super().__init__()
        self._items, self._names, self._predictions = items, names, predictions
        self._query = ""
        self._places: Sequence[int] = range(len(items))
        self._cursor = min(max(0, current), max(0, len(items) - 1))
        self._top = 0

    @property
    def place(self) -> int | None:
        """Index of the item under the cursor."""
        return self._places[self._cursor] if self._places else None

    @property
    def count(self) -> int:
        """How many match."""
        return len(self._places)

    def show(self, places: Sequence[int], query: str) -> None:
        """Show these items; the cursor goes to the first."""
        self._places, self._query = places, query
        self._cursor = self._top = 0
        self.refresh()
        self.post_message(self.Moved())

    def move(self, by: int) -> None:
        """Move the cursor, without going round."""
        cursor = min(max(0, self._cursor + by), max(0, self.count - 1))
        if cursor != self._cursor:
            self._cursor = cursor
            self._scroll()
            self.refresh()
            self.post_message(self.Moved())

    def on_resize(self) -> None:
        """Keep the cursor visible."""
        self._scroll()

    def render_line(self, y: int) -> Strip:
        """One item."""
        width, row = self.size.width, self._top + y
        if row >= self.count:
            return Strip.blank(width, self.rich_style)
        on_cursor = row == self._cursor
        base = self.get_component_rich_style("matches--cursor") if on_cursor else self.rich_style
        text = self._line(self._places[row], width, plain=on_cursor)
        return Strip(text.render(self.app.console)).apply_style(base).adjust_cell_length(width, base)

    def _line(self, place: int, width: int, *, plain: bool) -> Text:
        """Name to the left, what is known to the right; `plain` without colours of its own."""
        item = self._items[place]
        known = verdict(item, self._predictions, short=True)
        known.truncate(max(0, width // 2), overflow="ellipsis")
        name = shown(self._names[place])
        query = folded(self._query)
        if not plain and query and name.plain == self._names[place]:
            for at in offsets(query, name.plain):
                name.stylize(self.get_component_rich_style("matches--found"), at, at + 1)
        room = max(1, width - 3 - known.cell_len)
        if name.cell_len > room:
            name = Text("…").append_text(name[-(room - 1) :]) if room > 1 else Text("…")
            name.truncate(room)
        name.pad_right(max(0, room - name.cell_len))
        if not plain:
            wrong = known.plain.startswith("✗")
            known.stylize(self.get_component_rich_style("matches--wrong" if wrong else "matches--note"))
        return Text("▸ " if plain else "  ", end="").append_text(name).append(" ").append_text(known)

    def _scroll(self) -> None:
        height = max(1, self.size.height)
        self._top = min(max(self._top, self._cursor - height + 1), self._cursor)


class PickerScreen(Dialog["int | str | None"]):
    """Closes with the index of an item, with the path of a file or folder that was typed, or with None."""

    BINDINGS = KEY_BINDINGS["PickerScreen"]

    def __init__(self, items: Sequence[Item], predictions: Predictions | None = None, *, current: int = 0) -> None:
        super().__init__()
        self._items = items
        self._predictions = predictions or {}
        paths = [item.path for item in items]
        names = _names(paths)
        common = paths[0].removesuffix(names[0]) if names else ""
        self._folders = ("", common, *(os.path.dirname(path) for path in paths[current : current + 1]))  # noqa: PTH120
        """Where a typed path may begin: the working folder, those of the images."""
        self._folded = [name.lower() for name in names]
        self._matches = Matches(items, names, self._predictions, current)
        self._query, self._found = "", list(range(len(items)))

    def compose(self) -> ComposeResult:
        """Search, matches, preview."""
        with self.box("open an image"):
            yield Input(placeholder="some letters of its name, or a path")
            with Horizontal():
                yield self._matches
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

    @on(Input.Changed)
    def _search(self, event: Input.Changed) -> None:
        """Find what matches; a longer query looks only at what the shorter one found."""
        query, before = folded(event.value), folded(self._query)
        among = self._found if before and query.startswith(before) else None
        self._query = event.value
        self._found = matching(query, self._folded, among)
        self._matches.show(ranked(query, self._folded, self._found), event.value)

    @on(Input.Submitted)
    def _take(self, event: Input.Submitted) -> None:
        """Choose the typed path, or else the image under the cursor."""
        typed = self._typed(event.value)
        if typed is not None:
            same = Path(typed).absolute()
            places = (place for place, item in enumerate(self._items) if Path(item.path).absolute() == same)
            place = next(places, None)
            if place is None:
                self.close_with(partial(_checked, typed), "opening ...")
            else:
                self.dismiss(place)
        elif self._matches.place is not None:
            self.dismiss(self._matches.place)

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        self._matches.move(by)

    def _typed(self, value: str) -> str | None:
        """The file or folder that was typed: where no name matches, or where it cannot be meant as some letters."""
        path = os.path.expanduser(value.strip())  # noqa: PTH111 - shown and handed on as it was typed
        meant = not self._matches.count or os.sep in path
        if not path or not meant:
            return None
        paths = (os.path.join(folder, path) for folder in self._folders)  # noqa: PTH118 - as it was typed
        return next((one for one in paths if os.path.exists(one)), None)  # noqa: PTH110 - never raises

    @on(Matches.Moved)
    def _look(self) -> None:
        """Describe the image under the cursor, and show it a moment later."""
        self.query_one("#message", Static).update(self._hint())
        place = self._matches.place
        caption = Text() if place is None else verdict(self._items[place], self._predictions, short=False)
        self.query_one("#caption", Static).update(caption)
        self._preview(None if place is None else self._items[place].path)

    def _hint(self) -> Text:
        typed = self._typed(self._query)
        if typed is not None:
            kind = "folder" if os.path.isdir(typed) else "file"  # noqa: PTH112
            return shown(f"enter opens the {kind} {typed}")
        if not self._matches.count and os.sep in self._query:
            return shown(f"{quoted(self._query.strip())} does not exist")
        if not self._matches.count:
            return Text("nothing matches; a path of a file or folder works too")
        keys = f"{keys_of(self, 'picker.up', 'picker.down')} move  enter open  {keys_of(self, 'picker.cancel')} cancel"
        return Text(f"{self._matches.count} of {len(self._items)}  {keys}")

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


def verdict(item: Item, predictions: Predictions, *, short: bool) -> Text:
    """Label and predicted class of an image, and whether the prediction is wrong."""
    predicted, probability = predictions.get(item.path, (None, 0.0))
    right = is_right(item.label, predicted)
    label, guess = printable(item.label or ""), printable(predicted or "")
    if short:
        if right is None:
            return Text(label or (f"→ {guess}" if guess else ""))
        return Text(f"✓ {label}" if right else f"✗ wrong: {guess}")
    lines = [f"label {label}"] if label else []
    if predicted is not None:
        lines.append(f"predicted {guess} {100 * probability:.0f} %")
    lines += ["✗ wrong"] if right is False else []
    return Text("\n".join(lines))


def _names(paths: Sequence[str]) -> list[str]:
    """Paths without the folder they share."""
    start = os.path.commonprefix([path[: path.rfind("/") + 1] for path in paths]).rfind("/") + 1  # noqa: RUF071 - cut at a slash
    return [path[start:] for path in paths]

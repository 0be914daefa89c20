"""The models: embedded, registered, cached, downloadable; one explains, some are marked for comparison."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from rich.text import Text
from textual import on
from textual.binding import Binding, BindingType
from textual.reactive import var
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from clipmk.system.text import printable
from clipmk_tui.app.messages import ChooseModel, MarkModel
from clipmk_tui.app.state import View
from clipmk_tui.app.widgets.filtered_pane import FilteredPane
from clipmk_tui.show.text import FAMILY_WORDS, matches

if TYPE_CHECKING:
    from clipmk.records import ModelEntry

SOURCE_WORDS: Final = {"embedded": "embedded", "local": "yours", "cached": "cached", "remote": "download"}
"""Where a model's weights are, in one word."""


def searched(entry: ModelEntry) -> str:
    """What the filter searches."""
    source = SOURCE_WORDS[entry.source]
    return f"{entry.id} {entry.family} {entry.source} {source} {entry.pretrained} {entry.input_size}px"


class ModelList(OptionList):
    """One line a model."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select", "switch", id="models.switch"),
        Binding("space", "mark", "mark", id="models.mark"),
    ]

    def __init__(self) -> None:
        super().__init__(markup=False)
        self._entries: tuple[ModelEntry, ...] = ()
        self._current = ""
        self._marked: frozenset[str] = frozenset()

    def show(self, entries: Sequence[ModelEntry], current: str, marked: Collection[str]) -> None:
        """Show models; the cursor stays where it is unless another one is the current one."""
        state = (tuple(entries), current, frozenset(marked))
        if state == (self._entries, self._current, self._marked):
            return
        place = None if current != self._current else self.entry
        self._entries, self._current, self._marked = state
        self._draw(current if place is None else place.id)

    @property
    def entry(self) -> ModelEntry | None:
        """The model under the cursor."""
        index = self.highlighted
        return self._entries[index] if index is not None and index < len(self._entries) else None

    def on_resize(self) -> None:
        """Draw at the new width."""
        self._draw(self._current if self.entry is None else self.entry.id)

    @on(OptionList.OptionSelected)
    def _switch(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if self.entry is not None:
            self.post_message(ChooseModel(self.entry.id))

    def action_mark(self) -> None:
        """Mark the model for comparison."""
        if self.entry is not None:
            self.post_message(MarkModel(self.entry.id))

    def _draw(self, at: str) -> None:
        width = max(16, self.scrollable_content_region.width)
        ids = [entry.id for entry in self._entries]
        with self.prevent(OptionList.OptionHighlighted):
            self.set_options(
                [
                    Option(entry_text(entry, width, current=entry.id == self._current, marked=entry.id in self._marked))
                    for entry in self._entries
                ]
            )
            self.highlighted = ids.index(at) if at in ids else (0 if ids else None)


class ModelsPane(FilteredPane):
    """The list, and a filter below it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "filter", key_display="/", id="models.filter"),
    ]

    view: var[View] = var(View(), init=False)

    def __init__(self) -> None:
        self.list = ModelList()
        super().__init__(self.list, "filter: vit 224px cached ...", id="models", classes="pane")
        self.border_title = "models"

    @on(FilteredPane.Changed)
    def watch_view(self) -> None:
        """Show the models that the filter leaves."""
        view = self.view
        found = [entry for entry in view.entries if matches(self.filter_text, searched(entry))]
        self.list.show(found, view.model, view.marked)
        count = f"{len(found)} of {len(view.entries)}" if len(found) != len(view.entries) else f"{len(found)}"
        marked = f"  {len(view.marked)} marked" if view.marked else ""
        self.border_subtitle = f"{count}{marked}"


def entry_text(entry: ModelEntry, width: int, *, current: bool, marked: bool) -> Text:
    """One line of exactly `width` cells: mark, id, where it is, family, size; what fits."""
    short = entry.id.removeprefix("embedded/") if entry.source == "embedded" else entry.id
    facts = [SOURCE_WORDS[entry.source], FAMILY_WORDS.get(entry.family, ("", entry.family))[1], f"{entry.input_size}px"]
    columns = [facts[0].ljust(8), facts[1].ljust(6), facts[2].rjust(6)]
    kept = 3 if width >= 54 else 2 if width >= 36 else 1 if width >= 26 else 0
    tail = " ".join(columns[:kept])
    lead = f"{'▸' if current else ' '}{'✓' if marked else ' '} "
    name = Text(printable(short), "bold" if current else "")
    name.truncate(max(4, width - len(lead) - len(tail) - 1), overflow="ellipsis", pad=True)
    text = Text.assemble((lead, "bold"), name, " ", (tail, "dim"), no_wrap=True, overflow="ellipsis")
    text.truncate(width, overflow="ellipsis", pad=True)
    return text

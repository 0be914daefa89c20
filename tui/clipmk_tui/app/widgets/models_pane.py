"""The models: embedded, registered, cached, downloadable; one is looked through, some are marked for comparison."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from clipmk.system.text import printable
from clipmk_tui.app.messages import ChooseModel, MarkModel
from clipmk_tui.show.text import matches

if TYPE_CHECKING:
    from clipmk.records import ModelEntry

SOURCE_WORDS: Final = {"embedded": "embedded", "local": "yours", "cached": "cached", "remote": "download"}
"""Where a model's weights are, in one word."""

FAMILY_WORDS: Final = {
    "vit": "ViT",
    "resnet": "RN",
    "convnext": "CNX",
    "siglip": "SigLIP",
    "eva": "EVA",
    "timm": "timm",
}
"""Families as people write them, short."""


def matching(entries: Sequence[ModelEntry], wanted: str) -> tuple[ModelEntry, ...]:
    """The models in whose id, family, source or pretraining every typed word occurs."""

    def text(entry: ModelEntry) -> str:
        source = SOURCE_WORDS[entry.source]
        return f"{entry.id} {entry.family} {entry.source} {source} {entry.pretrained} {entry.input_size}px"

    return tuple(entry for entry in entries if matches(wanted, text(entry)))


class ModelList(OptionList):
    """One line a model."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select", "switch", id="models.switch"),
        Binding("space", "mark", "mark", id="models.mark"),
    ]

    DEFAULT_CSS = """
    ModelList { padding: 0; border: none; scrollbar-gutter: stable; height: 1fr; scrollbar-size-vertical: 1;
                overflow-x: hidden; background: transparent; }
    ModelList:focus { border: none; }
    """

    def __init__(self) -> None:
        super().__init__(markup=False)
        self._entries: tuple[ModelEntry, ...] = ()
        self._current = ""
        self._marked: frozenset[str] = frozenset()

    def show(self, entries: Sequence[ModelEntry], current: str, marked: Collection[str]) -> None:
        """Show models; the cursor stays where it is."""
        state = (tuple(entries), current, frozenset(marked))
        if state == (self._entries, self._current, self._marked):
            return
        moved = current != self._current
        place = None if moved else self.entry
        self._entries, self._current, self._marked = state
        self._lay_out(current if place is None else place.id)

    @property
    def entry(self) -> ModelEntry | None:
        """The model under the cursor."""
        index = self.highlighted
        return self._entries[index] if index is not None and index < len(self._entries) else None

    def on_resize(self, event: events.Resize) -> None:
        """Lay the lines out anew."""
        self._lay_out(self._current if self.entry is None else self.entry.id)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Switch to the model."""
        event.stop()
        if self.entry is not None:
            self.post_message(ChooseModel(self.entry.id))

    def action_mark(self) -> None:
        """Mark the model for comparison."""
        if self.entry is not None:
            self.post_message(MarkModel(self.entry.id))

    def _lay_out(self, at: str) -> None:
        width = max(16, self.scrollable_content_region.width)
        self.set_options(
            [
                Option(entry_text(entry, width, current=entry.id == self._current, marked=entry.id in self._marked))
                for entry in self._entries
            ]
        )
        ids = [entry.id for entry in self._entries]
        self.highlighted = ids.index(at) if at in ids else (0 if ids else None)


class ModelsPane(Vertical):
    """The list, and a filter below it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "filter", key_display="/", id="models.filter"),
    ]

    DEFAULT_CSS = """
    ModelsPane > Input { display: none; background: $panel; }
    ModelsPane.-filtered > Input { display: block; }
    """

    def __init__(self) -> None:
        super().__init__(id="models", classes="pane")
        self.border_title = "models"
        self._entries: tuple[ModelEntry, ...] = ()
        self._current = ""
        self._marked: tuple[str, ...] = ()

    def compose(self) -> ComposeResult:
        """List and filter."""
        yield ModelList()
        yield Input(placeholder="filter: vit 224px cached ...", compact=True)

    @property
    def list(self) -> ModelList:
        """The list."""
        return self.query_one(ModelList)

    def show(self, entries: Sequence[ModelEntry], current: str, marked: Sequence[str]) -> None:
        """Show models."""
        self._entries, self._current, self._marked = tuple(entries), current, tuple(marked)
        self._refresh_list()

    def action_filter(self) -> None:
        """Open the filter."""
        self.add_class("-filtered")
        self.query_one(Input).focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while typing."""
        event.stop()
        self._refresh_list()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep the filter and go back to the list."""
        event.stop()
        self._close(keep=bool(event.value.strip()))

    def on_key(self, event: events.Key) -> None:
        """Esc drops the filter; the down arrow goes from it to the list."""
        if event.key == "escape" and self.has_class("-filtered"):
            event.stop()
            self._close(keep=False)
        elif event.key == "down" and self.query_one(Input).has_focus:
            event.stop()
            self.list.focus()

    def _close(self, *, keep: bool) -> None:
        if not keep:
            self.query_one(Input).value = ""
            self.remove_class("-filtered")
        self.list.focus()

    def _refresh_list(self) -> None:
        found = matching(self._entries, self.query_one(Input).value)
        self.list.show(found, self._current, self._marked)
        count = f"{len(found)} of {len(self._entries)}" if len(found) != len(self._entries) else f"{len(found)}"
        marked = f"  {len(self._marked)} marked" if self._marked else ""
        self.border_subtitle = f"{count}{marked}"


def entry_text(entry: ModelEntry, width: int, *, current: bool, marked: bool) -> Text:
    """One line of exactly `width` cells: mark, id, where it is, family, size; what fits."""
    short = entry.id.removeprefix("embedded/") if entry.source == "embedded" else entry.id
    facts = [SOURCE_WORDS[entry.source], FAMILY_WORDS.get(entry.family, entry.family), f"{entry.input_size}px"]
    columns = [facts[0].ljust(8), facts[1].ljust(6), facts[2].rjust(6)]
    kept = 3 if width >= 54 else 2 if width >= 36 else 1 if width >= 26 else 0
    tail = " ".join(columns[:kept])
    lead = f"{'▸' if current else ' '}{'✓' if marked else ' '} "
    name = Text(printable(short), "bold" if current else "")
    name.truncate(max(4, width - len(lead) - len(tail) - 1), overflow="ellipsis", pad=True)
    text = Text.assemble((lead, "bold"), name, " ", (tail, "dim"), no_wrap=True, overflow="ellipsis")
    text.truncate(width, overflow="ellipsis", pad=True)
    return text

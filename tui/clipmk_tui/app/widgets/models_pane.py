"""The models: embedded, registered, cached, downloadable; one explains, some are marked for comparison."""

from collections.abc import Sequence
from functools import lru_cache, partial
from operator import attrgetter
from typing import Final

from rich.text import Text
from textual import on
from textual.reactive import var
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from clipmk.records import ModelEntry
from clipmk.system.text import printable
from clipmk_tui.app.bindings import KEY_BINDINGS, keys_of
from clipmk_tui.app.messages import ChangeState, DownloadModel, MarkModels
from clipmk_tui.app.state import State, View
from clipmk_tui.app.widgets.filtered_pane import FilteredPane
from clipmk_tui.show.text import family_words, matches

SOURCE_WORDS: Final = {"embedded": "embedded", "local": "yours", "cached": "cached", "remote": "download"}
"""Where a model's weights are, in one word."""


class ModelList(OptionList):
    """One line a model."""

    BINDINGS = KEY_BINDINGS["ModelList"]

    def __init__(self) -> None:
        super().__init__(markup=False)
        self._entries: tuple[ModelEntry, ...] = ()
        self._view = View()

    def show(self, entries: Sequence[ModelEntry], view: View) -> None:
        """Show models; the cursor stays where it is unless another one is the current one."""
        place = None if view.model != self._view.model else self.entry
        self._entries, self._view = tuple(entries), view
        self._draw(view.model if place is None else place.id)

    @property
    def entry(self) -> ModelEntry | None:
        """The model under the cursor."""
        index = self.highlighted
        return self._entries[index] if index is not None and index < len(self._entries) else None

    def on_resize(self) -> None:
        """Draw at the new width."""
        self._draw(self._view.model if self.entry is None else self.entry.id)

    @on(OptionList.OptionSelected)
    def _switch(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if self.entry is not None and self._is_here(self.entry):
            self.post_message(ChangeState(partial(State.choose_model, model=self.entry.id)))

    def action_mark(self) -> None:
        """Mark the model for comparison, if it can take part in one."""
        entry = self.entry
        if entry is None or (entry.id not in self._view.marked and not self._is_here(entry)):
            return
        if entry.id in self._view.failed and entry.id not in self._view.marked:
            self.notify(
                printable(f"{entry.id} failed: {self._view.failed[entry.id]}"), severity="warning", markup=False
            )
        else:
            self.post_message(MarkModels((entry.id,)))

    def action_mark_all(self) -> None:
        """Mark all listed models that are here for comparison; where they are marked, none of them."""
        here = [one.id for one in self._entries if one.source != "remote" and one.id not in self._view.failed]
        self.post_message(MarkModels(tuple(here)))

    def action_download(self) -> None:
        """Download the weights of the model under the cursor."""
        if self.entry is not None and self.entry.source == "remote":
            self.post_message(DownloadModel(self.entry.id))
        elif self.entry is not None:
            self.notify(printable(f"{self.entry.id} is on this machine"), markup=False, timeout=3)

    def _is_here(self, entry: ModelEntry) -> bool:
        """Whether the weights are on this machine; if not, say how to get them."""
        if entry.source == "remote":
            key = keys_of(self, "models.download")
            self.notify(printable(f"{entry.id} is not on this machine; {key} downloads it"), markup=False)
        return entry.source != "remote"

    def _draw(self, at: str) -> None:
        width, view = max(16, self.scrollable_content_region.width), self._view
        ids = [entry.id for entry in self._entries]
        lines = [entry_text(entry, width, view) for entry in self._entries]
        with self.prevent(OptionList.OptionHighlighted):
            if len(lines) == self.option_count:  # two lines of some two hundred changed, mostly
                for index, (option, line) in enumerate(zip(self.options, lines, strict=True)):
                    if option.prompt is not line:
                        self.replace_option_prompt_at_index(index, line)
            else:
                self.set_options(map(Option, lines))
            self.highlighted = ids.index(at) if at in ids else (0 if ids else None)
        self.scroll_to_highlight()  # also where only the height is new


class ModelsPane(FilteredPane):
    """The list, and a filter below it."""

    BINDINGS = KEY_BINDINGS["ModelsPane"]

    view: var[View] = var(View(), init=False)

    def __init__(self) -> None:
        self.list = ModelList()
        super().__init__(self.list, "filter: vit 224px cached ...", id="models", classes="pane")
        self.border_title = "models"

    def watch_view(self, before: View, view: View) -> None:
        """Show the models if something about them changed."""
        about = attrgetter("entries", "model", "marked", "speed", "failed")
        if about(before) != about(view):
            self._show_models()

    @on(FilteredPane.Changed)
    def _show_models(self) -> None:
        """Show the models that the filter leaves: those that can be used first."""
        view = self.view
        facts = "{0.id} {0.family} {0.source} {1} {0.pretrained} {0.input_size}px"
        searched = ((entry, facts.format(entry, SOURCE_WORDS[entry.source])) for entry in view.entries)
        found = [entry for entry, text in searched if matches(self.filter_text, text)]
        self.list.show(sorted(found, key=lambda entry: (entry.source == "remote", entry.id in view.failed)), view)
        here = sum(entry.source != "remote" for entry in found)
        total = len(view.entries)
        count = f"{len(found)} of {total}" if len(found) != total else f"{here} here of {total}"
        marked = f"  {len(view.marked)} marked" if view.marked else ""
        self.border_subtitle = f"{count}{marked}"


def entry_text(entry: ModelEntry, width: int, view: View) -> Text:
    """One line of exactly `width` cells: mark, id, where it is, milliseconds, family, size; what fits."""
    name = entry.id
    return _line(entry, width, name in view.marked, name == view.model, name in view.failed, view.speed.get(name))


@lru_cache(maxsize=1024)
def _line(entry: ModelEntry, width: int, marked: bool, current: bool, failed: bool, speed: float | None) -> Text:
    short = entry.id.removeprefix("embedded/") if entry.source == "embedded" else entry.id
    place = "failed" if failed else SOURCE_WORDS[entry.source]
    took = "" if speed is None else f"{speed:.0f} ms"
    family = family_words(entry.family)[1]
    facts = [place.ljust(8), took.rjust(6), family.ljust(6), f"{entry.input_size}px".rjust(6)]
    kept = sum(width >= least for least in (26, 33, 42, 54))
    tail = " ".join(facts[:kept])
    lead = f"{'✓' if marked else ' '}{'▸' if current else ' '} "
    name = Text(printable(short), "bold" if current else "dim" if failed or entry.source == "remote" else "")
    name.truncate(max(4, width - len(lead) - len(tail) - 1), overflow="ellipsis", pad=True)
    text = Text.assemble(
        (lead, "bold"), name, " ", (tail, "red" if failed else "dim"), no_wrap=True, overflow="ellipsis"
    )
    text.truncate(width, overflow="ellipsis", pad=True)
    return text

"""The dialog that chooses a class: a list that typing narrows."""

from __future__ import annotations

from collections.abc import Sequence

from textual import on
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from clipmk.system.text import printable
from clipmk_tui.app.bindings import KEY_BINDINGS, keys_of
from clipmk_tui.app.fuzzy import folded, matching, ranked
from clipmk_tui.app.screens.dialog import Dialog

OWN = ""
"""Chosen in place of a class: what the model predicts."""


class ChooseClassScreen(Dialog["str | None"]):
    """Closes with a class, with `OWN`, which the line `own` stands for, or with None."""

    BINDINGS = KEY_BINDINGS["ChooseClassScreen"]

    def __init__(self, classes: Sequence[str], *, current: str | None, own: str) -> None:
        super().__init__()
        self._all, self._names = classes, [name.lower() for name in classes]
        self._current, self._own = current, own
        self._listed: list[str] = []
        self._list = OptionList(id="classes", markup=False)
        self._list.can_focus = False

    def compose(self) -> ComposeResult:
        """What is typed, and what matches."""
        with self.box("class", f"type to search · enter chooses · {keys_of(self, 'class.cancel')} cancels"):
            yield Input(placeholder="some letters of a class", select_on_focus=False)
            yield self._list
            yield Static(id="message")

    def on_mount(self) -> None:
        """List all classes."""
        self._narrow("")
        if self._current in self._listed:
            self._list.highlighted = self._listed.index(self._current)

    @on(Input.Changed)
    def _search(self, event: Input.Changed) -> None:
        event.stop()
        self._narrow(event.value)

    def _narrow(self, typed: str) -> None:
        """List the classes that match, the best first; without a text, what stands for none as well."""
        wanted = folded(typed)
        found = [self._all[at] for at in ranked(wanted, self._names, matching(wanted, self._names))]
        self._listed = found if wanted else [OWN, *found]
        self._list.set_options([Option(Content(printable(name or self._own))) for name in self._listed])
        self._list.highlighted = 0 if self._listed else None
        self.say(f"{len(found)} of {len(self._all)} classes")

    def action_move(self, by: int) -> None:
        """Move the cursor, not beyond the list."""
        if self._listed:
            self._list.highlighted = min(max(0, (self._list.highlighted or 0) + by), len(self._listed) - 1)

    @on(Input.Submitted)
    @on(OptionList.OptionSelected)
    def _choose(self) -> None:
        """Close with what is under the cursor."""
        at = self._list.highlighted
        if at is not None and at < len(self._listed):
            self.dismiss(self._listed[at])

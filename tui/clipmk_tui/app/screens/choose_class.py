"""The dialog that chooses a class."""

from collections.abc import Sequence

from textual import events, on
from textual.app import ComposeResult
from textual.widgets import Input, Static

from clipmk_tui.app.bindings import KEY_BINDINGS, keys_of
from clipmk_tui.app.screens.search import Matches, SearchDialog

OWN = ""  # chosen in place of a class: what the model predicts


class ChooseClassScreen(SearchDialog["str | None"]):
    """Closes with a class, with `OWN`, which the line `own` stands for, or with None."""

    BINDINGS = KEY_BINDINGS["ChooseClassScreen"]

    def __init__(self, classes: Sequence[str], *, current: str | None, own: str) -> None:
        super().__init__([own, *classes], 1 + classes.index(current) if current in classes else 0)
        self._choices = (OWN, *classes)
        self._folded[0] = ""

    def compose(self) -> ComposeResult:
        """What is typed, and what matches."""
        with self.box("class", f"type to search · enter chooses · {keys_of(self, 'class.cancel')} cancels"):
            yield Input(placeholder="some letters of a class", select_on_focus=False)
            yield self.matches
            yield Static(id="message")

    def on_mount(self) -> None:
        """Say how many classes there are."""
        self._say_count()

    @on(Matches.Moved)
    def _say_count(self) -> None:
        self.say(f"{self.matches.count - (not self._query)} of {len(self._choices) - 1} classes")

    @on(Input.Submitted)
    @on(events.Click, "Matches")
    def _choose(self) -> None:
        """Close with what is under the cursor."""
        if self.matches.place is not None:
            self.dismiss(self._choices[self.matches.place])
